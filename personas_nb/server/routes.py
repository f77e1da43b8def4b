"""The REST API: status, triggers, reviews. Every verb needs the server's own login."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from pydantic import BaseModel, SecretStr
from tornado.web import HTTPError, authenticated

from personas_nb.errors import Conflict, InvalidInput, NotFound, PersonaError, QueueFull, StoreError
from personas_nb.server.host import Host, host_of
from personas_nb.triggers.webhooks import path_of, plain_config

if TYPE_CHECKING:
    from personas_nb.entities.review import Review
    from personas_nb.entities.trigger import Trigger
    from personas_nb.studio import Studio

T = TypeVar("T")
LIMIT_MAX = 1_000
_STATUSES: tuple[tuple[type[PersonaError], int], ...] = (
    (NotFound, 404),
    (InvalidInput, 400),
    (Conflict, 409),
    (QueueFull, 429),
    (StoreError, 503),
)


class PersonasHandler(APIHandler):
    """What the handlers share: the studio, JSON both ways, and errors as one sentence and the next step."""

    auth_resource = "personas"

    async def prepare(self) -> None:  # type: ignore[override]
        """Ask for a login before anything else is said, also of a verb that there is not.

        The question of a browser that comes from elsewhere (OPTIONS) carries none, and is answered by Jupyter.
        """
        await super().prepare()
        if not self.current_user and self.request.method != "OPTIONS":
            raise HTTPError(403)

    async def call(self, function: Callable[[Studio], T]) -> T:
        """What ``function`` makes of the studio, in a thread; its errors become answers."""
        try:
            return await self._host.call(function)
        except PersonaError as error:
            status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
            raise HTTPError(status, "%s", str(error), reason=error.code) from error

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with what is wrong, letter for letter: in Jupyter's own answer each % would be two."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if not isinstance(error, HTTPError) or not error.log_message:
            super().write_error(status_code, **kwargs)
            return
        self.finish(json.dumps({"message": error.log_message % error.args, "reason": error.reason}))

    def say(self, answer: Any) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(plain(answer)))  # escaped: half a surrogate pair could not be written as UTF-8

    def given(self, **kinds: type) -> dict[str, Any]:
        """The fields of the body, each of its kind or absent; anything else is refused."""
        try:
            body: Any = self.get_json_body() if self.request.body.strip() else {}
        except UnicodeDecodeError:
            raise HTTPError(400, "The body is no UTF-8 text.") from None
        if not isinstance(body, dict):
            raise HTTPError(400, "The body is no JSON object.")
        for name, value in body.items():
            if name not in kinds:
                known = f"there are {', '.join(kinds)}" if len(kinds) > 1 else f"there is {', '.join(kinds)}"
                known = known if kinds else "nothing is to be given"
                raise HTTPError(400, "%s", f"“{name}” is not known here; {known}.")
            if value is not None and not isinstance(value, kinds[name]):
                raise HTTPError(400, "%s", f"“{name}” is no {_WORDS[kinds[name]]}.")
        return {name: value for name, value in body.items() if value is not None}

    @property
    def _host(self) -> Host:
        return host_of(self.settings)


class StatusHandler(PersonasHandler):
    """Which home this server has, and who fires its triggers."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """``{"version", "home", "triggers": {…}}``."""
        from personas_nb import __version__

        def look(studio: Studio) -> dict[str, Any]:
            return {"version": __version__, "home": studio.home, "triggers": studio.triggers.status()}

        self.say(await self.call(look))


class TriggersHandler(PersonasHandler):
    """All triggers."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """A list; ``?persona=NAME`` gives those of one."""
        persona = self.get_query_argument("persona", None)

        def look(studio: Studio) -> list[dict[str, Any]]:
            return [_trigger(one, studio, self.base_url) for one in studio.triggers.list(persona)]

        self.say(await self.call(look))


class TriggerHandler(PersonasHandler):
    """One trigger: fire, enable, disable."""

    @authenticated
    @authorized
    async def post(self, trigger_id: str, action: str) -> None:
        """``fire`` takes ``{"input": …}`` and answers with the record, ``enable`` takes ``{"allow_bypass": …}``.

        A webhook that gets its secret by being enabled answers with it, this once.
        """
        match action:
            case "fire":
                given = self.given(input=object)
                fire = await self.call(lambda one: one.triggers.fire(trigger_id, given.get("input")))
                self.set_status(202)
                self.say(fire)
            case "enable":
                allowed = self.given(allow_bypass=bool).get("allow_bypass")
                self.say(await self.call(lambda one: self._enabled(one, trigger_id, allowed)))
            case _:
                self.given()
                self.say(await self.call(lambda one: self._disabled(one, trigger_id)))

    def _enabled(self, studio: Studio, trigger_id: str, allow_bypass: bool | None) -> dict[str, Any]:
        trigger = studio.triggers.enable(trigger_id, allow_bypass=allow_bypass)
        said = _trigger(trigger, studio, self.base_url)
        return said | ({"secret": trigger.secret.get_secret_value()} if trigger.secret else {})

    def _disabled(self, studio: Studio, trigger_id: str) -> dict[str, Any]:
        return _trigger(studio.triggers.disable(trigger_id), studio, self.base_url)


class ReviewsHandler(PersonasHandler):
    """What waits for a decision."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """A list, newest first; ``?status=all`` gives decided ones too, ``?limit=`` so many."""
        status = self.get_query_argument("status", "pending")
        limit = self.get_query_argument("limit", "50")
        if not (limit.isdecimal() and len(limit) <= len(str(LIMIT_MAX)) and 0 < int(limit) <= LIMIT_MAX):
            raise HTTPError(400, f"limit is a number from 1 to {LIMIT_MAX}.")
        if status not in _STATES:
            raise HTTPError(400, f"status is one of {', '.join(_STATES)}.")
        chosen = None if status == "all" else status

        def look(studio: Studio) -> list[dict[str, Any]]:
            return [_review(one, studio) for one in studio.reviews.list(chosen, limit=int(limit))]

        self.say(await self.call(look))


class ReviewHandler(PersonasHandler):
    """One decision: approve, reject."""

    @authenticated
    @authorized
    async def post(self, review_id: str, verdict: str) -> None:
        """Decide, with ``{"note": …}``; one that is decided answers with its verdict."""
        note = self.given(note=str).get("note")

        def decide(studio: Studio) -> dict[str, Any]:
            act = studio.reviews.approve if verdict == "approve" else studio.reviews.reject
            return _review(act(review_id, note), studio)

        self.say(await self.call(decide))


ROUTES = [
    ("personas/api/status/?", StatusHandler),
    ("personas/api/triggers/?", TriggersHandler),
    ("personas/api/triggers/([^/]+)/(fire|enable|disable)/?", TriggerHandler),
    ("personas/api/reviews/?", ReviewsHandler),
    ("personas/api/reviews/([^/]+)/(approve|reject)/?", ReviewHandler),
]

_STATES = ("pending", "approved", "rejected", "expired", "all")
_WORDS: Mapping[type, str] = {bool: "true or false", str: "text", object: "value"}


def plain(value: Any) -> Any:
    """A value as JSON has it: entities and dataclasses as objects, times as text; never a secret."""
    if isinstance(value, SecretStr):
        return None
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def _trigger(trigger: Trigger, studio: Studio, base_url: str) -> dict[str, Any]:
    """A trigger as an answer: its fields, its persona's name, and where a webhook is reached."""
    said = trigger.model_dump(exclude={"state", "secret"})
    said |= {"config": plain_config(trigger.config), "persona": studio.personas.get(trigger.persona_id).name}
    if trigger.trigger_type == "webhook":
        said["webhook_path"] = url_path_join(base_url, path_of(trigger))
    return said


def _review(review: Review, studio: Studio) -> dict[str, Any]:
    return review.model_dump() | {"persona": studio.personas.get(review.persona_id).name}
