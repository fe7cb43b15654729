"""Labels go into the OME-Zarr that they are of: beside others', whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaozarrs
import zarr

from bmz.app.run import run
from bmz.base.errors import WrongUsage
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.image.series import content_sha256
from bmz.plan.plan import Blocks
from bmz.testing.package import description, write_package
from bmz.write.image_labels import ImageTakesNoLabels, LabelsOfOthers

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)
FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


def image_at(folder: Path, zarr_format: Literal[2, 3], size: int = 150) -> Path:
    """Write an OME-Zarr of two planes with two objects each."""
    pixels = np.zeros((2, size, 140), np.float32)
    pixels[:, 10:20, 60:75] = pixels[:, 100:110, 3:7] = 1
    axes: Any = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    scale = [{"type": "scale", "scale": [1, 0.5, 0.25]}]
    multiscale: Any = {
        "axes": [{"name": "t", "type": "time"}, *axes],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    group = zarr.create_group(folder, zarr_format=zarr_format)
    group.create_array("0", shape=pixels.shape, dtype="f4", chunks=(1, 64, 64))[:] = pixels
    if zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **multiscale}]
    return folder


def request_for(tmp_path: Path, image: Path, **more: Any) -> RunRequest:
    model = write_package(tmp_path / "model", description(halo=4)).parent
    words = {"save": frozenset({"labels", "table"}), "blocks": BLOCKS, "into_image": "cells"}
    return RunRequest(str(model), (image,), tmp_path / "out", tile=64, **{**words, **more})


def metadata(group: Path) -> dict[str, Any]:
    if (group / "zarr.json").is_file():
        attributes = json.loads((group / "zarr.json").read_text())["attributes"]
        return {**attributes.get("ome", {}), "bmz": attributes.get("bmz")}
    found: dict[str, Any] = json.loads((group / ".zattrs").read_text())
    return found


@FORMATS
def test_zarr_reads_back_the_labels_beside_others(
    zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    image = image_at(tmp_path / "a.ome.zarr", zarr_format)
    before = content_sha256(image)
    theirs = zarr.open_group(image).create_group("labels")
    theirs.create_group("manual").create_array("0", shape=(2, 150, 140), dtype="u1")
    theirs.attrs.update({"labels": ["manual"]} if zarr_format == 2 else {
        "ome": {"version": "0.5", "labels": ["manual"]}
    })  # fmt: skip

    (done,) = run(request_for(tmp_path, image)).done

    labels = image / "labels" / "cells"
    assert done.files["into-image"] == labels
    found = np.asarray(zarr.open_group(image, mode="r")["labels/cells/0"])
    assert np.array_equal(found, read_image(inspect_image(done.files["labels"])).array)
    assert metadata(image / "labels")["labels"] == ["manual", "cells"]
    known = metadata(labels)
    assert known["multiscales"][0]["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1, 0.5, 0.25]}
    ]
    assert known["image-label"]["source"] == {"image": "../../"}
    assert len(known["image-label"]["colors"]) == done.objects
    record = hashlib.sha256(done.files["record"].read_bytes()).hexdigest()
    assert known["bmz"]["record_sha256"] == record
    assert known["bmz"]["model_sha256"] == done.record["model_sha256"]
    assert content_sha256(image) == before  # of the image, whatever labels lie in it
    assert sorted(p.name for p in (image / "labels").iterdir() if p.is_dir()) == ["cells", "manual"]
    if zarr_format == 3:
        yaozarrs.validate_zarr_store(str(labels))
    info = inspect_image(labels)
    assert info.axes == "tyx"
    assert info.pixel_um == {"y": 0.5, "x": 0.25}


@FORMATS
def test_whole_and_in_parts_have_the_same_chunks(
    zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    chunks = []
    for name, memory_gb in (("whole", 1e3), ("parts", 0.0)):
        image = image_at(tmp_path / name / "a.ome.zarr", zarr_format)
        request = request_for(tmp_path / name, image, memory_gb=memory_gb)
        (done,) = run(request).done
        assert ("streamed" in done.record) == (memory_gb == 0)
        level = done.files["into-image"] / "0"
        chunks.append(
            {p.relative_to(level): p.read_bytes() for p in level.rglob("*") if p.is_file()}
        )

    assert chunks[0] == chunks[1]


@FORMATS
def test_labels_of_others_are_never_replaced(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    image = image_at(tmp_path / "a.ome.zarr", zarr_format)
    theirs = zarr.open_group(image).create_group("labels/cells")
    theirs.create_array("0", shape=(2, 150, 140), dtype="u1")

    with pytest.raises(LabelsOfOthers, match="was not written by --into-image"):
        run(request_for(tmp_path, image, overwrite=True))

    assert not (tmp_path / "out").exists()


def test_own_labels_are_replaced_where_that_is_asked_for_alone(tmp_path: Path) -> None:
    image = image_at(tmp_path / "a.ome.zarr", 3)
    request = request_for(tmp_path, image)
    run(request)

    with pytest.raises(WrongUsage, match="already exists"):
        run(replace(request, folder=tmp_path / "other"))
    (again,) = run(replace(request, overwrite=True)).done
    (resumed,) = run(replace(request, resume=True)).done

    assert metadata(image / "labels")["labels"] == ["cells"]
    assert resumed.record == again.record


def test_a_run_that_fails_leaves_the_image_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_at(tmp_path / "a.ome.zarr", 3)
    before = sorted(image.rglob("*"))

    def broken(*_words: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bmz.engine.image_result.write_record", broken)
    summary = run(request_for(tmp_path, image))

    assert summary.failed
    assert sorted(image.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.npy", "plate"])
def test_what_is_no_image_of_ome_zarr_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, np.zeros((40, 40), np.float32))
    else:
        zarr.create_group(path)

    with pytest.raises(ImageTakesNoLabels, match="--into-image cannot write to"):
        run(request_for(tmp_path, path, axes="yx"))


@pytest.mark.parametrize("name", ["../up", ".hidden", "a/b", ""])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    image = image_at(tmp_path / "a.ome.zarr", 3)

    with pytest.raises(WrongUsage, match="is not a valid name for labels"):
        run(request_for(tmp_path, image, into_image=name))


def test_labels_of_one_plane_are_refused(tmp_path: Path) -> None:
    image = image_at(tmp_path / "a.ome.zarr", 3)

    summary = run(request_for(tmp_path, image, axes="t=1"))

    assert "without taking a plane" in str(summary.failed[0].error.hint)
    assert not (image / "labels").exists()


def test_a_killed_run_leaves_no_labels_that_are_half_written(tmp_path: Path) -> None:
    image = image_at(tmp_path / "a.ome.zarr", 3, size=600)
    request = request_for(tmp_path, image)
    command = [
        sys.executable, "-m", "bmz", "run", request.model, str(image), "-o", str(request.folder),
        "--resume", "--into-image", "cells", "--save", "labels",
    ]  # fmt: skip
    for seconds in (1.0, 1.4, 1.8):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (image / "labels" / "cells").is_dir():
            assert np.asarray(zarr.open_group(image, mode="r")["labels/cells/0"]).any()

    subprocess.run(command, check=True, capture_output=True, env={**os.environ})

    assert [p.name for p in (image / "labels").iterdir() if p.is_dir()] == ["cells"]
    assert metadata(image / "labels")["labels"] == ["cells"]


def test_results_hold_no_labels_in_an_image_that_nobody_asked_for(tmp_path: Path) -> None:
    image = image_at(tmp_path / "a.ome.zarr", 3)

    (done,) = run(request_for(tmp_path, image, into_image=None)).done

    assert "into-image" not in done.files
    assert not (image / "labels").exists()
