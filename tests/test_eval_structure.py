"""Rules about a prompt count only where they apply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.design.evals.structure import RULES, findings, structure_score
from personas_nb.entities.eval import EvalSubject
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.tool import ToolDefinition

READ = ToolDefinition(name="file_read", effect="none")
WRITE = ToolDefinition(name="file_write", effect="local")
HTTP = ToolDefinition(name="http_request", effect="outside")
MAIL = ToolDefinition(name="gmail_send", effect="outside", requires_credential_type="gmail")
CATALOG = [tool.name for tool in (READ, WRITE, HTTP, MAIL)]
WHO = "You watch the invoices of a small shop."
WHAT = "1. Read the invoices.\n2. Say which of them are overdue and by how many days."


def subject(**fields) -> EvalSubject:
    prompt = {name: fields.pop(name) for name in list(fields) if name in StructuredPrompt.model_fields}
    structured = StructuredPrompt(**{"identity": WHO, "instructions": WHAT, **prompt})
    return EvalSubject(**{"label": "version 1", "name": "W", "structured_prompt": structured, **fields})


def found(rule: str, tested: EvalSubject, *tools: ToolDefinition):
    return next(one for one in findings(tested, tools=tools, catalog=CATALOG) if one.rule == rule)


def score(tested: EvalSubject, *tools: ToolDefinition) -> float:
    return structure_score(findings(tested, tools=tools, catalog=CATALOG))


def test_a_persona_of_one_sentence_without_tools_loses_nothing():
    simple = EvalSubject(label="version 1", name="Echo", system_prompt="Repeat the input.")
    assert score(simple) == 1.0
    assert {one.rule for one in findings(simple) if one.applies} == {"identity", "no placeholders"}


def test_a_good_persona_without_tools_needs_no_tool_guidance_and_no_error_handling():
    assert score(subject()) == 1.0


def test_few_harmless_tools_need_no_guidance_but_one_that_acts_outside_does():
    assert found("tool guidance", subject(), READ, WRITE).applies is False
    assert found("tool guidance", subject(), HTTP).score == 0.0
    assert found("tool guidance", subject(tool_guidance="http_request asks the shop."), HTTP).score == 1.0


def test_of_many_tools_the_unexplained_ones_are_named():
    tested = subject(tool_guidance="file_read first, then file_write.")
    one = found("tool guidance", tested, READ, WRITE, HTTP)
    assert one.score == pytest.approx(2 / 3)
    assert "http_request" in one.reason


def test_a_tool_that_is_named_and_not_given_is_a_fault():
    one = found("own tools", subject(tool_guidance="Use gmail_send."), READ)
    assert (one.score, "gmail_send" in one.reason) == (0.0, True)


def test_a_suggested_tool_that_does_not_exist_is_a_fault():
    one = found("tools exist", subject(tools=("file_read", "send_pigeon"), session_id="s"), READ)
    assert (one.score, one.reason) == (0.5, "There is no tool send_pigeon.")


def test_what_to_do_when_something_fails_is_asked_of_those_with_tools():
    assert found("error handling", subject(), READ).score == 0.0
    assert found("error handling", subject(error_handling="Report what is missing."), READ).score == 1.0
    in_steps = subject(instructions=f"{WHAT}\n3. If the file is missing, say so.")
    assert found("error handling", in_steps, READ).score == 1.0


def test_an_example_is_asked_of_those_who_ask_for_a_format():
    asks = f"{WHAT}\n3. Answer as JSON."
    assert found("examples", subject()).applies is False
    assert found("examples", subject(instructions=asks)).score == 0.0
    assert found("examples", subject(instructions=asks, examples='{"overdue": 2}')).score == 1.0


def test_a_message_that_the_instruction_asked_for_is_looked_for_in_the_prompt():
    wish = "Read the invoices and tell me which are overdue"
    assert found("messages", subject()).applies is False
    assert found("messages", subject(instruction=wish)).score == 0.0
    told = subject(instruction=wish, instructions=f"{WHAT}\n3. Send a user_message with the list.")
    assert found("messages", told).score == 1.0


def test_a_time_that_the_instruction_names_needs_a_trigger():
    wish = "Every weekday at 9 read the invoices"
    assert found("triggers", subject()).applies is False
    assert found("triggers", subject(instruction=wish)).score == 0.0
    assert found("triggers", subject(instruction=wish, triggers=("schedule",))).score == 1.0


def test_a_design_names_the_connectors_that_its_tools_need():
    assert found("connectors", subject(), MAIL).applies is False
    assert found("connectors", subject(session_id="s"), MAIL).score == 0.0
    assert found("connectors", subject(session_id="s", connectors=("gmail",)), MAIL).score == 1.0


def test_a_placeholder_that_was_left_is_quoted():
    one = found("no placeholders", subject(identity="You work for [insert company here] in Berlin."))
    assert (one.score, "insert company" in one.reason) == (0.0, True)


def test_every_rule_says_why():
    for tested in (
        subject(),
        subject(instruction="Every day tell me the news", tools=("nothing",), session_id="s"),
    ):
        assert [one.rule for one in findings(tested, tools=[HTTP], catalog=CATALOG) if not one.reason] == []


@given(
    st.builds(
        StructuredPrompt,
        identity=st.text(),
        instructions=st.text(),
        tool_guidance=st.text(),
        examples=st.text(),
    ),
    st.text(max_size=200),
    st.sets(st.sampled_from([READ.name, HTTP.name, MAIL.name])),
)
def test_a_score_is_the_weighted_mean_of_the_rules_that_apply(prompt, instruction, names):
    tested = EvalSubject(label="v", name="P", structured_prompt=prompt, instruction=instruction)
    tools = [tool for tool in (READ, HTTP, MAIL) if tool.name in names]
    every = findings(tested, tools=tools, catalog=CATALOG)
    assert len(every) == len(RULES)
    assert all((one.score is not None) == one.applies for one in every)
    applying = [one for one in every if one.applies]
    weight = sum(one.weight for one in applying)
    assert structure_score(every) == pytest.approx(sum(one.weight * one.score for one in applying) / weight)
