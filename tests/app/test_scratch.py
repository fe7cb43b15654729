"""What a run in parts keeps in between: whose it is, when it goes, and that it comes back whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.app.small_models import ONNX, job_of, planned_image

from bmz.base import files
from bmz.engine.earlier_runs import PlaneFolder, scratch_folder, scratch_key
from bmz.engine.request import RunRequest
from bmz.plan.plan import Plan
from bmz.plan.tiling import AxisTiling, Tiling
from bmz.plan.weights_choice import PrecisionChoice
from bmz.process.blocks import Found

REQUEST = RunRequest("net", (), Path("out"), settings={"a": "1", "b": "2"})
JOB = job_of()
READY = planned_image(JOB, (40, 40))


def key_of(
    request: RunRequest = REQUEST, *, sha256: str = "m", image: str = "i", **facts: Any
) -> str:
    setup = replace(JOB, request=request, model=replace(JOB.model, sha256=sha256))
    return scratch_key(setup, replace(READY, plan=replace(READY.plan, **facts)), image)


@pytest.mark.parametrize(
    "words",
    [
        {"tile": 64}, {"scale": 2.0}, {"clip": 99.0}, {"recipe": "flows"}, {"axes": "zyx"},
        {"channels": (1,)}, {"pixel_um": {"x": 1.0}}, {"settings": {"a": "1"}}, {"force": True},
        {"save": frozenset({"raw"})}, {"labels_format": "zarr"},
    ],
    ids=str,
)  # fmt: skip
def test_other_words_are_another_run(words: dict[str, Any]) -> None:
    assert key_of(replace(REQUEST, **words)) != key_of()


@pytest.mark.parametrize(
    "facts",
    [
        {"sha256": "n"}, {"image": "j"}, {"device": "cuda:0"},
        {"weights": replace(ONNX, format="torchscript")},
        {"precision": PrecisionChoice("float16", "")},
    ],
    ids=str,
)  # fmt: skip
def test_another_model_image_or_arithmetic_is_another_run(facts: dict[str, Any]) -> None:
    assert key_of(**facts) != key_of()


@pytest.mark.parametrize(
    "words",
    [
        {"folder": Path("elsewhere")}, {"workers": 2}, {"memory_gb": 1.0}, {"resume": True},
        {"overwrite": True}, {"settings": {"b": "2", "a": "1"}}, {"images": (Path("a.tif"),)},
    ],
    ids=str,
)  # fmt: skip
def test_words_that_leave_the_result_alone_go_on_with_it(words: dict[str, Any]) -> None:
    assert key_of(replace(REQUEST, **words)) == key_of()
    assert len(key_of()) == 16


def left_by(folder: Path, process: int, key: str) -> Path:
    place = folder / f".scratch-{process}-{key}"
    place.mkdir()
    (place / "by").write_text(str(process))
    return place


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let all processes be alive but those that are named."""
    gone: set[int] = set()
    monkeypatch.setattr(files, "_alive", lambda process: process not in gone)
    return gone.add


def test_a_folder_is_of_this_process_and_gone_when_the_block_ends(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "k", resume=False) as place:
        (place / "sub").mkdir()
        (place / "sub" / "file").write_text("x")

        assert place == tmp_path / f".scratch-{os.getpid()}-k"

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "stays"), [(ValueError, False), (SystemExit, False), (KeyboardInterrupt, True)]
)
def test_of_all_that_ends_a_block_only_an_interruption_leaves_the_folder(
    error: type[BaseException], stays: bool, tmp_path: Path
) -> None:
    with pytest.raises(error), scratch_folder(tmp_path, "k", resume=False) as place:
        raise error

    assert place.exists() == stays


def test_a_run_goes_on_with_the_folder_of_a_dead_process(
    tmp_path: Path, dead: Callable[[int], None]
) -> None:
    old = left_by(tmp_path, 7, "k")
    dead(7)

    with scratch_folder(tmp_path, "k", resume=True) as place:
        assert (place / "by").read_text() == "7"
        assert not old.exists()


@pytest.mark.parametrize(
    ("process", "key", "resume"), [(7, "k", False), (8, "k", True), (7, "other", True)]
)
def test_a_folder_of_the_living_of_another_run_or_unasked_for_is_left_alone(
    process: int, key: str, resume: bool, tmp_path: Path, dead: Callable[[int], None]
) -> None:
    old = left_by(tmp_path, process, key)
    dead(7)

    with scratch_folder(tmp_path, "k", resume=resume) as place:
        assert list(place.iterdir()) == []

    assert (old / "by").exists()


def test_of_several_folders_the_first_that_is_free_is_gone_on_with(
    tmp_path: Path, dead: Callable[[int], None]
) -> None:
    for process in (5, 6, 7):
        left_by(tmp_path, process, "k")
    dead(6)
    dead(7)

    with scratch_folder(tmp_path, "k", resume=True) as place:
        assert (place / "by").read_text() == "6"

    assert sorted(path.name for path in tmp_path.iterdir()) == [".scratch-5-k", ".scratch-7-k"]


def plan_with(**tile: int) -> Plan:
    axes = tuple(AxisTiling(axis, size, size, (0,), (0, size)) for axis, size in tile.items())
    return replace(READY.plan, tiling=Tiling(axes))


def test_tiles_of_other_sizes_lie_in_another_folder(tmp_path: Path) -> None:
    plane = PlaneFolder(tmp_path / "plane")

    found = [plane.maps(plan_with(y=64, x=32)), plane.maps(plan_with(y=32, x=64))]
    again = plane.maps(plan_with(y=64, x=32))

    assert [place.name for place in found] == ["map-64x32", "map-32x64"]
    assert again == found[0]
    assert all(place.is_dir() for place in found)


BLOCKS = st.lists(st.lists(st.integers(0, 2**40), max_size=3), max_size=4)


@settings(max_examples=20)
@given(BLOCKS, st.booleans())
def test_the_objects_of_all_blocks_come_back_as_they_were_kept(
    blocks: list[list[int]], scored: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plane, found = PlaneFolder(Path(folder)), Found()
        for number, first in enumerate(blocks):
            found.first.append(np.array(first, np.int64))
            known = {"score": np.array(first) / 3, "class": np.array([f"c{k}" for k in first], "U")}
            found.columns.append(known if scored else {})
            found.widest_overlap = 10 + number
            plane.keep(found)

        back = plane.objects()

    assert [one.tolist() for one in back.first] == blocks
    for ours, theirs in zip(back.columns, found.columns, strict=True):
        assert list(ours) == list(theirs)
        assert all(ours[name].tolist() == theirs[name].tolist() for name in ours)
    assert back.widest_overlap == found.widest_overlap
    assert all(one.dtype == np.int64 for one in back.first)


def test_blocks_behind_one_that_is_missing_do_not_count(tmp_path: Path) -> None:
    plane, found = PlaneFolder(tmp_path), Found()
    for first in ([3], [5, 6], [9]):
        found.first.append(np.array(first))
        found.columns.append({})
        plane.keep(found)
    (tmp_path / "blocks" / "000001.npz").unlink()

    assert [one.tolist() for one in plane.objects().first] == [[3]]


def test_a_plane_that_is_finished_says_its_sizes_and_lets_go_of_its_maps(tmp_path: Path) -> None:
    plane = PlaneFolder(tmp_path)
    maps = [plane.maps(plan_with(y=size)) for size in (64, 32)]
    (maps[0] / "tile-000000.npy").write_bytes(b"x")
    plane.labels.mkdir()
    before = plane.layout()

    plane.finish({"block": [96, 96], "overlap": [24, 30]})

    assert before is None
    assert plane.layout() == {"block": [96, 96], "overlap": [24, 30]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done.json", "labels"]
