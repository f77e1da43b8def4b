"""Designing without a model with 1 000 templates stored: at most 150 ms a design, and 10 ms for what it looks up.

Prints the median and the slowest of many sentences, warm, and the first design of a process, which also reads the
shipped patterns and the names of time zones. Putting the shipped templates into a store is timed once. Exits 1 when a
median is over its limit.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from personas_nb.design.designer import DesignRequest, markdown_of
from personas_nb.design.offline import OfflineDesigner
from personas_nb.design.prose import content_words
from personas_nb.design.retrieval import best_match
from personas_nb.design.templates import Templates
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import DesignResult
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.template import DesignTemplate
from personas_nb.entities.tool import ToolDefinition
from personas_nb.store.database import Store
from personas_nb.store.templates import TemplateIndex

TEMPLATES = 1_000
ROUNDS = 5
DESIGN_LIMIT_MS = 150.0
RETRIEVAL_LIMIT_MS = 10.0
STOCK_LIMIT_MS = 150.0
VERBS = [
    "watch",
    "read",
    "compare",
    "translate",
    "summarise",
    "collect",
    "classify",
    "clean",
    "label",
    "forward",
]
THINGS = [
    "invoices",
    "mails",
    "prices",
    "papers",
    "logs",
    "tickets",
    "surveys",
    "sensors",
    "orders",
    "contracts",
]
PLACES = [
    "warehouse",
    "laboratory",
    "school",
    "newsroom",
    "hospital",
    "bakery",
    "harbour",
    "library",
    "studio",
    "farm",
]
SENTENCES = [
    "Every weekday at 7:30 and at 16:00 pull the orders of the warehouse from https://shop.example.com/orders and "
    "write them to orders.csv",
    "Read my inbox every day at 8 and mail me a digest, but do not send anything at weekends",
    "Every other Tuesday at 10 collect the open tickets of the newsroom and post them to Slack",
    "Compare the sensors of the laboratory with their limits and warn me when one is out of range",
    "On the last day of the month reconcile bank.csv with ledger.csv, write a report, and ask me before you send it",
    "Watch the page https://example.com/jobs and tell me when it changes",
    "Classify the survey answers of the school into themes with a quote for each and save them to themes.csv",
    "When order.created is published from shop, read orders.json and start the persona Shipping",
]


def template(number: int, verb: str, thing: str, place: str) -> DesignTemplate:
    steps = "\n".join(
        f"{step}. {verb.capitalize()} the {thing} of the {place}, part {step}." for step in range(1, 9)
    )
    prompt = StructuredPrompt(
        identity=f"You {verb} {thing} in a {place}.",
        instructions=steps,
        tool_guidance="- file_read: look at the folder first.\n" * 4,
        examples=f"- There are no {thing}: say so.\n" * 6,
        error_handling=f"- The {place} does not answer: report it.\n" * 6,
    )
    design = DesignResult(
        name=f"{verb} {thing}",
        structured_prompt=prompt,
        suggested_tools=("file_read", "file_write"),
        full_prompt_markdown=markdown_of(prompt),
        summary=f"Can {verb} {thing}.",
    )
    return DesignTemplate(
        name=f"{verb}-{thing}-{place}",
        title=f"{verb.capitalize()} {thing} in a {place}",
        summary=f"A template that knows how to {verb} the {thing} that come in at the {place}.",
        keywords=(verb, thing, place, f"number {number}"),
        design=design,
        source=f"templates/{number}.ipynb",
    )


def milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def report(what: str, times: list[float], limit: float) -> bool:
    median = statistics.median(times)
    print(f"{what:30} median {median:6.1f} ms   slowest {max(times):6.1f} ms   allowed {limit:5.0f} ms")
    return median <= limit


def main() -> int:
    with tempfile.TemporaryDirectory() as home:
        store = Store(Path(home))
        index = TemplateIndex(store)
        index.put(*(template(number, *words) for number, words in enumerate(product(VERBS, THINGS, PLACES))))
        assert index.count() == TEMPLATES
        tools = tuple(store.table("tools", ToolDefinition).find())
        connectors = tuple(store.table("connectors", Connector).find())
        designer = OfflineDesigner(store)

        def design(sentence: str) -> None:
            request = DesignRequest(
                instruction=sentence,
                kind="instruction",
                text=sentence,
                tools=tools,
                connectors=connectors,
                timezone="Europe/Berlin",
            )
            assert asyncio.run(designer.design(request)).result is not None

        shipped = Templates(store, importers=lambda: None)  # type: ignore[arg-type,return-value]  # nothing is used
        stocking = milliseconds(shipped.stock)
        first = milliseconds(lambda: design(SENTENCES[0]))
        rounds = [sentence for _ in range(ROUNDS) for sentence in SENTENCES]
        designs = [milliseconds(lambda s=sentence: design(s)) for sentence in rounds]
        lookups = [milliseconds(lambda s=sentence: best_match(s, (), store)) for sentence in rounds]
        searches = [milliseconds(lambda s=sentence: index.search(content_words(s), 4)) for sentence in rounds]
        store.close()
    print(f"{TEMPLATES:,} templates; the first design of the process took {first:.0f} ms")
    is_fast = [
        report("shipped templates, once a store", [stocking], STOCK_LIMIT_MS),
        report("a design", designs, DESIGN_LIMIT_MS),
        report("templates and patterns", lookups, RETRIEVAL_LIMIT_MS),
        report("templates in full text", searches, RETRIEVAL_LIMIT_MS),
    ]
    return 0 if all(is_fast) else 1


if __name__ == "__main__":
    sys.exit(main())
