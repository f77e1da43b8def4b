"""How fast two prompts of 50 KB are compared word by word; exits 1 when one pair takes too long.

python bench/diff.py

The pairs are what is edited usually, and what makes comparisons slow: wholly different texts, few words that repeat,
one line without an end, lines that repeat, signs only.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator

from personas_nb.entities.persona import Persona
from personas_nb.personas.prompt_diff import PromptDiff, compare
from personas_nb.views.versions import prompt_diff

SIZE_CHARS = 50_000
LIMIT_MS = 100.0


def words(rng: random.Random, vocabulary: int) -> list[str]:
    return ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(vocabulary)]


def prose(rng: random.Random, vocabulary: list[str], words_per_line: int) -> str:
    lines: list[str] = []
    while sum(map(len, lines)) + len(lines) < SIZE_CHARS:
        lines.append(" ".join(rng.choices(vocabulary, k=words_per_line)) + ".")
    return "\n".join(lines)[:SIZE_CHARS]


def edited(rng: random.Random, text: str, share: float) -> str:
    kept = [word for word in text.split(" ") if rng.random() > share / 2]
    return " ".join(f"{word} also" if rng.random() < share / 2 else word for word in kept)


def pairs() -> Iterator[tuple[str, str, str]]:
    rng = random.Random(5)
    many, few = words(rng, 4_000), words(rng, 40)
    text = prose(rng, many, 12)
    yield "a word changed", text, text.replace(text.split(" ")[3_000], "never", 1)
    yield "5 % edited", text, edited(rng, text, 0.05)
    yield "half edited", text, edited(rng, text, 0.5)
    yield "wholly different words", text, prose(rng, words(rng, 4_000), 12)
    yield "the same words, shuffled", text, prose(rng, many, 12)
    yield "one line each", text.replace("\n", " "), prose(rng, many, 12).replace("\n", " ")
    yield "40 words, repeated", prose(rng, few, 12), prose(rng, few, 12)
    yield "2 words, repeated", prose(rng, ["a", "b"], 40_000), prose(rng, ["a", "b"], 40_000)
    yield "2 longer words, repeated", prose(rng, ["to", "go"], 40_000), prose(rng, ["to", "go"], 40_000)
    yield "one word, repeated", "go " * (SIZE_CHARS // 3), "go " * (SIZE_CHARS // 3 - 1_000) + "no " * 1_000
    yield "10 lines, repeated", prose(rng, few[:10], 1), prose(rng, few[:10], 1)
    yield "lines moved", text, "\n".join(rng.sample(text.split("\n"), text.count("\n") + 1))
    signs = ["".join(rng.choices("{}[]:,", k=SIZE_CHARS // 2)) for _ in range(2)]
    yield "signs only", signs[0], signs[1]
    han = [chr(0x4E00 + number) for number in range(3_000)]
    chinese = ["".join(rng.choices(han, k=SIZE_CHARS // 3)) for _ in range(2)]
    yield "Chinese, wholly different", chinese[0], chinese[1]


def compared(old: str, new: str) -> PromptDiff:
    return compare(Persona(name="A", system_prompt=old), Persona(name="A", system_prompt=new), a=1, b=2)


def best_ms(old: str, new: str, *, shown: bool) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        found = compared(old, new)
        if shown:
            prompt_diff(found)
        else:
            _ = found.summary
        times.append((time.perf_counter() - began) * 1_000)
    return min(times)


def main() -> int:
    compared("a", "b")  # imports
    worst = 0.0
    for name, old, new in pairs():
        took, shown = best_ms(old, new, shown=False), best_ms(old, new, shown=True)
        worst = max(worst, took)
        hunks = sum(len(section.hunks) for section in compared(old, new).sections)
        print(
            f"{name:28} {len(old):7,} → {len(new):7,}  {took:6.1f} ms  with its card {shown:6.1f} ms  {hunks:6,} hunks"
        )
    print(f"worst {worst:.1f} ms, allowed {LIMIT_MS:.0f} ms: {'ok' if worst <= LIMIT_MS else 'TOO SLOW'}")
    return int(worst > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
