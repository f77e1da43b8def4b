"""How often a streaming run changes its display, and whether all of its text arrives; exits 1 when not as wanted.

python bench/display.py

20 000 pieces of text go through ``RunStream`` and ``LiveDisplay`` on the real clock: once all at once, once
spread over three seconds as a fast model sends them. Counted are the changes in the busiest second, with the
first display and the last; the last must hold every piece, in order, as text and as HTML.
"""

from __future__ import annotations

import html
import sys
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from personas_nb.entities.execution import Execution
from personas_nb.entities.run_event import TextDelta
from personas_nb.views.display import LiveDisplay
from personas_nb.views.stream import RunStream
from personas_nb.views.view import View

DELTAS, BATCH, PACED_SECONDS, MAX_PER_SECOND = 20_000, 20, 3.0, 8


class Notebook:
    """Takes the place of a notebook's output: notes when it was changed, and keeps what it showed last."""

    def __init__(self) -> None:
        self.changed_at: list[float] = []
        self.shown: View | None = None
        self.bytes = 0

    def display(self, view: View) -> Notebook:
        self.update(view)
        return self

    def update(self, obj: Any) -> None:
        self.changed_at.append(time.monotonic())
        self.shown = obj
        self.bytes += sum(len(part.encode()) for part in obj._repr_mimebundle_().values())

    def busiest_second(self) -> int:
        """The most changes in any second."""
        return max(bisect_left(self.changed_at, at + 1) - i for i, at in enumerate(self.changed_at))


def stream(pieces: list[str], *, seconds: float) -> tuple[Notebook, float, str]:
    """Feed the pieces as a cell does that drains a queue; its notebook, the time it took, the stream's text."""
    notebook, run = Notebook(), RunStream("Bench", rehearsal=False, provider="custom", model="m")
    live, began = LiveDisplay(notebook.display), time.monotonic()
    busy_began = time.process_time()
    for at in range(0, len(pieces), BATCH):
        for piece in pieces[at : at + BATCH]:
            run.add(TextDelta(text=piece))
            live.offer(lambda: run.view(elapsed_ms=round((time.monotonic() - began) * 1000)))
        while (ahead := began + seconds * at / len(pieces) - time.monotonic()) > 0:
            time.sleep(min(ahead, 0.01))
            live.tick()
    busy = time.process_time() - busy_began
    live.finish(run.final(Execution(persona_id="bench", persona_name="Bench", status="completed")))
    return notebook, busy, run.text


def is_whole(shown: View, pieces: list[str]) -> bool:
    """Whether both forms of a view have every piece, in order."""
    words = [piece.strip() for piece in pieces]
    return all(
        [word for word in text.split() if word.startswith("w") and word[1:].isdigit()] == words
        for text in (shown.text, html.unescape(shown.html.replace("<", " <").replace(">", "> ")))
    )


def main() -> int:
    pieces = [f"w{number} " if number % 12 else f"w{number}\n" for number in range(DELTAS)]
    good = True
    for name, seconds in (("all at once", 0.0), (f"in {PACED_SECONDS:g} seconds", PACED_SECONDS)):
        notebook, busy, text = stream(pieces, seconds=seconds)
        assert notebook.shown is not None
        lost = text != "".join(pieces) or not is_whole(notebook.shown, pieces)
        busiest = notebook.busiest_second()
        good &= busiest <= MAX_PER_SECOND and not lost
        print(
            f"{DELTAS} deltas {name:13} {len(notebook.changed_at):3} updates, {busiest} in the busiest second, "
            f"{notebook.bytes / 1e6:.1f} MB shown, {busy / DELTAS * 1e6:.1f} µs a delta, "
            f"{'TEXT LOST' if lost else 'all text there'}"
        )
    if not good:
        print(f"Wanted: at most {MAX_PER_SECOND} updates a second, and no text lost.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
