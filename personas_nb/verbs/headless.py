"""``personas triggers run``: fire triggers from a terminal or as a service, and say what fires, line by line.

- The first SIGTERM, SIGINT or SIGHUP lets another process take the triggers over at once, and waits for the runs that
  go on here; the second ends them.
- A signal only counts, and wakes through a socket: what locks a thread must not be touched in a handler.
- What is written to the store wakes it too; while nothing is, it sleeps.
"""

from __future__ import annotations

import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from personas_nb.entities.base import now
from personas_nb.entities.execution import FINISHED
from personas_nb.verbs.call import Call
from personas_nb.verbs.usage import WrongUsage

if TYPE_CHECKING:
    from datetime import datetime

    from personas_nb.entities.execution import Execution
    from personas_nb.entities.trigger import Fire
    from personas_nb.studio import Studio

LOOK_SECONDS = 0.5
QUIET_SECONDS = 60.0  # a look without a reason
PAGE = 200  # rows of a look; more where more are new
SEEN_MAX = 20_000
R = TypeVar("R", "Fire", "Execution")
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")


def run(call: Call) -> None:
    """Fire triggers until a signal comes."""
    if call.surface.is_kernel:
        raise WrongUsage(
            "This would keep the notebook busy until it is interrupted.",
            hint="`%persona triggers start` fires in the background; `personas triggers run` is for a terminal.",
        )
    studio, say = call.studio, call.surface.say
    with _Signals() as signals:
        log = _Log(studio, call.tz)
        studio.worker.when_changed(signals.wake)
        studio.triggers.start("headless")
        say(log.opening())
        while not signals.count:
            for line in log.lines():
                say(line)
            signals.sleep(QUIET_SECONDS, until_woken=True)
        say(log.line("○", "ending: triggers are handed over"))
        studio.triggers.stop()
        log.is_over = True
        _wait_for_runs(call, log, signals)
        for line in log.lines():
            say(line)
        say(log.line("○", f"ended: {log.account()}"))


def _wait_for_runs(call: Call, log: _Log, signals: _Signals) -> None:
    """Let the runs of this process end, as long as they may; a second signal ends them now."""
    until = time.monotonic() + call["grace"] / 1000
    said = 0
    while (left := _running(call.studio)) and time.monotonic() < until:
        if said != left:
            said = left
            call.surface.say(log.line("▶", f"waiting for {left} run{'s' * (left > 1)}; once more ends them"))
        signals.sleep(LOOK_SECONDS, raises_at=2)
        for line in log.lines():
            call.surface.say(line)


def _running(studio: Studio) -> int:
    mine = studio.worker.id
    return sum(run.worker_id == mine for run in studio.executions.list(status="running", limit=200))


class _Log:
    """What happened since the last look, as lines with the time in the person's zone."""

    def __init__(self, studio: Studio, tz: str) -> None:
        self._studio, self._tz = studio, tz
        self.is_over = False
        self._since: datetime = now()
        self._fires: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self._holder: str | None = None
        self._was_paused = False
        self._counts = {"started": 0, "skipped": 0, "done": 0, "failed": 0}
        self._slugs: dict[str, str] = {}

    def opening(self) -> str:
        """What is about to be done."""
        on = [trigger for trigger in self._studio.triggers.list() if trigger.enabled]
        due = min((one.next_trigger_at for one in on if one.next_trigger_at), default=None)
        from personas_nb.views.fires import when_words

        when = f"; next due {when_words(due, self._tz)}" if due else ""
        return self.line(
            "▶", f"{len(on)} trigger{'s' * (len(on) != 1)} on in {self._studio.home}{when} ({self._tz})"
        )

    def line(self, glyph: str, text: str, at: datetime | None = None) -> str:
        """One line of the log."""
        from personas_nb.views.marks import clean, instant

        return f"{instant(at or now(), self._tz)}  {glyph} {' '.join(clean(text).split())}"

    def lines(self) -> Iterator[str]:
        """What is new."""
        if not self.is_over:
            yield from self._loop_lines()
        for fire in reversed(self._new(self._studio.triggers.fires, self._fires)):
            if fire.created_at >= self._since and self._fires.get(fire.id) != fire.status:
                self._fires[fire.id] = fire.status
                if line := self._fire_line(fire):
                    yield line
        newest = self._new(self._studio.executions.list, self._runs)
        for run in (*self._older(newest), *reversed(newest)):
            if run.created_at >= self._since and self._runs.get(run.id) != run.status:
                self._runs[run.id] = run.status
                if line := self._run_line(run):
                    yield line
        for kept in (self._fires, self._runs):
            for key in list(kept)[: max(0, len(kept) - SEEN_MAX)]:
                del kept[key]

    def _new(self, read: Callable[..., list[R]], seen: Mapping[str, str]) -> list[R]:
        """The newest rows, the newest first: as many as it takes to come to one that was seen, or to the beginning."""
        limit, rows = PAGE, read(limit=PAGE)
        while len(rows) == limit and rows[-1].created_at >= self._since and rows[-1].id not in seen:
            limit *= 4
            rows = read(limit=limit)
        return rows

    def _older(self, newest: Iterable[Execution]) -> Iterator[Execution]:
        """Runs that were open when they were last said, and are no longer among the newest."""
        still = {run_id for run_id, status in self._runs.items() if status not in FINISHED}
        for run_id in still - {run.id for run in newest}:
            if run := self._studio.executions.table.get(run_id):
                yield run

    def account(self) -> str:
        """What was done in all."""
        return (
            ", ".join(f"{count:,} {word}" for word, count in self._counts.items() if count) or "nothing fired"
        )

    def _loop_lines(self) -> Iterator[str]:
        from personas_nb.views.loop import holder_words

        status = self._studio.triggers.status()
        holder = holder_words(status)
        if holder != self._holder:
            before, self._holder = self._holder, holder
            if status.is_here:
                yield self.line("▶", f"firing: {holder}")
            elif holder:
                yield self.line("○", f"standing by: {holder} fires them")
            elif before:
                yield self.line("○", "nothing fires them just now")
        if status.is_paused != self._was_paused:
            self._was_paused = status.is_paused
            yield self.line("○", "paused" if status.is_paused else "resumed")

    def _fire_line(self, fire: Fire) -> str:
        from personas_nb.entities.trigger import UNCHANGED
        from personas_nb.triggers.polling import FIRST_LOOK
        from personas_nb.views.fires import LATE_MS
        from personas_nb.views.marks import duration, short_id

        if fire.status == "checking" or fire.reason == UNCHANGED:
            return ""
        late = f", {duration(fire.late_ms)} late" if (fire.late_ms or 0) >= LATE_MS else ""
        who = f"{self._slug_of(fire.trigger_id)}  {fire.kind} {short_id(fire.trigger_id)}"
        if fire.status == "queued":
            self._counts["started"] += 1
            return self.line("✓", f"{who}: run {short_id(fire.execution_id or '')}{late}", fire.decided_at)
        if fire.reason == FIRST_LOOK:
            return self.line("○", f"{who}: {fire.reason}", fire.decided_at)
        self._counts["skipped"] += fire.count
        times = f" × {fire.count:,}" if fire.count > 1 else ""
        return self.line("○", f"{who}: skipped{times}: {fire.reason}", fire.decided_at)

    def _run_line(self, run: Execution) -> str:
        from personas_nb.views.marks import duration, one_line, short_id

        who = f"{run.persona_name}  run {short_id(run.id)}"
        if run.status == "queued" and run.event_id:
            return self.line("✓", f"{who}: started by event {short_id(run.event_id)}")
        if run.status == "waiting":
            return self.line("?", f"{who}: waits for your decision (personas reviews)")
        if not run.is_finished:
            return ""
        is_good = run.status == "completed"
        self._counts["done" if is_good else "failed"] += 1
        kind = " · REHEARSAL" if run.rehearsal else ""
        why = "" if is_good else f": {one_line(run.error or (run.outcome or {}).get('summary') or '', 120)}"
        return self.line(
            "✓" if is_good else "✕", f"{who}: {run.status} in {duration(run.duration_ms)}{kind}{why}"
        )

    def _slug_of(self, trigger_id: str) -> str:
        if trigger_id not in self._slugs:
            names = {one.id: one.slug for one in self._studio.personas.list(include_archived=True)}
            self._slugs = {one.id: names.get(one.persona_id, "?") for one in self._studio.triggers.list()}
        return self._slugs.get(trigger_id, "?")


class _Signals:
    """Counts the signals that ask this process to end, while it is entered."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def wake(self) -> None:
        """End a sleep that lasts until it is woken; from any thread."""
        with suppress(OSError):  # full: it wakes anyway; closed: it sleeps no more
            self._waker.send(b"\0")

    def sleep(self, seconds: float, *, until_woken: bool = False, raises_at: int = 0) -> None:
        """Sleep, at most until the next signal; raises ``KeyboardInterrupt`` at that many."""
        before, until, is_woken = self.count, time.monotonic() + seconds, False
        while self.count == before and not is_woken and (left := until - time.monotonic()) > 0:
            if select.select([self._woken], [], [], left)[0]:
                is_woken = bool(self._woken.recv(4096)) and until_woken
        if raises_at and self.count >= raises_at:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                if number := getattr(signal, name, None):  # Windows has no SIGHUP
                    self._before[number] = signal.signal(number, self._note)
            self._wakeup_fd = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            signal.set_wakeup_fd(self._wakeup_fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._waker.close()
        self._woken.close()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
