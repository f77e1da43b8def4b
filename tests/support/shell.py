"""A real IPython shell that raises what a cell raised and keeps what it showed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config


class _KeepingHook(DisplayHook):
    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:
        self.shell.values.append(format_dict)


class TestingShell(InteractiveShell):
    """``run(cell)`` is the cell's value; ``values``, ``displays`` and ``tracebacks`` are what it showed."""

    __test__ = False
    displayhook_class = Type(_KeepingHook)
    display_pub_class = Type(CapturingDisplayPublisher)

    def __init__(self, **options: Any) -> None:
        self.values: list[dict[str, Any]] = []
        self.tracebacks: list[list[str]] = []
        super().__init__(**options)

    def run(self, cell: str) -> Any:
        self.values.clear()
        self.tracebacks.clear()
        self.display_pub.outputs.clear()
        result = self.run_cell(cell, store_history=True)
        result.raise_error()
        return result.result

    @property
    def displays(self) -> list[dict[str, Any]]:
        return list(self.display_pub.outputs)

    @property
    def text(self) -> str:
        """What a person sees at the end: values, and the last state of each display."""
        last: dict[Any, str] = {}
        for number, output in enumerate(self.displays):
            key = (output["transient"] or {}).get("display_id", number)
            last[key] = output["data"].get("text/plain", "")
        return "\n".join([*last.values(), *(value.get("text/plain", "") for value in self.values)])

    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        self.tracebacks.append(stb)


def shell_in(folder: Path) -> Iterator[TestingShell]:
    """A shell with the extension loaded; for a fixture."""
    config = Config()
    config.HistoryManager.enabled = False
    config.ProfileDir.location = str(folder / "ipython")
    InteractiveShell.clear_instance()
    TestingShell.clear_instance()
    shell = TestingShell.instance(config=config)
    shell.run("%load_ext personas_nb")
    yield shell
    shell.run("%unload_ext personas_nb")
    TestingShell.clear_instance()
    InteractiveShell.clear_instance()
