"""What a trial of two tiles says, and what the plan makes of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from bmz.app.run import plan_run, run
from bmz.base import computer
from bmz.base.computer import held_memory, peak_memory
from bmz.engine import memory as trial
from bmz.engine.memory import try_run
from bmz.engine.request import RunRequest
from bmz.predict.backend import Device
from bmz.report.run_text import plan_json, plan_lines
from bmz.results.images import ImagePlan
from bmz.testing.backend import FakeBackend, pointwise
from bmz.testing.package import Description, description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of the peak")


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", np.zeros((900, 1000), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((900, 1000), np.float32))
    images = (tmp_path / "a.npy", tmp_path / "b.npy")
    return RunRequest(model, images, tmp_path / "out", axes="yx")


@linux
def test_the_peak_within_a_block_is_measured() -> None:
    with peak_memory() as peak:
        np.ones(2**27, np.uint8)  # larger than what malloc hands out of what it holds

    assert peak.bytes_more is not None
    assert peak.bytes_more >= 2**26
    assert held_memory() > 2**24


def test_a_system_that_does_not_tell_gives_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computer, "_status", lambda _: None)

    with peak_memory() as peak:
        pass

    assert peak.bytes_more is None
    assert held_memory() == 0


def test_the_memory_of_a_gpu_is_not_that_of_the_program() -> None:
    backend = FakeBackend(pointwise, device=Device("cuda", 0))

    assert try_run(backend, [np.zeros((1, 1, 8, 8), np.float32)]).peak_bytes is None


@linux
def test_the_plan_tells_of_time_and_memory(request_: RunRequest) -> None:
    first, second = plan_run(request_)

    assert isinstance(first, ImagePlan)
    assert isinstance(second, ImagePlan)
    assert first.estimate is not None
    assert first.estimate == second.estimate  # images of one size are tried once
    text = "\n".join(words for _, words in plan_lines(first))
    assert re.search(r"time +about [\d.e-]+ s for the network, [\d.e-]+ s a tile", text)
    assert re.search(r"peak +about [\d.]+ GB of [\d.]+ GB free: program", text)
    (told, _) = json.loads(plan_json("m", [first, second]))["plans"]
    assert told["estimate"]["network_s"] == first.estimate.network_s
    assert first.estimate.network_s >= first.estimate.run_s > 0


@linux
def test_a_small_memory_gets_small_tiles(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_bytes_a_pixel", lambda *_: 1000.0)
    (usual, _) = plan_run(request_)
    monkeypatch.setattr(trial, "free_memory", lambda: 2 * 1000 * 200**2)

    (small, _) = plan_run(request_)

    assert isinstance(usual, ImagePlan)
    assert isinstance(small, ImagePlan)
    assert small.plan.tiling.count > usual.plan.tiling.count
    assert small.estimate is not None
    assert small.estimate.workers == 1


def sees_everything(content: Description) -> None:
    content["config"] = {"bmz": {"receptive_field": {"global_context": True}}}


@pytest.mark.parametrize("room_px", [2500, 1800])
def test_a_network_that_sees_the_whole_image_is_run_in_tiles_as_large_as_memory_allows(
    room_px: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_package(tmp_path / "m", description(halo=4), change=sees_everything).parent
    np.save(tmp_path / "a.npy", np.zeros((2400, 2400), np.float32))
    monkeypatch.setattr(trial, "_bytes_a_pixel", lambda *_: 100.0)
    monkeypatch.setattr(trial, "free_memory", lambda: 2 * 100 * room_px**2)
    request = RunRequest(str(model), (tmp_path / "a.npy",), tmp_path / "out", axes="yx")

    (planned,) = plan_run(request)
    (done,) = run(request).done

    assert isinstance(planned, ImagePlan)
    assert done.record["plan"]["tiles"] == (1 if room_px > 2400 else 4)
    assert done.record["plan"]["tile"] == planned.plan.tiling.tile
    told = done.record["plan"]["whole_image_network"]
    assert (told is None) == (room_px > 2400)
    if told is not None:
        assert "4 tiles" in told
