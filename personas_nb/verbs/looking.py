"""Verbs that look: the overview, personas, versions, costs, health, help."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from personas_nb.errors import did_you_mean
from personas_nb.verbs import table
from personas_nb.verbs.call import Call, noted
from personas_nb.verbs.table import Argument, Verb
from personas_nb.verbs.usage import WrongUsage
from personas_nb.views.view import View


def overview(call: Call) -> View:
    """What is there, what waits, what to type next."""
    from personas_nb.views import personas as views

    studio = call.studio
    unread, issues = len(studio.messages.list(unread=True)), len(studio.healing.list(limit=1000))
    return views.overview(
        studio.personas.list(),
        counts={
            "new messages" if unread != 1 else "new message": unread,
            "open issues" if issues != 1 else "open issue": issues,
        },
        runs=studio.executions.list(limit=50),
        reviews=studio.reviews.list(),
        status=studio.triggers.status(),
        tz=call.tz,
    )


def personas(call: Call) -> View:
    """All personas as a table."""
    from personas_nb.views.personas import persona_list

    found = call.studio.personas.list(include_archived=call["archived"])
    return persona_list(found, groups=call.studio.groups.list(), tz=call.tz)


def show(call: Call) -> View:
    """One persona's card."""
    return card_of(call, call["name"])


def card_of(call: Call, name: str) -> View:
    """The card of a persona with all that belongs to it."""
    from personas_nb.views.personas import persona_card

    studio = call.studio
    persona = studio.personas.get(name)
    todo = [
        (issue.remedy, issue.problem)
        if issue.remedy.startswith("%")
        else f"{issue.problem} {issue.remedy}".strip()
        for issue in studio.sessions.todo(persona)
    ]
    return persona_card(
        persona,
        tools=studio.tools.assigned(persona),
        asks_first=studio.tools.needing_approval(persona),
        triggers=studio.triggers.list(persona),
        status=studio.triggers.status(),
        subscriptions=studio.triggers.subscriptions(persona),
        memories_count=len(studio.memories.list(persona)),
        group=next((group for group in studio.groups.list() if group.id == persona.group_id), None),
        last_runs=studio.executions.list(persona, limit=5),
        todo=todo,
        tz=call.tz,
    )


def versions(call: Call) -> View:
    """The history of a prompt, and how each state of it did."""
    from personas_nb.views.versions import version_list

    persona = call.studio.personas.get(call["name"])
    return version_list(
        call.studio.versions.list(persona),
        persona.version,
        results=call.studio.versions.results(persona),
        name=persona.slug,
        title=persona.name,
        limit=call["limit"],
        tz=call.tz,
    )


def version(call: Call) -> View:
    """One state of a prompt, whole."""
    from personas_nb.views.versions import version_card

    persona = call.studio.personas.get(call["name"])
    return version_card(
        call.studio.versions.get(persona, call["version"]),
        results=call.studio.versions.results(persona),
        current=persona.version,
        name=persona.slug,
        title=persona.name,
        tz=call.tz,
    )


def diff(call: Call) -> View:
    """What changed between two versions."""
    from personas_nb.views.versions import prompt_diff

    persona = call.studio.personas.get(call["name"])
    found = call.studio.versions.diff(persona, call["a"], call["b"])
    return prompt_diff(found, name=persona.slug, title=persona.name, current=persona.version)


def costs(call: Call) -> View:
    """What runs cost, as a table and a chart; the value is the daily DataFrame."""
    from personas_nb.verbs.evaluating import spent_on_evals
    from personas_nb.views.metrics import costs as view

    metrics, days = call.studio.metrics, call["days"]
    daily = metrics.daily(call["name"], days=days, tz=call.tz)
    shown = view(daily, metrics.executions(call["name"], days=days), days)
    return noted(shown, spent_on_evals(call, days))


def metrics(call: Call) -> Any:
    """Runs as a DataFrame."""
    return call.studio.metrics.executions(call["name"], days=call["days"])


def health(call: Call) -> View:
    """Whether the parts work."""
    from personas_nb.views.notices import health as view

    return view(call.studio.health())


# ── help ────────────────────────────────────────────────────────────────────────────────────────────────────


def help_(call: Call) -> View:
    """Every verb, or one of them."""
    words = (call["verb"] or "").removeprefix("%persona").split()
    if not words:
        return all_help()
    verb, count = table.find(words)
    if verb is None or count < len(words):
        known = [verb.words for verb in table.VERBS if verb.words] + table.nouns()
        hint = did_you_mean(" ".join(words), known, otherwise="`%persona help` shows all.")
        raise WrongUsage(f"There is no verb “{' '.join(words)}”.", hint=hint)
    if count == 1 and verb.sub:
        return noun_help(verb.noun)
    return verb_help(verb, is_kernel=call.surface.is_kernel)


def all_help() -> View:
    """Every verb in a line."""
    from personas_nb.views.notices import help_view

    rows = [
        (
            group,
            f"%persona {verb.usage}".strip() if len(verb.usage) < 60 else f"%persona {verb.words} …",
            verb.summary,
        )
        for group, verbs in table.groups().items()
        for verb in verbs
    ]
    steps = [("%persona help run", "or `%persona run --help`: one verb with its options and examples")]
    return help_view(rows, detail="What can be typed.", steps=steps)


def noun_help(noun: str) -> View:
    """The verbs of a noun."""
    from personas_nb.views.notices import help_view

    rows = [(f"%persona {verb.usage}", verb.summary) for verb in table.VERBS if verb.noun == noun]
    return help_view(rows, title=f"%persona {noun}")


def verb_help(verb: Verb, *, is_kernel: bool = True) -> View:
    """One verb: its arguments, what the cell means, examples; in a shell without what works in a notebook only."""
    verb = replace(verb, arguments=tuple(one for one in verb.arguments if one.terminal or is_kernel))
    from personas_nb.views.marks import Code
    from personas_nb.views.page import Page

    title = f"%{'%' if verb.cell and not verb.free_text else ''}persona {verb.usage}"
    cell = f" With %%persona the cell is {verb.cell}." if verb.cell else ""
    page = Page(title, detail=f"{verb.summary}{cell} {verb.details}".strip())
    for heading, arguments in (("Arguments", verb.positionals), ("Options", verb.options)):
        page.table((), [[Code(typed(one)), meaning(one)] for one in arguments], heading=heading)
    if verb.examples:
        page.fixed("\n\n".join(verb.examples), heading="Examples")
    return page.view()


def typed(argument: Argument) -> str:
    """An argument as it is typed, without brackets."""
    if argument.kind == "flag":
        return ", ".join(name for name in (argument.name, argument.short) if name)
    value = argument.unit or argument.name.upper()
    names = (
        ", ".join(name for name in (argument.name, argument.short) if name) + " "
        if argument.is_option
        else ""
    )
    return f"{names}{value}{' …' if argument.many else ''}"


def meaning(argument: Argument) -> str:
    """What an argument means, its choices and its default."""
    choices = f" One of {', '.join(argument.choices)}." if argument.choices else ""
    default = ""
    if argument.default is not None:
        value = argument.default
        if argument.kind == "duration" and isinstance(value, int):  # milliseconds
            value = f"{value / 1000:g}s"
        default = f" Default: {value}."
    return argument.help + choices + default
