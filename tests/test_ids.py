"""Ids: random, and never the same in a parent and its child."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from personas_nb.entities.base import IDS_AT_ONCE, new_id


def test_an_id_is_a_random_uuid():
    found = uuid.UUID(new_id())
    assert (found.version, found.variant) == (4, uuid.RFC_4122)


def test_threads_never_get_the_same_id():
    with ThreadPoolExecutor(8) as pool:
        ids = [one for some in pool.map(lambda _: [new_id() for _ in range(500)], range(16)) for one in some]
    assert len(set(ids)) == len(ids) == 8000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_gets_other_ids_than_its_parent():
    new_id()  # so that some are left over
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "\n".join(new_id() for _ in range(IDS_AT_ONCE)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        theirs = set(told.read().split())
    os.waitpid(child, 0)
    assert len(theirs) == IDS_AT_ONCE
    assert not theirs & {new_id() for _ in range(2 * IDS_AT_ONCE)}
