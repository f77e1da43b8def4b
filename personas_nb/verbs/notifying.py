"""Verbs about messages and the ways they take. A secret comes from a person who is asked, or from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, StoreError
from personas_nb.notify.channels import ALIASES, ChannelType, channel_of
from personas_nb.personas.notifying import type_of
from personas_nb.verbs.call import Call
from personas_nb.verbs.values import fields_of
from personas_nb.views import inbox
from personas_nb.views.notices import notice
from personas_nb.views.view import View


def messages(call: Call) -> View:
    """What personas told; what was shown is no longer new."""
    found = call.studio.messages.list(unread=call["unread"])
    names = {persona.id: persona.name for persona in call.studio.personas.list(include_archived=True)}
    deliveries = call.studio.messages.deliveries_of(found)
    view = inbox.message_list(found, names=names, deliveries=deliveries, tz=call.tz)
    with suppress(StoreError):  # in a home that cannot be written they stay new
        for message in found:
            if message.read_at is None:
                call.studio.messages.mark_read(message.id)
    return view


def retry(call: Call) -> View:
    """Send it once more."""
    before = call.studio.messages.delivery(call["id"])
    after = call.studio.messages.retry(before.id)
    if after.status in ("delivered", "sending"):
        said = "It has arrived already" if after.status == "delivered" else "It is being sent"
        return replace(notice(f"{said}: nothing changed.", status="unchanged"), value=after)
    said = f"It is sent to {after.channel} once more."
    if not call.surface.is_kernel:
        return _awaited(call, after.id)
    return replace(notice(said, "%persona messages", status="queued"), value=after)


def channels(call: Call) -> View:
    """The ways that personas have."""
    personas = [call.studio.personas.get(call["name"])] if call["name"] else call.studio.personas.list()
    found = {each.slug: (each.name, call.studio.channels.list(each)) for each in personas}
    return inbox.channel_list(found, tz=call.tz)


def add(call: Call) -> View:
    """Give a persona a channel; an address that is missing is asked of a person, or refused where there is none."""
    persona, kind = call.studio.personas.get(call["name"]), type_of(call["type"])
    settings = _plain(kind, call["setting"])
    settings |= _from_environment(kind, call["from_env"])
    if not call["credential"] and not any(settings.get(name) for name in kind.secret):
        settings |= _answer(call, kind, settings)
    after = call.studio.channels.add(persona, kind.name, settings, credential=call["credential"])
    label = channel_of({"type": kind.name, "config": _shown(kind, settings)}).label
    said = f"Messages of {after.name} go to {label}."
    return _changed(persona, after, said, f"%persona channels test {after.slug}")


def remove_channel(call: Call) -> View:
    """Take a channel away."""
    return _numbered(call, call.studio.channels.remove, "Nothing of {name} goes to {label} any more.")


def enable_channel(call: Call) -> View:
    """Switch a channel on."""
    switch = call.studio.channels.switch
    return _numbered(
        call, lambda persona, number: switch(persona, number, on=True), "Messages of {name} go to {label}."
    )


def disable_channel(call: Call) -> View:
    """Switch a channel off."""
    switch = call.studio.channels.switch
    return _numbered(
        call,
        lambda persona, number: switch(persona, number, on=False),
        "Messages of {name} do not go to {label} until you enable it.",
    )


def test(call: Call) -> View:
    """Try the channels out."""
    persona = call.studio.personas.get(call["name"])
    return inbox.tried_list(call.studio.channels.test(persona, call["number"]), name=persona.name)


def _numbered(call: Call, action: Callable[[Persona, int], Persona], said: str) -> View:
    before, number = call.studio.personas.get(call["name"]), call["number"]
    after = action(before, number)
    label = channel_of(before.notification_channels[number - 1]).label
    said = said.replace("{name}", after.name).replace("{label}", label)
    return _changed(before, after, said, f"%persona channels {after.slug}")


def _changed(before: Persona, after: Persona, said: str, step: str) -> View:
    if before == after:
        said = f"{after.name} is so already: nothing changed."
        return replace(notice(said, step, status="unchanged"), value=after)
    return replace(notice(said, step), value=after)


def _awaited(call: Call, delivery_id: str) -> View:
    """What became of it, for a process that ends with the verb."""
    import time

    until = time.monotonic() + 100
    delivery = call.studio.messages.delivery(delivery_id)
    while delivery.status in ("pending", "sending") and not delivery.error and time.monotonic() < until:
        time.sleep(0.1)
        delivery = call.studio.messages.delivery(delivery_id)
    words = inbox.delivery_words(delivery, call.tz)
    sign = inbox.delivery_mark(delivery)
    said = f"{delivery.channel}: {sign.word}" + (f", {words}" if words else "")
    return replace(notice(f"{said}.", status=delivery.status), value=delivery)


# ── where settings come from ────────────────────────────────────────────────────────────────────────────────


def _plain(kind: ChannelType, words: list[str]) -> dict[str, Any]:
    """What was typed into the line; a secret there would be saved with the notebook."""
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:  # it is not repeated: it may be a secret
            raise InvalidInput(
                "A setting is given as KEY=VALUE.", hint=f"A {kind.name} channel takes {kind.needs}."
            )
        secret = next((known for known in kind.secret if name in ALIASES.get(known, (known,))), None)
        if secret or ("://" in value and name != "api_url"):
            secret = secret or kind.secret[0]
            raise InvalidInput(
                f"“{secret}” is a secret: in the line it would be saved with the notebook.",
                hint=f"Take it out, and change it if it was saved. You are asked for it, or --from-env {secret}=VAR "
                "takes it.",
            )
    return dict(fields_of(words))


def _from_environment(kind: ChannelType, words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, _, variable = word.partition("=")
        if name not in kind.secret:
            raise InvalidInput(
                f"A {kind.name} channel has no secret of the name that was given.",
                hint=f"It has {', '.join(kind.secret)}: --from-env {kind.secret[0]}=VAR.",
            )
        # The word is not repeated: it may be the secret itself.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable) or not os.environ.get(variable, "").strip():
            raise InvalidInput(
                f"The environment has no variable, or an empty one, of the name that was given for “{name}”.",
                hint="Give the name of a variable, not its value; it must be set before this process starts.",
            )
        found[name] = os.environ[variable].strip()
    return found


def _answer(call: Call, kind: ChannelType, settings: dict[str, Any]) -> dict[str, str]:
    """The secret that a person types, where no credential serves the channel."""
    if not call.studio.sending.problem(channel_of({"type": kind.name, "config": settings})):
        return {}
    if kind.name == "email" and not settings.get("host"):
        return {}  # it needs a credential, which adding it says
    name = "bot_token" if kind.name == "slack" and settings.get("channel") else kind.secret[0]
    answer = call.surface.ask(f"{kind.name}: {name}", secret=True)
    if answer is None:
        raise InvalidInput(
            f"Nobody can be asked for “{name}” here.",
            hint=f"Give it with --from-env {name}=VAR, or name a credential with --credential.",
        )
    if not answer.strip():
        raise InvalidInput(f"Nothing was entered for “{name}”; nothing was added.")
    return {name: answer.strip()}


def _shown(kind: ChannelType, settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in kind.secret}
