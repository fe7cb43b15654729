"""What the picture shows against what a model is made for, at the limits of each rule."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.check.fit_cases import image, model
from tests.check.test_measured_rules import PLAIN

from bmz.check import content
from bmz.check.axes import channel_findings
from bmz.check.codes import CODES
from bmz.check.content import (
    CLEAR_STRUCTURE,
    LEAST_LIKELY,
    SEEN,
    UNLIKELY,
    content_findings,
    models_for,
    sample_distance,
    shown_kind,
)
from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase
from bmz.check.kind import ImageKind, kind_title, kind_words, mean_kind, percent, stated_as_kind
from bmz.check.kind_features import UNLIKE_NOTE, UNLIKE_WARNING, features
from bmz.check.measured import PlaneMeasures, look_at
from bmz.spec.facts import facts_of
from bmz.spec.made_for import MODALITIES, STRUCTURES, StatedKind, with_near

NUCLEI = model(tags=("fluorescence", "nuclei"))
H_AND_E = model(tags=("h&e", "nuclei"), channels=("r", "g", "b"))
ANYTHING = model(tags=("2d",))

EM = ImageKind({"electron": 0.97, "fluorescence": 0.03}, {"neurites": 0.8, "mitochondria": 0.2})
FLUORESCENT = ImageKind({"fluorescence": 0.95, "electron": 0.05}, {"nuclei": 0.9, "cells": 0.1})
STAINED = ImageKind({"stained": 0.99, "fluorescence": 0.01}, {"tissue": 0.7, "nuclei": 0.3})
PHOTO = ImageKind({"not-microscopy": 0.9, "transmitted": 0.1}, {"other": 1.0})


def showing(kind: ImageKind, **more: Any) -> PlaneMeasures:
    return replace(PLAIN, kind=kind, **more)


def case(kind: ImageKind | Mapping[int, ImageKind], of: Any = NUCLEI, **more: Any) -> FitCase:
    kinds = {0: kind} if isinstance(kind, ImageKind) else kind
    measured = {position: showing(one) for position, one in kinds.items()}
    return FitCase(of, more.pop("info", image()), measured=measured, **more)


def said(*words: Any, **more: Any) -> list[tuple[str, str]]:
    return [(f.code, f.severity) for f in content_findings(case(*words, **more))]


def families(**probabilities: float) -> ImageKind:
    return ImageKind({name.replace("_", "-"): p for name, p in probabilities.items()}, {})


def test_an_electron_micrograph_for_a_model_of_nuclei_is_told_with_all_that_is_known() -> None:
    assert list(content_findings(case(EM))) == [
        Finding(
            "content.modality",
            "warning",
            "raw",
            "the image shows electron microscopy (97 %), but the model is made for nuclei in "
            "fluorescence (tags: fluorescence; tags: nuclei)",
            wanted="nuclei in fluorescence",
            found="seen: electron microscopy (97 %)",
            hint="models made for such images are "
            + "{}, {} and {}; ".format(*models_for(EM))
            + "bmz fit a.tif ranks all models for the image; if the image is what the model is "
            "made for, give --kind fluorescence,nuclei",
            evidence="measured",
        )
    ]


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        (FLUORESCENT, []),
        (PHOTO, [("content.not-microscopy", "warning")]),
        (families(fluorescence=0.45, electron=0.55), []),
        (families(fluorescence=0.44, electron=0.56), [("content.modality", "warning")]),
        (families(transmitted=0.4, electron=0.3, other=0.3), [("content.modality", "warning")]),
        (families(fluorescence=0.1, electron=0.39), []),  # like none that is known
        (families(), []),
    ],
)
def test_another_family_is_told_where_it_is_likely_and_that_of_the_model_is_not(
    kind: ImageKind, codes: list[tuple[str, str]]
) -> None:
    assert said(kind) == codes


@pytest.mark.parametrize(
    ("structures", "told"),
    [
        ({"filaments": CLEAR_STRUCTURE, "nuclei": 0.1}, True),
        ({"filaments": 0.59, "nuclei": 0.11}, False),
        ({"filaments": 0.8, "nuclei": UNLIKELY}, False),
        ({"nuclei": 1.0}, False),
        ({"tissue": 1.0}, False),  # tissue has nuclei
        ({"cells": 0.95, "nuclei": 0.05}, True),
        ({}, False),
    ],
)
def test_another_structure_is_told_only_where_it_is_clear(
    structures: Mapping[str, float], told: bool
) -> None:
    kind = ImageKind({"fluorescence": 0.9}, structures)

    assert said(kind) == [("content.structure", "warning")] * told


def test_the_structure_of_an_image_of_unclear_family_is_not_told() -> None:
    kind = ImageKind({"fluorescence": 0.45, "electron": 0.55}, {"filaments": 1.0})

    assert said(kind) == []


def test_a_model_of_which_nothing_is_stated_is_not_judged_by_the_kind() -> None:
    assert [said(kind, ANYTHING) for kind in (EM, PHOTO, STAINED, FLUORESCENT)] == [[]] * 4


COLOUR = image("yxc", (64, 64, 3), colour=True, dtype="uint8")
STAINS = image("cyx", (3, 64, 64))


@pytest.mark.parametrize(
    ("kind", "of", "info", "severity"),
    [
        (STAINED, NUCLEI, COLOUR, "error"),
        (families(transmitted=0.9, fluorescence=0.1), NUCLEI, COLOUR, "error"),
        (STAINED, NUCLEI, image(), "warning"),
        (FLUORESCENT, H_AND_E, STAINS, "error"),
        (FLUORESCENT, H_AND_E, COLOUR, "warning"),  # a picture of stains in colours
    ],
)
def test_channels_of_another_kind_make_it_an_error(
    kind: ImageKind, of: Any, info: Any, severity: str
) -> None:
    channels = (0,) * len(of.inputs[0].axis("c").names)

    assert said({p: kind for p, _ in enumerate(channels)}, of, info=info, channels=channels) == [
        ("content.modality", severity)
    ]


def test_several_stains_are_judged_by_their_mean() -> None:
    two = model(tags=("fluorescence", "cells"), channels=("cytoplasm", "nuclei"))
    info = image("cyx", (2, 64, 64))

    assert said({0: EM, 1: FLUORESCENT}, two, info=info) == []
    assert said({0: EM, 1: EM}, two, info=info) == [("content.modality", "warning")]


MEMBRANES = ImageKind({"fluorescence": 1.0}, {"membranes": 0.5, "cells": 0.3, "nuclei": 0.2})
PAIR = model(channels=("membrane", "nuclei"))


@pytest.mark.parametrize(
    ("kinds", "channels", "codes"),
    [
        ((MEMBRANES, FLUORESCENT), None, []),
        ((FLUORESCENT, MEMBRANES), None, [("channel.order", "warning")]),
        ((FLUORESCENT, MEMBRANES), (1, 0), []),
        ((MEMBRANES, FLUORESCENT), (1, 0), [("channel.order", "warning")]),
        ((FLUORESCENT, FLUORESCENT), None, []),  # there is no telling
        ((MEMBRANES, MEMBRANES), None, []),
    ],
)
def test_two_channels_that_show_what_the_model_wants_of_the_other_are_told(
    kinds: tuple[ImageKind, ImageKind],
    channels: tuple[int, ...] | None,
    codes: list[tuple[str, str]],
) -> None:
    info = image("cyx", (2, 64, 64))
    measured = {at: kinds[channel] for at, channel in enumerate(channels or (0, 1))}

    assert said(measured, PAIR, info=info, channels=channels) == codes


def test_names_count_more_than_what_the_pixels_show() -> None:
    info = image("cyx", (2, 64, 64), channel_names=("WGA", "DAPI"))

    assert said({0: FLUORESCENT, 1: MEMBRANES}, PAIR, info=info) == []


@pytest.mark.parametrize(
    ("kinds", "proposed"),
    [
        ((MEMBRANES, FLUORESCENT), "--channels 1, where nuclei were detected"),
        ((FLUORESCENT, EM, MEMBRANES), "--channels 0, where nuclei were detected"),
        ((FLUORESCENT, FLUORESCENT), None),
        ((MEMBRANES, EM), None),
    ],
)
def test_the_channel_in_which_nuclei_are_seen_is_proposed_or_none(
    kinds: tuple[ImageKind, ...], proposed: str | None
) -> None:
    info = image("cyx", (len(kinds), 64, 64))

    case = FitCase(NUCLEI, info, channel_kinds=dict(enumerate(kinds)))
    (finding,) = [f for f in channel_findings(case) if f.code == "channel.count"]

    if proposed is None:
        assert (
            finding.hint == "find out which channel shows nuclei, and name it, from 0: --channels N"
        )
    else:
        assert finding.hint == f"say which channel goes where: {proposed}"


def test_of_a_channel_that_shows_another_structure_the_right_one_is_named() -> None:
    filaments = ImageKind({"fluorescence": 1.0}, {"filaments": 1.0})
    info = image("cyx", (2, 64, 64))

    (finding,) = content_findings(
        case(filaments, info=info, channels=(1,), channel_kinds={0: FLUORESCENT})
    )

    assert finding.code == "content.structure"
    assert finding.hint == "use the other channel: --channels 0, where nuclei were detected"


def test_the_word_of_the_user_overrules_what_is_seen() -> None:
    right, wrong = StatedKind("confocal", "nuclei"), StatedKind("em", "neurites")

    (told,) = content_findings(case(FLUORESCENT, stated=wrong))

    assert said(EM, stated=right) == []
    assert told.message.startswith("the image is said to show electron microscopy (99 %), ")
    assert (told.found, told.evidence) == ("stated: electron microscopy (99 %)", "declared")
    assert "--kind" not in told.hint


def test_a_stated_modality_keeps_the_structure_that_was_seen_in_one_of_its_family() -> None:
    in_family = stated_as_kind(StatedKind("confocal"), FLUORESCENT)
    in_another = stated_as_kind(StatedKind("confocal"), EM)

    assert in_family == ImageKind({"fluorescence": 1.0}, FLUORESCENT.structures)
    assert in_another == ImageKind({"fluorescence": 1.0}, {})


@given(st.sampled_from(list(MODALITIES)), st.sampled_from([None, *STRUCTURES]))
def test_a_stated_kind_is_certain(modality: str, structure: str | None) -> None:
    kind = stated_as_kind(StatedKind(modality, structure), None)

    assert sum(kind.families.values()) == pytest.approx(1)
    assert dict(kind.structures) == ({} if structure is None else {structure: 1.0})


@given(st.sets(st.sampled_from(list(STRUCTURES)), min_size=1))
def test_what_is_near_is_near_in_both_directions(structures: set[str]) -> None:
    for one in with_near(structures) - structures:
        assert with_near([one]) & structures


@pytest.mark.parametrize("kind", [EM, FLUORESCENT, STAINED], ids=lambda kind: kind.family)
def test_the_models_of_a_hint_are_made_for_the_family(kind: ImageKind) -> None:
    aliases = models_for(kind)

    assert 1 <= len(aliases) <= 3
    for alias in aliases:
        facts = facts_of(alias)
        assert facts is not None
        assert facts.modality is not None
        assert kind.family in {
            f for word in facts.modality.value for f in MODALITIES[word].families
        }


def test_no_model_is_named_for_what_is_no_microscopy_or_unknown() -> None:
    assert models_for(families(electron=0.4)) == ()
    assert models_for(families(not_microscopy=0.9)) == models_for(families(other=0.9)) == ()
    assert "models made for" not in next(iter(content_findings(case(PHOTO)))).hint


def test_a_path_with_spaces_is_quoted_in_the_command() -> None:
    info = replace(image(), path=image().path.with_name("my cells.tif"))

    (finding,) = content_findings(case(EM, info=info))

    assert "bmz fit 'my cells.tif' ranks" in finding.hint


def test_a_probability_is_never_told_as_certain_or_impossible() -> None:
    assert [percent(p) for p in (0.0, 0.004, 0.5, 0.999, 1.0)] == [
        "1 %", "1 %", "50 %", "99 %", "99 %"
    ]  # fmt: skip


def test_a_kind_in_words_tells_what_is_likely() -> None:
    unclear = families(electron=0.4, fluorescence=0.3)

    assert [kind_words(kind) for kind in (EM, PHOTO, unclear)] == [
        "electron microscopy (97 %) of neurites (80 %)",
        "no microscopy (90 %)",
        "an unknown kind of image, most likely electron microscopy (40 %)",
    ]
    assert [kind_title(kind) for kind in (EM, PHOTO, unclear, None)] == [
        "electron microscopy of neurites", "no microscopy", "unknown", "unknown"
    ]  # fmt: skip


def test_the_mean_of_kinds_is_one_of_their_probabilities() -> None:
    mean = mean_kind([EM, FLUORESCENT])

    assert mean is not None
    assert mean.families == pytest.approx({"electron": 0.51, "fluorescence": 0.49})
    assert mean_kind([]) is None


def texture(seed: int, grain: int) -> PlaneMeasures:
    """Measure noise of a grain, in px."""
    rough = np.random.default_rng(seed).random((128 // grain, 128 // grain))
    look = look_at(np.kron(rough, np.ones((grain, grain))))
    return showing(FLUORESCENT, features=look.features)


def test_an_image_is_told_to_be_unlike_the_sample_by_its_distance() -> None:
    found, same, other = texture(0, 4), texture(1, 4), texture(2, 32)

    near, far = (
        FitCase(ANYTHING, image(), measured={0: found}, sample={0: one}) for one in (same, other)
    )

    distances = sample_distance(near), sample_distance(far)
    assert None not in distances
    assert distances[0] < distances[1]  # type: ignore[operator]


def test_features_are_kept_as_they_are_measured() -> None:
    plane = np.random.default_rng(0).random((64, 64))

    kept = look_at(plane).features

    measured = features(plane)
    assert measured is not None
    assert [value for value in kept if value is not None] == [
        float(value) for value in measured if np.isfinite(value)
    ]


def test_what_is_not_measured_has_no_kind() -> None:
    assert shown_kind(FitCase(NUCLEI, image())) is None
    assert list(content_findings(FitCase(NUCLEI, image()))) == []


def test_the_page_states_the_limits_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "content.md").read_text("utf-8")
    own = page.partition("<!-- benchmarks/kinds.py -->")[0]
    row = {line.split("`")[1]: line for line in own.splitlines() if line.startswith("| `")}

    for family, limit in LEAST_LIKELY.items():
        assert f"{limit:.0%} for {family}".replace("%", " %") in row["content.modality"]
    assert f"{UNLIKELY:.0%} otherwise".replace("%", " %") in row["content.modality"]
    assert f"others have {SEEN:.0%} or more".replace("%", " %") in row["content.modality"]
    assert f"right ({SEEN:.0%} or more)".replace("%", " %") in row["content.structure"]
    assert f"clear ({CLEAR_STRUCTURE:.0%} or more)".replace("%", " %") in row["content.structure"]
    assert f"less than {UNLIKELY:.0%}".replace("%", " %") in row["content.structure"]
    assert row.keys() <= CODES.keys()


def test_the_limits_are_the_smallest_at_which_few_images_of_other_families_pass() -> None:
    path = Path(__file__).parents[2] / "model_cards" / "kinds" / "left_out.csv"
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    own = {family: [float(row[f"family {family}"]) for row in rows] for family in LEAST_LIKELY}
    known = [sum(float(row[name]) for name in row if name.startswith("family ")) for row in rows]

    def passing(family: str, limit: float) -> float:
        others = [
            share >= limit or total - share < SEEN
            for row, share, total in zip(rows, own[family], known, strict=True)
            if not row["kind"].startswith(family)
        ]
        return sum(others) / len(others)

    for family, limit in LEAST_LIKELY.items():
        assert passing(family, limit) <= 0.04 or limit == 0.45  # see rules.py
        assert passing(family, limit - 0.05) > 0.04


@pytest.mark.parametrize(
    ("distance", "of", "kind", "severities"),
    [
        (UNLIKE_WARNING, ANYTHING, FLUORESCENT, ["warning"]),
        (0.99 * UNLIKE_WARNING, ANYTHING, FLUORESCENT, ["note"]),
        (0.99 * UNLIKE_NOTE, ANYTHING, FLUORESCENT, []),
        (UNLIKE_WARNING, NUCLEI, FLUORESCENT, ["note"]),  # it shows what the model is made for
        (UNLIKE_WARNING, NUCLEI, families(fluorescence=0.45, electron=0.55), ["note"]),
        (UNLIKE_WARNING, NUCLEI, families(fluorescence=0.3), ["warning"]),  # unlike all kinds
    ],
)
def test_how_far_the_sample_is_decides_unless_the_kind_is_right(
    distance: float,
    of: Any,
    kind: ImageKind,
    severities: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(content, "unlikeness", lambda *_: distance)
    found = FitCase(
        of,
        image(),
        measured={0: showing(kind, features=(1.0,))},
        sample={0: replace(PLAIN, features=(2.0,))},
    )

    unlike = [f for f in content_findings(found) if f.code == "sample.unlike"]

    assert [f.severity for f in unlike] == severities


def test_what_the_kind_tells_is_not_told_again_by_the_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(content, "unlikeness", lambda *_: 9.0)
    measured = {0: showing(EM, features=(1.0,))}
    found = FitCase(NUCLEI, image(), measured=measured, sample={0: replace(PLAIN, features=(2.0,))})

    assert [f.code for f in content_findings(found)] == ["content.modality"]
