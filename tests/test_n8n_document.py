"""Files that are no workflow, or a damaged or hostile one: a clear refusal, or an honest report."""

from __future__ import annotations

import copy
import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.n8n_files import (
    FIXTURES,
    after_manual,
    chain,
    entry,
    everything,
    imported,
    node,
    steps,
    to,
    workflow,
)

from personas_nb.design.formats.n8n import is_n8n, read
from personas_nb.errors import InvalidInput, TooLarge

DESK = (FIXTURES / "support-desk.json").read_text(encoding="utf-8")
DISK = (FIXTURES / "disk-report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "“flow.json” is empty."),
        ("  \n ", "“flow.json” is empty."),
        ("{}", "“flow.json” is an empty object."),
        ("nodes: []", "“flow.json” is no JSON: line 1, column 1 cannot be read."),
        ('"text"', "“flow.json” is no n8n workflow: it is no JSON object."),
        ("[1, 2]", "“flow.json” is a list of 2 things, not one workflow."),
        ('{"name": "x"}', "“flow.json” is no n8n workflow: it has no list of nodes."),
        ('{"nodes": {}}', "“flow.json” is no n8n workflow: it has no list of nodes."),
        ('{"nodes": []}', "“flow.json” has no nodes."),
        ('{"nodes": [1, null, "x", []]}', "“flow.json” has no nodes."),
        (DISK + "{}", "“flow.json” goes on after the end of the workflow, in line"),
        (DISK[:400], "“flow.json” breaks off in line"),
        ('{"nodes": [{"name": "half', "“flow.json” breaks off in line 1."),
        ('{"nodes": [' + "9" * 5_000 + "]}", "“flow.json” has a number that nobody could have meant."),
        ("[" * 10_000 + "]" * 10_000, "“flow.json” is nested too deeply to be a workflow."),
        ('{"nodes":' * 10_000 + "1" + "}" * 10_000, "“flow.json” is nested too deeply to be a workflow."),
    ],
    ids=lambda value: value[:30],
)
def test_a_file_that_is_no_workflow_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(text, "folder/flow.json")
    assert refused.value.message.startswith(said)
    assert refused.value.hint


def test_keys_in_quotes_twice_are_told_for_what_they_are() -> None:
    damaged = json.dumps({'"meta"': "{", '"nodes"': "[", '"id"': '"1",'})
    with pytest.raises(InvalidInput, match="its keys stand in quotes twice") as refused:
        read(damaged, "39.json")
    assert "Export the workflow again" in refused.value.hint
    assert is_n8n(json.loads(damaged))


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no text in UTF-8"):
        read(b"\xff\x00\x80{}", "flow.json")


def test_a_byte_order_mark_and_utf_16_are_read() -> None:
    assert read(b"\xef\xbb\xbf" + DESK.encode(), "x").name == "Support desk"
    assert read(DESK.encode("utf-16"), "x").name == "Support desk"


def test_a_file_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge, match=r"has 11\.0 MiB; an import takes at most 10 MiB"):
        read(b" " * (11 * 1024 * 1024), "big.json")


def test_the_message_quotes_nothing_of_the_file_and_no_markup_of_its_name() -> None:
    with pytest.raises(InvalidInput) as refused:
        read('{"nodes": [{"name": "sk-abcdefghijklmnop" oops', "<img src=x>.json")
    assert "sk-" not in str(refused.value)
    assert "<" not in str(refused.value)


def test_300_kilobytes_on_one_line_are_read() -> None:
    prompt = "Answer kindly. " * 20_000
    report = after_manual(node("Agent", "agent", {"text": "hi", "options": {"systemMessage": prompt}}))
    assert "shortened: 300,000 characters in the file" in report.draft.full_prompt_markdown
    assert len(report.draft.full_prompt_markdown) < 30_000
    assert entry(report, "Agent").outcome == "needs_human"


def test_ten_thousand_nodes_are_an_honest_report() -> None:
    names = [f"Step {number}" for number in range(10_000)]
    nodes = [node(name, "set") for name in names]
    report = imported([node("Start", "manualTrigger"), *nodes], chain("Start", *names))
    assert len(report.entries) == 10_001
    assert "There are 9,700 more steps in the file" in steps(report)
    assert entry(report, "Step 9999").outcome == "needs_human"
    assert "Split the workflow" in entry(report, "Step 9999").reason
    assert len(report.draft.flow.steps) <= 121
    assert report.draft.flow.steps[-1].label == "… 9,881 more steps"


def test_ten_thousand_disabled_nodes_in_a_row_are_passed_through() -> None:
    names = [f"Step {number}" for number in range(10_000)]
    nodes = [node(name, "set", disabled=True) for name in names]
    report = imported(
        [node("Start", "manualTrigger"), *nodes, node("End", "html")], chain("Start", *names, "End")
    )
    assert "begin with step 1" in steps(report)
    assert entry(report, "End").reason.startswith("Step 1.")


def test_a_circle_is_a_way_back() -> None:
    nodes = [node("Start", "manualTrigger"), node("A", "set"), node("B", "html"), node("C", "sort")]
    report = imported(nodes, {**chain("Start", "A", "B", "C"), "C": to("A")})
    assert steps(report).endswith("   Then back to step 1.")


def test_a_workflow_that_is_all_circles_still_begins_somewhere() -> None:
    report = imported([node("A", "set"), node("B", "html")], {"A": to("B"), "B": to("A", "B")})
    assert "Started by hand: begin with step 1." in steps(report)
    assert [one.outcome for one in report.entries] == ["mapped", "mapped"]


def test_a_circle_of_nodes_that_are_passed_through_ends() -> None:
    nodes = [node("Start", "manualTrigger"), node("A", "noOp"), node("B", "set", disabled=True)]
    report = imported(nodes, {"Start": to("A"), "A": to("B"), "B": to("A")})
    assert "there is nothing to do" in steps(report)


def test_nodes_of_one_name_are_told_apart_and_reported() -> None:
    nodes = [node("Start", "manualTrigger"), node("Twin", "set"), node("Twin", "html"), node("Twin", "sort")]
    report = imported(nodes, chain("Start", "Twin"))
    assert {"Twin", "Twin (2)", "Twin (3)"} <= {one.source for one in report.entries}
    said = [one.reason for one in report.entries if one.source == "Twin (3)"]
    assert said[-1].startswith("Several nodes are named `Twin`") or said[0].startswith("Several nodes")


def test_connections_to_and_from_nodes_that_do_not_exist_are_dropped_by_name() -> None:
    report = imported([node("Start", "manualTrigger")], {"Start": to("Ghost"), "Nobody": to("Start")})
    assert entry(report, "connection Start → Ghost").outcome == "dropped"
    assert entry(report, "connections of Nobody").reason == "There is no node of that name."


def test_many_lost_connections_are_counted() -> None:
    connections = {f"Ghost {number}": to("Start") for number in range(500)}
    report = imported([node("Start", "manualTrigger")], connections)
    assert sum(one.reason == "There is no node of that name." for one in report.entries) == 20
    assert entry(report, "lost links").reason == "There are 480 more like these."


@pytest.mark.parametrize(
    "connections",
    [None, [], "x", 3, {"Start": None}, {"Start": []}, {"Start": {"main": None}}, {"Start": {"main": [None, 1, [2]]}},
     {"Start": {"main": [[{"node": 5}, {}, None]]}}, {"Start": {"main": {"0": []}}}, {"Start": {"": [[]]}}],
)  # fmt: skip
def test_connections_in_any_other_form_harm_nothing(connections: Any) -> None:
    report = read(
        json.dumps({"nodes": [node("Start", "manualTrigger")], "connections": connections}), "x.json"
    )
    assert entry(report, "Start").outcome == "mapped"


def test_odd_nodes_are_dropped_by_number_and_the_others_kept() -> None:
    report = imported([1, node("Start", "manualTrigger"), None, {"parameters": {}}, {"name": 5, "type": 7}])
    assert entry(report, "node 1").reason == "It is no node: it is no JSON object."
    assert {"node 3", "node 4", "node 5"} <= {one.source for one in report.entries}


def test_an_unknown_type_is_an_entry_and_a_step_that_says_so() -> None:
    report = after_manual(node("Beam", "n8n-nodes-acme.teleporter", {"target": "moon"}))
    found = entry(report, "Beam")
    assert (found.outcome, "`n8n-nodes-acme.teleporter` is not known here" in found.reason) == (
        "needs_human",
        True,
    )
    assert "Do what `n8n-nodes-acme.teleporter` did (target `moon`). No tool is known for it" in steps(report)


def test_parameters_nested_400_deep_are_cut_short() -> None:
    deep: Any = "bottom"
    for _ in range(200):
        deep = {"a": [deep]}
    report = after_manual(node("Deep", "httpRequest", {"url": "https://example.org", "body": deep}))
    assert "bottom" not in everything(report)
    assert entry(report, "Deep").outcome == "mapped"


def test_a_workflow_wrapped_as_the_gallery_wraps_it_is_read() -> None:
    bare = json.loads(DISK)
    assert read(json.dumps({"id": 1, "workflow": bare}), "x").name == "Disk report"
    assert read(json.dumps({"data": bare}), "x").name == "Disk report"
    assert read(json.dumps([bare]), "x").name == "Disk report"


def test_parsed_data_is_read_and_left_as_it_was() -> None:
    bare = json.loads(DISK)
    bare["nodes"][2]["parameters"]["apiKey"] = "abcd1234efgh"
    before = copy.deepcopy(bare)
    assert read(bare, "x").draft == read(json.dumps(bare), "x").draft
    assert bare == before
    bare["nodes"].append(bare)
    with pytest.raises(InvalidInput, match="no data that JSON can hold"):
        read(bare, "x")


def test_without_a_name_it_is_called_as_its_file() -> None:
    text = json.dumps({"nodes": [node("Start", "manualTrigger")]})
    assert read(text, "/downloads/daily_report v2.json").name == "daily report v2"
    assert read(text, "").name == "n8n workflow"


def test_the_same_file_gives_the_same_report() -> None:
    assert read(DESK, "a.json") == read(DESK.encode(), "a.json")


def test_pinned_and_static_data_are_dropped_and_told() -> None:
    report = imported(
        [node("Start", "manualTrigger")],
        pinData={"Start": [{"json": {"mail": "secret@x.org"}}]},
        staticData={"a": 1},
    )
    assert entry(report, "pinned data").outcome == "dropped"
    assert entry(report, "static data").outcome == "dropped"
    assert "secret@x.org" not in everything(report)


def test_settings_are_kept_asked_for_or_dropped() -> None:
    report = imported(
        [node("Start", "manualTrigger")],
        settings={"errorWorkflow": "9", "executionTimeout": 90, "executionOrder": "v1"},
    )
    assert entry(report, "settings: errorWorkflow").outcome == "needs_human"
    assert "`%persona set NAME timeout_ms=90000`" in entry(report, "settings: executionTimeout").reason
    assert entry(report, "settings").reason == "About n8n's own runs: `executionOrder`."


# ── mutated real files ──────────────────────────────────────────────────────────────────────────────────────

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        ["={{ $json", "={{ 1 }}}}", "=", "{{", "\ud800", "\x00", "`" * 9, "0 0 * * *", "* * * * * *", "POST"]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        found.append((value, key))
        if isinstance(inner, dict | list):
            _places(inner, found)
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), original=st.sampled_from([DESK, DISK]))
def test_a_file_with_anything_anywhere_is_read_or_refused(data: st.DataObject, original: str) -> None:
    document = json.loads(original)
    for _ in range(data.draw(st.integers(1, 6))):
        container, key = data.draw(st.sampled_from(_places(document, [])))
        if data.draw(st.booleans()):
            container[key] = data.draw(LEAVES)
        else:
            del container[key]
    try:
        report = read(json.dumps(document), "x.json")
    except InvalidInput:
        return
    everything(report).encode()
    named = {one.source for one in report.entries}
    assert len(named) >= sum(isinstance(one, dict) for one in document["nodes"]) * 0.5


@settings(max_examples=150, deadline=None)
@given(
    cut=st.integers(0, len(DISK)), inserted=st.text(string.printable, max_size=5), length=st.integers(0, 40)
)
@example(cut=0, inserted="[", length=0)
def test_a_file_with_its_bytes_changed_is_read_or_refused(cut: int, inserted: str, length: int) -> None:
    try:
        report = read(DISK[:cut] + inserted + DISK[cut + length :], "x.json")
    except InvalidInput:
        return
    assert report.entries


@settings(max_examples=60, deadline=None)
@given(
    links=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 9)), max_size=40),
    disabled=st.sets(st.integers(0, 9)),
    kinds=st.lists(
        st.sampled_from(["set", "if", "switch", "splitInBatches", "merge", "noOp", "agent"]),
        min_size=10,
        max_size=10,
    ),
)
def test_any_graph_gives_each_node_one_step_at_most_and_an_entry(
    links: list[tuple[int, int, int]], disabled: set[int], kinds: list[str]
) -> None:
    nodes = [node(f"N{number}", kind, disabled=number in disabled) for number, kind in enumerate(kinds)]
    connections: dict[str, Any] = {f"N{number}": {"main": [[], [], [], []]} for number in range(10)}
    for source, output, target in links:
        connections[f"N{source}"]["main"][output].append({"node": f"N{target}", "type": "main", "index": 0})
    report = imported(
        [node("Start", "cron", {"triggerTimes": {"item": [{}]}}), *nodes], {**connections, "Start": to("N0")}
    )
    for number in range(10):
        assert entry(report, f"N{number}")
        assert sum(f". `N{number}`: " in line for line in steps(report).splitlines()) <= 1
    ids = {step.id for step in report.draft.flow.steps}
    assert all({edge.source, edge.target} <= ids for edge in report.draft.flow.edges)


def test_a_workflow_survives_being_stored() -> None:
    report = read(workflow([node("\ud83d\ude80 \ud800 go\u202e", "manualTrigger")]), "x.json")
    assert report.entries[0].source == "🚀 go"
    everything(report).encode()
