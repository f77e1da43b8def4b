"""Who designs: the model that a provider resolves to, or rules and retrieval."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from personas_nb.design.designer import Designer
from personas_nb.engine.model_clients import ModelClients
from personas_nb.engine.models import resolve
from personas_nb.settings import Settings
from personas_nb.store.database import Store


class Designers:
    """Chooses a designer by provider; None: what the settings and the environment say.

    ``clients`` belongs to the event loop that designs run on; ``stock`` puts the shipped templates into the store.
    Raises ``InvalidInput`` for an unknown provider and ``ModelError`` (kind ``credential``) where a key is needed and
    there is none.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings,
        clients: ModelClients,
        stock: Callable[[], None] = lambda: None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clients = clients
        self._stock = stock
        self._environ = environ

    def __call__(self, provider: str | None) -> Designer:
        """The designer of that provider."""
        resolved = resolve(settings=self._settings, provider=provider, environ=self._environ)
        if resolved.is_rehearsal:
            from personas_nb.design.material import Informed
            from personas_nb.design.offline import OfflineDesigner
            from personas_nb.design.templates import Stocked

            return Stocked(Informed(OfflineDesigner(self._store)), self._stock)
        from personas_nb.design.modelled import ModelledDesigner

        return ModelledDesigner(resolved, clients=self._clients, settings=self._settings)
