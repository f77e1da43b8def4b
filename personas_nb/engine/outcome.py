"""What became of a run that ended without an error: completed, or incomplete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

_ERROR = re.compile(r"\berror:|\bfailed to\b|\bunable to\b|\bcould not\b", re.IGNORECASE)
_SUCCESS = re.compile(r"\b(?:successfully|completed|done)\b", re.IGNORECASE)
_RESOLUTION = re.compile(r"\b(?:fixed|resolved|corrected|handled|recovered|worked around)\b", re.IGNORECASE)


def judge(text: str, assessment: Mapping[str, Any] | None) -> Literal["completed", "incomplete"]:
    """The outcome by the persona's last assessment, else by the words of its text.

    Without an assessment a text is incomplete when it has an error phrase and neither a word of success nor one
    of resolution.

    >>> judge("I could not open the file.", None)
    'incomplete'
    >>> judge("I could not open the file, so I worked around it.", None)
    'completed'
    """
    if assessment is not None:
        return "completed" if assessment.get("accomplished") is not False else "incomplete"
    is_bad = _ERROR.search(text) and not _SUCCESS.search(text) and not _RESOLUTION.search(text)
    return "incomplete" if is_bad else "completed"
