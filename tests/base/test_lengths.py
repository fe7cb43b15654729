from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.lengths import UM_PER_UNIT, parse_length_um, um_per


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("micron", 1),
        ("µm", 1),
        ("μm", 1),
        ("\\u00B5m", 1),
        ("nm", 1e-3),
        ("cm", 1e4),
        ("inch", 25400),
    ],
)
def test_units_of_real_files_are_lengths(unit: str, um: float) -> None:
    assert um_per(unit) == pytest.approx(um)


@pytest.mark.parametrize("unit", ["px", "pixel", "pixels", "", "dpi", "furlong"])
def test_what_is_no_length_is_none(unit: str) -> None:
    assert um_per(unit) is None


@given(st.floats(1e-3, 1e3), st.sampled_from(sorted(UM_PER_UNIT)))
def test_a_length_is_its_number_times_its_unit(number: float, unit: str) -> None:
    assert parse_length_um(f"{number!r} {unit}") == pytest.approx(number * UM_PER_UNIT[unit])


@pytest.mark.parametrize("text", ["", "um", "-1um", "0um", "1 2", "0,5,6", "five um", "1 px"])
def test_what_is_no_positive_length_is_refused(text: str) -> None:
    assert parse_length_um(text) is None


def test_a_decimal_comma_is_read() -> None:
    assert parse_length_um("0,5 um") == 0.5
