"""Text that anyone may have written does not steer a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bmz.base.progress import printable


@given(st.text())
def test_what_comes_out_can_be_shown_and_is_as_long(text: str) -> None:
    shown = printable(text)

    assert shown.isprintable()
    assert len(shown) == len(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_what_can_be_shown_is_left_alone(text: str) -> None:
    assert printable(text) == text
