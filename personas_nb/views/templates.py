"""Templates: the list to choose from, one with all that can be set, and what came of opening one."""

from __future__ import annotations

from collections.abc import Sequence

from personas_nb.design.formats.template import Parameter, Template
from personas_nb.design.templates import UsedTemplate
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Mark, Words, plural
from personas_nb.views.page import Page, Step
from personas_nb.views.triggers import trigger_words
from personas_nb.views.view import View


def template_list(templates: Sequence[Template]) -> View:
    """All templates: what each is called, and what it does."""
    page = Page(
        plural(len(templates), "template"), detail="personas as notebooks that explain themselves and run"
    )
    page.table((), [[Code(each.name), Words(each.summary)] for each in templates])
    if not templates:
        page.sentence("No template came with this installation. Install personas_nb anew.")
        return page.view(list(templates))
    first = templates[0].name
    steps: list[Step] = [
        (f"%persona templates show {first}", "what it may use, and what you can set"),
        (f"%persona templates use {first}", "a copy of the notebook in this folder, and its persona"),
    ]
    return page.next(steps).view(list(templates))


def template_card(template: Template) -> View:
    """One template: what it does, what it may use, what can be set."""
    design = template.design
    page = Page(template.title, sign=Mark("○", "template", marks.GREY), detail=template.name)
    page.prose(template.summary)
    starts = "; ".join(trigger_words(each.trigger_type, each.config) for each in design.suggested_triggers)
    page.facts(
        [
            ("tools", ", ".join(design.suggested_tools)),
            ("needs access to", ", ".join(each.name for each in design.suggested_connectors)),
            ("would start", starts or "when you run it"),
        ]
    )
    rows: list[list[Cell]] = [
        [Code(each.name), Code(_typed(each)), Words(each.meaning)] for each in template.parameters
    ]
    page.table((), rows, heading="What you can set")
    numbers = (each for each in template.parameters if not isinstance(each.value, str))
    example = next(numbers, template.parameters[0])
    return page.next(
        [
            (f"%persona templates use {template.name}", "a copy in this folder, and its persona"),
            (
                f"%persona templates use {template.name} --set {example.name}={_typed(example)}",
                "with your value",
            ),
        ]
    ).view(template)


def used_card(used: UsedTemplate) -> View:
    """The copy that was opened, what was made of it, and what is left to do."""
    changed = bool(used.session.applied_changes)
    sign = (
        Mark("✓", "opened" if used.is_written else "applied", marks.GREEN)
        if changed or used.is_written
        else Mark("○", "unchanged", marks.GREY)
    )
    page = Page(used.template.title, sign=sign, detail=used.template.summary)
    same = "" if used.is_written else " (it was there already, and is as it was)"
    page.facts(
        [
            ("notebook", f"{used.path.name}{same}"),
            ("persona", f"{used.persona.name} · version {used.persona.version}"),
        ]
    )
    said = " ".join(used.session.applied_changes)
    page.sentence(said or f"{used.persona.name} is so already: nothing changed.", faint=not said)
    todo: list[list[Cell]] = [
        [marks.mark("pending"), Words(each.problem), Code(each.remedy)] for each in used.session.todo
    ]
    page.table((), todo, heading="Left to do")
    return page.next(
        [
            f"Open {used.path.name} and run all cells: a rehearsal, which costs nothing.",
            (f"%persona show {used.persona.slug}", "what it is told and may use"),
            (f"%persona run {used.persona.slug} --explain", "what a run would send and may cost"),
        ]
    ).view(used)


def _typed(parameter: Parameter) -> str:
    """A value as it is typed after ``--set``."""
    text = str(parameter.value).lower() if isinstance(parameter.value, bool) else str(parameter.value)
    return f'"{text}"' if any(char.isspace() for char in text) or not text else text
