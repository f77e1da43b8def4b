"""A real JupyterLab that has the extension by nothing but its being installed, and real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.flood import Outcome, flood, request
from support.lab import Lab
from support.studios import persona_of, wait_until

from personas_nb import Studio
from personas_nb.entities.trigger import Trigger
from personas_nb.triggers.signatures import sign

pytest.importorskip("jupyterlab")


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with Studio() as studio:
        persona_of(studio)
        yield studio


@pytest.fixture
def lab(studio: Studio, tmp_path: Path) -> Iterator[Lab]:
    folder = tmp_path / "lab"
    folder.mkdir()
    lab = Lab(folder)
    yield lab
    lab.stop()


@pytest.fixture
def webhook(studio: Studio) -> tuple[Trigger, str]:
    trigger = studio.triggers.add("watcher", "webhook")
    assert trigger.secret is not None
    return trigger, trigger.secret.get_secret_value()


def signed(body: bytes, secret: str, **headers: str) -> dict[str, str]:
    at = int(time.time())
    return {"X-Personas-Signature": sign(body, secret, at), "X-Personas-Timestamp": str(at), **headers}


def ask(
    lab: Lab, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """The status and what was said, over real HTTP and without a token but for what ``headers`` say."""
    call = urllib.request.Request(f"http://127.0.0.1:{lab.port}/{path}", data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(call, timeout=30) as answer:
            return answer.status, _json(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _json(error.read())


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


def token(lab: Lab) -> dict[str, str]:
    return {"Authorization": f"token {lab.token}"}


def test_the_extension_is_enabled_by_being_installed():
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter", "server", "extension", "list"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.split() for line in (listed.stdout + listed.stderr).splitlines() if "personas_nb" in line]
    assert any("enabled" in " ".join(line) for line in lines)
    assert any("OK" in " ".join(line) for line in lines)


def test_a_webhook_runs_a_persona_with_no_notebook_open(lab, studio, webhook):
    trigger, secret = webhook
    body = json.dumps({"order": 7}).encode()
    code, said = ask(lab, f"personas/webhook/{trigger.id}", body, signed(body, secret))
    assert (code, said["status"]) == (202, "queued")
    run = wait_until(lambda: (one := studio.executions.get(said["id"])).status == "completed" and one, 60)
    assert json.loads(run.input_data)["order"] == 7


def test_only_the_webhook_answers_without_a_token(lab, studio, webhook):
    trigger, _secret = webhook
    for path in ("personas/api/status", "personas/api/triggers", "personas/api/reviews"):
        assert ask(lab, path)[0] == 403
        assert ask(lab, path, headers=token(lab))[0] == 200
    for path in ("fire", "enable", "disable"):
        assert ask(lab, f"personas/api/triggers/{trigger.id}/{path}", b"{}")[0] == 403
    code, said = ask(lab, f"personas/api/triggers/{trigger.id}/fire", b"{}", token(lab))
    assert code == 202
    wait_until(lambda: studio.executions.get(said["execution_id"]).status == "completed", 60)
    assert studio.triggers.fires()[0].kind == "manual"


def test_a_body_that_is_too_long_is_answered_to_an_ordinary_sender(lab, webhook):
    trigger, secret = webhook
    body = b" " * (4 * 1024 * 1024)
    assert ask(lab, f"personas/webhook/{trigger.id}", body, signed(body, secret))[0] == 413


def test_the_server_ends_in_time_while_a_webhook_runs(lab, studio, webhook):
    trigger, secret = webhook
    code, _said = ask(lab, f"personas/webhook/{trigger.id}", b"{}", signed(b"{}", secret))
    assert code == 202
    os.kill(lab.process.pid, signal.SIGTERM)
    lab.process.wait(20)
    with studio.store.read() as db:
        ours = [
            row["stopped_at"]
            for row in db.execute("select stopped_at, pid from workers")
            if row["pid"] != os.getpid()
        ]
    assert ours
    assert all(ours)


# ── the flood ───────────────────────────────────────────────────────────────────────────────────────────────────────

SIGNED, UNSIGNED = 1_000, 10_000


def test_a_flood_counts_every_signed_request_while_kernel_and_lab_answer(lab, studio, webhook):
    trigger, secret = webhook
    path = f"/personas/webhook/{trigger.id}"
    wanted = [
        request(path, b"{}", signed(b"{}", secret, **{"X-Personas-Delivery": f"order-{number}"}))
        for number in range(SIGNED)
    ]
    forged = [request(path, b"{}", signed(b"{}", "not the secret, not at all"))] * (UNSIGNED // 2)
    naked = [request(path, b"{}", {})] * (UNSIGNED // 2)

    async def all_at_once() -> tuple[Outcome, Outcome, Outcome]:
        return await asyncio.gather(
            flood(lab.port, wanted, 8), flood(lab.port, forged, 16), flood(lab.port, naked, 16)
        )

    with Witness(lab) as witness:
        signed_ones, forged_ones, naked_ones = asyncio.run(all_at_once())
    assert Counter(signed_ones.statuses) == {202: SIGNED}
    assert Counter(forged_ones.statuses + naked_ones.statuses) == {401: UNSIGNED}
    assert len(studio.triggers.fires(trigger.id, limit=2 * SIGNED)) == SIGNED
    assert len({fire.key for fire in studio.triggers.fires(trigger.id, limit=2 * SIGNED)}) == SIGNED
    assert witness.problems == []
    assert len(witness.waits_seconds["lab"]) > 0 < len(witness.waits_seconds["kernel"])
    assert max(witness.waits_seconds["lab"] + witness.waits_seconds["kernel"]) < 10


class Witness:
    """Somebody who works in JupyterLab meanwhile: asks the server, and computes in a kernel."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.waits_seconds: dict[str, list[float]] = {"lab": [], "kernel": []}
        self.problems: list[str] = []
        self._is_over = threading.Event()

    def __enter__(self) -> Witness:
        from jupyter_client.blocking import BlockingKernelClient

        _code, kernel = ask(self.lab, "api/kernels", b"{}", token(self.lab))
        file = self.lab.folder / ".runtime" / f"kernel-{kernel['id']}.json"
        wait_until(file.exists)
        self.client = BlockingKernelClient(connection_file=str(file))
        self.client.load_connection_file()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.client.stop_channels()

    def _look(self) -> None:
        while not self._is_over.wait(0.2):
            try:
                begun = time.monotonic()
                assert ask(self.lab, "api/contents", headers=token(self.lab))[0] == 200
                self.waits_seconds["lab"].append(time.monotonic() - begun)
                begun = time.monotonic()
                self.client.execute_interactive("6 * 7", timeout=30, output_hook=lambda _message: None)
                self.waits_seconds["kernel"].append(time.monotonic() - begun)
            except Exception as problem:  # told by the test
                self.problems.append(repr(problem))
                return
