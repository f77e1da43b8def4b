"""Evals typed into a real IPython: what is shown is complete, true and leads on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.model_server import ModelServer, Turn, Usage
from support.shell import TestingShell, shell_in
from support.studios import settings_for

from personas_nb import Studio
from personas_nb.design.evals.comparison import compare
from personas_nb.entities.eval import Check, EvalResult, EvalRun, EvalSubject, Finding
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.verbs.completion import complete
from personas_nb.views.comparison import comparison_card, headline
from personas_nb.views.evals import eval_card


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio() as opened:
        prompt = {"identity": "You report on sales.", "instructions": "1. Read the file.\n2. Say who leads."}
        opened.personas.create(name="Reporter", structured_prompt=prompt)
        opened.tools.assign("reporter", "file_read")
        yield opened


def cases(shell: TestingShell, count: int, *options: str) -> None:
    for number in range(count):
        shell.run(
            f"%%persona evals add reporter week{number} {' '.join(options)}\nWho leads in week {number}?"
        )


def test_the_cell_is_the_input_and_options_say_what_is_expected(monkeypatch, tmp_path, shell, studio):
    monkeypatch.chdir(tmp_path)
    Path("sales.csv").write_text("region,eur\n")
    shell.run(
        '%%persona evals add reporter north --file sales.csv --tools file_read --contains North "1,200 EUR" '
        '--max-cost-usd 0.05 --criteria "It names the region."\nWhich region sold more?'
    )
    (case,) = studio.evals.cases("reporter")
    assert (case.name, case.input, case.files[0].name) == ("north", "Which region sold more?", "sales.csv")
    assert (case.expect.tools, case.expect.contains) == (("file_read",), ("North", "1,200 EUR"))
    assert (case.expect.max_cost_usd, case.expect.criteria) == (0.05, "It names the region.")
    for part in ("✓ case kept", "calls file_read · says “North” · says “1,200 EUR”", "sales.csv (11 bytes)"):
        assert part in shell.text


def test_everything_twice_changes_nothing_the_second_time(shell, studio):
    cases(shell, 1)
    cases(shell, 1)
    assert "nothing changed" in shell.text
    assert len(studio.evals.cases("reporter")) == 1


def test_a_case_is_made_of_the_last_run(shell, studio):
    shell.run("%%persona run reporter --quiet\nWho leads?")
    shell.run("%persona evals add reporter --from latest")
    assert studio.evals.cases("reporter")[0].input == "Who leads?"


def test_an_eval_says_what_passed_what_it_lacks_and_what_a_rehearsal_cannot_tell(shell, studio):
    cases(shell, 2, "--messages", "user_message", "--contains", "North")
    shell.run("%persona evals run reporter")
    for part in (
        "Eval of Reporter · version 1  ✕ none passed  ○ REHEARSAL",
        "sends user_message: It was not sent.",
        "2 checks could not be told",
        "absent: A rehearsal has no model that could judge meaning.",
        "Not needed here, and not counted:",
        "$0 (rehearsal)",
    ):
        assert part in shell.text, part
    assert re.search(r"%persona evals run reporter --version N", shell.text)


def test_two_versions_are_compared_with_a_picture(shell, studio):
    cases(shell, 6, "--messages", "user_message")
    shell.run("%persona evals run reporter")
    studio.personas.update("reporter", instructions="1. Read the file.\n2. Tell me who leads.")
    shell.run("%persona evals run reporter")
    value = shell.run("%persona evals compare reporter 1 2")
    assert "Version 2 meets more of the expectations than version 1: +50 points" in shell.text
    assert "%persona tag reporter 2 production" in shell.text
    assert value.value.measure("score").verdict == "better"
    picture = next(one["data"]["image/png"] for one in shell.displays if "image/png" in one["data"])
    assert picture
    shell.run("%persona evals compare reporter")
    assert "version 2 beside version 1" in shell.text


def test_the_list_shows_cases_and_evals_and_the_noun_alone_all_of_them(shell, studio):
    cases(shell, 2)
    shell.run("%persona evals run reporter")
    shell.run("%persona evals reporter")
    for part in ("Cases · 2 cases", "week0", "version 1", "2 of 2", "%persona evals run reporter"):
        assert part in shell.text
    shell.run("%persona eval")
    assert "Reporter" in shell.text
    done = studio.evals.get("latest")
    shell.run(f"%persona evals show {done.id[:6]}")
    assert "all passed" in shell.text


def test_a_design_session_is_tested_before_it_is_a_persona(shell, studio):
    shell.run('%persona design "Every weekday at 9 read notes.txt and tell me what is urgent"')
    session = studio.sessions.get("latest")
    shell.run(f"%%persona evals add look --session {session.id[:8]} --messages user_message\nLook.")
    shell.run(f"%persona evals run --session {session.id[:8]}")
    assert "1 of 1" in shell.text
    shell.run(f"%persona evals --session {session.id[:8]}")
    assert "look" in shell.text
    shell.run(f"%persona evals remove look --session {session.id[:8]}")
    assert studio.evals.cases(session) == []


def test_a_good_persona_leaves_a_pattern(shell, studio):
    cases(shell, 3)
    studio.personas.update("reporter", error_handling="Report what is missing.")
    shell.run("%persona evals run reporter")
    assert "Kept as the pattern “Reporter”" in shell.text
    shell.run("%persona evals patterns")
    assert "file_read" in shell.text


def test_without_a_case_a_name_or_a_known_version_the_next_step_is_said(shell, studio):
    with pytest.raises(InvalidInput, match="no case to run"):
        shell.run("%persona evals run reporter")
    with pytest.raises(InvalidInput, match="Whose evals"):
        shell.run("%persona evals run")
    cases(shell, 1)
    with pytest.raises(NotFound, match=r"no version “7”"):
        shell.run("%persona evals run reporter --version 7")
    with pytest.raises(NotFound, match="week1"):
        shell.run("%persona evals remove reporter week1")


def test_a_removed_case_is_gone(shell, studio):
    cases(shell, 2)
    shell.run("%persona evals remove reporter week0")
    assert [case.name for case in studio.evals.cases("reporter")] == ["week1"]


def test_costs_of_evals_are_said_beside_those_of_runs(shell, studio, monkeypatch):
    usage = Usage(input_tokens=1000, output_tokens=100)
    with ModelServer(lambda _request, _number: Turn.text("North.", usage=usage)) as server:
        for name, value in settings_for(server).items():
            monkeypatch.setenv(name, value)
        shell.run("%reload_ext personas_nb")
        cases(shell, 1)
        shell.run("%persona evals run reporter --no-judge")
        shell.run("%persona costs")
    assert re.search(r"1 eval cost \$0\.00\d+ besides", shell.text)


def test_names_of_cases_and_ids_of_evals_are_completed(shell, studio):
    cases(shell, 2)
    studio.evals.run("reporter")
    assert complete("evals remove reporter ", lambda: studio)[1] == ["week0", "week1"]
    assert "latest" in complete("evals show ", lambda: studio)[1]
    assert {"add", "run", "compare"} <= set(complete("evals ", lambda: studio)[1])


# Cards


def a_run(**fields) -> EvalRun:
    subject = EvalSubject(label=fields.pop("label", "version 1"), name="<b>Reporter</b>", version=1)
    return EvalRun(
        **{"owner_id": "p", "persona_id": "p", "status": "completed", "subject": subject, **fields}
    )


def some(count: int, score: float | None, **fields) -> list[EvalResult]:
    checks = (Check(kind="contains", wanted="<i>", passed=False, reason="The answer lacks it."),)
    return [
        EvalResult(
            **{
                "eval_run_id": "r",
                "case_id": str(number),
                "case_name": f"case {number}",
                "case_digest": "d",
                "status": "completed",
                "checks": checks,
                "score": score,
                "passed": score == 1.0,
                "cost_usd": 0.02,
                "duration_ms": 1000,
                **fields,
            }
        )
        for number in range(count)
    ]


def test_text_of_others_is_shown_and_does_nothing():
    run = a_run(
        structure=(Finding(rule="identity", weight=1, applies=True, score=0.5, reason="<script>"),),
        measured=1,
    )
    view = eval_card(run, some(1, 0.0))
    assert "says “<i>”: The answer lacks it." in view.text
    for tag in ("<i>", "<script>", "<b>Reporter"):
        assert tag not in view.html


def test_an_eval_of_many_cases_shows_the_failed_ones_first_and_counts_the_rest():
    results = [*some(198, 1.0), *(one.changed(case_id="x", case_name="zz failed") for one in some(2, 0.0))]
    text = eval_card(a_run(measured=200, passed=198, total=200), results).text
    assert "… and 160 more runs, 160 of them passed" in text
    assert text.index("zz failed") < text.index("case 0")


def test_an_unknown_price_is_unknown_and_never_nothing():
    text = eval_card(
        a_run(cost_usd=None, judge_cost_usd=0.01, judge_model="m"), some(1, 1.0, cost_usd=None)
    ).text
    assert "unknown + judge $0.0100" in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ([0.0] * 8, [1.0] * 8, "Version 2 meets more of the expectations than version 1: +100 points"),
        ([1.0] * 8, [0.0] * 8, "Version 2 meets less of the expectations than version 1: −100 points"),
        ([0.0, 1.0] * 8, [1.0, 0.0] * 8, "No difference was shown"),
        ([1.0] * 8, [1.0] * 8, "no difference"),
        ([0.0] * 3, [1.0] * 3, "3 cases cannot tell a difference from chance: at least 6 are needed"),
        ([None] * 3, [1.0] * 3, "could not be told"),
    ],
)
def test_the_finding_is_a_sentence_that_says_when_there_is_no_difference(old, new, said):
    def side(scores):
        return [one.changed(score=score) for one, score in zip(some(len(scores), 1.0), scores, strict=True)]

    found = compare(a_run(), a_run(label="version 2"), side(old), side(new))
    assert said in headline(found)
    assert headline(found) in comparison_card(found, slug="reporter").text


def test_the_picture_is_opaque():
    from io import BytesIO

    from PIL import Image

    found = compare(a_run(), a_run(label="version 2"), some(40, 0.0), some(40, 1.0))
    picture = Image.open(BytesIO(comparison_card(found).png))
    assert picture.mode in ("P", "RGB")
    assert "transparency" not in picture.info
    assert len(comparison_card(found).png) < 60_000
