"""A device whose memory is too small gets a smaller batch, then smaller tiles, and it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.app.run import run
from bmz.base.progress import Event, Note
from bmz.engine import network_choice
from bmz.engine.request import RunRequest
from bmz.predict.backend import Backend
from bmz.results.images import RunSummary
from bmz.testing.backend import FakeBackend, OverlappingFake, local_mean
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Fakes = Callable[[Backend], Backend]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Let a test say which network every model has."""

    def runs(backend: Backend) -> Backend:
        monkeypatch.setattr(network_choice, "open_network", lambda *_, **__: backend)
        return backend

    return runs


def stored(folder: Path, *, planes: int = 1, size: int = 200) -> Path:
    pixels = np.random.default_rng(0).random((planes, size, size), np.float32)
    pixels[:, 40:80, 50:150] += 1
    path = folder / "a.tif"
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "TYX"}, photometric="minisblack")
    return path


def ran(model: Path, image: Path, out: Path, notes: list[Event], **words: Any) -> RunSummary:
    save = frozenset({"labels", "raw"})
    settings = {"threshold": "1.0"}
    request = RunRequest(str(model), (image,), out, save=save, settings=settings, **words)
    return run(request, notes.append)


def raw_of(summary: RunSummary) -> np.ndarray[Any, Any]:
    (done,) = summary.done
    return np.asarray(tifffile.imread(done.files["raw"]))


@pytest.mark.parametrize("kind", [FakeBackend, OverlappingFake])
def test_half_the_tile_is_tried_until_it_fits_and_the_image_is_the_same(
    network: Fakes, tmp_path: Path, kind: type[FakeBackend]
) -> None:
    model = write_package(tmp_path / "model").parent
    image = stored(tmp_path)
    notes: list[Event] = []
    network(FakeBackend(local_mean(3, spatial=2)))
    whole = ran(model, image, tmp_path / "whole", [])

    network(kind(local_mean(3, spatial=2), most_px=64 * 64))
    small = ran(model, image, tmp_path / "small", notes)

    np.testing.assert_allclose(raw_of(small), raw_of(whole), rtol=0, atol=1e-6)
    record = json.loads(small.done[0].files["record"].read_text())
    sides = list(record["plan"]["tile"].values())
    assert whole.done[0].record["plan"]["tile"] == {"y": 200, "x": 200}
    assert max(sides) <= 64
    assert record["plan"]["tiles"] >= 16
    said = [note.text for note in notes if isinstance(note, Note) and "memory" in note.text]
    assert said[0].startswith("a tile of 200 x 200 px does not fit into memory; continuing with ")
    assert said[-1].endswith(" x ".join(map(str, sides)) + " px")


def test_the_batch_is_halved_before_the_tile(network: Fakes, tmp_path: Path) -> None:
    model, image = write_package(tmp_path / "model").parent, stored(tmp_path)
    fake = FakeBackend(local_mean(3, spatial=2), most_px=64 * 64)
    notes: list[Event] = []
    network(fake)

    summary = ran(model, image, tmp_path / "out", notes, tile=64, batch=4)

    plan = summary.done[0].record["plan"]
    assert [shapes[0][0] for shapes in fake.seen[:3]] == [4, 2, 1]
    assert (plan["batch"], plan["tile"]) == (1, {"y": 64, "x": 64})
    assert not [n for n in notes if isinstance(n, Note) and "a tile of" in n.text]


def test_what_fits_is_not_searched_for_again_at_each_plane(network: Fakes, tmp_path: Path) -> None:
    model, image = write_package(tmp_path / "model").parent, stored(tmp_path, planes=4)
    notes: list[Event] = []
    network(FakeBackend(local_mean(3, spatial=2), most_px=110 * 110))

    ran(model, image, tmp_path / "out", notes)

    said = [note for note in notes if isinstance(note, Note) and "memory" in note.text]
    assert len(said) == 1


def test_when_the_smallest_tile_does_not_fit_the_image_fails_and_says_so(
    network: Fakes, tmp_path: Path
) -> None:
    model, image = write_package(tmp_path / "model").parent, stored(tmp_path)
    fake = FakeBackend(local_mean(3, spatial=2), most_px=100)
    network(fake)

    summary = ran(model, image, tmp_path / "out", [])

    assert [failure.error.code for failure in summary.failed] == ["predict.out-of-memory"]
    assert fake.seen[-1][0][-1] <= 24  # of 16 + 8 n
    assert len(fake.seen) < 8


def test_a_network_of_one_size_has_no_smaller_tile(network: Fakes, tmp_path: Path) -> None:
    model = write_package(tmp_path / "model", description(size=64)).parent
    fake = FakeBackend(local_mean(3, spatial=2), most_px=100)
    network(fake)

    summary = ran(model, stored(tmp_path), tmp_path / "out", [])

    assert [failure.error.code for failure in summary.failed] == ["predict.out-of-memory"]
    assert len(fake.seen) == 1
