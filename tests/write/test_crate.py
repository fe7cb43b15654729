"""A folder of results is a Process Run Crate, which rocrate reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.app.run import run
from bmz.base.errors import WrongUsage
from bmz.engine.request import RunRequest
from bmz.testing.package import description, write_package
from bmz.write.crate import CRATE_FILE, write_crate

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

RAN: dict[str, Any] = {"axes": "yx", "tile": 64, "overwrite": True}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    image = np.zeros((70, 60), np.float32)
    image[10:20, 30:45] = 1
    for name in ("a", "b c"):
        np.save(tmp_path / f"{name}.npy", image)
    model = write_package(tmp_path / "model", description(halo=4)).parent
    images = tuple(tmp_path / f"{name}.npy" for name in ("a", "b c"))
    save = frozenset({"labels", "table", "rois", "crate"})
    summary = run(RunRequest(str(model), images, tmp_path / "out", save=save, **RAN))
    assert len(summary.done) == 2
    assert all("crate" not in done.files for done in summary.done)
    return tmp_path / "out"


def entities(folder: Path) -> dict[str, dict[str, Any]]:
    document = json.loads((folder / CRATE_FILE).read_text(encoding="utf-8"))
    found = {entity["@id"]: entity for entity in document["@graph"]}
    assert len(found) == len(document["@graph"])
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for one in value for found in references(one)]
    return [value["@id"]] if isinstance(value, dict) else []


def test_rocrate_reads_who_made_what_of_what(results: Path) -> None:
    rocrate = pytest.importorskip("rocrate.rocrate")

    crate = rocrate.ROCrate(results)

    assert crate.root_dataset["conformsTo"].id == "https://w3id.org/ro/wfrun/process/0.5"
    actions = crate.get_by_type("CreateAction")
    assert len(actions) == 2
    for action in actions:
        assert action["instrument"]["name"] == "bmz"
        assert {entity.type for entity in action["object"]} >= {"ImageObject", "PropertyValue"}
        assert all(entity.type == "File" for entity in action["result"])
        assert len(action["result"]) == 4
    files = [entity for entity in crate.data_entities if entity.type == "File"]
    assert all(Path(file.source).is_file() for file in files)


def test_the_rules_of_the_profile_hold(results: Path) -> None:
    found = entities(results)

    root = found["./"]
    assert found[CRATE_FILE]["about"] == {"@id": "./"}
    assert {"name", "description", "datePublished", "license", "hasPart"} <= set(root)
    elsewhere = ("https://w3id.org/ro/crate/1.1", "http://schema.org/CompletedActionStatus")
    for entity in found.values():
        assert set(references(list(entity.values()))) <= {*found, *elsewhere}
    actions = [entity for entity in found.values() if entity["@type"] == "CreateAction"]
    assert root["mentions"] == [{"@id": action["@id"]} for action in actions]
    for action in actions:
        assert found[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
        assert {"name", "endTime", "object", "result"} <= set(action)
        for file in action["result"]:
            assert file in root["hasPart"]
    record = json.loads((results / "a.run.json").read_text(encoding="utf-8"))
    assert found[f"#image-{record['image_sha256']}"]["sha256"] == record["image_sha256"]
    assert found[f"#model-{record['model_sha256']}"]["identifier"] == record["model"]
    assert "b%20c.rois.zip" in found


def test_a_crate_of_others_is_never_replaced(results: Path) -> None:
    (results / CRATE_FILE).write_text('{"@graph": []}', encoding="utf-8")

    with pytest.raises(WrongUsage, match="was not written by bmz"):
        write_crate(results)
    request = RunRequest(
        str(results.parent / "model"), (results.parent / "a.npy",), results,
        save=frozenset({"labels", "crate"}), **RAN,
    )  # fmt: skip
    with pytest.raises(WrongUsage, match="was not written by bmz"):
        run(request)


def test_files_that_are_no_records_are_left_out(results: Path) -> None:
    (results / "x.run.json").write_text("no record", encoding="utf-8")
    (results / "y.run.json").write_text('{"schema": "other/1"}', encoding="utf-8")

    write_crate(results)

    actions = [one for one in entities(results).values() if one["@type"] == "CreateAction"]
    assert len(actions) == 2
