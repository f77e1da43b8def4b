"""What If, Filter and Switch ask, in words, and what each of their outputs is called."""

from __future__ import annotations

from typing import Any

from personas_nb.design.formats.n8n.document import Node
from personas_nb.design.formats.n8n.expressions import value_words
from personas_nb.design.formats.n8n.text import code, humanised, listed, plain

MAX_CONDITIONS = 10
_WORDS = {
    "equal": "is", "equals": "is", "notEqual": "is not", "notEquals": "is not", "contains": "contains",
    "notContains": "does not contain", "startsWith": "begins with", "notStartsWith": "does not begin with",
    "endsWith": "ends with", "notEndsWith": "does not end with", "regex": "matches", "notRegex": "does not match",
    "smaller": "is smaller than", "smallerEqual": "is at most", "larger": "is larger than",
    "largerEqual": "is at least",
    "lt": "is smaller than", "lte": "is at most", "gt": "is larger than", "gte": "is at least",
    "after": "is after", "before": "is before", "afterOrEquals": "is not before", "beforeOrEquals": "is not after",
    "lengthEquals": "has the length", "lengthGt": "is longer than", "lengthLt": "is shorter than",
}  # fmt: skip
_ALONE = {
    "isEmpty": "is empty", "isNotEmpty": "is not empty", "empty": "is empty", "notEmpty": "is not empty",
    "exists": "is there", "notExists": "is not there", "true": "is true", "false": "is false",
}  # fmt: skip


def condition_words(node: Node) -> str:
    """What the node asks, in words; empty when it asks nothing."""
    return _group(node.at("conditions"), node.at("combineOperation"))


def _group(given: Any, combine: Any = None) -> str:
    if not isinstance(given, dict):
        return ""
    if isinstance(given.get("conditions"), list):
        asked = [_condition(item) for item in given["conditions"][:MAX_CONDITIONS]]
        joiner = "or" if given.get("combinator") == "or" else "and"
    else:
        asked = [
            _old_condition(kind, item)
            for kind, items in given.items()
            if isinstance(items, list)
            for item in items[:MAX_CONDITIONS]
        ]
        joiner = "or" if combine == "any" else "and"
    return f" {joiner} ".join([words for words in asked if words][:MAX_CONDITIONS])


def _condition(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    operator = item.get("operator")
    operation = str(operator.get("operation", "equals")) if isinstance(operator, dict) else "equals"
    return _compared(item.get("leftValue"), operation, item.get("rightValue"))


def _old_condition(kind: str, item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    default = {"number": "smaller", "dateTime": "after"}.get(kind, "equal")
    return _compared(item.get("value1"), str(item.get("operation", default)), item.get("value2"))


def _compared(left: Any, operation: str, right: Any) -> str:
    if left in (None, "") and right in (None, ""):
        return ""
    if operation in _ALONE:
        return f"{value_words(left)} {_ALONE[operation]}"
    return f"{value_words(left)} {_WORDS.get(operation) or humanised(operation)} {value_words(right)}"


def switch_cases(node: Node) -> list[tuple[str, str]]:
    """The outputs of a Switch: what each is called, and when it is taken."""
    subject = value_words(node.at("value1")) if node.at("value1") is not None else ""
    if node.text("mode") == "expression":
        count = node.at("numberOutputs")
        known = count if isinstance(count, int) and 0 < count <= 100 else 4
        return [(f"output {number}", "") for number in range(known)]
    cases: list[tuple[str, str]] = []
    old = node.items("rules", "rules")
    for number, rule in enumerate((node.items("rules", "values") or old)[:100]):
        key = rule.get("outputKey")
        name = (
            plain(key, 40) if isinstance(key, str) and key and rule.get("renameOutput") is not False else ""
        )
        when = _group(rule.get("conditions"))
        if not when and "value2" in rule:
            when = f"{subject} {_WORDS.get(str(rule.get('operation', 'equal')), 'is')} {value_words(rule['value2'])}"
        output = rule.get("output")
        place = output if old and isinstance(output, int) and 0 <= output < 100 else number
        while len(cases) <= place:
            cases.append(("", ""))
        before = cases[place][1]
        cases[place] = (
            name or cases[place][0] or _short(when, place),
            f"{before} or {when}" if before else when,
        )
    fallback = node.at("fallbackOutput") if old else node.at("options", "fallbackOutput")
    if old and isinstance(fallback, int) and len(cases) <= fallback < 100:
        cases += [("", "")] * (fallback - len(cases))
        fallback = "extra"
    if fallback == "extra":
        cases.append(("otherwise", "none of these"))
    return cases


def _short(when: str, place: int) -> str:
    """A case named by what it compares with."""
    *_, last = when.split("`")[:-1] or [""]
    return plain(last, 24) if last and " or " not in when else f"case {place + 1}"


def output_name(node: Node, output: int) -> str:
    """What an arrow out of that output is called; empty where there is nothing to tell."""
    names = output_names(node)
    if node.error_output and output == max(1, len(names)):
        return "on error"
    return names[output] if output < len(names) else (f"output {output + 1}" if output else "")


def output_names(node: Node) -> list[str]:
    """What the outputs of a node are called; none for a node with one way out."""
    match node.kind:
        case "if":
            return ["true", "false"]
        case "switch":
            return [name for name, _ in switch_cases(node)]
        case "filter":
            return ["kept", "left out"]
        case "splitInBatches":
            if node.version < 2:
                return ["each batch"]
            return ["done", "each batch"] if node.version >= 3 else ["each batch", "done"]
        case "compareDatasets":
            return ["in A only", "same", "different", "in B only"]
        case "removeDuplicates":
            return ["", "discarded"]
        case "sentimentAnalysis":
            given = node.text("options", "categories") or "Positive, Neutral, Negative"
            return [plain(name, 30) for name in given.split(",")[:20]]
        case "textClassifier":
            return [
                plain(item.get("category", ""), 40) for item in node.items("categories", "categories")
            ] + ["other"]
        case "executeWorkflowRetry" | "guardrails":
            return ["passed", "failed"]
        case _:
            return []


def branch_words(node: Node) -> str:
    """The sentence in which a branching node asks."""
    if node.kind == "switch":
        cases = [f"{code(name)}: {when}" for name, when in switch_cases(node) if when]
        computed = node.text("output") if node.text("mode") == "expression" else ""
        if computed:
            return f"Choose the output {value_words(computed)}, counted from 0"
        return f"Choose: {'; '.join(cases)}" if cases else "Choose one of the ways"
    asked = condition_words(node) or "the condition (none is given in the file)"
    if node.kind == "filter":
        return f"Keep only the items for which {asked}"
    return f"Decide whether {asked}"


def fields_words(node: Node) -> str:
    """What Edit Fields sets, in words."""
    pairs: list[str] = []
    assigned = [(item.get("name"), item.get("value")) for item in node.items("assignments", "assignments")]
    fields = node.at("fields", "values")
    for item in fields if isinstance(fields, list) else []:
        if isinstance(item, dict):
            value = next((item[key] for key in item if key.endswith("Value")), item.get("value"))
            assigned.append((item.get("name"), value))
    values = node.at("values")
    for items in values.values() if isinstance(values, dict) else []:
        assigned += (
            [(item.get("name"), item.get("value")) for item in items if isinstance(item, dict)]
            if isinstance(items, list)
            else []
        )
    for name, value in assigned[:12]:
        if isinstance(name, str):
            pairs.append(f"{code(name, 60)} = {value_words(value)}")
    more = f" and {len(assigned) - 12} more" if len(assigned) > 12 else ""
    raw = node.text("jsonOutput")
    if raw and not pairs:
        return f"Make the item {value_words(raw, 400)}"
    return f"Set {listed(pairs)}{more}" if pairs else "Pass the items on"
