"""In which order things are done: the connections, followed from what starts the workflow.

- A disabled node is passed through, as n8n does: what leads to it leads to what follows its first output.
- What nothing leads to is not done, as in n8n; a workflow without a trigger begins at its first nodes.
- The order is that in which n8n would come to the nodes, a merge after its branches; an arrow back is a loop.

Everything is linear in nodes and arrows, and without recursion: a stranger's graph may be deep or go in circles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from personas_nb.design.formats.n8n.document import Link, Node

MAX_ARROWS = 60_000
_MAX_HOPS = 400_000
"""How far arrows are led on through nodes that are passed through, all together."""


class Arrow(NamedTuple):
    """From an output of one node to an input of another, by their places."""

    source: int
    output: int
    target: int
    input: int


@dataclass
class Graph:
    """``order`` are the places of the steps as they are numbered, ``arrows`` by where they begin."""

    order: list[int]
    arrows: dict[int, list[Arrow]]
    starts: list[int]
    """Where it begins when nothing says otherwise: triggers, else the first nodes."""
    attached: dict[int, list[tuple[str, int]]]
    """Sub-nodes by what they hang on, each with the kind of its connection."""
    hangs_on: dict[int, int]
    kind_of: dict[int, str]
    """By which kind of connection a sub-node hangs on what it hangs on."""
    reached: set[int] = field(default_factory=set)
    back: set[tuple[int, int]] = field(default_factory=set)
    """The arrows that lead back, by their ends."""

    def sources_of(self) -> dict[int, list[int]]:
        """Where the arrows to each place come from, without those that lead back."""
        found: dict[int, list[int]] = defaultdict(list)
        for source, arrows in self.arrows.items():
            for arrow in arrows:
                if source in self.reached and (source, arrow.target) not in self.back:
                    found[arrow.target].append(source)
        return found


def graph_of(
    nodes: Sequence[Node], links: Iterable[Link], *, triggers: Collection[int], skipped: Collection[int]
) -> Graph:
    """The graph of a workflow; ``triggers`` start it, ``skipped`` are passed through."""
    main: dict[int, list[Arrow]] = defaultdict(list)
    attached: dict[int, list[tuple[str, int]]] = defaultdict(list)
    hangs_on: dict[int, int] = {}
    kind_of: dict[int, str] = {}
    for link in links:
        if link.kind in ("main", "error"):
            output = link.output + (1 if link.kind == "error" else 0)
            main[link.source].append(Arrow(link.source, output, link.target, link.input))
        elif not nodes[link.source].disabled and link.source != link.target:
            attached[link.target].append((link.kind, link.source))
            hangs_on.setdefault(link.source, link.target)
            kind_of.setdefault(link.source, link.kind)
    arrows = _contracted(main, set(skipped))
    starts = [place for place in triggers if place not in skipped]
    if not starts:
        starts = _first_nodes(nodes, arrows, set(skipped), hangs_on)
    # The body of a loop comes before what follows the loop, wherever its output stands.
    body_last = {node.place for node in nodes if node.kind == "splitInBatches" and node.version >= 3}
    order, reached, back = _ordered(starts, arrows, body_last)
    triggered = set(triggers)
    graph = Graph(
        [place for place in order if place not in triggered],
        arrows,
        starts,
        attached,
        hangs_on,
        kind_of,
        reached,
        back,
    )
    _reach_sub_nodes(graph)
    return graph


def _contracted(main: dict[int, list[Arrow]], skipped: set[int]) -> dict[int, list[Arrow]]:
    """The arrows with those that lead into a skipped node led on to what follows it."""
    found: dict[int, list[Arrow]] = {}
    total = hops = 0
    for source, arrows in main.items():
        if source in skipped:
            continue
        led: dict[Arrow, None] = {}
        seen: set[tuple[int, int]] = set()
        waiting = list(reversed(arrows))
        while waiting and total + len(led) < MAX_ARROWS and hops < _MAX_HOPS:
            arrow = waiting.pop()
            hops += 1
            if arrow.target not in skipped:
                led[arrow] = None
            elif (arrow.output, arrow.target) not in seen:
                seen.add((arrow.output, arrow.target))
                onward = [after for after in main.get(arrow.target, ()) if after.output == 0]
                waiting += [
                    Arrow(source, arrow.output, after.target, after.input) for after in reversed(onward)
                ]
        total += len(led)
        found[source] = list(led)
    return found


def _first_nodes(
    nodes: Sequence[Node], arrows: dict[int, list[Arrow]], skipped: set[int], hangs_on: dict[int, int]
) -> list[int]:
    """Nodes that nothing leads to, those with arrows of their own first; where all are in circles, the first node."""
    targets = {arrow.target for found in arrows.values() for arrow in found}
    free = [node.place for node in nodes if node.place not in skipped and node.place not in hangs_on]
    first = [place for place in free if place not in targets]
    return first or free[:1]


def _ordered(
    starts: Sequence[int], arrows: dict[int, list[Arrow]], body_last: Collection[int]
) -> tuple[list[int], set[int], set[tuple[int, int]]]:
    """Reverse post-order from the starts, what was reached, and the arrows that lead back."""
    finished: list[int] = []
    state: dict[int, int] = {}  # 1: on the way, 2: done
    back: set[tuple[int, int]] = set()
    for start in reversed(starts):
        if start in state:
            continue
        state[start] = 1
        stack = [(start, _targets(arrows, start, start in body_last))]
        while stack:
            place, rest = stack[-1]
            if not rest:
                state[place] = 2
                finished.append(place)
                stack.pop()
                continue
            target = rest.pop()
            if target not in state:
                state[target] = 1
                stack.append((target, _targets(arrows, target, target in body_last)))
            elif state[target] == 1:
                back.add((place, target))
    return finished[::-1], set(state), back


def _targets(arrows: dict[int, list[Arrow]], place: int, last_first: bool) -> list[int]:
    """Where the arrows of a node lead, in the order of its outputs: the last is followed first, and numbered last."""
    ordered = sorted(arrows.get(place, ()), key=lambda arrow: arrow.output, reverse=last_first)
    return list(dict.fromkeys(arrow.target for arrow in ordered))


def _reach_sub_nodes(graph: Graph) -> None:
    """What hangs on something that is reached is reached, however many hands are between."""
    waiting = list(graph.reached)
    while waiting:
        for _, place in graph.attached.get(waiting.pop(), ()):
            if place not in graph.reached:
                graph.reached.add(place)
                waiting.append(place)
