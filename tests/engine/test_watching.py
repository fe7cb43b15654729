"""A folder that is watched: rounds that a test drives, on a clock that it sets."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.app.test_plates import write_plate_image
from tests.image.test_makers import set_of_two

from bmz.engine.image_result import write_joint_tables
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, opened, prepare
from bmz.engine.watching import Watch
from bmz.image.listing import NoFolderToWatch, Settling, WatchedFolder, stamp_of
from bmz.predict.backend import Backend
from bmz.predict.confined import ChildDied
from bmz.results.images import ImageRun
from bmz.testing.package import description, write_package
from bmz.write.names import OutputExists
from bmz.write.outputs import names_of_results

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SETTLE_S = 10.0

FIELDS = 6
"""Of the plate."""


def plane(count: int = 2) -> Any:
    """Give an image of so many squares."""
    image = np.zeros((48, 48), np.uint8)
    for number in range(count):
        image[4 + 12 * (number // 3) :, :][:6, 4 + 14 * (number % 3) :][:, :6] = 1
    return image


def put(path: Path, count: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, plane(count), metadata={"axes": "YX"})
    return path


class Microscope:
    """A folder, and a watch of it whose clock goes on by `SETTLE_S` with each round but the first.

    Parameters
    ----------
    setup : of the model
    folder : that is watched
    """

    def __init__(self, setup: RunSetup, folder: Path) -> None:
        request = setup.request
        self.folder, self.out = folder, request.folder
        watched = WatchedFolder.of([str(folder)], (), names_of_results(), request.folder)
        self.now = 0.0
        self.notes: list[str] = []
        self.watch = Watch(
            replace(setup, request=replace(request, roots=(watched.root,))),
            watched.images,
            lambda: self.now,
            SETTLE_S,
            lambda event: self.notes.append(getattr(event, "text", "")),
        )
        self.watch.begin()

    def round(self, after_s: float = 0.0) -> dict[str, object]:
        """Give the objects of each image that a round runs, or the code of its error."""
        self.now += after_s
        return {
            o.image.name: o.objects if isinstance(o, ImageRun) else o.error.code
            for o in self.watch.round()
        }

    def settled(self) -> dict[str, object]:
        """Give what a round runs of all that is there now."""
        assert self.round() == {}
        return self.round(SETTLE_S)

    def rows(self) -> list[tuple[str, str]]:
        """Give image and series of each object in the joint table."""
        with (self.out / "objects.csv").open(newline="") as file:
            return [(row["image"], row["series"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_package(tmp_path_factory.mktemp("net") / "net", description(halo=4)).parent)


@pytest.fixture
def start(package: str, tmp_path: Path) -> Callable[..., Microscope]:
    """Begin to watch ``day``, with results in a folder of it where nothing else is said."""
    (tmp_path / "day").mkdir()

    def begin(out: str = "day/out", **words: Any) -> Microscope:
        request = RunRequest(package, (), tmp_path / out, **words)
        return Microscope(prepare(request), tmp_path / "day")

    return begin


Start = Callable[..., Microscope]


def test_a_file_is_taken_when_it_has_stood_still_and_only_once(start: Start) -> None:
    scope = start()
    put(scope.folder / "a.tif", 1)

    early = [scope.round(), scope.round(SETTLE_S - 1)]
    waiting = [path.name for path in scope.watch.waiting]
    put(scope.folder / "a.tif", 3)
    still_early = [scope.round(1), scope.round(SETTLE_S - 1)]
    taken = scope.round(1)

    assert early == still_early == [{}, {}]
    assert waiting == ["a.tif"]
    assert taken == {"a.tif": 3}
    assert scope.watch.waiting == ()
    assert scope.settled() == {}


def test_the_network_is_loaded_once_and_only_for_an_image(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Backend] = []

    def noted(setup: RunSetup) -> Backend:
        loads.append(opened(setup))
        return loads[-1]

    monkeypatch.setattr("bmz.engine.watching.opened", noted)
    scope = start()

    scope.settled()
    before = len(loads)
    for number in range(3):
        put(scope.folder / f"{number}.tif")
        scope.settled()

    assert (before, len(loads), len(scope.watch.summary.done)) == (0, 1, 3)


def test_the_joint_table_grows_with_each_round_and_names_images_from_the_folder_on(
    start: Start,
) -> None:
    scope = start()
    put(scope.folder / "slide1" / "a.tif", 1)
    scope.settled()
    first = scope.rows()
    put(scope.folder / "slide2" / "a.tif", 2)
    scope.settled()

    assert first == [("slide1/a.tif", "")]
    assert scope.rows() == [("slide1/a.tif", ""), *[("slide2/a.tif", "")] * 2]
    assert (scope.out / "slide2" / "a.labels.tif").is_file()
    assert not list(scope.out.glob(".writing*"))


@pytest.mark.parametrize("out", ["day/out", "day", "elsewhere"])
def test_results_are_never_taken_for_images(out: str, start: Start) -> None:
    scope = start(out, save=frozenset({"labels", "raw", "overlay"}))
    put(scope.folder / "a.tif")

    assert scope.settled() == {"a.tif": 2}
    if out == "day/out":
        put(scope.out / "mine.tif")
    assert scope.settled() == {}


def test_a_file_that_is_replaced_is_done_anew_only_when_that_is_allowed(start: Start) -> None:
    scope = start()
    put(scope.folder / "a.tif", 1)
    scope.settled()
    os.utime(scope.folder / "a.tif", (1, 1))
    touched = scope.settled()
    put(scope.folder / "a.tif", 4)
    refused = scope.settled()
    again = scope.settled()
    status = scope.watch.summary.exit_status
    overwriting = start(overwrite=True)

    assert (touched, refused, again) == ({}, {"a.tif": "output.outdated"}, {})
    assert status == 2
    assert overwriting.settled() == {"a.tif": 4}
    put(scope.folder / "a.tif", 5)
    assert overwriting.settled() == {"a.tif": 5}
    assert len(overwriting.rows()) == 5


def test_a_file_that_fails_is_tried_again_only_when_it_changes(start: Start) -> None:
    scope = start()
    good = put(scope.folder / "good.tif").read_bytes()
    (scope.folder / "half.tif").write_bytes(good[: len(good) // 2])
    (scope.folder / "text.tif").write_text("no image")

    first = scope.settled()
    again = scope.settled()
    (scope.folder / "half.tif").write_bytes(good)
    changed = scope.settled()
    (scope.folder / "text.tif").unlink()
    scope.round()

    assert first == {"good.tif": 2, "half.tif": "image.truncated", "text.tif": "image.unreadable"}
    assert again == {}
    assert changed == {"half.tif": 2}
    assert scope.watch.summary.exit_status == 0
    assert len(scope.watch.summary.outcomes) == 2


def test_what_an_earlier_call_has_done_stands_and_counts(start: Start) -> None:
    first = start()
    put(first.folder / "a.tif", 1)
    first.settled()
    second = start()
    put(second.folder / "b.tif", 2)

    ran = second.settled()
    other = start(settings={"min_size": "3"})

    assert ran == {"b.tif": 2}
    assert "1 image already done: the results exist" in second.notes
    assert [done.image.name for done in second.watch.summary.done] == ["a.tif", "b.tif"]
    assert len(second.rows()) == 3
    assert set(other.settled().values()) == {"output.outdated"}


def test_names_once_given_stay_whatever_comes_later(start: Start) -> None:
    scope = start()
    put(scope.folder / "b.tif", 1)
    scope.settled()
    Image.fromarray(plane(2) * 200).save(scope.folder / "b.png")
    later = scope.settled()
    names = sorted(path.name for path in scope.out.glob("*.labels.tif"))
    again = start()

    assert (later, names) == ({"b.png": 2}, ["b.labels.tif", "b_png.labels.tif"])
    assert again.settled() == {}
    assert len(again.watch.summary.done) == 2


@pytest.mark.parametrize("companion", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
def test_a_set_of_files_is_one_image_when_it_is_whole(
    companion: bool, backwards: bool, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "made").mkdir()
    set_of_two(tmp_path / "made", companion=companion)
    scope = start()

    outcomes = []
    for file in sorted((tmp_path / "made").iterdir(), reverse=backwards):
        shutil.copy2(file, scope.folder)
        outcomes.append(scope.settled())

    assert {code for outcome in outcomes[:-1] for code in outcome.values()} == {
        "image.parts-missing"
    }
    assert [type(count) for count in outcomes[-1].values()] == [int]
    assert len(scope.watch.summary.outcomes) == 1


def test_a_plate_is_run_when_all_of_its_fields_are_there(start: Start) -> None:
    scope = start("results")
    plate = write_plate_image(scope.folder / "slide" / "p.ome.zarr")
    field = plate / "B" / "2" / "1"
    shutil.move(field, scope.folder.with_name("later"))

    before = scope.settled()
    shutil.move(scope.folder.with_name("later"), field)
    after = scope.settled()

    assert before == {"p.ome.zarr": "image.field-missing"}
    assert set(after) == {"0", "1"}
    assert len(scope.watch.summary.done) == len(scope.watch.summary.outcomes) == FIELDS
    assert (scope.out / "slide" / "p" / "B" / "2" / "1.labels.tif").is_file()
    with (scope.out / "slide" / "p.objects.csv").open(newline="") as file:
        assert {row["well"] for row in csv.DictReader(file)} == {"A1", "A2", "B2"}


def test_each_image_of_a_file_is_run_and_one_that_lacks_the_series_fails(start: Start) -> None:
    scope = start(series="left")
    put(scope.folder / "a.tif")
    with tifffile.TiffWriter(scope.folder / "b.ome.tif", ome=True) as file:
        for name, count in (("left", 1), ("right", 2)):
            file.write(plane(count), metadata={"axes": "YX", "Name": name})

    assert scope.settled() == {"a.tif": "image.series", "b.ome.tif[left]": 1}
    assert scope.rows() == [("b.ome.tif", "left")]


def test_tables_of_someone_else_are_not_replaced(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "objects.csv").write_text("mine")

    with pytest.raises(OutputExists):
        start("mine")


def test_a_folder_that_cannot_be_reached_for_a_while_is_gone_on_with(start: Start) -> None:
    scope = start("elsewhere")
    put(scope.folder / "a.tif")
    (scope.folder / "bad.tif").touch()
    scope.settled()

    scope.folder.rename(scope.folder.with_name("away"))
    lost = scope.settled()
    scope.folder.with_name("away").rename(scope.folder)
    back = scope.settled()

    assert (lost, back) == ({}, {"bad.tif": "image.empty"})
    assert len(scope.watch.summary.done) == 1


def test_what_was_under_way_when_it_ended_is_told_and_joined(start: Start) -> None:
    scope = start()
    for name in "abc":
        put(scope.folder / f"{name}.tif")
    scope.round()
    scope.now += SETTLE_S
    outcomes = scope.watch.round()
    next(outcomes)
    outcomes.close()

    scope.watch.join()

    assert [path.name for path in scope.watch.waiting] == ["b.tif", "c.tif"]
    assert scope.rows() == [("a.tif", "")] * 2


@pytest.mark.parametrize("words", [["day/a.tif"], ["nowhere"], ["day", "day"], ["https://a.org/b"]])
def test_only_one_folder_or_pattern_can_be_watched(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "day" / "a.tif")

    with pytest.raises(NoFolderToWatch):
        WatchedFolder.of(words, (), names_of_results(), tmp_path / "out")


def test_a_pattern_and_names_choose_what_is_watched(tmp_path: Path) -> None:
    for name in ("x/a_dapi.tif", "x/a_gfp.tif", "x/a_dapi.labels.tif", "y/b_dapi.tif"):
        put(tmp_path / name)

    def images(word: str, *include: str) -> list[str]:
        folder = WatchedFolder.of(
            [str(tmp_path / word)], include, names_of_results(), tmp_path / "o"
        )
        return [path.name for path in folder.images()]

    assert images("x", "*_dapi.tif") == ["a_dapi.tif"]
    assert images("*/*_dapi*.tif") == ["a_dapi.tif", "b_dapi.tif"]
    assert images("z*/*.tif") == []


def test_a_stamp_changes_with_any_file_of_the_image_and_with_nothing_else(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr" / "0"
    store.mkdir(parents=True)
    (store / "0.0").write_bytes(b"1")
    stamps = [stamp_of(tmp_path / "a.zarr"), stamp_of(tmp_path / "a.zarr")]
    (store / "0.1").write_bytes(b"1")
    stamps.append(stamp_of(tmp_path / "a.zarr"))
    (store / "0.1").write_bytes(b"12")
    stamps.append(stamp_of(tmp_path / "a.zarr"))

    assert stamps[0] == stamps[1]
    assert len(set(stamps)) == 3
    assert stamp_of(tmp_path / "b.zarr") is None


@pytest.mark.parametrize(
    ("stamps", "taken"),
    [([1, 1, 1], [False, False, True]), ([1, 2, 2], [False] * 3), ([1, None, 1], [False] * 3)],
)
def test_time_counts_from_the_last_change(stamps: list[int | None], taken: list[bool]) -> None:
    settling, path = Settling(2.0), Path("a.tif")

    told = [
        settling.settled({} if n is None else {path: (1, n, n)}, float(now)) == (path,)
        for now, n in enumerate(stamps)
    ]

    assert told == taken


def test_a_network_that_ended_is_loaded_anew_for_the_images_after_the_one_that_ended_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mortal:
        """A network that ends with the second image, and whatever it is asked from then on."""

        def __init__(self, setup: RunSetup) -> None:
            self._backend, self._left = opened(setup), 1
            self.name, self.device = self._backend.name, self._backend.device
            loads.append(self)

        def run(self, inputs: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise ChildDied("run the network", "")
            return self._backend.run(inputs)

        def close(self) -> None:
            self._backend.close()

    loads: list[Mortal] = []
    monkeypatch.setattr("bmz.engine.watching.opened", Mortal)
    scope = start()
    for name in "abcd":
        put(scope.folder / f"{name}.tif")

    first = scope.settled()
    waiting = [path.name for path in scope.watch.waiting]
    second = scope.round()

    assert first == {"a.tif": 2, "b.tif": "trust.child-ended"}
    assert waiting == ["c.tif", "d.tif"]
    assert second == {"c.tif": 2, "d.tif": "trust.child-ended"}
    assert scope.round() == {}
    assert len(loads) == 2


def test_tables_that_take_long_are_written_less_often(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = start()
    real = write_joint_tables
    joins: list[int] = []

    def slow(folder: Path, done: Any, root: Path | None) -> None:
        joins.append(len(done))
        scope.now += 3 * SETTLE_S
        real(folder, done, root)

    monkeypatch.setattr("bmz.engine.watching.write_joint_tables", slow)
    for number in range(3):
        put(scope.folder / f"{number}.tif")
        scope.settled()
    before = list(joins)
    for _ in range(12):
        scope.round(SETTLE_S)

    assert before == [1]
    assert joins == [1, 3]
    assert len(scope.rows()) == 6
