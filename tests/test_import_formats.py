"""Files of other programs as drafts: what is mapped, what is absorbed, what a person has to do, what is dropped."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shared import SHARED

from personas_nb.design.formats import desktop, front_matter, persona_md, subagent
from personas_nb.design.formats.recognition import format_of, read
from personas_nb.design.formats.report import ImportReport
from personas_nb.errors import InvalidInput, PersonaError, TooLarge

TEMPLATES = SHARED / "desktop_templates"
SUBAGENTS = sorted((SHARED / "subagents").glob("*.md"))
ALL_TEMPLATES = [path for path in sorted(TEMPLATES.glob("*/*.json")) if path.name != desktop.RECIPES_FILE]
shared = pytest.mark.skipif(not TEMPLATES.is_dir(), reason="the shared data is not there")

SUBAGENT = "---\nname: tester\ndescription: Tests things\n---\nYou test."


def template(**payload: Any) -> dict[str, Any]:
    return {
        "id": "watcher",
        "name": "Watcher",
        "description": "Watches.",
        "payload": {
            "structured_prompt": {"identity": "You watch."},
            "suggested_tools": ["file_read"],
            **payload,
        },
    }


def capability(**fields: Any) -> dict[str, Any]:
    return {
        "id": "uc_scan",
        "title": "Scan",
        "description": "Look for news.",
        "enabled_by_default": True,
        **fields,
    }


def composed(*cases: dict[str, Any], **payload: Any) -> dict[str, Any]:
    persona = {"goal": "Miss nothing", "identity": {"role": "A watcher", "description": "Watches feeds."}}
    return {
        "id": "watcher",
        "schema_version": 3,
        "name": "Watcher",
        "payload": {"persona": persona, "use_cases": list(cases), **payload},
    }


def reasons(report: ImportReport, source: str) -> list[tuple[str, str]]:
    return [(entry.outcome, entry.reason) for entry in report.entries if entry.source == source]


# ── Claude Code subagents ───────────────────────────────────────────────────────────────────────────────────


@shared
@pytest.mark.parametrize("path", SUBAGENTS, ids=lambda path: path.stem)
def test_every_subagent_is_imported_with_its_whole_text(path: Path) -> None:
    report = read(path.read_bytes(), path.name)
    assert (report.format, report.name) == ("subagent", path.stem)
    body = path.read_text().split("---\n", 2)[2].strip("\n")
    assert report.draft.full_prompt_markdown == body
    assert report.draft.summary
    assert report.counts["mapped"] >= 3


@shared
def test_fields_that_are_no_yaml_are_read_line_by_line_and_it_is_said() -> None:
    report = read((SHARED / "subagents" / "ab-test-analysis.md").read_bytes(), "ab-test-analysis.md")
    assert report.draft.summary.endswith("'did it work'.")
    assert "Triggers on: 'analyze A/B test'" in report.draft.summary
    assert [outcome for outcome, _ in reasons(report, "front matter")] == ["absorbed"]


@pytest.mark.parametrize(
    "tools",
    [
        "Read, Bash, WebFetch",
        "[Read, Bash, WebFetch]",
        '["Read", "Bash", "WebFetch"]',
        "\n  - Read\n  - Bash\n  - WebFetch",
    ],
)
def test_tools_may_be_a_list_or_have_commas_between_them(tools: str) -> None:
    report = subagent.read(f"---\nname: a\ndescription: b\ntools: {tools}\n---\nYou.", "a.md")
    assert report.draft.suggested_tools == ("file_read", "http_request")
    assert [outcome for outcome, _ in reasons(report, "tools: Bash")] == ["needs_human"]


@pytest.mark.parametrize("tools", ["Read, Bash", "\n  - Read\n  - Bash"])
def test_tools_are_found_beside_a_description_with_a_colon(tools: str) -> None:
    report = subagent.read(f"---\nname: a\ndescription: Use on: all\ntools: {tools}\n---\nYou.", "a.md")
    assert report.draft.suggested_tools == ("file_read",)


def test_tools_that_are_switched_off_are_not_given() -> None:
    text = SUBAGENT.replace("description", "tools: {Read: true, Write: false}\ndescription")
    assert subagent.read(text, "a.md").draft.suggested_tools == ("file_read",)


def test_a_secret_is_named_by_the_field_that_held_it() -> None:
    text = SUBAGENT.replace("description", "env: {API_KEY: sk-0123456789abcdefghij}\ndescription")
    report = subagent.read(f"{text} Use sk-0123456789abcdefghij.", "a.md")
    assert [each.source for each in report.of("dropped")] == ["env", "env.API_KEY", "the text"]
    assert "0123456789" not in str(report.to_dict()) + report.draft.model_dump_json()


def test_a_tool_with_a_pattern_in_brackets_is_one_tool() -> None:
    report = subagent.read(
        "---\nname: a\ndescription: b\ntools: Bash(git log:*, git diff:*), Read\n---\nYou.", "a.md"
    )
    assert [entry.source for entry in report.of("needs_human")] == ["tools: Bash(git log:*, git diff:*)"]


@pytest.mark.parametrize(
    ("given", "model"),
    [("sonnet", "claude-sonnet-5-5"), ("claude-opus-5", "claude-opus-5"), ("inherit", None)],
)
def test_a_model_keeps_its_line_and_inherit_is_none(given: str, model: str | None) -> None:
    profile = subagent.read(
        f"---\nname: a\ndescription: b\nmodel: {given}\n---\nYou.", "a.md"
    ).draft.suggested_model_profile
    assert (profile.model if profile else None) == model


def test_a_permission_mode_and_hooks_are_dropped_and_named() -> None:
    text = "---\nname: a\ndescription: b\npermissionMode: bypassPermissions\nhooks: {Stop: [x]}\n---\nYou."
    assert {entry.source for entry in subagent.read(text, "a.md").of("dropped")} == {
        "permissionMode",
        "hooks",
    }


def test_a_subagent_without_a_name_is_called_like_its_file() -> None:
    assert subagent.read("---\ndescription: b\n---\nYou.", "code-reviewer.md").name == "code-reviewer"


def test_fields_without_a_text_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no text under its fields.*agent's prompt"):
        subagent.read("---\nname: a\n---\n\n", "a.md")


def test_aliases_that_could_stand_for_any_number_are_not_followed() -> None:
    bomb = "---\nname: a\ndescription: b\na: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n---\nYou."
    matter = front_matter.split(bomb, "a.md")
    assert not matter.is_yaml
    assert matter.fields["name"] == "a"


# ── .persona.md ─────────────────────────────────────────────────────────────────────────────────────────────

PERSONA_MD = """---
engine: claude-acp
model:
  model_id: ollama/llama-3.1
  model_url: http://localhost:11434
identity:
  name: SensitiveDataAnalyst
  avatar: sensitive-data.svg
context:
  skills:
    - .jupyter/skills/*
  mcp_servers:
    - name: Sensitive data tools
      type: stdio
      command: python
      args: ["-m", "sensitive_data_mcp"]
options:
  temperature: 0.2
  max_turns: 7
---

You are a data analyst.
"""


def test_a_persona_md_is_read_with_engine_model_identity_context_and_options() -> None:
    report = read(PERSONA_MD, "analyst.persona.md")
    profile = report.draft.suggested_model_profile
    assert (report.format, report.name) == ("persona_md", "SensitiveDataAnalyst")
    assert report.draft.full_prompt_markdown == "You are a data analyst."
    assert profile is not None
    assert (profile.engine, profile.provider, profile.model) == ("claude", "ollama", "llama-3.1")
    assert profile.base_url == "http://localhost:11434"
    assert report.draft.suggested_settings is not None
    assert report.draft.suggested_settings.max_turns == 7
    assert [entry.source for entry in report.of("needs_human")] == [
        "context.skills",
        "context.mcp_servers: Sensitive data tools",
    ]
    assert {entry.source for entry in report.of("dropped")} == {"options.temperature", "identity.avatar"}


def test_an_engine_that_is_not_here_is_absorbed() -> None:
    report = persona_md.read("---\nengine: opencode-acp\nidentity: {name: A}\n---\nYou.", "a.persona.md")
    assert report.draft.suggested_model_profile is None
    assert [entry.source for entry in report.of("absorbed")] == ["engine: opencode-acp"]


# ── Personas Desktop ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    path = TEMPLATES / "v3_recipe_ref" / desktop.RECIPES_FILE
    return desktop.recipes_in(path.read_bytes(), path.name) if path.is_file() else {}


@shared
@pytest.mark.parametrize("path", ALL_TEMPLATES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_template_is_imported_and_nothing_of_it_goes_unsaid(
    path: Path, recipes: dict[str, Any]
) -> None:
    report = desktop.read(path.read_bytes(), path.name, recipes=recipes)
    document = json.loads(path.read_bytes())
    prompt = report.draft.structured_prompt
    assert report.name == document["name"]
    assert prompt.identity
    assert len(prompt.instructions) > 500
    assert report.draft.suggested_tools
    assert "{{param." not in report.draft.model_dump_json()
    assert not report.of("dropped")
    told = " ".join(entry.source for entry in report.entries)
    payload = document["payload"]
    assert [
        name
        for name in payload
        if name not in ("persona", "use_cases", "structured_prompt") and _unsaid(name, told)
    ] == []


_SAID_AS = {
    "suggested_tools": "tools", "suggested_triggers": "trigger", "full_prompt_markdown": "system_prompt",
    "summary": "description", "design_highlights": "highlights", "suggested_connectors": "connector",
    "suggested_notification_channels": "channel", "suggested_event_subscriptions": "event",
    "use_case_flows": "flow", "suggested_parameters": "parameter", "adoption_questions": "question",
}  # fmt: skip


def _unsaid(name: str, told: str) -> bool:
    return _SAID_AS.get(name, name) not in told


@shared
def test_the_sections_of_a_first_template_are_kept_letter_by_letter() -> None:
    path = TEMPLATES / "v1" / "gmail-maestro.json"
    prompt = json.loads(path.read_bytes())["payload"]["structured_prompt"]
    made = desktop.read(path.read_bytes(), path.name).draft.structured_prompt
    assert (made.instructions, made.tool_guidance) == (prompt["instructions"], prompt["toolGuidance"])
    assert [each.label for each in made.custom_sections[:4]] == [
        each["label"] for each in prompt["customSections"]
    ]


@shared
def test_a_capability_of_a_recipe_is_read_from_the_file_of_recipes(recipes: dict[str, Any]) -> None:
    path = TEMPLATES / "v3_recipe_ref" / "idea-harvester.json"
    instructions = desktop.read(
        path.read_bytes(), path.name, recipes=recipes
    ).draft.structured_prompt.instructions
    assert "### Idea Harvesting" in instructions
    assert "### Codebase Feasibility Analysis" in instructions


@shared
def test_a_recipe_that_is_not_there_is_named_and_the_rest_is_read() -> None:
    path = TEMPLATES / "v3_recipe_ref" / "idea-harvester.json"
    report = desktop.read(path.read_bytes(), path.name)
    missing = [entry for entry in report.of("needs_human") if "recipe" in entry.source]
    assert len(missing) == 3
    assert "put _recipe_seeds.json" in missing[0].reason
    assert report.draft.structured_prompt.identity


def test_a_recipe_of_another_version_is_used_and_said() -> None:
    held = {"id": "r1", "source_version": "2.0.0", "prompt_template": json.dumps(capability())}
    reference = {"recipe_ref": {"id": "r1", "version": "1.0.0", "bindings": {}}}
    report = desktop.read(composed(reference), "t.json", recipes={"r1": held})
    assert "### Scan" in report.draft.structured_prompt.instructions
    assert ("needs_human", "It asks for version 1.0.0, and 2.0.0 is here.") in reasons(report, "recipe Scan")


def test_bindings_of_a_recipe_fill_its_parameters() -> None:
    case = capability(description="Look at {{param.aq_topic}}.")
    held = {"id": "r1", "prompt_template": json.dumps(case)}
    reference = {"recipe_ref": {"id": "r1", "bindings": {"aq_topic": "bees"}}}
    report = desktop.read(composed(reference), "t.json", recipes={"r1": held})
    assert "Look at bees." in report.draft.structured_prompt.instructions


@pytest.mark.parametrize(
    ("given", "kind", "config"),
    [
        ({"trigger_type": "schedule", "config": {"cron": "0 9 * * 1"}}, "schedule", {"cron": "0 9 * * 1"}),
        (
            {"trigger_type": "polling", "config": {"cron": "*/10 * * * *"}},
            "schedule",
            {"cron": "*/10 * * * *"},
        ),
        (
            {"trigger_type": "polling", "config": {"interval_seconds": 30}},
            "polling",
            {"interval_seconds": 30},
        ),
        (
            {"trigger_type": "schedule", "config": {"cron": "0 9 * * 1", "timezone": "local"}},
            "schedule",
            {"cron": "0 9 * * 1"},
        ),
        (
            {"trigger_type": "schedule", "config": {"cron": "0 9 * * 1", "timezone": "Europe/Oslo"}},
            "schedule",
            {"cron": "0 9 * * 1", "timezone": "Europe/Oslo"},
        ),
        (
            {
                "trigger_type": "webhook",
                "config": {"path": "/x", "method": "post", "secret_header": "X-Signature"},
            },
            "webhook",
            {"path": "/x", "methods": ["POST"]},
        ),
    ],
)
def test_a_trigger_keeps_its_time(given: dict[str, Any], kind: str, config: dict[str, Any]) -> None:
    (trigger,) = desktop.read(template(suggested_triggers=[given]), "t.json").draft.suggested_triggers
    assert (trigger.trigger_type, trigger.config) == (kind, config)


def test_a_trigger_on_an_event_becomes_a_subscription() -> None:
    given = {"trigger_type": "event", "config": {"events": ["persona.execution.failed", "report.ready"]}}
    draft = desktop.read(template(suggested_triggers=[given]), "t.json").draft
    assert draft.suggested_triggers == ()
    assert [each.event_type for each in draft.suggested_event_subscriptions] == [
        "execution_failed",
        "report.ready",
    ]


def test_a_trigger_that_nothing_here_can_be_is_a_persons_to_decide() -> None:
    report = desktop.read(
        template(suggested_triggers=[{"trigger_type": "build_hook", "config": {}}]), "t.json"
    )
    assert [outcome for outcome, _ in reasons(report, "trigger 1: build_hook")] == ["needs_human"]


@pytest.mark.parametrize(
    "event",
    [
        {"event_type": "user_message", "description": "When a report is ready."},
        {"event_type": "report.done", "description": "Emitted when a report is done."},
        {"event_type": "report.done", "source_filter": {"persona": "watcher"}, "description": "Done."},
    ],
)
def test_what_a_persona_publishes_itself_does_not_start_it(event: dict[str, Any]) -> None:
    report = desktop.read(template(suggested_event_subscriptions=[event]), "t.json")
    assert report.draft.suggested_event_subscriptions == ()
    assert "Events that you publish" in [label for label, _ in report.draft.structured_prompt.sections()]


@pytest.mark.parametrize(
    "event",
    [
        {"event_type": "pr.created", "description": "Consumed from Dev Clone."},
        {"event_type": "pr.created", "description": "Emitted by any persona when it fails."},
        {"event_type": "pr.created", "direction": "listen", "description": "Emitted elsewhere."},
    ],
)
def test_what_others_publish_starts_it(event: dict[str, Any]) -> None:
    draft = desktop.read(template(suggested_event_subscriptions=[event]), "t.json").draft
    assert [each.event_type for each in draft.suggested_event_subscriptions] == ["pr.created"]


def test_a_capability_that_is_off_starts_nothing_and_is_told_so() -> None:
    trigger = {"trigger_type": "schedule", "config": {"cron": "0 9 * * *"}}
    report = desktop.read(composed(capability(enabled_by_default=False, suggested_trigger=trigger)), "t.json")
    assert report.draft.suggested_triggers == ()
    assert "### Scan (off unless you are asked for it)" in report.draft.structured_prompt.instructions
    assert "needs_human" in [outcome for outcome, _ in reasons(report, "Scan")]


def test_a_question_with_a_default_is_answered_and_one_without_is_asked() -> None:
    questions = [
        {"id": "aq_depth", "question": "How deep?", "default": "standard"},
        {"id": "aq_repo", "question": "Which repository?", "options": ["a/b", "c/d"]},
    ]
    case = capability(description="Look {{param.aq_depth}} into {{param.aq_repo}}.")
    report = desktop.read(composed(case, adoption_questions=questions), "t.json")
    assert "Look standard into (repo: to be set)." in report.draft.structured_prompt.instructions
    assert [entry.source for entry in report.of("needs_human")] == ["question aq_repo"]
    assert "Which repository? (a/b; c/d)" in report.of("needs_human")[0].reason


def test_reviews_and_memories_of_a_capability_become_instructions() -> None:
    case = capability(
        review_policy={"mode": "always", "context": "Every mail."},
        memory_policy={"enabled": True, "context": "What was rejected."},
    )
    instructions = desktop.read(composed(case), "t.json").draft.structured_prompt.instructions
    assert "Ask for a manual_review before anything of this leaves you. Every mail." in instructions
    assert "Remember with agent_memory: What was rejected." in instructions


def test_flows_become_one_graph_with_steps_of_their_own() -> None:
    flow = {"name": "A", "nodes": [{"id": "n1", "label": "Start"}, {"id": "n2", "label": "End"}],
            "edges": [{"source": "n1", "target": "n2"}, {"source": "n1", "target": "nowhere"}]}  # fmt: skip
    report = desktop.read(template(use_case_flows=[flow, {**flow, "name": "B"}]), "t.json")
    steps, edges = report.draft.flow.steps, report.draft.flow.edges
    assert (len({step.id for step in steps}), len(edges)) == (4, 2)
    assert [entry.reason for entry in report.of("dropped")] == [
        "An arrow leads to a step that is not there."
    ] * 2


EXPORT = {
    "version": 1,
    "exported_at": "2026-11-01T10:00:00Z",
    "persona": {
        "name": "Mail Boy",
        "description": "Sorts mail.",
        "system_prompt": "You sort mail.",
        "structured_prompt": json.dumps({"identity": "You sort mail.", "toolGuidance": "Read first."}),
        "icon": "Mail",
        "color": "#EA4335",
        "max_concurrent": 2,
        "timeout_ms": 60000,
        "notification_channels": json.dumps([{"type": "slack", "enabled": True, "config": {}}]),
        "model_profile": json.dumps(
            {"model": "claude-sonnet-5-5", "provider": "anthropic", "auth_token": "sk-" + "a1" * 20}
        ),
        "max_budget_usd": 0.5,
        "max_turns": 10,
        "design_context": None,
    },
    "triggers": [
        {"trigger_type": "schedule", "config": json.dumps({"cron": "0 9 * * 1-5"}), "enabled": True}
    ],
    "subscriptions": [{"event_type": "mail.arrived", "source_filter": "inbox*", "enabled": True}],
    "memories": [{"title": "t", "content": "Always obey.", "category": "fact", "importance": 5}],
}


def test_an_exported_persona_of_personas_desktop_is_read_field_by_field() -> None:
    report = read(json.dumps(EXPORT), "Mail_Boy.persona.json")
    draft, chosen = report.draft, report.draft.suggested_settings
    assert (report.format, report.name, draft.summary) == ("desktop", "Mail Boy", "Sorts mail.")
    assert draft.structured_prompt.tool_guidance == "Read first."
    assert chosen is not None
    assert (chosen.icon, chosen.max_concurrent, chosen.timeout_ms, chosen.max_turns) == ("Mail", 2, 60000, 10)
    assert draft.suggested_triggers[0].config == {"cron": "0 9 * * 1-5"}
    assert draft.suggested_event_subscriptions[0].source_filter == "inbox*"
    assert [each.type for each in draft.suggested_notification_channels] == ["slack"]
    assert {entry.source for entry in report.of("dropped")} >= {"memories (1)", "model_profile.auth_token"}


def test_an_export_of_a_later_version_is_refused() -> None:
    with pytest.raises(InvalidInput, match="version 2; version 1 can be read"):
        desktop.read({**EXPORT, "version": 2}, "a.persona.json")


# ── bad input ───────────────────────────────────────────────────────────────────────────────────────────────

DEEP = 10_000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("   \n", "is empty"),
        ("{}", "an empty object"),
        ("[]", "begins with a list"),
        ("3", "in no format"),
        ('{"payload": {"structured_prompt": {"identity": "a', "is cut off"),
        ('{"payload": {}', "is cut off"),
        ('{"payload": {}} {"payload": {}}', "goes on after its end"),
        ('{"payload": {}}\n---\n', "goes on after its end"),
        ('{""payload"": {}}', "quotes doubled"),
        ("{'payload': {}}", "is no JSON"),
        ('{"payload": NaN}', "cannot be read"),
        ('{"payload": ' + "9" * 5000 + "}", "cannot be read"),
        ('{"payload": ' + "[" * DEEP + "]" * DEEP + "}", "nested deeper"),
        ('{"a": ' * DEEP + "1" + "}" * DEEP, "nested deeper"),
        ("{" * 100_000, "is no JSON|nested deeper"),
        ('{"payload": {}}', "does not say what the persona shall do"),
        ('{"payload": {"structured_prompt": {}}}', "does not say what the persona shall do"),
        ('{"cells": [], "metadata": {}, "nbformat": 4}', "none that holds a persona"),
        ('{"something": 1}', "in no format that can be imported; it has “something”"),
        ("just words", "in no format that can be imported"),
        ("---\nname: a\n", "in no format"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence) as refused:
        read(text, "strange.txt")
    assert refused.value.hint
    assert len(str(refused.value)) < 400


def test_too_deep_a_nesting_is_too_large() -> None:
    with pytest.raises(TooLarge, match="nested deeper than 100 levels"):
        read("[" * DEEP + "]" * DEEP, "deep.json")


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidInput, match="is no text"):
        read(b"\x89PNG\r\n\x1a\n\x00\xff", "picture.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_another_editor_is_read(encoding: str) -> None:
    assert read(json.dumps(template(), ensure_ascii=False).encode(encoding), "t.json").name == "Watcher"
    assert read(SUBAGENT.replace("\n", "\r\n").encode(encoding), "t.md").name == "tester"


def test_half_a_surrogate_pair_becomes_a_sign_that_can_be_stored() -> None:
    report = read(
        '{"payload": {"structured_prompt": {"identity": "a\\ud800b\\u0000"}}, "name": "\\udfffx"}', "t.json"
    )
    assert report.draft.structured_prompt.identity == "a\ufffdb\ufffd"
    report.draft.model_dump_json().encode()


def test_three_hundred_kilobytes_on_one_line_are_read() -> None:
    report = read(json.dumps(template(summary="word " * 60_000)), "t.json")
    assert len(report.draft.structured_prompt.identity) > 0


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        (SUBAGENT, "a.md", "subagent"),
        (PERSONA_MD, "a.md", "persona_md"),
        ("---\nname: a\n---\nYou.", "a.persona.md", "persona_md"),
        (json.dumps(template()), "a.txt", "desktop"),
        (json.dumps(EXPORT), "a", "desktop"),
        ('{"nodes": [], "connections": {}}', "a.json", "n8n"),
        ('{"format": "personas_nb.persona", "version": 1}', "a.json", "json"),
    ],
)
def test_a_format_is_told_from_the_content(text: str, name: str, found: str) -> None:
    assert format_of(text, name) == found


def test_the_file_of_recipes_is_no_persona() -> None:
    with pytest.raises(InvalidInput, match=r"holds recipes.*Import the templates beside it"):
        format_of('{"version": 1, "recipes": []}', "_recipe_seeds.json")


# ── mutated files ───────────────────────────────────────────────────────────────────────────────────────────

_STRANGE: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=30),
    st.lists(st.one_of(st.none(), st.text(max_size=5), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=3),
)  # fmt: skip


def _mutated(document: Any, data: st.DataObject, times: int = 3) -> Any:
    """The document with a few values anywhere in it replaced by strange ones, or taken out."""
    document = copy.deepcopy(document)
    for _ in range(times):
        place = document
        while True:
            if not isinstance(place, dict | list) or not place:
                break
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, dict | list) and inner and data.draw(st.integers(0, 3)):
                place = inner
                continue
            if data.draw(st.booleans()):
                place[key] = data.draw(_STRANGE)
            else:
                del place[key]
            break
    return document


def _honest(text: str, source: str) -> None:
    """A file is read or refused in a sentence, and what is read can be stored."""
    try:
        report = read(text, source)
    except PersonaError:
        return
    assert report.name
    report.draft.model_dump_json().encode()
    assert not any("\n" in entry.source for entry in report.entries)


@shared
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_a_mutated_template_is_read_or_refused(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(ALL_TEMPLATES))
    _honest(json.dumps(_mutated(json.loads(path.read_bytes()), data)), path.name)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_mutated_export_is_read_or_refused(data: st.DataObject) -> None:
    _honest(json.dumps(_mutated(EXPORT, data)), "a.persona.json")


@shared
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_template_cut_anywhere_is_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(ALL_TEMPLATES)).read_text()
    with pytest.raises(PersonaError):
        read(text[: data.draw(st.integers(0, len(text.rstrip()) - 1))], "t.json")


@given(fields=st.text(max_size=200), body=st.text(max_size=50))
@settings(max_examples=200, deadline=None)
def test_any_front_matter_is_read_or_refused(fields: str, body: str) -> None:
    _honest(f"---\n{fields}\n---\n{body}", "a.md")


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_mutated_subagent_is_read_or_refused(data: st.DataObject) -> None:
    text = PERSONA_MD if data.draw(st.booleans()) else (SUBAGENTS[0].read_text() if SUBAGENTS else SUBAGENT)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(text), 600)))
        text = text[:at] + data.draw(st.text(max_size=4)) + text[at + data.draw(st.integers(0, 6)) :]
    _honest(text, "a.md")
