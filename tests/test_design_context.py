"""What a design is given to look at: what each kind becomes, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pdfs import pdf

from personas_nb.design.context import gathered, sources_of
from personas_nb.design.context_formats import safe_yaml, understood
from personas_nb.entities.design import ContextItem
from personas_nb.errors import InvalidInput, PersonaError, TooLarge, ToolDenied, ToolTimeout
from personas_nb.settings import Settings

OPENAPI = """\
openapi: 3.1.0
info: {title: The shop, version: "2.1", description: Orders and refunds.}
servers: [{url: "https://shop.example/v2"}]
components:
  securitySchemes: {key: {type: apiKey, in: header, name: X-Key}}
  schemas: {Order: {required: [item], properties: {item: {type: string}, count: {type: integer}}}}
paths:
  /orders:
    parameters: [{name: tenant, in: query}]
    get: {summary: Open orders, parameters: [{name: since, in: query, required: true}]}
    post:
      summary: A new order
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/Order"}}}}
  /orders/{id}:
    delete: {summary: Cancel, deprecated: true}
"""
MCP = {
    "mcpServers": {
        "Git Hub": {
            "command": "npx",
            "args": ["-y", "server-github", "--token", "abcdefgh", "--api-key=12345678"],
            "env": {"GITHUB_TOKEN": "ghp_0123456789abcdef"},
        },
        "wiki": {"url": "https://mcp.example/mcp", "headers": {"Authorization": "Bearer 0123456789"}},
    }
}


def read(name: str, data: bytes | str, limit_chars: int = 5_000, **more: Any) -> Any:
    raw = data.encode() if isinstance(data, str) else data
    return understood(name, raw, limit_chars=limit_chars, **more)


def gather(*sources: Any, **settings: Any) -> list[ContextItem]:
    return asyncio.run(gathered(sources_of(list(sources)), settings=Settings(**settings)))


# ── kinds ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["api.yaml", "api.json", "api"])
def test_an_openapi_document_becomes_title_servers_and_operations(name: str):
    text = OPENAPI if name == "api.yaml" else json.dumps(safe_yaml(OPENAPI))
    found = read(name, text)
    assert found.kind == "openapi"
    assert "API: The shop 2.1" in found.text
    assert "Servers: https://shop.example/v2" in found.text
    assert "- GET /orders – Open orders (tenant, since*)" in found.text
    assert "- POST /orders – A new order (tenant, body.item*, body.count)" in found.text
    assert "- DELETE /orders/{id} – Cancel [deprecated]" in found.text
    assert "key (apiKey header X-Key)" in found.text
    assert found.used == "OpenAPI 3.1.0 “The shop” at https://shop.example/v2: 3 operations with parameters"


def test_a_swagger_document_has_its_host_as_server():
    old = {
        "swagger": "2.0",
        "host": "old.example",
        "basePath": "/v1",
        "info": {},
        "paths": {"/a": {"get": {}}},
    }
    assert "https://old.example/v1" in read("api.json", json.dumps(old)).text


def test_a_large_api_says_how_many_operations_are_left_out():
    paths = {f"/things/{n}": {"get": {"summary": "Read one of the many things"}} for n in range(200)}
    found = read("api.json", json.dumps({"openapi": "3.0.0", "info": {}, "paths": paths}), 2_000)
    assert len(found.text) <= 2_000
    assert "of 200 operations" in found.used
    assert "more are left out" in found.text


def test_a_document_whose_references_lead_in_a_circle_is_read_all_the_same():
    circle = {"$ref": "#/components/a"}
    document = {
        "openapi": "3.0.0",
        "info": {},
        "components": {"a": circle},
        "paths": {"/x": {"get": {"parameters": [circle]}}},
    }
    assert "GET /x" in read("api.json", json.dumps(document)).text


def test_an_mcp_configuration_becomes_servers_without_any_value():
    found = read("mcp.json", json.dumps(MCP))
    github, wiki = found.servers
    assert (found.kind, github.name, wiki.name) == ("mcp", "git-hub", "wiki")
    assert github.command == ("npx", "-y", "server-github", "--token", "…", "--api-key=…")
    assert (github.env, wiki.headers, wiki.url) == (
        ("GITHUB_TOKEN",),
        ("Authorization",),
        "https://mcp.example/mcp",
    )
    kept = found.text + found.used + repr(found.servers)
    assert not any(secret in kept for secret in ("abcdefgh", "12345678", "ghp_", "0123456789"))
    assert found.used == (
        "MCP configuration: 2 servers (git-hub, wiki); the names of their settings, none of the values"
    )


def test_a_table_becomes_columns_with_types_and_its_first_rows():
    rows = "\n".join(f"2026-01-{day:02};{'north' if day % 2 else 'south'};{day},5" for day in range(1, 29))
    found = read("sales.csv", f"day;region;eur\n{rows}\n")
    assert found.columns == ("day", "region", "eur")
    assert found.used == "table: 3 columns, 28 rows, names, types and the first 5 rows"
    assert "- day: dates" in found.text
    assert "- region: one of north, south" in found.text
    assert "2026-01-06" not in found.text


def test_lines_that_are_no_table_are_read_as_text():
    found = read("notes.csv", "only words\none, two, three, four\nfive, six, seven, eight\n")
    assert (found.kind, found.columns) == ("text", ())
    assert "no table" in found.used


def test_a_frame_is_given_by_its_schema_and_none_of_its_values():
    frame = pd.DataFrame({"name": ["Ann Example", None], "eur": [1.5, 2.5]})
    (item,) = gather(("customers", frame))
    assert (item.name, item.kind, item.columns) == ("customers", "frame", ("name", "eur"))
    assert "- eur: float64" in item.text
    assert "1 missing" in item.text
    assert "Ann" not in item.text
    assert item.used == "DataFrame: 2 columns, 2 rows; its schema, none of its values"


def test_markdown_and_text_say_how_much_of_them_was_used():
    assert read("a.md", "# One\n\ntext\n\n## Two\n").used == "Markdown with 2 headings, all of it"
    found = read("a.txt", "word " * 100, 50)
    assert found.used == "text, the first 49 of 499 characters"
    assert len(found.text) == 49


def test_a_pdf_is_its_text_until_the_limit():
    found = read("terms.pdf", pdf("Refunds within 30 days.", "Delivery in a week."))
    assert (found.kind, found.used) == ("pdf", "PDF, 2 pages, all of it")
    assert "Refunds within 30 days." in found.text
    assert read("long.pdf", pdf("Page one is here.", "Two.", "Three."), 10).used.startswith(
        "PDF, the first 1 of 3"
    )


def test_a_web_page_is_its_words_without_scripts_and_menus():
    page = (
        "<!doctype html><title>Help</title><nav>Home</nav><h1>Refunds</h1><p>In <b>30</b> days &amp; less.</p>"
        "<script>alert('no')</script><ul><li>one</li><li>two</li></ul>"
    )
    found = read("help", page)
    assert found.used.startswith("the words of the page “Help”")
    assert "# Refunds" in found.text
    assert "In 30 days & less." in found.text
    assert not any(word in found.text for word in ("alert", "Home"))


def test_a_notebook_is_its_cells_without_outputs():
    cells = [{"cell_type": "code", "source": ["x = 1\n", "x"], "outputs": [{"text": "secret output"}]}]
    found = read("a.ipynb", json.dumps({"cells": cells, "nbformat": 4}))
    assert (found.kind, found.text) == ("notebook", "x = 1\nx")


def test_large_json_is_given_by_its_shape():
    rows = [{"id": n, "name": f"customer {n}"} for n in range(5_000)]
    found = read("rows.json", json.dumps({"rows": rows}), 1_000)
    assert found.text == '{"rows": [{"id": 0, "name": "customer 0"}, "… 5000 in all"]}'
    assert "not all its data" in found.used


@pytest.mark.parametrize(("name", "text"), [("a.json", '{"a": 1,}'), ("a.yaml", "a: [1, 2\nb: }")])
def test_broken_data_is_read_as_text_and_said_to_be_broken(name: str, text: str):
    found = read(name, text)
    assert (found.kind, found.text) == ("text", text)
    assert "is no valid" in found.used
    assert "line" in found.used


def test_yaml_that_is_nested_without_end_does_not_end_the_process():
    found = read("deep.yaml", "a: " + "[" * 100_000)
    assert found.kind == "text"
    assert "nested more than 100 deep" in found.used


def test_yaml_whose_aliases_explode_stays_small():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert len(read("bomb.yaml", bomb, 200).text) <= 200


@given(
    st.binary(max_size=300),
    st.sampled_from(["a.json", "a.yaml", "a.csv", "a.md", "a.pdf", "a.html", "a", "a.ipynb"]),
)
def test_whatever_a_file_holds_it_is_read_or_refused_in_a_sentence(data: bytes, name: str):
    try:
        found = read(name, data, 100)
    except InvalidInput:
        return
    assert len(found.text) <= 300
    assert found.used


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.pdf", b"just words", "a.pdf is no PDF, though it is called one"),
        ("a.pdf", b"%PDF-1.7\n" + b"\x00junk" * 50, "begins like a PDF"),
        ("scan.pdf", pdf(""), "has no text: its 1 page may be pictures"),
        ("a.xlsx", b"PK\x03\x04rest", "it is a zip archive or an Office document"),
        ("a.png", b"\x89PNG\r\n", "it is a picture"),
        ("a.bin", b"\xff\x00\xfe", "no text in UTF-8"),
    ],
)
def test_what_has_no_text_is_refused_with_the_next_step(name: str, data: bytes, said: str):
    with pytest.raises(InvalidInput, match=said) as caught:
        read(name, data)
    assert caught.value.hint


def test_a_context_file_of_five_megabytes_is_refused_and_the_setting_named(tmp_path: Path):
    (tmp_path / "large.csv").write_bytes(b"a,b\n" * 1_310_720)
    with pytest.raises(TooLarge, match=r"large\.csv is larger than 1,048,576 bytes") as caught:
        gather(tmp_path / "large.csv")
    assert "context_file_limit_bytes" in caught.value.hint


def test_a_folder_a_pipe_an_empty_and_an_absent_file_are_refused(tmp_path: Path):
    (tmp_path / "empty.txt").write_text(" \n")
    os.mkfifo(tmp_path / "pipe")
    for name, said in (
        ("", "is a folder"),
        ("pipe", "is no file"),
        ("empty.txt", "is empty"),
        ("no.md", "no context"),
    ):
        with pytest.raises(InvalidInput, match=said):
            gather(tmp_path / name)


def test_what_is_no_source_is_named_by_its_type():
    with pytest.raises(InvalidInput, match="A int cannot be context"):
        sources_of([1])
    with pytest.raises(InvalidInput, match="21 sources of context are too many"):
        sources_of([f"{n}.txt" for n in range(21)])


def test_one_source_needs_no_brackets_and_the_same_one_counts_once():
    frame = pd.DataFrame({"a": [1]})
    assert sources_of("a.md") == ["a.md"]
    assert sources_of(["a.md", "a.md", Path("b")]) == ["a.md", Path("b")]
    assert len(sources_of(frame)) == 1
    assert sources_of({"sales": frame})[0][0] == "sales"


# ── web addresses ───────────────────────────────────────────────────────────────────────────────────────────


class _Site(BaseHTTPRequestHandler):
    pages: ClassVar[dict[str, tuple[int, str, bytes]]] = {}
    leave = threading.Event()

    def do_GET(self) -> None:
        if self.path.startswith("/hangs"):
            self.leave.wait(30)
            return
        status, media_type, body = self.pages.get(self.path.partition("?")[0], (404, "text/html", b"no"))
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    _Site.leave.clear()
    _Site.pages = {
        "/api.yaml": (200, "application/yaml", OPENAPI.encode()),
        "/terms": (200, "application/pdf", pdf("Refunds within 30 days.")),
        "/large": (200, "text/plain", b"x" * 2_000),
        "/fake.pdf": (200, "application/pdf", b"<html>log in</html>"),
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        _Site.leave.set()
        server.shutdown()


def test_an_address_is_read_as_what_its_server_says_it_is(site: str):
    allowed = {"http_allowed_hosts": ("127.0.0.1",)}
    api, terms = gather(f"{site}/api.yaml", f"{site}/terms", **allowed)
    assert (api.kind, api.source) == ("openapi", f"{site}/api.yaml")
    assert (terms.kind, terms.text) == ("pdf", "Refunds within 30 days.")


def test_an_address_on_this_machine_is_refused_unless_the_setting_allows_it(site: str):
    with pytest.raises(ToolDenied, match="not an address of the public internet") as caught:
        gather(f"{site}/api.yaml")
    assert "http_allowed_hosts" in caught.value.hint


def test_an_address_that_hangs_is_given_up_in_time(site: str):
    with pytest.raises(ToolTimeout, match=r"did not answer within 0\.3 s") as caught:
        gather(f"{site}/hangs", http_allowed_hosts=("127.0.0.1",), http_timeout_ms=300)
    assert "Save what is there as a file" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "said"),
    [("/absent", "answered 404"), ("/large", "larger than 1,000 bytes"), ("/fake.pdf", "is no PDF")],
)
def test_an_address_without_a_usable_document_is_refused(site: str, path: str, said: str):
    with pytest.raises(PersonaError, match=said):
        gather(site + path, http_allowed_hosts=("127.0.0.1",), context_file_limit_bytes=1_000)


def test_a_secret_parameter_of_an_address_is_not_kept(site: str):
    (item,) = gather(f"{site}/api.yaml?token=abc123&page=2", http_allowed_hosts=("127.0.0.1",))
    assert item.source == f"{site}/api.yaml?token=…&page=2"
    assert "abc123" not in item.model_dump_json()
