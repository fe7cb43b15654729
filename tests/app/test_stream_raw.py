"""Maps and labels that were kept plane by plane: read together, and back on the image's grid."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.app.small_models import job_of, planned_image

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.engine.image_result import ImageResult
from bmz.engine.label_stack import on_image
from bmz.engine.prepared_image import STRIP_PX, RawStack, StoredMap, keep_raw
from bmz.image.inspect import inspect_image
from bmz.image.region import HeldImage, read_image
from bmz.plan.plan import Blocks
from bmz.process.adapt import resize_labels
from bmz.process.blocks import Found
from bmz.write.tiff import write_raw


@pytest.mark.parametrize("letters", ["bcyx", "byxc", "bczyx"])
def test_a_map_is_kept_as_float32_with_channels_first(letters: str, tmp_path: Path) -> None:
    sizes = {"b": 1, "c": 2, "z": 3, "y": 9, "x": 6}
    array = np.random.default_rng(0).random([sizes[a] for a in letters])
    held = [a for a in "czyx" if a in letters]
    wanted = array[0].transpose([letters[1:].index(a) for a in held]).astype(np.float32)

    keep_raw(StoredMap(array, letters, ()), tmp_path / "raw.npy", SMALL)

    kept = np.load(tmp_path / "raw.npy")
    np.testing.assert_array_equal(kept, wanted)
    assert kept.dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["raw.npy"]


@pytest.mark.parametrize("letters", ["bcyx", "byxc"])
def test_of_a_map_without_steps_only_the_channels_that_are_asked_for_are_read(letters: str) -> None:
    sizes = {"b": 1, "c": 5, "y": 9, "x": 6}
    array = np.random.default_rng(0).random([sizes[a] for a in letters])
    held: list[AnyArray] = []

    class Watched:
        dtype, shape = array.dtype, array.shape

        def __getitem__(self, box: Box) -> AnyArray:
            held.append(array[box])
            return held[-1]

    maps = StoredMap(Watched(), letters, ())
    part = maps[slice(1, 3), slice(2, 7), slice(0, 4)]

    whole = np.moveaxis(array[0], letters.index("c") - 1, 0)
    np.testing.assert_array_equal(part, whole[1:3, 2:7, 0:4])
    assert held[0].size == part.size


def test_of_a_map_with_steps_a_few_rows_of_all_channels_are_read_at_a_time() -> None:
    array = np.random.default_rng(0).random((5, 2 * STRIP_PX + 9, 6))
    rows: list[int] = []

    class Watched:
        dtype, shape = array.dtype, array.shape

        def __getitem__(self, box: Box) -> AnyArray:
            rows.append(len(range(*box[1].indices(array.shape[1]))))
            return array[box]

    maps = StoredMap(Watched(), "cyx", (lambda x, axes: x / x.sum(axes.index("c"), keepdims=True),))
    part = maps[slice(1, 3), slice(2, None), slice(0, 4)]

    np.testing.assert_array_equal(part, (array / array.sum(0))[1:3, 2:, :4])
    assert max(rows) == STRIP_PX
    maps[slice(0, 5), slice(0, None), slice(0, 4)]
    assert max(rows) == array.shape[1]  # nothing is gained where all channels are wanted
    assert part.base is None or part.base.size <= part.size  # not all channels are kept


SMALL = Blocks(side_px=4, stack_px=4, least_side_px=4)
KINDS = [({}, "yx"), ({"t": 3}, "yx"), ({"t": 2, "z": 3}, "yx"), ({}, "zyx"), ({"t": 2}, "zyx")]


def raw_stack(folder: Path, loop: dict[str, int], space: str) -> tuple[RawStack, AnyArray]:
    """Keep maps of random values; give them with the array that they are, axes tczyx."""
    sizes = {"c": 2, "z": 2, "y": 4, "x": 5}
    shape = [*loop.values(), *(sizes[axis] for axis in "c" + space)]
    laid = np.random.default_rng(0).random(shape).astype(np.float32)
    files = []
    for number, place in enumerate(np.ndindex(*loop.values())):
        files.append(folder / f"{number}.npy")
        np.save(files[-1], laid[place])
    axes = [*loop, "c", *space]
    order = [axes.index(axis) for axis in "tczyx" if axis in axes]
    return RawStack(files, loop, space), laid.transpose(order)


@pytest.mark.parametrize(("loop", "space"), KINDS)
def test_maps_of_planes_are_read_as_one_array(
    loop: dict[str, int], space: str, tmp_path: Path
) -> None:
    stack, wanted = raw_stack(tmp_path, loop, space)
    later = tuple(slice(n // 2, n) for n in stack.shape)

    assert stack.axes == "".join(a for a in "tczyx" if a in (*loop, "c", *space))
    assert stack.shape == wanted.shape
    np.testing.assert_array_equal(stack[tuple(slice(None) for _ in stack.shape)], wanted)
    np.testing.assert_array_equal(stack[later], wanted[later])


def test_maps_of_half_the_size_have_pixels_of_twice_the_length(tmp_path: Path) -> None:
    stack, wanted = raw_stack(tmp_path, {"t": 3}, "yx")
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 20)))
    info = inspect_image(tmp_path / "a.npy", axes="tyx")
    plan = planned_image(job_of(), (3, 8, 20), "tyx").plan
    known = replace(info, pixel_um={"z": 9.0, "y": 0.5, "x": 0.25})

    result = ImageResult(HeldImage(known, read_image(info)), plan, None, stack)
    write_raw(tmp_path / "a.raw.ome.tif", stack, result.raw_um)

    written = inspect_image(tmp_path / "a.raw.ome.tif")
    assert dict(written.pixel_um) == {"y": 1.0, "x": 1.0}
    assert written.sizes == dict(zip("tcyx", wanted.shape, strict=True))


def raster_order(labels: AnyArray) -> AnyArray:
    """Number objects again by their first pixel, with a dictionary."""
    new: dict[int, int] = {0: 0}
    flat = [new.setdefault(int(number), len(new)) for number in labels.ravel()]
    return np.array(flat).reshape(labels.shape)


@settings(max_examples=15)
@given(
    st.sampled_from([((7, 9), (14, 18)), ((14, 18), (7, 9)), ((3, 8, 9), (3, 5, 13))]),
    st.integers(0, 99),
)
def test_labels_on_the_grid_of_the_image_are_those_of_one_piece_numbered_anew(
    sizes: tuple[tuple[int, ...], tuple[int, ...]], seed: int
) -> None:
    network, size = sizes
    stored = np.random.default_rng(seed).integers(0, 6, network)
    numbers, first = np.unique(stored, return_index=True)
    firsts = dict(zip(numbers.tolist(), first.tolist(), strict=True))
    found = Found([np.array([firsts.get(number, 0) for number in range(1, 6)])])
    wanted = raster_order(resize_labels(stored, size))

    with tempfile.TemporaryDirectory() as folder:
        labels = on_image(stored, found, network, size, Path(folder), SMALL)
        everything = labels[tuple(slice(None) for _ in size)]

    np.testing.assert_array_equal(everything, wanted)
    assert labels.count == wanted.max()
    assert labels.block == (4, 4)
    assert labels.objects.first_by(labels.numbers).tolist() == [
        int(np.argmax(wanted == number)) for number in range(1, labels.count + 1)
    ]


def test_the_overlap_is_the_height_and_width_of_the_largest_objects(tmp_path: Path) -> None:
    stored = np.zeros((10, 12), np.int64)
    stored[2:9, 3] = 1
    stored[0, 1:6] = 2
    found = Found([np.array([27, 1])], [{"score": np.array([0.25, 0.5], np.float32)}])

    labels = on_image(stored, found, (10, 12), (20, 36), tmp_path, Blocks())

    assert labels.overlap == (14, 15)
    scores = labels.objects.columns_by(labels.numbers)["score"]
    assert scores.tolist() == [0.5, 0.25]
    assert labels[0:1, 0:5].tolist() == [[0, 0, 0, 1, 1]]


def test_an_object_without_a_pixel_on_the_image_has_no_number(tmp_path: Path) -> None:
    stored = np.zeros((6, 6), np.int64)
    stored[0, 0], stored[1:3, 1:3], stored[4:, 4:] = 1, 2, 3
    found = Found([np.array([0, 7, 28])])

    labels = on_image(stored, found, (6, 6), (3, 3), tmp_path, Blocks())
    nothing = on_image(0 * stored, Found([]), (6, 6), (3, 3), tmp_path / "empty", Blocks())

    assert labels.numbers.tolist() == [0, 0, 1, 2]
    assert labels[0:3, 0:3].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 2]]
    assert (nothing.count, nothing.overlap) == (0, (0, 0))
