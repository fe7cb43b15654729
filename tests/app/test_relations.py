"""Labels are kept within a mask, paired with its objects, and told theirs: whole and in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

import bmz
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.engine.earlier_runs import ReplayDiffers, replayed
from bmz.engine.relations import MaskOfJoined
from bmz.engine.request import RunRequest
from bmz.engine.setup import NothingToRelate
from bmz.plan.plan import Blocks
from bmz.results.images import ImageRun
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BLOCKS = Blocks(side_px=48, overlap_px=16, stack_px=4 * 48**2, least_side_px=32)
SIZE = (150, 140)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_package(tmp_path_factory.mktemp("m") / "net", description(halo=4)).parent)


def cells() -> AnyArray:
    """Draw five cells: one has a nucleus, one has two, one has none, one only its edge of one."""
    image = np.zeros(SIZE, np.float32)
    image[10:40, 10:40] = image[60:90, 20:100] = image[110:140, 10:40] = 1
    image[20:50, 70:110] = image[120:150, 100:140] = 1
    return image


def nuclei() -> AnyArray:
    mask = np.zeros(SIZE, np.uint16)
    mask[20:30, 20:30] = 7  # in the first cell
    mask[70:80, 30:40] = 3  # in the second
    mask[65:85, 80:104] = 2  # in the second, and beyond it
    mask[48:58, 80:90] = 9  # most of it beside the fourth cell
    mask[130:140, 120:130] = 4
    return mask


def written(folder: Path, mask: AnyArray | None = None) -> Path:
    tifffile.imwrite(folder / "a.tif", cells())
    tifffile.imwrite(folder / "a_mask.tif", nuclei() if mask is None else mask)
    return folder / "a.tif"


def done(model: str, image: Path, memory_gb: float = 1e3, **relations: str) -> ImageRun:
    folder = image.parent / f"out-{memory_gb:g}-{'-'.join(relations)}"
    summary = run(asked(model, image, folder, memory_gb=memory_gb, relations=relations))
    assert not summary.failed, summary.failed[0].error
    return summary.done[0]


def asked(model: str, image: Path, folder: Path, **more: Any) -> RunRequest:
    return RunRequest(model, (image,), folder, tile=64, blocks=BLOCKS, **more)


def beside(image: Path) -> str:
    return f"{image.parent}/{{stem}}_mask.tif"


@pytest.mark.parametrize("memory_gb", [1e3, 0.0], ids=["whole", "parts"])
def test_a_cell_has_the_number_of_its_nucleus_and_holds_it(
    model: str, memory_gb: float, tmp_path: Path
) -> None:
    made = done(model, written(tmp_path), memory_gb, pair=beside(tmp_path / "a.tif"))

    labels, mask = tifffile.imread(made.files["labels"]), nuclei()
    assert ("streamed" in made.record) == (memory_gb == 0)
    for number in (7, 3, 2, 4):
        assert (labels[mask == number] == number).all()
    assert not labels[mask == 9].any()
    assert set(np.unique(labels)) == {0, 2, 3, 4, 7, 10, 11}
    assert labels[100 - 1, 50] == 0
    assert {labels[75, 21], labels[75, 99]} == {3, 2}
    assert made.objects == 6
    table = pd.read_csv(made.files["table"]).set_index("label")
    assert table["paired"].to_dict() == {
        2: True, 3: True, 4: True, 7: True, 10: False, 11: False,
    }  # fmt: skip
    assert table["area_px"].to_dict() == {n: int((labels == n).sum()) for n in table.index}


@pytest.mark.parametrize("kind", ["pair", "mask", "parent"])
def test_in_parts_it_is_as_in_one_piece(model: str, kind: str, tmp_path: Path) -> None:
    image = written(tmp_path)

    whole, parts = (
        done(model, image, memory_gb, **{kind: beside(image)}) for memory_gb in (1e3, 0.0)
    )

    for name in ("labels", "table"):
        assert whole.files[name].read_bytes() == parts.files[name].read_bytes()


def test_labels_are_kept_within_a_mask_and_numbered_anew(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)

    labels = tifffile.imread(done(model, image, mask=beside(image)).files["labels"])

    assert np.array_equal(labels > 0, (cells() > 0) & (nuclei() > 0))
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}


def test_each_object_is_told_in_which_of_a_mask_it_lies(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)

    table = pd.read_csv(done(model, image, parent=beside(image)).files["table"])

    parents = table.set_index(table["centroid_y_px"].round(1))["parent"].to_dict()
    assert parents[24.5] == 7
    assert parents[74.5] == 2
    assert np.isnan(np.float64(parents[124.5]))


@pytest.mark.parametrize("memory_gb", [1e3, 0.0], ids=["whole", "parts"])
def test_each_plane_of_a_stack_is_paired_with_its_own(
    model: str, memory_gb: float, tmp_path: Path
) -> None:
    mask = np.stack([nuclei(), np.where(nuclei() > 0, nuclei() + 20, 0)]).astype(np.uint16)
    for name, pixels in (("a.tif", np.stack([cells(), cells()])), ("a_mask.tif", mask)):
        tifffile.imwrite(tmp_path / name, pixels, metadata={"axes": "ZYX"}, ome=True)

    made = done(model, tmp_path / "a.tif", memory_gb, pair=beside(tmp_path / "a.tif"))

    labels = tifffile.imread(made.files["labels"])
    for number in (7, 3, 2, 4, 27, 23, 22, 24):
        assert (labels[mask == number] == number).all()
    assert len(np.unique(labels[0])) == len(np.unique(labels[1])) == 7
    assert not set(np.unique(labels[0])) & set(np.unique(labels[1])) - {0}


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (np.ones((150, 100), np.uint8), "relation.grid"),
        (np.ones(SIZE, np.float32), "relation.no-labels"),
        (np.full(SIZE, -1, np.int16), "relation.no-labels"),
        (None, "image.not-found"),
    ],
    ids=["grid", "floats", "negative", "absent"],
)
def test_a_mask_that_cannot_be_one_fails_its_image(
    mask: AnyArray | None, code: str, model: str, tmp_path: Path
) -> None:
    image = written(tmp_path, mask)
    if mask is None:
        (tmp_path / "a_mask.tif").unlink()

    summary = run(asked(model, image, tmp_path / "out", relations={"pair": beside(image)}))

    assert [failure.error.code for failure in summary.failed] == [code]


def test_what_cannot_be_brought_together_is_refused(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)
    relations = {"pair": beside(image)}

    with pytest.raises(NothingToRelate):
        run(
            asked(
                model, image, tmp_path / "out",
                relations=relations, recipe="none", save=frozenset({"raw"}),
            )
        )  # fmt: skip
    with pytest.raises(MaskOfJoined):
        run(asked(model, image, tmp_path / "out", relations=relations, link={"z": 0.5}))


def test_the_mask_stands_in_the_record_which_is_repeated_and_resumed_with_it(
    model: str, tmp_path: Path
) -> None:
    image = written(tmp_path)
    request = asked(model, image, tmp_path / "out", relations={"pair": beside(image)})
    first = run(request).done[0]
    wish = RunRequest("", (), tmp_path / "again", blocks=BLOCKS)

    repeated = run(replayed(first.files["record"], wish)).done[0]
    resumed = run(replace(request, resume=True)).done[0]
    when = first.files["labels"].stat().st_mtime_ns
    tifffile.imwrite(tmp_path / "a_mask.tif", nuclei() * 2)
    other = run(replace(request, resume=True)).done[0]

    assert (
        first.record["relations"]["pair"]["sha256"] != other.record["relations"]["pair"]["sha256"]
    )
    assert repeated.files["labels"].read_bytes() != other.files["labels"].read_bytes()
    assert resumed.record == first.record
    assert when != other.files["labels"].stat().st_mtime_ns
    with pytest.raises(ReplayDiffers, match="mask 'pair'"):
        replayed(repeated.files["record"], wish)


@pytest.mark.parametrize("kind", ["result", "array", "path"])
def test_python_brings_results_together(model: str, kind: str, tmp_path: Path) -> None:
    image = written(tmp_path)
    loaded = bmz.load(model)
    first = loaded.run((nuclei() > 0).astype(np.float32), axes="yx")
    assert first.labels is not None
    tifffile.imwrite(tmp_path / "m.tif", np.asarray(first.labels))
    given: Mapping[str, Any] = {
        "result": first, "array": np.asarray(first.labels), "path": tmp_path / "m.tif",
    }  # fmt: skip

    result = loaded.run(image, pair=given[kind])

    assert result.labels is not None
    mask, labels = np.asarray(first.labels), np.asarray(result.labels)
    kept = [n for n in range(1, first.objects + 1) if (labels[mask == n] == n).all()]
    assert len(kept) == 4
    assert result.table()["paired"].sum() == 4


def test_the_words_of_the_command_line_are_these(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)
    words = ["run", model, str(image), "-o", str(tmp_path / "out"), "--parent", beside(image)]

    assert status_of(words) == 0
    assert "parent" in pd.read_csv(tmp_path / "out" / "a.objects.csv")


@pytest.mark.parametrize("memory", ["1000", "0.0001"], ids=["whole", "parts"])
def test_cells_of_the_seed_image_have_one_nucleus_each(
    shared: Path, memory: str, tmp_path: Path
) -> None:
    image = shared / "data" / "neubias" / "xyc_8bit__membranes_nuclei.tif"
    cyto = str(shared / "models" / "cellpose-cyto")
    more = ["--memory", memory, str(image), "-o"]
    masks = f"{tmp_path}/nuclei/{{stem}}.labels.tif"

    first = status_of(["run", "starter/nuclei", "--channels", "1", *more, f"{tmp_path}/nuclei"])
    second = status_of(["run", cyto, "--scale", "0.5", "--pair", masks, *more, f"{tmp_path}/cells"])

    assert (first, second) == (0, 0)
    seen, found = (
        tifffile.imread(tmp_path / step / f"{image.stem}.labels.tif")
        for step in ("nuclei", "cells")
    )
    held = [np.unique(seen[(found == n) & (seen > 0)]) for n in np.unique(found[found > 0])]
    with_nucleus = [numbers for numbers in held if len(numbers)]
    single = [numbers for numbers in with_nucleus if len(numbers) == 1]
    assert len(with_nucleus) >= 30
    assert len(single) >= 0.95 * len(with_nucleus)
    assert all((found[seen == n[0]] == n[0]).all() for n in single)
