"""Every example in a docstring runs and says what it says."""

from __future__ import annotations

import builtins
import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import personas_nb

MODULES = sorted(found.name for found in pkgutil.walk_packages(personas_nb.__path__, "personas_nb."))


@pytest.fixture(autouse=True)
def _no_underscore_left() -> Iterator[None]:
    # doctest leaves its last value in builtins, and IPython then leaves `_` alone, in later tests too
    yield
    vars(builtins).pop("_", None)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(".__main__")])
def test_the_examples_of_a_module_are_true(name: str):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) > 50
