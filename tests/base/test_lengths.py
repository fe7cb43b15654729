from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.axes import UM_PER_UNIT, lengths_by_axis, parse_length_um, um_per


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
        ("picometer", 1e-6),
        ("Å", 1e-4),
        ("\u212b", 1e-4),
        (" Millimetre ", 1e3),
        ("meter", 1e6),
    ],
)
def test_units_of_real_files_are_lengths(unit: str, um: float) -> None:
    assert um_per(unit) == pytest.approx(um, rel=1e-12)


@pytest.mark.parametrize("unit", ["px", "pixel", "pixels", "", "dpi", "furlong"])
def test_what_is_no_length_is_none(unit: str) -> None:
    assert um_per(unit) is None


@given(st.floats(1e-3, 1e3), st.sampled_from(sorted(UM_PER_UNIT)))
def test_a_length_is_its_number_times_its_unit(number: float, unit: str) -> None:
    assert parse_length_um(f"{number!r} {unit}") == pytest.approx(number * UM_PER_UNIT[unit])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "um",
        "-1um",
        "0um",
        "1 2",
        "0,5,6",
        "five um",
        "1 px",
        "1e999",
        "1e308 m",
        "1e-320 pm",
        "nan",
        "inf um",
        "+1um",
        "1.um",
        "1..2um",
    ],
)
def test_what_is_no_positive_length_is_refused(text: str) -> None:
    assert parse_length_um(text) is None


def test_a_decimal_comma_is_read() -> None:
    assert parse_length_um("0,5 um") == 0.5


@pytest.mark.parametrize(
    ("text", "um"),
    [
        (" .5 ", 0.5),
        ("2.5E-1mm", 250),
        ("1e+2 nm", 0.1),
        ("3", 3),
    ],
)
def test_numbers_are_written_in_many_ways(text: str, um: float) -> None:
    assert parse_length_um(text) == pytest.approx(um, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("0.5", {"y": 0.5, "x": 0.5}),
        (" 650 nm ", {"y": 0.65, "x": 0.65}),
        ("x=2um", {"x": 2}),
        ("z = 2 um , x= 500nm", {"z": 2, "x": 0.5}),
        ("x=1,y=2,z=3", {"x": 1, "y": 2, "z": 3}),
    ],
)
def test_one_length_is_of_y_and_x_and_others_name_their_axis(
    text: str, lengths: dict[str, float]
) -> None:
    assert lengths_by_axis(text) == pytest.approx(lengths)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", ""),
        ("x=", "x="),
        ("=1um", "=1um"),
        ("t=1um", "t=1um"),
        ("yx=1um", "yx=1um"),
        ("x=1um,", ""),
        ("z=2um,y=2 cells", "y=2 cells"),
        ("0,5um", "0"),
    ],
)
def test_the_part_that_is_no_length_of_an_axis_is_named(text: str, part: str) -> None:
    with pytest.raises(ValueError, match="length") as caught:
        lengths_by_axis(text)

    assert str(caught.value) == f"'{part}' is not a length; write 0.5um or z=2um,y=0.5um,x=0.5um"


@pytest.mark.parametrize(
    "text", ["1,5um", "z=1,5um", "0.5,0.3", "x=1um,x=2um", "z=2um,0.5um", "0.5um,z=2um"]
)
def test_a_comma_between_lengths_that_name_no_axis_is_not_guessed_at(text: str) -> None:
    with pytest.raises(ValueError, match="lengths") as caught:
        lengths_by_axis(text)

    assert str(caught.value) == (
        f"'{text}' has more lengths than axes; write 1.5um or z=2um,y=1.5um,x=1.5um"
    )


@given(st.dictionaries(st.sampled_from("zyx"), st.floats(1e-6, 1e6), min_size=1))
def test_lengths_come_back_from_their_words(lengths: dict[str, float]) -> None:
    text = ",".join(f"{axis}={um!r}um" for axis, um in lengths.items())

    assert lengths_by_axis(text) == lengths
