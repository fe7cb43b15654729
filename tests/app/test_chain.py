"""Several models, one after the other: numbers are shared, and one record and table hold all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

import bmz
from bmz.app.chain import (
    Chain,
    ChainNotFound,
    ChainUnreadable,
    ChainWithoutMasks,
    plan_chain,
    run_chain,
)
from bmz.app.compare import CompareRequest, compare
from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.engine.request import RunRequest
from bmz.plan.plan import Blocks
from bmz.results.images import ChainedImage, ImagePlan
from bmz.testing.package import Description, description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BLOCKS = Blocks(side_px=48, overlap_px=16, stack_px=4 * 48**2, least_side_px=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_package(tmp_path_factory.mktemp("m") / "net", description(halo=4)).parent)


def steps(model: str, **of_cells: Any) -> Chain:
    """Give a chain of nuclei, cells with one nucleus each, and organelles in the cells."""
    return Chain.of(
        {
            "step": [
                {"name": "nuclei", "model": model, "channels": [1]},
                {"name": "cells", "model": model, "channels": "0", "pair": "from:1", **of_cells},
                {"name": "dots", "model": model, "channels": 2, "parent": "from:cells"},
            ]
        }
    )


def picture() -> AnyArray:
    """Draw cells, nuclei and dots, a channel each: of four cells one has two nuclei, one none."""
    channels = np.zeros((3, 150, 140), np.float32)
    cells, nuclei, dots = channels
    cells[10:40, 10:40] = cells[60:90, 20:100] = cells[110:140, 10:40] = cells[20:50, 70:110] = 1
    nuclei[20:30, 20:30] = nuclei[70:80, 30:40] = nuclei[65:85, 80:95] = nuclei[30:40, 80:90] = 1
    dots[15:18, 30:33] = dots[35:38, 12:15] = dots[70:74, 50:54] = dots[100:104, 120:124] = 1
    return channels


def written(folder: Path, name: str = "a.tif", channels: int = 3) -> Path:
    pixels = picture()[:channels]
    tifffile.imwrite(folder / name, pixels, metadata={"axes": "CYX"}, ome=True)
    return folder / name


def asked(folder: Path, *images: Path, **more: Any) -> RunRequest:
    return RunRequest("", images, folder, tile=64, blocks=BLOCKS, **more)


def test_cells_share_the_numbers_of_nuclei_and_hold_dots(model: str, tmp_path: Path) -> None:
    summary = run_chain(steps(model), asked(tmp_path / "out", written(tmp_path)))

    (done,) = summary.done
    nuclei, cells, dots = (
        tifffile.imread(done.steps[name].files["labels"]) for name in ("nuclei", "cells", "dots")
    )
    assert all((cells[nuclei == n] == n).all() for n in range(1, 5))
    assert done.table is not None
    table = pd.read_csv(done.table).set_index("label")
    assert table.index.tolist() == [1, 2, 3, 4, 5]
    assert table["nuclei_area_px"].notna().to_list() == [True, True, True, True, False]
    assert table["cells_area_px"].to_list() == [int((cells == n).sum()) for n in table.index]
    inside = {n: np.unique(dots[(cells == n) & (dots > 0)]) for n in table.index}
    assert table["dots_count"].to_dict() == {n: len(found) for n, found in inside.items()}
    assert sorted(table["dots_count"]) == [0, 0, 0, 1, 2]
    assert table["dots_area_px"].sum() == 9 + 9 + 16
    assert len(table) == 5


def test_in_parts_a_chain_gives_what_it_gives_in_one_piece(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)

    whole, parts = (
        run_chain(steps(model), asked(tmp_path / f"{gb:g}", image, memory_gb=gb)).done[0]
        for gb in (1e3, 0.0)
    )

    assert whole.table is not None
    assert parts.table is not None
    assert whole.table.read_bytes() == parts.table.read_bytes()
    for name, step in whole.steps.items():
        assert "streamed" in parts.steps[name].record
        for kind in ("labels", "table"):
            assert step.files[kind].read_bytes() == parts.steps[name].files[kind].read_bytes()


def test_the_record_holds_every_step(model: str, tmp_path: Path) -> None:
    (done,) = run_chain(steps(model), asked(tmp_path / "out", written(tmp_path))).done

    document = json.loads(done.record.read_text(encoding="utf-8"))

    assert document["schema"] == "bmz.chain/1"
    (image,) = document["images"]
    assert [step["name"] for step in image["steps"]] == ["nuclei", "cells", "dots"]
    for step in image["steps"]:
        own = json.loads((done.record.parent / step["record"]).read_text(encoding="utf-8"))
        assert own == step["run"]
    cells = image["steps"][1]["run"]
    assert cells["request"]["relations"] == {"pair": "from:nuclei"}
    assert Path(cells["relations"]["pair"]["image"]) == done.steps["nuclei"].files["labels"]


def test_a_chain_goes_on_where_it_was_stopped(model: str, tmp_path: Path) -> None:
    request = asked(tmp_path / "out", written(tmp_path))
    first = run_chain(steps(model), request).done[0]
    before = {name: step.files["labels"].stat().st_mtime_ns for name, step in first.steps.items()}
    masks = {name: step.files["labels"].read_bytes() for name, step in first.steps.items()}
    first.steps["cells"].files["labels"].unlink()

    again = run_chain(steps(model), replace(request, resume=True)).done[0]

    after = {name: step.files["labels"].stat().st_mtime_ns for name, step in again.steps.items()}
    assert {name for name in after if after[name] == before[name]} >= {"nuclei", "dots"}
    assert {n: step.files["labels"].read_bytes() for n, step in again.steps.items()} == masks


def test_an_image_that_does_not_fit_a_later_step_is_run_by_none(model: str, tmp_path: Path) -> None:
    good, bad = written(tmp_path, "good.tif"), written(tmp_path, "bad.tif", channels=2)

    summary = run_chain(steps(model), asked(tmp_path / "out", good, bad))

    assert [done.image for done in summary.done] == [good]
    assert [(f.image, f.error.code) for f in summary.failed] == [(bad, "channel.count")]
    assert not list((tmp_path / "out").rglob("bad.*"))
    assert summary.exit_status == 1


def test_several_images_have_one_joint_table(model: str, tmp_path: Path) -> None:
    images = [written(tmp_path, name) for name in ("a.tif", "b.tif")]

    run_chain(steps(model), asked(tmp_path / "out", *images))

    table = pd.read_csv(tmp_path / "out" / "chain.csv")
    assert table.groupby("image").size().to_dict() == {"a.tif": 5, "b.tif": 5}


def test_the_plan_tells_of_every_step_and_writes_nothing(model: str, tmp_path: Path) -> None:
    planned = list(plan_chain(steps(model), asked(tmp_path / "out", written(tmp_path))))

    assert [(step.name, dict(step.relations)) for step in planned] == [
        ("nuclei", {}),
        ("cells", {"pair": "from:nuclei"}),
        ("dots", {"parent": "from:cells"}),
    ]
    plans = [image for step in planned for image in step.images]
    assert [p.plan.channels for p in plans if isinstance(p, ImagePlan)] == [
        ((1,),), ((0,),), ((2,),),
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()


def two_inputs() -> Description:
    """Describe a network of an image and a mask, which gives both back."""
    content = description(halo=4)
    content["inputs"].append(json.loads(json.dumps(content["inputs"][0])) | {"id": "seen"})
    like = json.loads(json.dumps(content["outputs"][0])) | {"id": "found"}
    for axis in like["axes"][2:]:
        axis["size"] = {"tensor_id": "seen", "axis_id": axis["id"]}
    content["outputs"].append(like)
    return content


def test_the_mask_of_a_step_may_be_an_input_of_the_next(model: str, tmp_path: Path) -> None:
    second = str(write_package(tmp_path / "two", two_inputs()).parent)
    chain = Chain.of(
        {
            "step": [
                {"name": "nuclei", "model": model, "channels": [1]},
                {
                    "model": second, "channels": [0],
                    "input": {"seen": "from:nuclei"}, "set": {"output": "found"},
                },
            ]
        }
    )  # fmt: skip

    (done,) = run_chain(chain, asked(tmp_path / "out", written(tmp_path))).done

    assert isinstance(done, ChainedImage)
    first, last = (tifffile.imread(step.files["labels"]) for step in done.steps.values())
    assert np.array_equal(first > 0, last > 0)
    assert done.table is None


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([], "no \\[\\[step\\]\\]"),
        ([{"name": "a"}], "has no model"),
        ([{"model": "m", "prompt": "x"}], "has prompt"),
        ([{"model": "m", "pair": "from:1"}], "no earlier step has that name"),
        ([{"model": "m"}, {"model": "m", "pair": "from:2"}], "no earlier step has that name"),
        ([{"model": "m", "name": "a/b"}], "not a valid folder name"),
        ([{"model": "m", "name": "a"}, {"model": "m", "name": "a"}], "or is used twice"),
        ([{"model": "m", "scale": "big"}], "a factor"),
        ([{"model": "m", "channels": [""]}], "channel"),
        ([{"model": "m", "set": 3}], "a table"),
        ([{"model": "m", "tile": True}], "a number"),
        ([{"model": 3}], "wanted a text"),
        (["m"], "is not a table"),
    ],
)
def test_a_chain_that_is_none_is_refused_with_the_reason(entries: list[Any], why: str) -> None:
    with pytest.raises(ChainUnreadable, match=why):
        Chain.of({"step": entries})


def test_a_chain_needs_the_masks_of_its_steps(model: str, tmp_path: Path) -> None:
    request = asked(tmp_path / "out", written(tmp_path), save=frozenset({"table"}))

    with pytest.raises(ChainWithoutMasks, match="nuclei, cells"):
        run_chain(steps(model), request)


TOML = """
[[step]]
name = "nuclei"
model = "{model}"
channels = [1]

[[step]]
name = "cells"
model = "{model}"
channels = [0]
pair = "from:nuclei"
"""


@pytest.mark.parametrize("words", [[], ["--plan"]], ids=["run", "plan"])
def test_a_file_is_run_from_the_terminal_and_from_python(
    words: list[str], model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, file = written(tmp_path), tmp_path / "pair.toml"
    file.write_text(TOML.format(model=model), encoding="utf-8")
    call = ["run", str(file), str(image), "-o", str(tmp_path / "out"), *words]

    shown = status_of(call), capsys.readouterr().out
    printed = status_of([*call, "--json", "--overwrite"]), json.loads(capsys.readouterr().out)
    done = bmz.Chain.read(file).run([image], tmp_path / "python").done

    assert (shown[0], printed[0]) == (0, 0)
    assert "cells" in shown[1]
    assert printed[1]["schema"] == ("bmz.chain-plan/1" if words else "bmz.chain/1")
    assert [step.objects for step in done[0].steps.values()] == [4, 5]


def test_files_that_are_no_chain_and_options_without_use_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[[step]\n", encoding="utf-8")
    image = written(tmp_path)
    call = ["run", str(tmp_path / "a.toml"), str(image), "-o", str(tmp_path / "out")]

    assert status_of(call) == 2
    assert status_of([*call, "--watch"]) == 2
    assert status_of(["run", str(tmp_path / "none.toml"), *call[2:]]) == 3
    with pytest.raises(ChainNotFound, match="there is no file"):
        Chain.read(tmp_path / "none.toml")


def logits(objects: AnyArray) -> AnyArray:
    """Give maps of background, border and inside, as HPA's networks do, of labelled objects."""
    inside = objects > 0
    border = np.zeros(objects.shape, np.bool_)
    for axis in (0, 1):
        for step in (-1, 1):
            border |= inside & (np.roll(objects, step, axis) != objects)
    maps = np.stack([~inside, border, inside & ~border])
    return np.where(maps, 5, -5).astype(np.float32)


HPA: Mapping[str, Any] = {
    "recipe": "contour",
    "set": {
        "activation": "softmax", "channels": "-+C+F",
        "foreground_threshold": 0.4, "contour_threshold": 0.05,
    },
}  # fmt: skip


def test_the_pair_of_hpa_gives_touching_cells_the_numbers_of_their_nuclei(tmp_path: Path) -> None:
    three = str(write_package(tmp_path / "net", description(channels=3, halo=4)).parent)
    nuclei, cells = (np.zeros((96, 112), np.int64) for _ in range(2))
    for number, (y, x) in enumerate([(8, 8), (8, 48), (48, 8), (48, 48)], start=1):
        cells[y : y + 40, x : x + 40] = number
        nuclei[y + 12 : y + 26, x + 14 : x + 28] = number
    image = tmp_path / "hpa.tif"
    pixels = np.concatenate([logits(nuclei), logits(cells)])
    tifffile.imwrite(image, pixels, metadata={"axes": "CYX"}, ome=True)
    chain = Chain.of(
        {
            "step": [
                {"name": "nuclei", "model": three, "channels": [0, 1, 2], **HPA},
                {"name": "cells", "model": three, "channels": [3, 4, 5], "pair": "from:1", **HPA},
            ]
        }
    )

    (done,) = run_chain(chain, asked(tmp_path / "out", image)).done

    seen, found = (tifffile.imread(step.files["labels"]) for step in done.steps.values())
    assert set(np.unique(seen)) == set(np.unique(found)) == {0, 1, 2, 3, 4}
    for number in range(1, 5):
        of_nucleus = np.unique(nuclei[(seen == number) & (nuclei > 0)])
        of_cell = np.unique(cells[(found == number) & (cells > 0)])
        assert of_nucleus.tolist() == of_cell.tolist()


@pytest.mark.parametrize("memory", ["1000", "0.0001"], ids=["whole", "parts"])
def test_cells_of_the_seed_image_have_one_nucleus_each_and_one_row(
    shared: Path, memory: str, tmp_path: Path
) -> None:
    image = shared / "data" / "neubias" / "xyc_8bit__membranes_nuclei.tif"
    chain: Mapping[str, Any] = {
        "step": [
            {"name": "nuclei", "model": "starter/nuclei", "channels": [1]},
            {
                "name": "cells", "model": str(shared / "models" / "cellpose-cyto"),
                "scale": 0.5, "pair": "from:nuclei",
            },
        ]
    }  # fmt: skip
    request = RunRequest("", (image,), tmp_path / "out", memory_gb=float(memory))

    (done,) = run_chain(Chain.of(chain), request).done

    nuclei, cells = (tifffile.imread(step.files["labels"]) for step in done.steps.values())
    held = [np.unique(nuclei[(cells == n) & (nuclei > 0)]) for n in np.unique(cells[cells > 0])]
    single = [numbers for numbers in held if len(numbers) == 1]
    assert len(single) >= 0.95 * sum(len(numbers) > 0 for numbers in held) >= 30
    assert all((cells[nuclei == n[0]] == n[0]).all() for n in single)
    assert done.table is not None
    table = pd.read_csv(done.table)
    both = table["nuclei_area_px"].notna() & table["cells_area_px"].notna()
    assert both.sum() == len(single)
    assert (table.loc[both, "cells_area_px"] >= table.loc[both, "nuclei_area_px"]).all()


@pytest.mark.slow
def test_workers_share_the_images_of_each_step(model: str, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    images = [written(tmp_path, name) for name in ("a.tif", "b.tif")]

    here = run_chain(steps(model), asked(tmp_path / "one", *images)).done
    there = run_chain(steps(model), asked(tmp_path / "two", *images, workers=2)).done

    assert len(there) == 2
    for one, other in zip(here, there, strict=True):
        assert one.table is not None
        assert other.table is not None
        assert one.table.read_bytes() == other.table.read_bytes()


def pair_file(folder: Path, model: str, of_cells: str = "") -> Path:
    """Write a chain of nuclei and cells."""
    text = (
        f'[[step]]\nname = "nuclei"\nmodel = "{model}"\nchannels = [1]\n\n[[step]]\nname = "cells"'
        f'\nmodel = "{model}"\nchannels = [0]\npair = "from:1"\n{of_cells}'
    )
    (folder / "pair.toml").write_text(text, encoding="utf-8")
    return folder / "pair.toml"


@pytest.mark.parametrize("form", ["text", "json", "junit", "sarif", "github"])
def test_each_image_is_checked_for_each_step(
    form: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = pair_file(tmp_path, model)
    two = written(tmp_path, "two.tif", channels=1)

    status = status_of(["check", str(chain), str(written(tmp_path)), str(two), "--format", form])

    text = capsys.readouterr().out
    assert status == 1
    assert ("step nuclei" in text) or form == "json"
    if form == "json":
        document = json.loads(text)
        assert document["model"] == str(chain)
        verdicts = {(Path(i["image"]).name, i["step"]): i["verdict"] for i in document["images"]}
        assert verdicts["two.tif", "nuclei"] == "mismatch" or verdicts["two.tif", "nuclei"] is None
        assert verdicts["a.tif", "nuclei"] != "mismatch"
        assert len(verdicts) == 4


def test_a_step_whose_input_is_still_to_be_made_is_left_out_of_the_check(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = pair_file(tmp_path, model, 'input = { image = "from:1" }')

    status = status_of(["check", str(chain), str(written(tmp_path))])

    told = capsys.readouterr()
    assert status == 0
    assert "step nuclei" in told.out
    assert "step cells" not in told.out
    assert "the mask of another step" in told.err


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("check CHAIN IMAGE --contract c.toml", 2, "a contract covers one model"),
        ("check no.toml IMAGE", 3, "chain.not-found"),
        ("run CHAIN IMAGE -o out --from out/a.run.json", 2, "one record per step"),
        ("run -o out --from RECORD", 3, "it describes a chain"),
    ],
)
def test_what_does_not_go_with_a_chain_is_told_with_the_reason(
    words: str, status: int, told: str, model: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    record = tmp_path / "a.chain.json"
    record.write_text('{"schema": "bmz.chain/1", "images": [], "failed": []}', encoding="utf-8")
    names = {"CHAIN": pair_file(tmp_path, model), "IMAGE": written(tmp_path), "RECORD": record}

    actual = status_of([str(names.get(word, word)) for word in words.split()])

    assert (actual, told in " ".join(capsys.readouterr().err.split())) == (status, True)


def test_a_chain_is_compared_with_a_model_by_the_masks_of_its_last_step(
    model: str, tmp_path: Path
) -> None:
    image, chain = written(tmp_path), pair_file(tmp_path, model)
    truth = (picture()[0] > 0).astype(np.uint8)
    request = CompareRequest(
        (image,), (model, str(chain), "no.toml"), {"threshold": ("0.4", "0.5")}, None,
        stability=False, options=RunRequest("", (), Path(), channels=(0,), force=True),
    )  # fmt: skip

    (compared,) = compare(request).images

    results = {Path(result.model).name: result for result in compared.results}
    chained = results["pair.toml"]
    assert chained.labels is not None
    mask = np.squeeze(chained.labels.array)
    assert ((mask > 0) == (truth > 0)).all()
    assert chained.objects == 5  # with nuclei as seeds: one of the four cells has two
    assert len(chained.table["area_px"]) == 5
    assert chained.settings == {}
    assert f"bmz run {chain}" in chained.command
    assert results["no.toml"].error is not None
    assert chained.quality.agreement is not None
