"""Parts that tests need and that may be missing: a test is skipped without them, but fails where CI=true."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test with its reason, or fail it where nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)
