"""What breaks a contract, and what a contract made of images allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.check.codes import CODES
from bmz.check.contract import Contract, ImageFacts, ImagesDiffer, Range, broken, contract_of
from bmz.check.finding import Finding
from bmz.check.kind import ImageKind

NUCLEI = ImageKind({"fluorescence": 0.95, "electron": 0.05}, {"nuclei": 0.92, "cells": 0.08})
NEURITES = ImageKind({"electron": 0.97, "fluorescence": 0.03}, {"neurites": 1.0})
FILAMENTS = ImageKind({"fluorescence": 1.0}, {"filaments": 0.9, "nuclei": 0.1})

SEEN = ImageFacts("yx", "uint16", 1, {"y": 0.5, "x": 0.5}, 900.0, 40, 17.0, NUCLEI)
HELD = contract_of("net", "a" * 64, {}, [SEEN])


def codes(contract: Contract, seen: ImageFacts, sha256: str = "a" * 64) -> list[str]:
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
        ({"kind": NEURITES}, "contract.kind"),
        ({"kind": FILAMENTS}, "contract.kind"),
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
    other = ImageFacts("zyx", "uint8", 3, {}, 1.0, 0, 90.0, NEURITES)

    found = codes(HELD, other, "b" * 64)

    assert len(found) == 10
    assert set(found) == {code for code in CODES if code.startswith("contract.")}


@pytest.mark.parametrize(
    ("families", "structures"),
    [
        ({"fluorescence": 0.2, "electron": 0.8}, {"nuclei": 0.2, "cells": 0.8}),  # may be the same
        ({"fluorescence": 0.1, "electron": 0.5, "stained": 0.4}, {}),  # of none for sure
        ({}, {}),
    ],
)
def test_a_kind_that_is_not_clearly_another_keeps_a_contract(
    families: dict[str, float], structures: dict[str, float]
) -> None:
    assert codes(HELD, replace(SEEN, kind=ImageKind(families, structures))) == []
    assert codes(HELD, replace(SEEN, kind=None)) == []


def test_a_contract_holds_the_kind_that_all_its_images_show() -> None:
    unsure = replace(NUCLEI, structures={"nuclei": 0.7, "cells": 0.3})

    both = contract_of("net", "", {}, [SEEN, replace(SEEN, kind=FILAMENTS)])
    vague = contract_of("net", "", {}, [SEEN, replace(SEEN, kind=unsure)])
    none = contract_of("net", "", {}, [replace(SEEN, kind=None)])

    assert [(c.family, c.structure) for c in (HELD, both, vague, none)] == [
        ("fluorescence", "nuclei"), ("fluorescence", None), ("fluorescence", None), (None, None),
    ]  # fmt: skip
    with pytest.raises(ImagesDiffer, match="kinds: electron, fluorescence"):
        contract_of("net", "", {}, [SEEN, replace(SEEN, kind=NEURITES)])


def test_what_a_contract_leaves_out_is_not_asked_for() -> None:
    assert codes(Contract("net", "a" * 64), ImageFacts("q", "int8", 9, {}, -1.0, None, None)) == []


def test_an_image_that_was_not_run_breaks_nothing_about_objects() -> None:
    assert codes(HELD, replace(SEEN, objects=None, diameter_px=None)) == []


counts = st.lists(st.integers(0, 10_000), min_size=1, max_size=6)


def test_a_wide_range_of_counts_does_not_allow_none() -> None:
    seen = [replace(SEEN, dtype="uint8", objects=n, signal=s) for n, s in ((5, 19.0), (285, 255.0))]

    contract = contract_of("net", "a" * 64, {}, seen)

    assert contract.objects == Range(3, 357)
    assert contract.signal == Range(14.25, 255)
    assert codes(contract, replace(seen[0], objects=0)) == ["contract.objects"]


@pytest.mark.parametrize(("dtype", "least", "most"), [
    ("uint8", 0, 255), ("int8", -128, 127), ("uint16", 0, 65535), ("bool", 0, 1),
])  # fmt: skip
@given(signals=st.lists(st.floats(0, 1), min_size=1, max_size=4), counts=counts)
def test_no_limit_lies_where_nothing_can_be(
    dtype: str, least: int, most: int, signals: list[float], counts: list[int]
) -> None:
    seen = [
        replace(SEEN, dtype=dtype, signal=least + share * (most - least), objects=counts[0])
        for share in signals
    ]
    seen += [replace(seen[0], objects=count) for count in counts]

    contract = contract_of("net", "a" * 64, {}, seen)

    assert contract.signal is not None
    assert contract.objects is not None
    assert least <= contract.signal.least <= contract.signal.most <= most
    assert contract.objects.least >= (1 if min(counts) else 0)
    assert [code for one in seen for code in codes(contract, one)] == []


def test_pixel_sizes_that_a_format_rounded_are_the_same() -> None:
    assert codes(HELD, replace(SEEN, pixel_um={"y": 0.5002, "x": 0.4999})) == []


@given(counts, st.lists(st.floats(0, 65_535), min_size=1, max_size=6))
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
    assert replace(HELD, diameter_px=None).runs
    assert replace(HELD, objects=None).runs
    assert not replace(HELD, objects=None, diameter_px=None).runs
    assert str(Range(1, 2.5)) == "1 to 2.5"


@pytest.mark.parametrize(
    ("change", "where", "message", "sides"),
    [
        (
            {"dtype": "uint8"},
            "image",
            "the image has dtype uint8, but the contract says uint16",
            ("uint16", "uint8"),
        ),
        (
            {"channels": 2},
            "image",
            "the image has channels 2, but the contract says 1",
            ("1", "2"),
        ),
        (
            {"pixel_um": {"y": 0.5, "x": 0.65}},
            "image.x",
            "a pixel is 0.65 um long along x, but the contract says 0.5 um",
            ("0.5", "0.65"),
        ),
        (
            {"pixel_um": {"x": 0.5}},
            "image.y",
            "a pixel is unknown long along y, but the contract says 0.5 um",
            ("0.5", "None"),
        ),
        (
            {"signal": 31.0},
            "image",
            "the signal (percentile 99.9) is 31, but the contract allows 675 to 1125",
            ("675 to 1125", "31"),
        ),
        (
            {"objects": 12},
            "labels",
            "the number of objects is 12, but the contract allows 30 to 50",
            ("30 to 50", "12"),
        ),
        (
            {"diameter_px": 8.13},
            "labels",
            "the median diameter of objects (px) is 8.13, but the contract allows 12.75 to 21.25",
            ("12.75 to 21.25", "8.13"),
        ),
    ],
    ids=str,
)
def test_what_is_broken_is_told_with_both_sides(
    change: dict[str, Any], where: str, message: str, sides: tuple[str, str]
) -> None:
    assert list(broken(HELD, replace(SEEN, **change), "a" * 64)) == [
        Finding(
            "contract."
            + {"signal": "intensity", "objects": "objects", "diameter_px": "size"}.get(
                next(iter(change)), "image"
            ),
            "error",
            where,
            message,
            *sides,
            hint="find out what changed; if the new state is right, write the contract again "
            "with --lock",
            evidence="measured",
        )
    ]


@pytest.mark.parametrize(
    ("um", "kept"), [(0.5049, True), (0.5051, False), (0.4951, True), (0.4949, False)]
)
def test_a_pixel_size_may_be_a_hundredth_off(um: float, kept: bool) -> None:
    assert (codes(HELD, replace(SEEN, pixel_um={"y": um, "x": 0.5})) == []) == kept


@pytest.mark.parametrize(("name", "least", "most"), [("signal", 675, 1125), ("objects", 30, 50)])
def test_both_ends_of_a_range_are_allowed(name: str, least: int, most: int) -> None:
    changes: list[dict[str, Any]] = [{name: n} for n in (least - 1, least, most, most + 1)]

    broken_by = [bool(codes(HELD, replace(SEEN, **change))) for change in changes]

    assert broken_by == [True, False, False, True]


@pytest.mark.parametrize(
    ("counts", "allowed"),
    [
        ([0], Range(0, 1)),
        ([1], Range(1, 2)),
        ([3], Range(2, 4)),
        ([10], Range(7, 13)),
        ([10, 20], Range(7, 25)),
        ([0, 100], Range(0, 125)),
    ],
)
def test_the_room_of_a_count_is_a_quarter_in_whole_objects(
    counts: list[int], allowed: Range
) -> None:
    seen = [replace(SEEN, objects=count) for count in counts]

    assert contract_of("net", "a" * 64, {}, seen).objects == allowed


def test_the_room_of_a_signal_is_a_quarter_of_each_end_to_four_digits() -> None:
    def signal(*values: float, dtype: str = "float32") -> Range | None:
        seen = [replace(SEEN, signal=v, dtype=dtype) for v in values]
        return contract_of("n", "", {}, seen).signal

    assert signal(-40.0, 20.0) == Range(-50, 25)
    assert signal(1 / 3) == Range(0.25, 0.4167)
    assert signal(65_535.0) == Range(49_150, 81_920)
    assert signal(65_535.0, dtype="uint16") == Range(49_150, 65_535)


def test_an_image_without_objects_counts_but_has_no_diameter() -> None:
    none = replace(SEEN, objects=0, diameter_px=None)

    made = contract_of("net", "a" * 64, {"axes": "yx"}, [SEEN, none])

    assert made.objects == Range(0, 50)
    assert made.diameter_px == HELD.diameter_px == Range(12.75, 21.25)
    assert contract_of("net", "a" * 64, {}, [none]).diameter_px is None
    assert made.words == {"axes": "yx"}


@pytest.mark.parametrize(
    ("um", "alike"), [(0.5049, True), (0.5051, False), (0.4951, True), (0.4949, False)]
)
def test_images_of_a_contract_may_differ_by_a_hundredth_in_pixel_size(
    um: float, alike: bool
) -> None:
    other = replace(SEEN, pixel_um={"y": 0.5, "x": um})

    if alike:
        assert contract_of("net", "", {}, [SEEN, other]).pixel_um == SEEN.pixel_um
    else:
        with pytest.raises(ImagesDiffer, match=f"different pixel sizes: .*0.5.*{um}"):
            contract_of("net", "", {}, [SEEN, other])


def test_images_with_lengths_of_other_axes_make_no_contract() -> None:
    with pytest.raises(ImagesDiffer) as caught:
        contract_of("net", "", {}, [SEEN, replace(SEEN, pixel_um={"y": 0.5})])

    assert caught.value.code == "lock.images-differ"
    assert caught.value.message == (
        "the images have different pixel sizes: {'y': 0.5, 'x': 0.5}, {'y': 0.5}"
    )
