"""Cards for our entities in a notebook: a ``Persona`` or an ``Execution`` in a cell shows itself.

IPython is told by the name of each type, so that nothing is imported before such an object exists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# module, type, view module, view
_CARDS = (
    ("personas_nb.entities.persona", "Persona", "personas", "persona_card"),
    ("personas_nb.entities.execution", "Execution", "executions", "execution_card"),
    ("personas_nb.entities.review", "Review", "inbox", "review_card"),
    ("personas_nb.entities.healing", "HealingIssue", "healing", "issue_card"),
    ("personas_nb.entities.credential", "Credential", "credentials", "credential_card"),
    ("personas_nb.entities.connector", "Connector", "credentials", "connector_card"),
    ("personas_nb.entities.design", "DesignResult", "design", "design_card"),
    ("personas_nb.entities.design", "Feasibility", "design", "feasibility_card"),
    ("personas_nb.entities.design", "DesignQuestion", "design", "question_card"),
    ("personas_nb.design.session", "DesignSession", "sessions", "session_card"),
    ("personas_nb.personas.prompt_diff", "PromptDiff", "versions", "prompt_diff"),
    ("personas_nb.entities.prompt_version", "PromptVersion", "versions", "version_card"),
    ("personas_nb.entities.memory", "Memory", "memories", "memory_card"),
    ("personas_nb.entities.group", "PersonaGroup", "groups", "group_card"),
    ("personas_nb.entities.eval", "EvalCase", "evals", "case_card"),
    ("personas_nb.entities.eval", "EvalRun", "evals", "eval_card"),
    ("personas_nb.design.evals.comparison", "Comparison", "comparison", "comparison_card"),
    ("personas_nb.entities.trigger", "Trigger", "triggers", "trigger_card"),
    ("personas_nb.entities.trigger", "Fire", "fires", "fire_card"),
    ("personas_nb.entities.trigger", "TriggerStatus", "loop", "status_card"),
    ("personas_nb.entities.event", "Event", "events", "event_card"),
    ("personas_nb.entities.event", "Subscription", "events", "subscription_card"),
    ("personas_nb.engine.executions", "RunHandle", "notices", "run_handle"),
    ("personas_nb.design.formats.template", "Template", "templates", "template_card"),
    ("personas_nb.design.templates", "UsedTemplate", "templates", "used_card"),
    ("personas_nb.design.formats.report", "ImportReport", "imports", "import_card"),
    ("personas_nb.design.exporting", "Exported", "imports", "export_card"),
)
_ZONED = (
    "persona_card",
    "execution_card",
    "review_card",
    "issue_card",
    "design_card",
    "session_card",
    "credential_card",
    "memory_card",
    "version_card",
    "eval_card",
    "trigger_card",
    "fire_card",
    "status_card",
    "event_card",
    "subscription_card",
)


def register(ipython: Any, zone: Callable[[], str] = lambda: "UTC") -> None:
    """Show our entities as cards; ``zone`` names the time zone when one is shown. Doing it again is the same."""
    formatter = ipython.display_formatter.mimebundle_formatter
    for module, name, view_module, view in _CARDS:
        formatter.for_type_by_name(module, name, _card(view_module, view, zone))


def unregister(ipython: Any) -> None:
    """Show them as Python does again."""
    formatter = ipython.display_formatter.mimebundle_formatter
    for module, name, _, _ in _CARDS:
        formatter.pop(f"{module}.{name}", None)


def _card(view_module: str, view: str, zone: Callable[[], str]) -> Callable[..., dict[str, Any]]:
    def mimebundle(entity: Any, *_: Any, **__: Any) -> dict[str, Any]:
        from importlib import import_module

        make = getattr(import_module(f"personas_nb.views.{view_module}"), view)
        shown = make(entity, tz=zone()) if view in _ZONED else make(entity)
        return {"text/plain": shown.text, "text/html": shown.html}

    return mimebundle
