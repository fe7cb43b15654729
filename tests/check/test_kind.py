"""The kind of an image from its pixels."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage as ndi

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.kind import ImageKind, image_kinds, kind_of
from bmz.check.kind_classifier import ARRAYS as CLASSIFIER
from bmz.check.kind_classifier import as_of_grey, kind_classifier, kind_head
from bmz.check.kind_features import features, unlikeness
from bmz.check.kind_network import ARRAYS as NETWORK
from bmz.check.kind_network import network_features
from bmz.image.pixels import Pixels
from bmz.spec.made_for import STRUCTURES


def discs(side: int = 256, radius: float = 9, seed: int = 0) -> FloatArray:
    """Bright discs on a dark ground with the noise of a camera: as nuclei look."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side), 20.0)
    for cy, cx in chance.uniform(0, side, (side * side // 2500, 2)):
        far = np.hypot(y - cy, x - cx)
        image += chance.uniform(80, 160) / (1 + np.exp((far - radius) / 1.2))
    return chance.poisson(image).astype(np.float64)


def row_of(plane: AnyArray) -> FloatArray:
    row = features(plane)
    assert row is not None
    return row


def kind(plane: AnyArray) -> ImageKind:
    found = kind_of(plane)
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int32])
def test_bright_discs_on_dark_are_fluorescent_nuclei_in_any_dtype(dtype: type) -> None:
    found = kind(np.clip(discs(), 0, 255).astype(dtype))

    assert found.family == "fluorescence"
    assert max(found.structures, key=lambda word: found.structures[word]) == "nuclei"


@pytest.mark.parametrize(
    "plane",
    [np.zeros((64, 64)), np.full((64, 64), np.nan), np.zeros((64, 64, 3), np.uint8), discs()[:8]],
    ids=["flat", "not finite", "flat in colour", "tiny"],
)
def test_a_plane_without_content_has_no_kind(plane: AnyArray) -> None:
    assert kind_of(plane) is None


def test_an_array_that_is_no_plane_is_refused() -> None:
    with pytest.raises(ValueError, match="neither a plane nor a colour image"):
        kind_of(np.zeros((2, 64, 64)))


def test_the_same_plane_has_the_same_kind_again() -> None:
    assert kind_of(discs()) == kind_of(discs())


def test_probabilities_are_none_below_0_and_add_up_to_1_at_most() -> None:
    found = kind(discs())

    for shares in (found.families, found.structures):
        assert min(shares.values()) >= 0
        assert sum(shares.values()) <= 1 + 1e-6
    assert set(found.structures) == set(STRUCTURES)


def test_hot_and_missing_pixels_do_not_change_the_kind() -> None:
    plane = discs()
    spoilt = plane.copy()
    spoilt[::40, ::37], spoilt[5, 5], spoilt[9, 9] = np.nan, 1e9, np.inf

    assert kind(spoilt).family == kind(plane).family


def test_a_grey_image_saved_in_colour_has_the_kind_of_the_grey_one() -> None:
    plane = np.clip(discs(), 0, 255).astype(np.uint8)

    coloured = kind(np.stack([plane] * 3, axis=-1))

    assert coloured.families == pytest.approx(kind(plane).families, abs=1e-3)


def test_each_used_channel_has_its_kind_and_empty_ones_have_none() -> None:
    noise = np.random.default_rng(1).normal(100, 5, (256, 256))
    pixels = Pixels(np.stack([noise, discs(), np.zeros((256, 256))]), ("c", "y", "x"))

    found = image_kinds(pixels, [1, -1, 2])

    assert set(found.channels) == {0}
    assert found.channels[0] == kind_of(discs()) == found.whole


def test_of_a_stack_the_plane_with_most_contrast_is_looked_at() -> None:
    dim = 100 + np.random.default_rng(1).normal(0, 1, (256, 256))
    pixels = Pixels(np.stack([dim, discs(), dim]), ("z", "y", "x"))

    assert image_kinds(pixels, [0]).whole == kind_of(discs())


def test_a_colour_image_is_looked_at_as_a_whole() -> None:
    colours = np.stack([discs(seed=1), discs(seed=2), discs(seed=3)])
    pixels = Pixels(colours, ("c", "y", "x"), colour=True)

    found = image_kinds(pixels, [0, 1, 2])

    assert found.whole == kind_of(np.moveaxis(colours, 0, -1))
    assert found.channels == dict.fromkeys(range(3), found.whole)


def test_images_of_one_kind_are_less_unlike_than_those_of_two() -> None:
    nuclei, others = row_of(discs(seed=1)), row_of(discs(seed=2, radius=11))
    noise = row_of(np.random.default_rng(3).normal(128, 20, (256, 256)))

    assert unlikeness(nuclei, nuclei) == 0
    assert unlikeness(nuclei, others) < unlikeness(nuclei, noise)


def test_the_classifier_knows_as_many_features_as_are_measured() -> None:
    classifier, heads = kind_classifier(), (kind_head("grey"), kind_head("colour"))
    row, seen = row_of(discs()), len(network_features(np.zeros((64, 64), np.float32)))

    assert len(classifier.mean) == len(classifier.axes) == seen
    for head in heads:
        assert len(head.mean) == len(head.weights) == seen
        assert head.forest.feature.max() < len(row) - seen


def test_all_arrays_that_ship_are_below_a_megabyte() -> None:
    assert sum(path.stat().st_size for path in (CLASSIFIER, NETWORK)) < 1_000_000


def test_of_a_grey_image_the_arrays_for_colours_are_not_read() -> None:
    row = row_of(discs())
    kind_head.cache_clear()

    kind_classifier().probabilities(row)

    assert kind_head.cache_info().currsize == 1


def test_the_probabilities_of_the_leaves_of_a_forest_are_those_of_whole_numbers() -> None:
    leaves = kind_head("grey").forest.leaves

    assert (leaves == np.rint(leaves)).all()
    assert (leaves.sum(1) > 0).all()


def _compressed(plane: FloatArray) -> AnyArray:
    memory = io.BytesIO()
    Image.fromarray(np.clip(plane, 0, 255).astype(np.uint8)).save(memory, "JPEG", quality=60)
    return np.asarray(Image.open(memory))


CHANGES: dict[str, Callable[[FloatArray], AnyArray]] = {
    "half the size": lambda plane: ndi.zoom(plane, 0.5, order=1),
    "twice the size": lambda plane: ndi.zoom(plane, 2, order=1),
    "a crop": lambda plane: plane[20:170, 60:230],
    "turned": np.rot90,
    "mirrored": np.fliplr,
    "other gain and offset": lambda plane: plane * 37 + 900,
    "darker middle tones": lambda plane: np.sqrt(plane) * 10,
    "few levels": lambda plane: (plane // 8).astype(np.uint8),
    "more noise": lambda plane: plane + np.random.default_rng(5).normal(0, 8, plane.shape),
    "a blur": lambda plane: ndi.gaussian_filter(plane, 1),
    "JPEG": _compressed,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_does_not_change_the_kind_does_not_change_the_family(
    change: Callable[[FloatArray], AnyArray],
) -> None:
    assert kind(change(discs(seed=4))).family == "fluorescence"


def test_a_mirrored_plane_has_nearly_the_same_features() -> None:
    plane = discs()

    assert unlikeness(row_of(plane), row_of(plane[:, ::-1])) < 0.1


def test_of_a_grey_image_stained_tissue_keeps_a_fifth_beside_the_others() -> None:
    families = np.array(["stained", "electron", "transmitted", "transmitted"])
    shares = np.array([[0.6, 0.2, 0.1, 0.1], [0.0, 0.5, 0.3, 0.1]])

    grey = as_of_grey(shares, families)

    assert grey.sum(1) == pytest.approx(shares.sum(1))
    assert grey[0] / grey[0, 1] == pytest.approx(np.array([0.2 * 3, 1, 0.5, 0.5]))
    assert grey[1] == pytest.approx(shares[1])


def test_the_same_section_is_less_likely_stained_without_its_colours() -> None:
    chance = np.random.default_rng(0)
    grain = ndi.gaussian_filter(chance.normal(size=(256, 256)), 3)
    dark = 1 / (1 + np.exp(-40 * (grain - 0.05)))
    section = np.stack([235 - 110 * dark, 190 - 130 * dark, 215 - 60 * dark], -1)
    section = np.clip(section + chance.normal(0, 4, section.shape), 0, 255).astype(np.uint8)

    coloured, grey = (kind(image).families["stained"] for image in (section, section.mean(-1)))

    assert coloured > 0.5 > grey


def test_an_image_like_none_that_was_learnt_from_leaves_probability_to_unknown_kinds() -> None:
    y, x = np.mgrid[:256, :256]
    rings = np.sin((y * y + x * x) / 60.0) > 0

    found = kind(rings.astype(np.float32))

    assert sum(found.families.values()) < sum(kind(discs()).families.values())


def planes_of(folder: Path) -> Iterator[tuple[str, AnyArray]]:
    """Family and pixels of every sixth grey or colour image that shows a kind of microscopy."""
    families = {
        "fluorescence": "fluorescence", "phase": "transmitted", "dic": "transmitted",
        "he": "stained", "ihc": "stained", "em": "electron", "photo": "not-microscopy",
    }  # fmt: skip
    with (folder / "index.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["dims"] in ("YX", "YXS")]
    for row in rows[::6]:
        if row["modality"] in families:
            yield families[row["modality"]], tifffile.imread(folder / row["file"])


def test_most_images_of_known_kinds_are_of_their_family(shared: Path) -> None:
    told = [(family, kind(plane).family) for family, plane in planes_of(shared / "data/kinds")]

    wrong = [pair for pair in told if pair[1] not in (None, pair[0])]
    assert sum(family == said for family, said in told) >= 0.8 * len(told)
    assert len(wrong) <= 0.05 * len(told)


def test_no_fluorescent_nuclei_of_the_test_images_are_taken_for_something_else(
    shared: Path,
) -> None:
    paths = sorted((shared / "data/dsb2018/test/images").glob("*.tif"))[::8]

    kinds = [kind(tifffile.imread(path)) for path in paths]

    assert min(k.families["fluorescence"] for k in kinds) > 0.3
    assert sum(k.structures["nuclei"] > 0.05 for k in kinds) >= len(kinds) - 1
