"""What may come next on a line: verbs, options, names, ids. Looks only, starts nothing, never raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personas_nb.verbs import table
from personas_nb.verbs.table import Argument, Verb

if TYPE_CHECKING:
    from personas_nb.entities.tool import ToolDefinition
    from personas_nb.studio import Studio

Opener = Callable[[], "Studio | None"]
IDS_MAX = 20
QUOTES = ('"', "'")
FILES_MAX = 50
SYSTEM_EVENTS = ("execution_completed", "execution_failed", "manual_review", "user_message")


def complete(line: str, studio: Opener = lambda: None) -> tuple[str, list[str]]:
    """The fragment before the cursor and what may stand in its place; ``line`` is what follows ``%persona``.

    >>> complete("runs sh")
    ('sh', ['show'])
    >>> complete("run --prov")
    ('--prov', ['--provider'])
    """
    try:
        done, fragment = _split(line)
        words = _candidates(done, fragment, studio)
        return fragment, [word for word in dict.fromkeys(words) if _begins(word, fragment)]
    except Exception:  # a completion that fails must not disturb the person who types
        return "", []


def _begins(word: str, fragment: str) -> bool:
    """Whether the word begins with the fragment, in any case; it may be in quotes where the fragment is not."""
    plain = word if fragment[:1] in QUOTES else word.lstrip("\"'")
    return plain.lower().startswith(fragment.lower())


def _split(line: str) -> tuple[list[str], str]:
    """The words that are complete, and the fragment that is being typed; an open quote is part of it."""
    found = re.findall(r'"[^"]*"(?=\s)|\'[^\']*\'(?=\s)|"[^"]*$|\'[^\']*$|\S+', line)
    if line[-1:].isspace() and not (found and _is_open(found[-1])):
        return [_bare(word) for word in found], ""
    return [_bare(word) for word in found[:-1]], found[-1] if found else ""


def _is_open(word: str) -> bool:
    return word[:1] in "\"'" and (len(word) == 1 or word[-1] != word[0])


def _bare(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] in "\"'" and word[-1] == word[0] else word


def _candidates(done: list[str], fragment: str, studio: Opener) -> Iterable[str]:
    if not done:
        return [*table.nouns(), "--help"] if fragment.startswith("-") else table.nouns()
    verb, count = table.find(done)
    if verb is None:
        return []
    noun_only = len(done) == 1 and table.subs(verb.noun)
    words: list[str] = list(table.subs(verb.noun)) if noun_only else []
    given = done[count:]
    if given and (option := verb.option(given[-1])) is not None and option.kind != "flag":
        return _for(option, fragment, given, studio)
    if fragment.startswith("-"):
        return _options(verb, given)
    if (argument := _next_positional(verb, given)) is not None:
        words += _for(argument, fragment, _loose(verb, given), studio)
    many = next((option for option in map(verb.option, reversed(given)) if option is not None), None)
    if many is not None and many.many:
        words += _for(many, fragment, given, studio)
    return words or ([] if fragment else _options(verb, given))


def _options(verb: Verb, given: Sequence[str]) -> list[str]:
    return [o.name for o in verb.options if o.many or (o.name not in given and (o.short or "-") not in given)]


def _loose(verb: Verb, given: Sequence[str]) -> list[str]:
    """The words that are neither options nor their values."""
    loose: list[str] = []
    takes_value = False
    for word in given:
        option = verb.option(word)
        if option is not None:
            takes_value = option.kind != "flag"
        elif takes_value:
            takes_value = False
        else:
            loose.append(word)
    return loose


def _next_positional(verb: Verb, given: Sequence[str]) -> Argument | None:
    wanted, at = verb.positionals, len(_loose(verb, given))
    if at < len(wanted):
        return wanted[at]
    is_open = wanted and (
        wanted[-1].many or wanted[-1].kind == "fields" or wanted[-1].completer == "trigger_fields"
    )
    return wanted[-1] if is_open else None


def _for(argument: Argument, fragment: str, words: Sequence[str], studio: Opener) -> list[str]:
    if argument.choices:
        return list(argument.choices)
    if argument.completer == "files":
        return _files(fragment)
    if argument.completer == "verbs":
        return table.nouns()
    if argument.completer == "fields":
        return _values(fragment) or _fields()
    opened = studio() if argument.completer else None
    return _stored(argument.completer, fragment, words, opened) if opened is not None else []


def _stored(kind: str, fragment: str, words: Sequence[str], studio: Studio) -> list[str]:
    if kind == "personas":
        personas = studio.personas.list()
        if fragment[:1] in QUOTES:
            return [f"{fragment[0]}{persona.name}{fragment[0]}" for persona in personas]
        return [persona.slug for persona in personas]
    if kind == "tools":
        return [tool.name for tool in _tools(studio, words)]
    if kind == "servers":
        return [server.name for server in studio.tools.servers(words[0])] if words else []
    if kind == "functions":
        return _functions()
    if kind == "credentials":
        return [_quoted(credential.name) for credential in studio.credentials.list()]
    if kind == "channel_credentials":  # those that such a channel can be sent with
        from personas_nb.personas.notifying import type_of

        serving = type_of(words[1]).connectors
        return [_quoted(one.name) for one in studio.credentials.list() if one.connector in serving]
    if kind == "connectors":
        return [connector.name for connector in studio.connectors.list()]
    if kind in ("credential_fields", "plain_fields"):
        fields = studio.connectors.get(words[1]).fields
        return [f"{field.key}=" for field in fields if not field.secret or kind == "credential_fields"]
    if kind == "cases":
        return [_quoted(case.name) for case in studio.evals.cases(words[0])] if words else []
    if kind == "templates":
        return [template.name for template in studio.templates.list()]
    if kind == "parameters":
        return [f"{each.name}=" for each in studio.templates.get(words[0]).parameters]
    if kind == "groups":
        return [_quoted(group.name) for group in studio.groups.list()]
    if kind == "colors":
        from personas_nb.entities.group import COLORS

        return list(COLORS)
    if kind == "trigger_fields":
        return _trigger_fields(studio, fragment, words)
    if kind in ("channel_fields", "channel_secrets"):
        return _channel_fields(words, secret=kind == "channel_secrets")
    if kind == "event_types":
        return _event_types(studio)
    if kind in ("memory_fields", "group_fields"):
        memory, group = "title content category importance tags pinned", "name color sort_order collapsed"
        return [f"{name}=" for name in (memory if kind == "memory_fields" else group).split()]
    if kind == "versions":
        found = studio.versions.list(words[0]) if words else []
        return [
            *(str(version.version) for version in found),
            *(tag for version in found for tag in version.tags),
            *(["current"] if found else []),
        ]
    ids: list[str] = []
    if kind == "runs":
        ids = [run.id for run in studio.executions.list(limit=IDS_MAX)]
    elif kind == "sessions":
        ids = [session.id for session in studio.sessions.list()[:IDS_MAX]]
    elif kind == "reviews":
        ids = [review.id for review in studio.reviews.list(limit=IDS_MAX)]
    elif kind == "healing":
        ids = [issue.id for issue in studio.healing.list(limit=IDS_MAX)]
    elif kind == "evals":
        ids = [run.id for run in studio.evals.list(limit=IDS_MAX)]
    elif kind == "triggers":
        ids = [trigger.id for trigger in reversed(studio.triggers.list()[-IDS_MAX:])]
    elif kind == "subscriptions":
        return [one.id[:8] for one in studio.events.subscriptions()[-IDS_MAX:]]
    elif kind == "events":
        ids = [event.id for event in studio.events.list(limit=IDS_MAX)]
    elif kind == "dead":
        ids = [letter.id for letter in studio.events.dead(limit=IDS_MAX)]
    elif kind == "deliveries":
        ids = [each.id for each in studio.messages.undelivered(limit=IDS_MAX)]
    elif kind == "memories":
        ids = [memory.id for memory in studio.memories.list()[:IDS_MAX]]
    return [*(identity[:8] for identity in ids), *(["latest"] if ids else [])]


def _trigger_fields(studio: Studio, fragment: str, words: Sequence[str]) -> list[str]:
    """The keys of a trigger's config, by the type that was typed, else of the trigger; and some of their values."""
    from personas_nb.triggers.config import CATCH_UP, KEYS
    from personas_nb.triggers.webhooks import CREDENTIAL_KEY

    if fragment.startswith("catch_up="):
        return [f"catch_up={choice}" for choice in CATCH_UP]
    if fragment.startswith("timezone="):
        from zoneinfo import available_timezones

        return [f"timezone={zone}" for zone in sorted(available_timezones())]
    kind = next((word for word in words if word in KEYS), None)
    kind = kind or (studio.triggers.get(words[0]).trigger_type if words else "")
    times = {"schedule": ["every weekday at 9"], "polling": ["every 15 minutes"]}.get(kind, [])
    is_first = not fragment and words and words[-1] == kind
    return [*(times if is_first else []), *(f"{key}=" for key in KEYS.get(kind, ()) if key != CREDENTIAL_KEY)]


def _channel_fields(words: Sequence[str], *, secret: bool) -> list[str]:
    """What a channel of the type that was typed takes."""
    from personas_nb.notify.channels import TYPES

    kind = next((TYPES[word] for word in words if word in TYPES), None)
    return [f"{name}=" for name in (kind.secret if secret else kind.plain)] if kind else []


def _event_types(studio: Studio) -> list[str]:
    """The types of the system, then those that were heard of."""
    heard = [one.event_type for one in studio.events.subscriptions()]
    happened = [one.event_type for one in studio.events.list(limit=200)]
    return list(dict.fromkeys((*heard, *happened, *SYSTEM_EVENTS)))


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name


def _tools(studio: Studio, words: Sequence[str]) -> list[ToolDefinition]:
    """The catalog, and what the servers of the persona that was typed offer."""
    from personas_nb.errors import NotFound
    from personas_nb.tools.run_tools import mcp_definition

    with suppress(NotFound):
        servers = studio.tools.servers(words[0]) if words else []
        return [
            *studio.tools.list(),
            *(mcp_definition(server, tool) for server in servers for tool in server.offered),
        ]
    return studio.tools.list()


def _functions() -> list[str]:
    """The functions that the notebook defines."""
    from types import FunctionType

    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    if shell is None:
        return []
    return [
        name
        for name, value in shell.user_ns.items()
        if isinstance(value, FunctionType) and not name.startswith("_") and name not in shell.user_ns_hidden
    ]


def _fields() -> list[str]:
    from personas_nb.entities.model_profile import ModelProfile
    from personas_nb.entities.persona import Persona
    from personas_nb.personas.fields import FIXED_AT_CREATION, READ_ONLY, SECTIONS

    names = [name for name in Persona.model_fields if name not in READ_ONLY and name not in FIXED_AT_CREATION]
    profile = [f"model_profile.{name}" for name in ModelProfile.model_fields if name != "auth_credential_id"]
    return [f"{name}=" for name in (*names, "group", *dict.fromkeys(SECTIONS.values()), *profile)]


def _values(fragment: str) -> list[str]:
    """What may stand behind the = of a field that takes few values."""
    from typing import get_args

    from personas_nb.entities.model_profile import ModelProfile

    field, equals, _ = fragment.partition("=")
    if not equals:
        return []
    if field == "enabled":
        return ["enabled=true", "enabled=false"]
    known = ModelProfile.model_fields.get(field.removeprefix("model_profile."))
    parts = (known.annotation, *get_args(known.annotation)) if known else ()
    choices = [one for part in parts for one in get_args(part) if isinstance(one, str)]
    return [f"{field}={one}" for one in choices] if field.startswith("model_profile.") else []


def _files(fragment: str) -> list[str]:
    from itertools import islice

    quote = fragment[:1] if fragment[:1] in QUOTES else ""
    folder, _, beginning = fragment.removeprefix(quote).rpartition("/")
    before = f"{folder}/" if "/" in fragment else ""
    inside = (path for path in Path(before or ".").expanduser().iterdir() if path.name.startswith(beginning))
    found = [f"{before}{path.name}{'/' if path.is_dir() else ''}" for path in islice(inside, FILES_MAX)]
    mark = quote or '"'
    return sorted(f"{mark}{path}{mark}" if " " in path else quote + path for path in found)
