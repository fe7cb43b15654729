"""What breaks a contract, and what a contract made of images allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.check.codes import CODES
from bmz.check.contract import Contract, ImagesDiffer, Range, Seen, broken, contract_of

SEEN = Seen("yx", "uint16", 1, {"y": 0.5, "x": 0.5}, 900.0, 40, 17.0)
HELD = contract_of("net", "a" * 64, {}, [SEEN])


def codes(contract: Contract, seen: Seen, sha256: str = "a" * 64) -> list[str]:
    return [finding.code for finding in broken(contract, seen, sha256)]


def test_the_image_that_a_contract_is_made_of_keeps_it() -> None:
    assert codes(HELD, SEEN) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"axes": "zyx"}, "contract.image"),
        ({"dtype": "uint8"}, "contract.image"),
        ({"channels": 2}, "contract.image"),
        ({"pixel_um": {"y": 0.5, "x": 0.6}}, "contract.image"),
        ({"pixel_um": {"y": 0.5}}, "contract.image"),
        ({"signal": 200.0}, "contract.intensity"),
        ({"objects": 9}, "contract.objects"),
        ({"diameter_px": 40.0}, "contract.size"),
    ],
    ids=str,
)
def test_each_change_breaks_its_own_part(change: dict[str, Any], code: str) -> None:
    assert codes(HELD, replace(SEEN, **change)) == [code]


def test_another_model_breaks_it() -> None:
    (finding,) = broken(HELD, SEEN, "b" * 64)

    assert finding.code == "contract.model"
    assert (finding.wanted, finding.found) == ("a" * 12, "b" * 12)
    assert finding.severity == "error"


def test_all_that_is_broken_is_said_at_once_and_each_code_has_a_page() -> None:
    other = Seen("zyx", "uint8", 3, {}, 1.0, 0, 90.0)

    found = codes(HELD, other, "b" * 64)

    assert len(found) == 9
    assert set(found) == {code for code in CODES if code.startswith("contract.")}


def test_what_a_contract_leaves_out_is_not_asked_for() -> None:
    assert codes(Contract("net", "a" * 64), Seen("q", "int8", 9, {}, -1.0, None, None)) == []


def test_an_image_that_was_not_run_breaks_nothing_about_objects() -> None:
    assert codes(HELD, replace(SEEN, objects=None, diameter_px=None)) == []


def test_pixel_sizes_that_a_format_rounded_are_the_same() -> None:
    assert codes(HELD, replace(SEEN, pixel_um={"y": 0.5002, "x": 0.4999})) == []


counts = st.lists(st.integers(0, 10_000), min_size=1, max_size=6)


@given(counts, st.lists(st.floats(0, 1e6), min_size=1, max_size=6))
def test_all_images_that_a_contract_is_made_of_keep_it(
    objects: list[int], signals: list[float]
) -> None:
    seen = [
        replace(SEEN, objects=n, signal=signals[i % len(signals)], diameter_px=None)
        for i, n in enumerate(objects)
    ]

    contract = contract_of("net", "a" * 64, {}, seen)

    assert [code for one in seen for code in codes(contract, one)] == []
    assert contract.objects is not None
    assert codes(contract, replace(seen[0], objects=2 * max(objects) + 2)) == ["contract.objects"]


@pytest.mark.parametrize(
    "change", [{"dtype": "uint8"}, {"pixel_um": {"y": 1.0, "x": 1.0}}, {"axes": "tyx"}], ids=str
)
def test_images_that_differ_make_no_contract(change: dict[str, Any]) -> None:
    with pytest.raises(ImagesDiffer, match="different"):
        contract_of("net", "a" * 64, {}, [SEEN, replace(SEEN, **change)])


def test_a_contract_without_objects_needs_no_run() -> None:
    assert HELD.runs
    assert not replace(HELD, objects=None, diameter_px=None).runs
    assert str(Range(1, 2.5)) == "1 to 2.5"
