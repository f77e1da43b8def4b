"""The triggers of a home, as rows."""

from __future__ import annotations

import builtins

from personas_nb.entities.event import Subscription
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import Trigger
from personas_nb.personas.personas import Personas
from personas_nb.store.database import Store


class Triggers:
    """What starts personas by itself: their triggers, and the events that they listen to."""

    def __init__(self, store: Store, personas: Personas) -> None:
        self._personas = personas
        self._triggers = store.table("triggers", Trigger)
        self._subscriptions = store.table("subscriptions", Subscription)

    def list(self, persona: Persona | str | None = None) -> builtins.list[Trigger]:
        """Triggers in the order in which they were made; of one persona where given."""
        if persona is None:
            return self._triggers.find(order_by="created_at, rowid")
        return self._triggers.find(
            "persona_id = ?", [self._personas.get(persona).id], order_by="created_at, rowid"
        )

    def subscriptions(self, persona: Persona | str) -> builtins.list[Subscription]:
        """The events that a persona listens to."""
        return self._subscriptions.find("persona_id = ?", [self._personas.get(persona).id], order_by="rowid")
