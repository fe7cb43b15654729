"""A note is what was written, or none."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.sealed import sealed, unsealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(note=JSON)
def test_a_note_comes_back_as_it_was_written(note: object) -> None:
    assert unsealed(sealed(note)) == note


@given(note=JSON, other=JSON)
def test_another_note_under_the_same_seal_is_none(note: object, other: object) -> None:
    document = json.loads(sealed(note)) | {"note": other}

    if json.dumps(other) != json.dumps(note):
        with pytest.raises(ValueError, match="damaged"):
            unsealed(json.dumps(document))


@pytest.mark.parametrize("text", ["3", "[]", "null", "{}", '{"note": 3}', "[" * 200_000, "", "{"])
def test_what_was_never_sealed_is_no_note(text: str) -> None:
    with pytest.raises(ValueError, match=r"note|nested|Expecting"):
        unsealed(text)


def test_a_flipped_bit_makes_no_other_note() -> None:
    note, dice = {"name": "cells", "numbers": [1.5, 2, 300]}, random.Random(0)  # noqa: S311
    body = sealed(note).encode()
    for _ in range(200):
        at = dice.randrange(len(body))
        flipped = body[:at] + bytes([body[at] ^ 1 << dice.randrange(7)]) + body[at + 1 :]
        try:
            assert unsealed(flipped.decode("utf-8", "replace")) == note
        except ValueError:
            continue
