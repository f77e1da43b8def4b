"""Verbs for templates: what there is, what one can be set to, and a copy of one with its persona."""

from __future__ import annotations

from collections.abc import Iterator

from personas_nb.errors import InvalidInput
from personas_nb.verbs.call import Call, noted
from personas_nb.views.view import View


def listed(call: Call) -> View:
    """The templates."""
    from personas_nb.views.templates import template_list

    return template_list(call.studio.templates.list())


def show(call: Call) -> View:
    """One template and its parameters."""
    from personas_nb.views.templates import template_card

    return template_card(call.studio.templates.get(call["template"]))


def use(call: Call) -> View:
    """Open a copy here, and make its persona."""
    from personas_nb.views.templates import used_card

    used = call.studio.templates.use(call["template"], **_parameters(call["set"]))
    call.desk.session_id = used.session.id
    call.desk.seen[used.session.id] = used.session.record.revision
    return noted(used_card(used), *call.filling.notes)


def _parameters(words: list[str]) -> dict[str, str]:
    """``name=value`` words by name."""
    found: dict[str, str] = {}
    for word in _whole(words):
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(
                f"“{word[:60]}” sets nothing.", hint='Write NAME=VALUE, such as --set name="My watcher".'
            )
        if name.strip() in found:
            raise InvalidInput(f"{name.strip()} is set twice.", hint="Set each parameter once.")
        found[name.strip()] = value[1:-1] if len(value) > 1 and value[0] == value[-1] in "\"'" else value
    return found


def _whole(words: list[str]) -> Iterator[str]:
    """The words, those together that one pair of quotes holds: ``name="My watcher"`` is one."""
    rest = iter(words)
    for word in rest:
        value = word.partition("=")[2]
        while value[:1] in ('"', "'") and (len(value) < 2 or value[-1] != value[0]):
            more = next(rest, None)
            if more is None:
                break
            word, value = f"{word} {more}", f"{value} {more}"
        yield word
