"""Tool calls that a person decides on: the run waits, and goes on from where it stood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from support.mcp_servers import odd_server
from support.model_server import ModelServer, Script, Turn
from support.studios import persona_of, studio_at, workspace

from personas_nb import Studio
from personas_nb.engine.dispatch import recover
from personas_nb.entities.base import now, rfc3339
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.entities.review import Review
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.tools.frames import Frames

WRITE = ("file_write", {"path": "report.txt", "content": "two\nlines\n"})
READ = ("file_read", {"path": "a.txt"})
DONE = Turn.text("Done.")


class Case(NamedTuple):
    """A studio, its one persona, and the server that plays the model."""

    studio: Studio
    server: ModelServer
    persona: Persona

    @property
    def folder(self) -> Path:
        return workspace(self.studio, self.persona)

    def run(self, given: Any = None, **options: Any) -> Execution:
        return self.studio.run(self.persona, given, **options)

    def pending(self) -> list[Review]:
        return list(reversed(self.studio.reviews.list()))

    def end(self, run: Execution) -> Execution:
        return self.studio.executions.handle(run.id).wait(30)

    def approved(self, run: Execution, note: str | None = None) -> Execution:
        for review in self.pending():
            self.studio.reviews.approve(review.id, note)
        return self.end(run)


@pytest.fixture(params=["direct", "claude"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def waiting_for(
    home: Path, engine: str, script: Script, *held: str, tools: tuple[str, ...] = (), **settings: Any
) -> Iterator[Case]:
    with (
        ModelServer(script, repeat_last=True) as server,
        studio_at(home, server, engine=engine, **settings) as studio,
    ):
        persona = persona_of(studio, *held, *tools)
        for name in held:
            studio.tools.require_approval(persona, name)
        yield Case(studio, server, persona)


def test_a_call_that_needs_approval_waits_and_is_made_once_it_is_approved(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE, text="I write it."), DONE], "file_write") as case:
        run = case.run()
        assert (run.status, run.completed_at, run.error) == ("waiting", None, None)
        assert not (case.folder / "report.txt").exists()
        (review,) = case.pending()
        assert (review.kind, review.tool, review.execution_id) == ("approval", "file_write", run.id)
        assert "+two\n+lines" in review.description
        case.studio.reviews.approve(review.id)
        run = case.end(run)
        assert (run.status, run.output_data) == ("completed", "I write it.\n\nDone.")
        assert (case.folder / "report.txt").read_text() == "two\nlines\n"
        assert [(step.tool, step.error, step.performed) for step in run.tool_steps] == [
            ("file_write", None, True)
        ]
        assert case.server.requests[-1].mentions("Wrote 10 bytes")


def test_a_rejection_reaches_the_model_with_its_note(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        case.studio.reviews.reject(case.pending()[0].id, "not on a Sunday")
        run = case.end(run)
        assert run.status == "completed"
        assert not (case.folder / "report.txt").exists()
        (step,) = run.tool_steps
        assert (step.performed, step.error) == (
            False,
            "file_write was not called: a person rejected it. Their note: not on a Sunday",
        )
        assert case.server.requests[-1].mentions("not on a Sunday")


def test_a_rejection_holds_though_the_tool_needs_no_approval_any_more(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        case.studio.tools.require_approval(case.persona, "file_write", needed=False)
        case.studio.reviews.reject("latest")
        run = case.end(run)
        assert run.status == "completed"
        assert not (case.folder / "report.txt").exists()
        assert [step.performed for step in run.tool_steps] == [False]


def test_an_expired_approval_holds_nothing_though_the_tool_needs_none_any_more(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        case.studio.tools.require_approval(case.persona, "file_write", needed=False)
        with case.studio.store.write() as db:
            db.execute("update reviews set expires_at = ?", [rfc3339(now())])
        recover(case.studio.store)
        assert case.end(run).status == "completed"
        assert not (case.folder / "report.txt").exists()


def test_text_steps_usage_and_events_of_before_and_after_are_one(home: Path, engine: str):
    script = [Turn.tools(READ, text="First."), Turn.tools(WRITE, text="Then."), DONE]
    with waiting_for(home, engine, script, "file_write", tools=("file_read",)) as case:
        (case.folder / "a.txt").write_text("hello")
        run = case.run()
        before = case.studio.executions.recorded(run.id)
        assert (run.num_turns, run.input_tokens, run.output_data) == (2, 24, "First.\n\nThen.")
        assert run.cost_usd
        ended = case.approved(run)
        assert (ended.id, ended.num_turns, ended.input_tokens, ended.output_tokens) == (run.id, 3, 36, 18)
        assert ended.cost_usd == pytest.approx(1.5 * run.cost_usd)
        assert ended.output_data == "First.\n\nThen.\n\nDone."
        assert [step.tool for step in ended.tool_steps] == ["file_read", "file_write"]
        assert ended.started_at == run.started_at
        assert ended.duration_ms > run.duration_ms
        after = case.studio.executions.recorded(run.id)
        assert after[: len(before)] == before
        assert [seq for seq, _at, _event in after] == list(range(1, len(after) + 1))
        calls = [event.type for _s, _a, event in after if event.type in ("tool_started", "tool_finished")]
        assert calls == ["tool_started", "tool_finished"] * 2
        assert [event.status for _s, _a, event in after if event.type == "status"] == ["waiting", "completed"]


def test_a_run_that_waits_keeps_its_budget_and_frees_its_slot(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        case.studio.budgets.add("all", period="day", limit_usd=100, action="block")
        run = case.run()
        (rule,) = case.studio.budgets.list()
        reserved = case.studio.budgets.used(rule)
        assert reserved > 1
        assert case.run(provider="rehearsal").status == "completed"
        assert case.approved(run).status == "completed"
        assert case.studio.budgets.used(rule) < 0.01


def test_the_time_that_a_run_waits_does_not_count(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run(timeout_ms=20_000)
        long_ago = rfc3339(now() - timedelta(hours=1))
        with case.studio.store.write() as db:
            db.execute("update executions set started_at = ?, claimed_at = ?", [long_ago, long_ago])
        run = case.approved(run)
        assert run.status == "completed"
        assert run.duration_ms < 20_000


def test_the_time_that_it_ran_before_counts(home: Path, engine: str):
    script = [Turn.tools(WRITE), Turn.hang()]
    with waiting_for(home, engine, script, "file_write") as case:
        run = case.run(timeout_ms=20_000)
        with case.studio.store.write() as db:
            db.execute("update executions set duration_ms = 19900")
        run = case.approved(run)
        assert (run.status, run.error_kind) == ("failed", "timeout")
        assert run.error == "It took longer than 20 s, its limit."


def test_a_decision_is_made_once_and_repeated(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        (review,) = case.pending()
        assert case.studio.reviews.reject(review.id, "no").status == "rejected"
        case.end(run)
        again = case.studio.reviews.approve(review.id, "yes")
        assert (again.status, again.note) == ("rejected", "no")
        assert not (case.folder / "report.txt").exists()
        assert case.studio.executions.get(run.id).pauses == 1


def test_an_approval_that_expired_is_a_refusal_and_the_run_goes_on(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        (review,) = case.pending()
        assert review.expires_at - review.created_at == timedelta(days=7)
        with case.studio.store.write() as db:
            db.execute("update reviews set expires_at = ?", [rfc3339(now())])
        recover(case.studio.store)
        run = case.end(run)
        assert run.status == "completed"
        assert run.tool_steps[0].error.startswith("file_write was not called: nobody approved it in time.")
        late = case.studio.reviews.approve(review.id)
        assert (late.status, late.note) == ("expired", "Nobody decided in time; nothing was done.")
        assert not (case.folder / "report.txt").exists()


def test_an_approval_given_too_late_is_none(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        with case.studio.store.write() as db:
            db.execute("update reviews set expires_at = ?", [rfc3339(now())])
        assert case.studio.reviews.approve(case.studio.reviews.list(None)[0].id).status == "expired"
        assert case.end(run).tool_steps[0].performed is False


def test_an_approval_does_not_hold_for_a_changed_persona(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        case.studio.personas.update(case.persona, system_prompt="You do something else.")
        run = case.approved(run)
        assert run.status == "completed"
        assert not (case.folder / "report.txt").exists()
        assert (
            "it was approved for version 1 of this persona, which is version 2 now" in run.tool_steps[0].error
        )


def test_an_approval_does_not_hold_for_other_arguments(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        with case.studio.store.write() as db:
            db.execute("update reviews set arguments_hash = 'of other arguments'")
        run = case.approved(run)
        assert run.status == "completed"
        assert not (case.folder / "report.txt").exists()
        assert "needs a person's approval, which this call does not have" in run.tool_steps[0].error


def test_a_tool_that_was_taken_away_meanwhile_is_not_called(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write", tools=("file_read",)) as case:
        run = case.run()
        case.studio.tools.unassign(case.persona, "file_write")
        run = case.approved(run)
        assert run.status == "completed"
        assert not run.tool_steps[0].performed


def test_a_run_that_waits_can_be_cancelled(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE, text="I write."), DONE], "file_write") as case:
        run = case.run()
        (review,) = case.pending()
        ended = case.studio.executions.cancel(run.id)
        assert (ended.status, ended.error_kind, ended.output_data) == ("cancelled", "cancelled", "I write.")
        assert ended.error == "Cancelled while it waited for a decision; what it had until then is kept."
        assert case.studio.reviews.approve(review.id).status == "expired"
        assert case.studio.executions.get(run.id).status == "cancelled"
        assert "conversation" not in case.studio.executions.table.texts(run.id)
        assert len(case.server.requests) == 1


def test_what_needs_no_approval_is_not_held_up(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(READ), DONE], "file_write", tools=("file_read",)) as case:
        (case.folder / "a.txt").write_text("hello")
        assert case.run().status == "completed"
        case.studio.tools.require_approval(case.persona, "file_write", needed=False)
        assert case.studio.tools.needing_approval(case.persona) == frozenset()


def test_a_call_that_cannot_be_made_is_refused_without_asking(home: Path, engine: str):
    script = [Turn.tools(("file_write", {"path": 5})), DONE]
    with waiting_for(home, engine, script, "file_write") as case:
        run = case.run()
        assert run.status == "completed"
        assert not run.tool_steps[0].performed
        assert case.pending() == []


def test_each_of_several_calls_is_decided_and_then_the_run_goes_on(home: Path):
    writes = [("file_write", {"path": f"{n}.txt", "content": str(n)}) for n in range(3)]
    script = [Turn.tools(*writes, READ), DONE]
    with waiting_for(home, "direct", script, "file_write", tools=("file_read",)) as case:
        (case.folder / "a.txt").write_text("hello")
        run = case.run()
        assert [step.tool for step in run.tool_steps] == ["file_read"]
        first, second, third = case.pending()
        case.studio.reviews.approve(first.id)
        case.studio.reviews.reject(second.id)
        assert case.studio.executions.get(run.id).status == "waiting"
        case.studio.reviews.approve(third.id)
        run = case.end(run)
        assert run.status == "completed"
        assert sorted(path.name for path in case.folder.glob("?.txt")) == ["0.txt", "2.txt", "a.txt"]
        assert [(step.tool, step.performed) for step in run.tool_steps] == [
            ("file_write", True),
            ("file_write", False),
            ("file_write", True),
            ("file_read", True),
        ]


def test_the_cli_asks_for_one_call_at_a_time_and_does_the_rest(home: Path):
    writes = [("file_write", {"path": f"{n}.txt", "content": str(n)}) for n in range(2)]
    script = [Turn.tools(*writes, READ), Turn.tools(writes[1]), DONE]
    with waiting_for(home, "claude", script, "file_write", tools=("file_read",)) as case:
        (case.folder / "a.txt").write_text("hello")
        run = case.run()
        assert run.status == "waiting"
        assert {(step.tool, step.performed) for step in run.tool_steps} == {
            ("file_write", False),
            ("file_read", True),
        }
        run = case.approved(run)
        assert run.status == "waiting"
        assert case.server.requests[1].mentions("A person decides on one call at a time")
        run = case.approved(run)
        assert run.status == "completed"
        assert [(case.folder / f"{n}.txt").read_text() for n in range(2)] == ["0", "1"]


def test_nothing_of_a_session_that_waits_is_left_outside_the_store(home: Path):
    with waiting_for(home, "claude", [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run("the input is in the conversation")
        assert list((case.studio.home / "cli").glob("*/*")) == []
        assert "the input is in" in case.studio.executions.table.texts(run.id)["conversation"]
        assert case.approved(run).status == "completed"
        assert list((case.studio.home / "cli").glob("*/*")) == []
        assert case.server.requests[-1].mentions("the input is in the conversation")


def test_what_one_engine_began_no_other_goes_on_with(home: Path):
    with waiting_for(home, "direct", [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        profile = {"engine": "claude"}
        case.studio.personas.update(case.persona, model_profile=profile)
        run = case.approved(run)
        assert (run.status, run.error_kind) == ("failed", "invalid_input")
        assert "The run waited on the engine direct" in run.error


def test_a_run_may_wait_again(home: Path, engine: str):
    again = ("file_write", {"path": "report.txt", "content": "three\n", "append": True})
    with waiting_for(home, engine, [Turn.tools(WRITE), Turn.tools(again), DONE], "file_write") as case:
        run = case.approved(case.run())
        assert run.status == "waiting"
        (review,) = case.pending()
        assert "+three" in review.description
        run = case.approved(run)
        assert (run.status, run.pauses, run.num_turns) == ("completed", 2, 3)
        assert [(step.error, step.performed) for step in run.tool_steps] == [(None, True), (None, True)]
        assert (case.folder / "report.txt").read_text() == "two\nlines\nthree\n"


def test_turns_are_limited_over_all_parts_of_a_run(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.approved(case.run(max_turns=1))
        assert (run.status, run.error_kind) == ("failed", "turns")
        assert (case.folder / "report.txt").exists()


def test_a_rehearsal_describes_what_would_wait(home: Path):
    with studio_at(home) as studio:
        persona = persona_of(studio, "file_write")
        studio.tools.require_approval(persona, "file_write")
        run = studio.run(persona, provider="rehearsal")
        assert run.status == "completed"
        (step,) = run.tool_steps
        assert (step.performed, step.error) == (False, None)
        assert step.output.endswith("A real run would first wait for your approval.")


def test_a_protocol_message_of_before_is_not_written_again(home: Path, engine: str):
    message = ("user_message", {"title": "Hi", "content": "I am here."})
    with waiting_for(
        home, engine, [Turn.tools(message, WRITE), Turn.tools(message), DONE], "file_write"
    ) as case:
        run = case.approved(case.run())
        assert run.status == "completed"
        assert [found.title for found in case.studio.messages.list(execution_id=run.id)] == ["Hi"]


def test_a_disabled_persona_does_not_go_on(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        run = case.run()
        case.studio.personas.disable(case.persona)
        run = case.approved(run)
        assert (run.status, run.error_kind) == ("failed", "disabled")
        assert "before the run went on" in run.error
        assert run.cost_usd
        assert not (case.folder / "report.txt").exists()


def test_the_conversation_that_is_kept_has_no_key_and_goes_at_the_end(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        case.studio.credentials.add(
            "hook", "http_bearer", {"base_url": "https://a.b", "token": "tok-0123456789"}
        )
        case.server._scripts[""] = [
            Turn.tools(("file_write", {"path": "a", "content": "tok-0123456789"})),
            DONE,
        ]
        (case.folder / "a").write_text("before: tok-0123456789")
        run = case.run()
        assert "-before:" in case.pending()[0].description
        with case.studio.store.read() as db:
            assert "tok-0123456789" not in "\n".join(db.iterdump())
        run = case.approved(run)
        assert run.status == "completed"
        assert "tok-0123456789" not in (case.folder / "a").read_text()
        assert "conversation" not in case.studio.executions.table.texts(run.id)


def test_a_handle_waits_on_after_a_decision(home: Path, engine: str):
    with waiting_for(home, engine, [Turn.tools(WRITE), DONE], "file_write") as case:
        handle = case.studio.start(case.persona)
        assert handle.wait(30).status == "waiting"
        case.studio.reviews.approve("latest")
        assert handle.wait(30).status == "completed"


def test_an_unknown_or_unassigned_tool_cannot_need_approval(home: Path):
    with studio_at(home) as studio:
        persona = persona_of(studio, "file_read")
        with pytest.raises(InvalidInput, match="file_write is not assigned"):
            studio.tools.require_approval(persona, "file_write")
        with pytest.raises(NotFound, match="There is no tool"):
            studio.tools.require_approval(persona, "file_wrote")


def test_frames_of_before_the_decision_are_there_after_it(home: Path, engine: str):
    def load() -> pd.DataFrame:
        """Load the sales."""
        return pd.DataFrame({"amount": [1, 2]})

    def send(sales: pd.DataFrame) -> str:
        """Send the sales."""
        return f"sent {sales.amount.sum()}"

    script = [Turn.tools(("load", {})), Turn.tools(("send", {"sales": "df:load-1"})), DONE]
    with waiting_for(home, engine, script) as case:
        for function in (load, send):
            case.studio.tools.add(function)
        case.studio.tools.assign(case.persona, "load", "send")
        case.studio.tools.require_approval(case.persona, "send")
        run = case.approved(case.run())
        assert run.status == "completed"
        assert [step.output for step in run.tool_steps][1:] == ["sent 3"]


def test_a_handle_of_before_never_means_a_frame_of_after_in_another_process():
    first, again = Frames().of_run("run"), Frames().of_run("run", part=1)
    assert first.put("sales", "rows") == "df:sales-1"
    assert again.put("sales", "other rows") == "df:sales-1001"
    with pytest.raises(NotFound):
        again.get("df:sales-1")


def test_a_tool_of_an_mcp_server_waits_too(home: Path, engine: str):
    script = [Turn.tools(("odd__echo", {"text": "hello"})), DONE]
    with waiting_for(home, engine, script) as case:
        case.studio.tools.add_server(case.persona, "odd", command=odd_server("plain"))
        case.studio.tools.require_approval(case.persona, "odd.echo")
        run = case.run()
        assert run.status == "waiting"
        (review,) = case.pending()
        assert (review.tool, review.severity) == ("odd.echo", "high")
        assert '"text": "hello"' in review.description
        run = case.approved(run)
        assert run.status == "completed"
        assert [(step.tool, step.error, step.performed) for step in run.tool_steps] == [
            ("odd.echo", None, True)
        ]
