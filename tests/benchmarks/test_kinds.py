"""What the benchmark of kinds counts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile

from bmz.check.kind_features import features

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import kinds as benchmark  # type: ignore[import-not-found]

    yield benchmark
    for name in ("kinds", "kinds_counts", "zoo_commands"):
        sys.modules.pop(name, None)


@pytest.fixture
def counts(kinds: Any) -> Any:  # noqa: ARG001 - it imports the module
    return sys.modules["kinds_counts"]


def picture(counts: Any, kind: str, modality: str, structure: str = "other") -> Any:
    return counts.Picture(Path(f"{kind}.tif"), kind, modality, structure, 1)


@pytest.mark.parametrize(
    ("kind", "modality", "model", "wrong"),
    [
        ("03_phase", "phase", "brightfield", False),
        ("03_phase", "phase", "light (any)", False),
        ("03_phase", "phase", "fluorescence", True),
        ("01_nuclei", "fluorescence", "em", True),
        ("06_em", "em", "em (enhancer of predictions)", False),
        ("11_ihc", "ihc", "he", False),
        ("14_photos", "photo", "light (any)", True),
        ("14_photos", "other", "fluorescence", True),
        ("15_other", "brightfield", "phase", False),
    ],
)
def test_a_model_is_wrong_for_an_image_of_another_family_only(
    counts: Any, kind: str, modality: str, model: str, *, wrong: bool
) -> None:
    assert counts.is_wrong(picture(counts, kind, modality), (model, "cells")) is wrong


def test_a_model_that_comes_sixth_is_not_among_the_first_five(counts: Any) -> None:
    nuclei = picture(counts, "01_nuclei", "fluorescence", "nuclei")
    made_for = {"right": ("fluorescence", "nuclei"), "wrong": ("em", "mitochondria")}
    late = counts.Ranked(nuclei, (*["wrong"] * 5, "right"))
    early = counts.Ranked(nuclei, ("wrong", "right"))

    five, first, *_, wrong, _ = counts.of_ranks([late, early], made_for)

    assert (five.counted, five.total, first.counted) == (1, 2, 0)
    assert (wrong.counted, wrong.total) == (6, 8)
    assert "01_nuclei.tif" in five.against[0]


def test_models_of_unknown_purpose_are_neither_right_nor_wrong(counts: Any) -> None:
    photograph = picture(counts, "14_photos", "photo")
    ranked = [counts.Ranked(photograph, ("restorer",)), counts.Ranked(photograph, ())]

    *_, wrong, none_fits = counts.of_ranks(ranked, {"restorer": ("unknown", "unknown")})

    assert (wrong.counted, wrong.total) == (0, 0)
    assert (none_fits.counted, none_fits.total) == (1, 2)


def test_a_pair_is_silent_only_if_the_model_is_for_another_modality(counts: Any) -> None:
    em = picture(counts, "06_em", "em", "neurites")
    nuclei = picture(counts, "01_nuclei", "fluorescence", "nuclei")
    pairs = [
        counts.Pair("starter/nuclei", em, silent=True, codes=(), same_channels=True),
        counts.Pair("cremi-membrane", em, silent=True, codes=(), same_channels=True),
        counts.Pair("starter/nuclei", nuclei, silent=True, codes=("sample.unlike",),
                   same_channels=True),
    ]  # fmt: skip

    alike, _, warned, quiet = counts.of_checks(pairs)

    assert (alike.counted, alike.total) == (1, 1)
    assert (warned.counted, warned.total) == (0, 1)
    assert (quiet.counted, quiet.total) == (0, 1)


def test_a_share_of_nothing_is_a_dash(counts: Any) -> None:
    assert counts.percent(0, 0) == "-"
    assert counts.percent(1, 8) == "12.5 %"


def test_tables_stand_between_their_marks(kinds: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{kinds.MARKS[0]}old\n{kinds.MARKS[1]}after\n", encoding="utf-8")

    kinds.write_between(page, kinds.MARKS, "| new |")

    assert page.read_text(encoding="utf-8").split() == [
        *f"before {kinds.MARKS[0]}".split(), "|", "new", "|", *f"{kinds.MARKS[1]} after".split()
    ]  # fmt: skip


def test_a_page_without_marks_is_not_written_to(kinds: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{kinds.MARKS[0]}after\n", encoding="utf-8")

    with pytest.raises(ValueError, match="has no line '<!-- end of kinds -->'"):
        kinds.write_between(page, kinds.MARKS, "| new |")
    assert "new" not in page.read_text(encoding="utf-8")


def few(kinds: Any, shared: Path, *numbers: str) -> list[Any]:
    pictures = kinds.pictures_of(shared / "data/kinds")
    return [next(p for p in pictures if p.number == number) for number in numbers]


def test_images_are_checked_with_each_package(
    kinds: Any, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "PACKAGES", {"starter/nuclei": ("fluorescence", "nuclei")})

    pairs = list(kinds.checked(few(kinds, shared, "01", "06"), shared / "models"))

    assert [pair.right_kind for pair in pairs] == [True, False]
    assert [pair.same_channels for pair in pairs] == [True, True]
    assert not pairs[0].codes


@pytest.mark.slow
def test_models_are_ranked_by_what_the_rules_beside_the_images_say(
    kinds: Any, counts: Any, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BMZ_OFFLINE", raising=False)
    with kinds.zoo(shared):
        (ranked,) = kinds.ranked_models(few(kinds, shared, "01"))
    made_for = kinds.models_made_for(shared)

    assert counts.is_made_for(ranked.picture, made_for[ranked.models[0]])
    assert "| 01 fluo nuclei | 1 |" in counts.table_of_kinds([], [ranked], made_for)


def test_a_left_out_answer_counts_in_place_of_that_of_the_classifier_that_ships(
    kinds: Any, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 200, (64, 64), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "one.tif", pixels)
    (tmp_path / "left_out.csv").write_text("image,family electron,neurites\none.tif,0.95,0.9\n")
    one = kinds.Picture(tmp_path / "one.tif", "06_em", "em", "neurites", 1)

    answers = kinds.left_out_answers(tmp_path / "left_out.csv", tmp_path, [one])
    with kinds.answered_by(answers):
        said = list(kinds.told([one]))

    assert [(answer.words, answer.right) for answer in said] == [("electron (95%)", True)]
    assert list(kinds.told([one])) != said


def test_planes_are_measured_once_and_answers_stay_the_same(
    kinds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(1).integers(0, 200, (64, 64), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "one.tif", pixels)
    one = kinds.Picture(tmp_path / "one.tif", "14_noise", "photo", "none", 1)
    monkeypatch.setattr(kinds, "SURE", 0.0)
    looked_at = Mock(wraps=features)
    monkeypatch.setattr("bmz.check.measured.features", looked_at)

    with kinds.measured_once():
        first, second = list(kinds.told([one])), list(kinds.told([one]))

    assert first == second == list(kinds.told([one]))
    assert looked_at.call_count == 1
