"""What a design without a model finds by its words: patterns, templates, tested designs; and how it adapts them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.design.designer import DesignRequest
from personas_nb.design.offline import OfflineDesigner
from personas_nb.design.retrieval import adapted, best_match, matches, stem
from personas_nb.design.shipped import shipped_patterns
from personas_nb.engine.protocol import PROTOCOL_KINDS
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import DesignResult
from personas_nb.entities.pattern import PersonaDesignPattern
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.template import DesignTemplate
from personas_nb.entities.tool import ToolDefinition
from personas_nb.store.catalog import TOOLS
from personas_nb.store.database import Store
from personas_nb.store.templates import TemplateIndex


@pytest.fixture
def store(tmp_path: Path):
    store = Store(tmp_path)
    yield store
    store.close()


def designed(store: Store, sentence: str) -> DesignResult:
    request = DesignRequest(
        instruction=sentence,
        kind="instruction",
        text=sentence,
        tools=tuple(store.table("tools", ToolDefinition).find()),
        connectors=tuple(store.table("connectors", Connector).find()),
    )
    result = asyncio.run(OfflineDesigner(store).design(request)).result
    assert result is not None
    return result


def template(name: str, **fields: object) -> DesignTemplate:
    prompt = StructuredPrompt(
        identity="You turn telescope images into light curves.",
        instructions="1. Calibrate each frame with the darks.\n2. Write the curve with file_write.\n"
        "3. Mail it with gmail_send.",
        error_handling="- A frame with clouds is left out and counted.",
    )
    given_fields: dict[str, object] = {
        "title": "Light curves of variable stars",
        "summary": "Reads telescope frames and writes light curves.",
        "keywords": ("telescope", "photometry", "stars", "light curve"),
        "design": DesignResult(
            name=name, structured_prompt=prompt, suggested_tools=("file_read", "file_write", "gmail_send")
        ),
        "source": "templates/light-curves.ipynb",
    }
    return DesignTemplate.model_validate({"name": name, **given_fields, **fields})


STARS = "Read the telescope frames in night/ and write the light curve of the stars to curve.csv"


# ── shipped patterns ────────────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_patterns_are_whole_and_name_only_what_there_is():
    names = [pattern.name for pattern in shipped_patterns()]
    assert len(set(names)) == len(names) >= 12
    known = {tool["name"] for tool in TOOLS} | set(PROTOCOL_KINDS)
    for pattern in shipped_patterns():
        assert all((pattern.title, pattern.summary, pattern.role, pattern.keywords, pattern.errors))
        assert len(pattern.approach) >= 3
        assert set(pattern.tools) <= known
        for line in (*pattern.approach, *pattern.examples, *pattern.errors):
            assert line.rstrip().endswith((".", "?"))
            if line.startswith("["):
                assert line[1 : line.index("]")] in known


@pytest.mark.parametrize(
    ("sentence", "name"),
    [
        ("Read sales.csv and write a monthly report of the totals", "table-report"),
        ("Validate the dataset and list rows with missing values and duplicates", "data-quality-gate"),
        ("Reconcile the bank statement with the ledger", "reconciliation"),
        ("Warn me when a sensor is above its threshold", "metric-watch"),
        ("Tell me when the status endpoint of the API is down", "endpoint-watch"),
        ("Watch the exchange rate of EUR/USD and tell me when it moves", "price-watch"),
        ("Summarise my unread mails", "inbox-digest"),
        ("Draft replies to customer complaints", "mail-triage"),
        ("Extract amounts from invoices", "invoice-extraction"),
        ("Find new papers on arXiv about graphs", "reading-list"),
        ("Watch PyPI for new releases of pandas", "release-watch"),
        ("Label open issues of our GitHub repository", "repository-triage"),
        ("Group the errors in the server logs", "log-analysis"),
        ("Find themes in the survey answers", "text-coding"),
        ("Turn the meeting transcript into minutes with action items", "minutes"),
        ("Compare the accuracy of my training runs with the baseline", "experiment-log"),
        ("Describe every column of the schema in a data dictionary", "data-dictionary"),
        ("Translate the handbook into German", "translation"),
        ("Explain SQL to me when I paste a question", "tutor"),
    ],
)
def test_a_task_finds_the_pattern_of_its_work(store: Store, sentence: str, name: str):
    match = best_match(sentence, (), store)
    assert match is not None
    assert match.pattern.name == name


@pytest.mark.parametrize(
    "sentence", ["Tell me a joke", "Sing", "Count to ten", "Plan my week", "Water the plants in the office"]
)
def test_a_task_that_fits_nothing_finds_nothing(store: Store, sentence: str):
    assert best_match(sentence, (), store) is None


def test_a_pattern_lends_its_role_its_approach_and_its_care_and_leaves_the_steps_alone(store: Store):
    result = designed(store, "Reconcile bank.csv with ledger.csv and write a report to open.md")
    prompt = result.structured_prompt
    assert prompt.identity.startswith("You reconcile two records of the same thing")
    assert prompt.instructions == "1. Reconcile bank.csv with ledger.csv.\n2. Write a report to open.md."
    assert "key is not unique" in prompt.error_handling
    (approach,) = prompt.custom_sections
    assert approach.label == "How to do it well"
    assert "to open.md, with their sums" in approach.content
    assert (
        "Adapted from the shipped pattern “Reconciliation of two tables”"
        in result.design_highlights[-1].items
    )


def test_tools_come_from_a_pattern_only_where_the_sentence_names_none(store: Store):
    assert designed(store, "Check prices of flights").suggested_tools == ("http_request",)
    assert designed(store, "Extract the amounts of invoices from mails").suggested_tools == (
        "gmail_read",
        "gmail_search",
    )


def test_a_line_for_a_tool_that_the_design_lacks_is_left_out(store: Store):
    lines = ["[gmail_send] Send it.", "[agent_memory] Remember it.", "Read {source|the data}."]
    assert adapted(lines, has=["agent_memory"]) == ("Remember it.", "Read the data.")


@given(st.text(max_size=40))
def test_a_stem_is_stable_and_never_longer(word: str):
    assert len(stem(word)) <= len(word.lower())
    assert stem(word) == stem(word.lower())


# ── templates and tested designs ────────────────────────────────────────────────────────────────────────────


def test_a_stored_template_is_found_and_adapted_before_a_shipped_pattern(store: Store):
    TemplateIndex(store).put(template("light-curves"))
    result = designed(store, STARS)
    (approach,) = result.structured_prompt.custom_sections
    assert "Calibrate each frame with the darks." in approach.content
    assert "gmail_send" not in approach.content  # the design has no such tool
    assert "A frame with clouds is left out" in result.structured_prompt.error_handling
    assert "Adapted from the template “Light curves of variable stars”" in result.design_highlights[-1].items


def test_a_tested_design_is_found_too(store: Store):
    prompt = StructuredPrompt(identity="You count birds.", instructions="1. Listen for ten minutes.")
    pattern = PersonaDesignPattern(
        owner_id="p",
        name="Bird counter",
        summary="Counts birds",
        keywords="birds count feeder garden",
        structured_prompt=prompt,
        score=0.9,
    )
    store.table("design_patterns", PersonaDesignPattern).insert(pattern)
    found = matches("Count the birds at the feeder in my garden", (), store)
    assert (found[0].pattern.title, found[0].pattern.origin) == ("Bird counter", "tested design")


def test_braces_and_brackets_of_a_template_are_text(store: Store):
    odd = template("odd").design.changed(
        structured_prompt=StructuredPrompt(identity="x", instructions="1. Fill {source|all} in.\n2. [ok] go.")
    )
    TemplateIndex(store).put(template("odd", design=odd))
    assert (
        designed(store, STARS).structured_prompt.custom_sections[0].content.startswith("- Fill (source|all)")
    )


# ── the index ───────────────────────────────────────────────────────────────────────────────────────────────


def test_putting_a_template_again_replaces_it_and_keeps_its_id(store: Store):
    index = TemplateIndex(store)
    index.put(template("a"), template("b", title="Weather balloons", keywords=("balloon",)))
    first = index.get("a")
    index.put(template("a", title="Comets"))
    again = index.get("a")
    assert first is not None
    assert again is not None
    assert (again.id, again.created_at, again.title) == (first.id, first.created_at, "Comets")
    assert [one.name for one in index.list()] == ["a", "b"]
    assert [one.name for one, _rank in index.search(["comets"])] == ["a"]
    assert index.search(["variable"]) == []


def test_putting_the_same_template_again_changes_nothing(store: Store):
    index, same = TemplateIndex(store), template("a")
    index.put(same)
    before = index.get("a")
    index.put(template("a", design=same.design))
    assert index.get("a") == before


def test_a_title_counts_more_than_a_summary(store: Store):
    index = TemplateIndex(store)
    index.put(
        template("far", title="Stars", summary="It may be about glaciers.", keywords=()),
        template("near", title="Glaciers", summary="It is about ice.", keywords=()),
        *(template(f"other-{n}", title=f"Number {n}", summary="Nothing.", keywords=()) for n in range(20)),
    )
    assert [one.name for one, _rank in index.search(["glaciers"])] == ["near", "far"]
    assert len(index.search(["number"], limit=3)) == 3


def test_a_template_that_is_removed_is_not_found(store: Store):
    index = TemplateIndex(store)
    index.put(template("a"))
    assert (index.remove("a"), index.remove("a"), index.count()) == (True, False, 0)
    assert index.search(["telescope"]) == []
    assert index.list(source="templates/light-curves.ipynb") == []


@pytest.mark.parametrize("words", [[], [""], ['"'], ["\0"], ["NOT", "NEAR(", "*", "title:"]])
def test_words_that_are_no_words_break_no_search(store: Store, words: list[str]):
    TemplateIndex(store).put(template("a"))
    assert TemplateIndex(store).search(words) == []
