"""What is measured of objects without ground truth, whole and in windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from bmz.base.arrays import AnyArray
from bmz.process.object_evidence import (
    MARGIN_PX,
    OBJECT_FEATURES,
    OF_CHANNEL,
    PLANE_FEATURES,
    SHAPES,
    Expectation,
    ObjectEvidence,
    PlaneWindow,
    features_of,
)
from bmz.process.quality import plane_confidences

EXPECTED = Expectation(16.0, 1.0, 1.0)


def scene(side: int = 160) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Draw discs of 16 px, the image that shows them, and a map that is sure of them."""
    y, x = np.indices((side, side))
    labels = np.zeros((side, side), np.int32)
    for number, (cy, cx) in enumerate(np.ndindex(side // 32, side // 32), start=1):
        labels[np.hypot(y - 32 * cy - 16, x - 32 * cx - 16) < 8] = number
    noise = np.random.default_rng(0).normal(0, 3, labels.shape)
    image = ndimage.gaussian_filter((labels > 0) * 100.0, 1) + 20 + noise
    return labels, image[None], ndimage.gaussian_filter((labels > 0).astype(np.float32), 1)[None]


def window(labels: AnyArray, image: AnyArray, maps: AnyArray) -> PlaneWindow:
    box = (slice(0, labels.shape[0]), slice(0, labels.shape[1]))
    owned = np.ones(int(labels.max(initial=0)) + 1, np.bool_)
    return PlaneWindow(labels, owned, image, maps, box, box, labels.shape)


def test_values_are_those_of_the_pixels() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 5:25] = 1
    labels[10:20, 25:30] = 2  # touches the first
    image = np.where(labels == 1, 50.0, np.where(labels == 2, 30.0, 10.0))[None]

    evidence = ObjectEvidence.of(window(labels, image, image))

    shapes = dict(zip(SHAPES, evidence.shapes.T, strict=True))
    assert shapes["area"].tolist() == [200, 50]
    assert shapes["edges"].tolist() == [60, 30]
    assert shapes["touching"] == pytest.approx([10 / 60, 10 / 30])
    channel = dict(zip(OF_CHANNEL, evidence.planes[0].T, strict=True))
    assert channel["mean"].tolist() == [50, 30]
    assert channel["around"].tolist() == [10, 10]
    assert channel["edge"].tolist() == [50, 30]


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (14, 9000), (1, 1)])
def test_a_strip_has_places_at_which_its_channels_are_sampled(size: tuple[int, int]) -> None:
    labels = np.zeros(size, np.int32)
    labels[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = 1
    image = np.where(labels, 50.0, 10.0)[None]

    evidence = ObjectEvidence.of(window(labels, image, image))
    objects, plane = features_of(evidence, EXPECTED)

    assert len(evidence.places) >= 1
    assert evidence.plane_points.shape == (1, len(evidence.places))
    assert np.isfinite(objects[0, OBJECT_FEATURES.index("diameter")])
    assert plane[PLANE_FEATURES.index("objects")] == pytest.approx(np.log(2))


def test_a_window_between_the_places_has_none() -> None:
    labels, image, maps = scene()
    whole = replace(window(labels, image, maps), size=(9600, 9600))

    evidence = ObjectEvidence.of(replace(whole, core=(slice(0, 20), slice(0, 20))))

    assert evidence.plane_points.shape == (1, 0)
    assert evidence.plane_steps.shape == (1, 0)


def test_windows_together_tell_what_the_whole_tells() -> None:
    labels, image, maps = scene()
    whole = ObjectEvidence.of(window(labels, image, maps))
    size = labels.shape
    begins = [np.argwhere(labels == k)[0] for k in range(1, labels.max() + 1)]

    parts = []
    for top in (80, 0):
        core = (slice(top, top + 80), slice(0, 160))
        box = (slice(max(top - MARGIN_PX, 0), min(top + 80 + 16 + MARGIN_PX, 160)), slice(0, 160))
        owned = np.array([False, *(top <= y < top + 80 for y, _ in begins)])
        inner = (slice(None), *box)
        parts.append(
            ObjectEvidence.of(
                PlaneWindow(labels[box], owned, image[inner], maps[inner], core, box, size)
            )
        )
    joined = ObjectEvidence.joined(parts)

    for name, array in vars(whole).items():
        np.testing.assert_array_equal(array, getattr(joined, name), err_msg=name)


def test_of_a_plane_in_one_window_only_the_channels_that_tell_most_are_kept() -> None:
    labels, image, maps = scene()
    noise = np.random.default_rng(1).random((2, *labels.shape))
    whole = window(labels, np.concatenate([noise, image]), np.concatenate([maps, noise]))

    kept = ObjectEvidence.of(whole)
    every = ObjectEvidence.of(replace(whole, size=(len(labels) + 1, len(labels))))

    assert (len(kept.planes), len(kept.maps), len(every.planes)) == (1, 1, 3)
    np.testing.assert_array_equal(kept.planes, every.planes[2:])
    np.testing.assert_array_equal(kept.maps, every.maps[:1])


def test_a_map_on_a_grid_of_its_own_is_looked_at_where_it_lies_below_each_pixel() -> None:
    labels, image, maps = scene()
    half = maps[:, ::2, ::2]
    halves = np.arange(len(labels)) // 2
    grid = (halves[:, None] * half.shape[2] + halves).reshape(-1)
    below = window(labels, image, half)

    found = ObjectEvidence.of(replace(below, grid=grid))
    expected = ObjectEvidence.of(window(labels, image, half.repeat(2, 1).repeat(2, 2)))

    for name, array in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), array, err_msg=name)


def test_an_object_where_nothing_is_to_be_seen_is_the_least_sure() -> None:
    labels, image, maps = scene()
    nothing = int(labels.max()) + 1
    labels[2:9, 2:9] = np.where(labels[2:9, 2:9] == 0, nothing, labels[2:9, 2:9])

    confidences, _ = plane_confidences(ObjectEvidence.of(window(labels, image, maps)), EXPECTED)

    assert confidences.argmin() == nothing - 1
    assert confidences[-1] < np.median(confidences) - 0.3
    assert ((confidences >= 0) & (confidences <= 1)).all()


def test_a_mask_without_objects_has_no_confidences() -> None:
    labels, image, maps = scene()

    evidence = ObjectEvidence.of(window(np.zeros_like(labels), image, maps))
    objects, plane = features_of(evidence, EXPECTED)
    confidences, features = plane_confidences(evidence, EXPECTED)

    assert objects.shape == (0, len(OBJECT_FEATURES))
    assert np.isnan(plane).all()
    assert len(plane) == len(PLANE_FEATURES)
    assert len(confidences) == 0
    assert np.isnan(features["confidence_mean"])


@pytest.mark.parametrize("factor", [0.01, 100])
def test_the_unit_of_the_image_does_not_matter(factor: float) -> None:
    labels, image, maps = scene()

    one, other = (
        plane_confidences(ObjectEvidence.of(window(labels, pixels, maps)), EXPECTED)[0]
        for pixels in (image, image * factor + 7)
    )

    assert other == pytest.approx(one, abs=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_spoil_nothing(value: float) -> None:
    labels, image, maps = scene()
    image[0, 16, 16] = maps[0, 48, 48] = value

    confidences, features = plane_confidences(
        ObjectEvidence.of(window(labels, image, maps)), EXPECTED
    )

    assert np.isfinite(confidences).all()
    assert np.isfinite([features[name] for name in ("contrast", "separation")]).all()
