"""Coarser copies that files keep of an image are read where they are fine enough."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.base.arrays import AnyArray
from bmz.engine import image_view
from bmz.engine.image_view import ImageView, Plane, Window
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.image.pyramids import open_coarser
from bmz.image.region import OpenImage, open_image

EVERYTHING = Window(0, 0, 10**6, 10**6)


def levels(shape: tuple[int, ...], sides: Sequence[tuple[int, int]], at: int) -> list[AnyArray]:
    """Give arrays of which each holds one number of its own; rows and columns lie at `at`."""
    return [
        np.full((*shape[:at], *side, *shape[at + 2 :]), 10 * (n + 1), np.uint8)
        for n, side in enumerate(sides)
    ]


SIDES = ((70, 50), (35, 25), (17, 12))  # the last one is rounded down, as many writers do


def write_sub_ifds(path: Path, arrays: Sequence[AnyArray], **words: object) -> None:
    first, *others = arrays
    with tifffile.TiffWriter(path, ome=path.name.endswith(".ome.tif")) as tif:
        tif.write(first, tile=(16, 16), subifds=len(others), **words)  # type: ignore[arg-type]
        words.pop("metadata", None)
        for other in others:
            tif.write(other, tile=(16, 16), subfiletype=1, **words)  # type: ignore[arg-type]


def write_reduced(path: Path, arrays: Sequence[AnyArray], **words: object) -> None:
    first, *others = arrays
    with tifffile.TiffWriter(path) as tif:
        tif.write(first, tile=(16, 16), metadata=None, **words)  # type: ignore[arg-type]
        for other in others:
            tif.write(other, tile=(16, 16), subfiletype=1, metadata=None, **words)  # type: ignore[arg-type]


def of_view(path: Path, steps: Sequence[int], plane: Plane) -> list[AnyArray]:
    with ExitStack() as stack:
        view = ImageView(path, RunRequest("", (), Path()), stack)
        return [view.part(plane, Window(0, 0, 10**6, 10**6, step))[0] for step in steps]


@pytest.mark.parametrize(
    ("name", "shape", "at", "words"),
    [
        ("a.tif", (70, 50), 0, {}),
        ("a.tif", (70, 50), 0, {"compression": "zlib"}),
        ("rgb.tif", (70, 50, 3), 0, {"photometric": "rgb"}),
        ("white.tif", (70, 50), 0, {"photometric": "miniswhite"}),
        ("z.ome.tif", (4, 70, 50), 1, {"metadata": {"axes": "ZYX"}}),
        ("c.ome.tif", (3, 70, 50), 1, {"metadata": {"axes": "CYX"}}),
    ],
)
def test_sub_ifds_of_a_tiff_are_read_at_their_magnification(
    name: str,
    shape: tuple[int, ...],
    at: int,
    words: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_view, "WHOLE_PX", 100)
    write_sub_ifds(tmp_path / name, levels(shape, SIDES, at), **words)

    parts = of_view(tmp_path / name, (1, 2, 4, 8), Plane(channel=2, z=3))

    values = [255 - n if "white" in name else n for n in (10, 20, 30, 30)]
    assert [sorted(set(part.ravel().tolist())) for part in parts] == [[n] for n in values]
    assert [part.shape for part in parts] == [(70, 50), (35, 25), (18, 13), (9, 7)]


def test_reduced_pages_behind_the_image_are_its_coarser_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_view, "WHOLE_PX", 100)
    write_reduced(tmp_path / "a.tif", levels((70, 50), SIDES, 0))

    parts = of_view(tmp_path / "a.tif", (1, 2, 4), Plane())

    assert [int(part.mean()) for part in parts] == [10, 20, 30]


def test_a_view_beyond_a_copy_that_is_rounded_down_is_filled_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_view, "WHOLE_PX", 100)
    write_sub_ifds(tmp_path / "a.tif", levels((70, 50), SIDES, 0))

    with ExitStack() as stack:
        view = ImageView(tmp_path / "a.tif", RunRequest("", (), Path()), stack)
        corner, window = view.part(Plane(), Window(68, 48, 70, 50, 4))

    assert (window.top, window.left, corner.tolist()) == (68, 48, [[30]])


def coarser_shapes(path: Path) -> list[tuple[int, ...]]:
    with open_image(inspect_image(path)) as image:
        assert isinstance(image, OpenImage)
        with open_coarser(image) as copies:
            return [tuple(copy.info.shape) for copy in copies]


def test_a_copy_with_fewer_planes_is_not_taken_for_one_of_the_image(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    for name, shape in {"0": (8, 64, 64), "1": (8, 32, 32), "2": (4, 16, 16)}.items():
        array = group.create_array(name, shape=shape, dtype="u1", chunks=(4, 16, 16))
        array[:] = 7
    sets = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [1.0, f, f]}]}
        for n, f in enumerate((1.0, 2.0, 4.0))
    ]
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": sets}]

    assert coarser_shapes(tmp_path / "a.zarr") == [(8, 32, 32)]


def test_an_image_without_copies_has_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((8, 9), np.uint8))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), np.uint8))

    assert coarser_shapes(tmp_path / "a.npy") == coarser_shapes(tmp_path / "a.tif") == []
