"""A sealed value opens where it was sealed, and nowhere else."""

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.errors import VaultError
from personas_nb.vault.cipher import key_id_of, open_sealed, seal
from personas_nb.vault.keys import Key

KEY = Key("k1", bytes(range(32)))
SECRET = "correct horse battery"


def sealed(value: str = SECRET, key: Key = KEY, credential_id: str = "c1", field: str = "password") -> str:
    return seal(value, key=key, credential_id=credential_id, field=field)


def opened(text: str, key: Key = KEY, credential_id: str = "c1", field: str = "password") -> str:
    return open_sealed(text, key=key, credential_id=credential_id, field=field)


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(names, names, names, st.binary(min_size=32, max_size=32))
def test_what_was_sealed_opens_in_its_place(
    value: str, credential_id: str, field: str, secret: bytes
) -> None:
    key = Key("k9", secret)
    assert opened(sealed(value, key, credential_id, field), key, credential_id, field) == value


@given(st.tuples(names, names), st.tuples(names, names))
def test_a_moved_value_does_not_open(place: tuple[str, str], other: tuple[str, str]) -> None:
    text = sealed(credential_id=place[0], field=place[1])
    if place == other:
        assert opened(text, credential_id=other[0], field=other[1]) == SECRET
        return
    with pytest.raises(VaultError, match="does not open: it was altered or moved"):
        opened(text, credential_id=other[0], field=other[1])


def test_names_that_only_join_to_the_same_text_are_different_places() -> None:
    with pytest.raises(VaultError):
        opened(sealed(credential_id="a:b", field="c"), credential_id="a", field="b:c")


def test_the_format_names_the_key_and_holds_a_fresh_nonce() -> None:
    first, second = sealed(), sealed()
    version, key_id, text = first.split(":")
    assert (version, key_id, key_id_of(first)) == ("v1", "k1", "k1")
    assert len(base64.urlsafe_b64decode(text + "==")) == 12 + len(SECRET) + 16
    assert first != second


def test_another_key_is_named_and_not_tried() -> None:
    with pytest.raises(VaultError, match="sealed with key “k1”, not with “k2”"):
        opened(sealed(), Key("k2", KEY.secret))


def test_a_key_id_that_was_exchanged_in_the_text_does_not_open() -> None:
    with pytest.raises(VaultError, match="altered or moved"):
        opened(sealed().replace(":k1:", ":k2:"), Key("k2", KEY.secret))


def test_no_altered_character_goes_unnoticed() -> None:
    text = sealed()
    for place, other in itertools.product(range(len(text)), "Ab9-_=!: \n"):
        altered = text[:place] + other + text[place + 1 :]
        if altered != text:
            with pytest.raises(VaultError):
                opened(altered)


def test_nothing_cut_or_lengthened_opens() -> None:
    text = sealed()
    for damaged in [text[:length] for length in range(len(text))] + [
        text + tail for tail in ("A", "=", "\n", ":")
    ]:
        with pytest.raises(VaultError):
            opened(damaged)


def test_a_later_format_says_so() -> None:
    with pytest.raises(VaultError, match=r"format v2, which this version does not know\. Update"):
        opened("v2" + sealed()[2:])


def test_errors_show_neither_value_nor_key() -> None:
    with pytest.raises(VaultError) as caught:
        sealed(SECRET + "\ud800")
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(VaultError) as caught:
        opened(sealed(), Key("k1", bytes(32)))
    assert caught.value.__cause__ is None
    assert repr(KEY) == "Key(id='k1')"
