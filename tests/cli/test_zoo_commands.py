from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from syrupy.assertion import SnapshotAssertion

from bmz.cli.main import status_of
from bmz.predict import frameworks
from bmz.testing.package import SmallZoo, description, small_zoo, write_package

Capture = pytest.CaptureFixture[str]

HEAVY = {
    "bioimageio", "pydantic", "ruyaml", "torch", "tensorflow", "onnxruntime", "numpy",
    "pandas", "xarray", "dask", "distributed",
}  # fmt: skip
"""What a warm search or show has no use for."""

SNAPSHOTS = (
    "affable-shark",  # format 0.5 with halo
    "joyful-deer",  # format 0.4, mended
    "fearless-crab",  # StarDist
    "impartial-shark",  # its id is a DOI
    "diplomatic-bug",  # six inputs, three outputs
)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallZoo]:
    """A zoo of two good models and a broken one, and an empty cache."""
    pytest.importorskip("onnx")
    write_package(tmp_path / "zoo" / "able-cat", description(halo=4))
    write_package(tmp_path / "zoo" / "busy-dog", change=lambda content: content.pop("tags"))
    (tmp_path / "zoo" / "dull-pig").mkdir()
    (tmp_path / "zoo" / "dull-pig" / "rdf.yaml").write_text("a: b: c")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("BMZ_OFFLINE", "0")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("BMZ_CACHE_PATH", raising=False)
    monkeypatch.delenv("BMZ_MIRROR", raising=False)
    monkeypatch.setattr(frameworks, "find_spec", lambda name: name == "onnxruntime")
    with small_zoo(tmp_path / "zoo") as served:
        monkeypatch.setenv("BMZ_INDEX_URL", served.index_url)
        yield served


def json_of(capsys: Capture, *words: str) -> Any:
    status_of([*words, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("zoo")
def test_search_prints_a_table_and_says_how_many(
    capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    status = status_of(["search"])

    captured = capsys.readouterr()
    assert status == 0
    assert captured.out == snapshot
    assert captured.err.startswith("6 of 6 models, as listed 20")


@pytest.mark.usefixtures("zoo")
def test_list_is_search(capsys: Capture) -> None:
    assert json_of(capsys, "list", "cat")["models"] == json_of(capsys, "search", "cat")["models"]


@pytest.mark.usefixtures("zoo")
def test_bundled_models_are_found_by_what_they_are_made_for(capsys: Capture) -> None:
    found = json_of(capsys, "list", "--modality", "Fluorescence", "--structure", "nucleus")

    assert [model["id"] for model in found["models"]] == [
        "starter/nuclei",
        "starter/nuclei-contour",
        "starter/nuclei-flows",
    ]
    assert found["models"][0]["made_for"] == {
        "modalities": ["fluorescence"],
        "structures": ["nuclei"],
        "source": "config.bmz.made_for",
    }


@pytest.mark.usefixtures("zoo")
def test_search_gives_json(capsys: Capture) -> None:
    found = json_of(capsys, "search")

    by_id = {model["id"]: model for model in found["models"]}
    assert found["schema"] == "bmz.search/1"
    assert by_id["able-cat"]["task"] == "instance-segmentation"
    assert by_id["able-cat"]["weights"] == ["onnx"]
    assert by_id["able-cat"]["dims"] == "2d"
    assert (by_id["able-cat"]["status"], by_id["able-cat"]["reason"]) == ("ok", None)
    assert by_id["able-cat"]["runs_here"] is True
    assert by_id["dull-pig"]["status"] == "broken"
    assert "not YAML" in by_id["dull-pig"]["reason"]


@pytest.mark.usefixtures("zoo")
def test_a_search_without_a_hit_answers_no(capsys: Capture) -> None:
    assert status_of(["search", "spleen"]) == 1
    assert status_of(["search", "--dims", "3d"]) == 1
    assert status_of(["search", "--modality", "em"]) == 1
    assert status_of(["search", "--task", "counting"]) == 2
    assert status_of(["search", "--structure", "banana"]) == 2
    assert "choose one of nuclei, cells, membranes" in capsys.readouterr().err
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("zoo")
def test_without_an_index_nothing_can_be_told(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("BMZ_OFFLINE", "1")

    status = status_of(["search"])

    assert status == 3
    assert "[index.unavailable]" in capsys.readouterr().err


def test_fetch_tells_sizes_first_and_loads_what_the_weights_need(
    zoo: SmallZoo, capsys: Capture
) -> None:
    status = status_of(["fetch", "able-cat"])

    captured = capsys.readouterr()
    assert status == 0
    assert re.match(r"note: able-cat: 3 files to download, [\d.]+ kB \(weights.onnx", captured.err)
    assert captured.out.startswith("able-cat: onnx, 3 files, ")
    assert not [path for path in zoo.log if path.endswith("README.md")]
    asked = len(zoo.log)
    assert status_of(["fetch", "able-cat"]) == 0
    assert "nothing new" in capsys.readouterr().out
    assert len(zoo.log) == asked


@pytest.mark.usefixtures("zoo")
def test_one_model_that_fails_never_stops_the_others(capsys: Capture) -> None:
    status = status_of(["fetch", "dull-pig", "able-bat", "busy-dog"])

    captured = capsys.readouterr()
    assert status == 1
    assert captured.out.startswith("busy-dog: onnx")
    assert "[package.invalid]" in captured.err
    assert "[model.not-found]" in captured.err


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("wanted", "files"),
    [("all", ["weights.onnx"]), ("none", []), ("onnx", ["weights.onnx"])],
)
def test_the_weights_to_fetch_can_be_chosen(capsys: Capture, wanted: str, files: list[str]) -> None:
    (fetched,) = json_of(capsys, "fetch", "able-cat", "--weights", wanted)["models"]

    tests = ["test_inputs_0.npy", "test_outputs_0.npy"]
    assert [file["name"] for file in fetched["files"]] == [*files, *tests]
    assert {file["action"] for file in fetched["files"]} == {"downloaded"}


@pytest.mark.usefixtures("zoo")
def test_weights_that_are_not_shipped_are_wrong_usage(capsys: Capture) -> None:
    assert status_of(["fetch", "able-cat", "--weights", "keras_v3"]) == 2
    assert "[weights.not-shipped]" in capsys.readouterr().err


@pytest.mark.usefixtures("zoo")
def test_weights_that_cannot_run_here_are_fetched_all_the_same(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frameworks, "find_spec", lambda _: None)

    status = status_of(["fetch", "able-cat"])

    captured = capsys.readouterr()
    assert status == 0
    assert "fetching onnx anyway" in captured.err


def test_a_changed_file_is_refused_unless_it_is_allowed(zoo: SmallZoo, capsys: Capture) -> None:
    np.save(zoo.folder / "able-cat" / "test_outputs_0.npy", np.zeros(3))

    assert status_of(["fetch", "able-cat"]) == 3
    assert "[package.hash-differs]" in capsys.readouterr().err
    assert status_of(["fetch", "able-cat", "--allow-changed"]) == 0
    assert "test_outputs_0.npy of able-cat is not the file described" in capsys.readouterr().err


def test_show_names_sizes_defects_and_other_tools(zoo: SmallZoo, capsys: Capture) -> None:
    zoo.reports["able-cat"] = {
        "tests": {
            "biapy_3.6.5": {"status": "passed", "error": None},
            "biapy_3.6.8": {"status": "failed", "error": "x"},
            "ilastik_1.4.2b10": {"status": "passed"},
        }
    }

    shown = json_of(capsys, "show", "able-cat")

    assert shown["version"] == "v0"
    assert shown["weights"][0]["size_bytes"] > 100
    assert shown["weights"][0]["fetched"] is False
    assert shown["reports"] == [
        {"tool": "biapy", "version": "3.6.8", "status": "failed"},
        {"tool": "ilastik", "version": "1.4.2b10", "status": "passed"},
    ]
    asked = len(zoo.log)
    status_of(["show", "able-cat"])
    text = capsys.readouterr().out
    assert "passed by ilastik 1.4.2b10; failed by biapy 3.6.8" in text
    assert len(zoo.log) == asked


@pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="needs onnxruntime")
def test_run_fetches_the_weights_that_it_needs(zoo: SmallZoo, capsys: Capture) -> None:
    tifffile.imwrite("a.tif", np.eye(32, dtype=np.uint8))

    status = status_of(["run", "able-cat", "a.tif", "-o", "out"])

    captured = capsys.readouterr()
    assert status == 0
    assert "1 file to download" in captured.err
    assert [path.rpartition("/")[2] for path in zoo.log if path.endswith((".onnx", ".npy"))] == [
        "weights.onnx"
    ]
    assert Path("out/a.labels.tif").is_file()


@pytest.mark.usefixtures("zoo")
def test_the_cache_is_listed_verified_and_emptied(capsys: Capture, tmp_path: Path) -> None:
    status_of(["fetch", "able-cat", "busy-dog"])
    capsys.readouterr()

    listed = json_of(capsys, "cache", "list")
    assert listed["schema"] == "bmz.cache/1"
    assert sorted(package["id"] for package in listed["packages"]) == ["able-cat", "busy-dog"]
    assert status_of(["cache", "verify"]) == 0
    assert capsys.readouterr().out.endswith("files are intact\n")
    weights = next(tmp_path.glob("cache/packages/*/weights.onnx"))
    weights.write_bytes(b"damaged")
    assert status_of(["cache", "verify"]) == 1
    assert "weights.onnx of " in capsys.readouterr().err
    assert status_of(["cache", "remove", "able-cat"]) == 0
    assert capsys.readouterr().out.startswith("removed 1 model (able-cat), ")
    assert status_of(["cache", "remove", "able-cat"]) == 3
    assert [p["id"] for p in json_of(capsys, "cache", "list")["packages"]] == ["busy-dog"]


@pytest.mark.usefixtures("zoo")
def test_the_cache_is_carried_to_a_machine_without_a_network(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status_of(["search"])
    status_of(["fetch", "able-cat"])
    assert status_of(["cache", "export", "models.zip"]) == 0
    assert "exported " in capsys.readouterr().out
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("BMZ_OFFLINE", "1")

    assert status_of(["cache", "import", "models.zip"]) == 0
    assert "imported " in capsys.readouterr().out
    assert status_of(["show", "able-cat"]) == 0
    assert status_of(["fetch", "able-cat"]) == 0
    assert status_of(["search", "able"]) == 0


@pytest.mark.usefixtures("zoo")
def test_every_cache_command_gives_json(capsys: Capture) -> None:
    status_of(["fetch", "able-cat"])
    capsys.readouterr()

    verified = json_of(capsys, "cache", "verify", "able-cat")
    exported = json_of(capsys, "cache", "export", "models.zip", "able-cat")
    removed = json_of(capsys, "cache", "remove", "able-cat")
    imported = json_of(capsys, "cache", "import", "models.zip")

    assert {file["status"] for file in verified["files"]} == {"whole"}
    assert exported["packages"] == imported["packages"]
    assert [package["id"] for package in removed["packages"]] == ["able-cat"]
    assert removed["bytes"] > 0


@pytest.mark.usefixtures("zoo")
def test_the_cache_is_listed_as_a_table(capsys: Capture) -> None:
    status_of(["fetch", "able-cat"])
    capsys.readouterr()

    assert status_of(["cache", "list", "--all"]) == 0
    captured = capsys.readouterr()
    headings, first = captured.out.splitlines()
    assert headings.split() == ["model", "version", "sha256", "files", "size", "place"]
    assert first.startswith("able-cat  v0       ")
    assert captured.err.startswith("1 model, ")


@pytest.mark.usefixtures("zoo")
def test_the_folder_of_the_cache_is_printed(capsys: Capture, tmp_path: Path) -> None:
    assert status_of(["cache", "path"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cache'}\n"


def heavy_after(*words: str) -> str:
    program = (
        "import sys; from bmz.cli.main import status_of; "
        f"status = status_of({list(words)!r}); "
        f"print(status, sorted({{m.split('.')[0] for m in sys.modules}} & {HEAVY!r}),"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stderr.decode().splitlines()[-1]


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    "words", [["search", "cat"], ["show", "able-cat"], ["fetch", "able-cat"]], ids=" ".join
)
def test_a_warm_command_loads_neither_parser_nor_framework(words: list[str]) -> None:
    status_of(["search"])
    status_of(words)

    assert heavy_after(*words) == "0 []"


@pytest.mark.parametrize("words", [["show", "./m"], ["show", "./m", "--json"]], ids=" ".join)
def test_a_local_model_is_warm_the_second_time(zoo: SmallZoo, words: list[str]) -> None:
    (zoo.folder / "able-cat").rename("m")
    status_of(words)

    assert heavy_after(*words) == "0 []"
    assert not Path("m/.bmz").exists()


@pytest.mark.usefixtures("zoo")
def test_the_sample_of_a_model_is_measured_when_it_is_fetched(tmp_path: Path) -> None:
    assert status_of(["fetch", "able-cat"]) == 0

    (kept,) = (tmp_path / "cache").rglob("measures.*.json")
    assert json.loads(kept.read_text())["note"]["value"]["0"]["dtype"] == "float32"


@pytest.mark.usefixtures("zoo")
def test_a_warm_check_loads_neither_parser_nor_framework() -> None:
    np.save("a.npy", np.random.default_rng(0).random((64, 64), dtype=np.float32))
    status_of(["check", "able-cat", "a.npy"])

    assert heavy_after("check", "able-cat", "a.npy") == "0 ['numpy']"


@pytest.fixture
def live(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the real models, served by the imitation of the live service."""
    spec = importlib.util.spec_from_file_location("serve", shared / "zoo" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.serve()
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("BMZ_OFFLINE", "0")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BMZ_INDEX_URL", f"{server.url}/collection/index.json")
    monkeypatch.setenv("BMZ_MIRROR", f"https://hypha.aicell.io={server.url}")
    monkeypatch.setattr(frameworks, "find_spec", lambda name: name == "onnxruntime")
    yield sorted(name for name in server.models if not name.startswith("ex-"))
    server.shutdown()
    server.server_close()


def test_every_live_model_is_listed_and_shown_or_says_why_not(
    live: list[str], capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    listed = {m["id"]: m["status"] for m in json_of(capsys, "list")["models"]}
    statuses = {name: shown_twice(name, capsys) for name in live}

    assert len(live) == 137
    assert set(live) <= set(listed)
    assert listed["modest-spider"] == "invalid"
    assert listed["independent-mouse"] == "broken"
    assert {name for name, status in statuses.items() if status != (0, 0)} == {
        "modest-spider",
        "independent-mouse",
    }
    for name in SNAPSHOTS:
        status_of(["show", name])
        assert stable(capsys.readouterr().out) == snapshot(name=name)
        status_of(["show", name, "--json"])
        values = json.loads(capsys.readouterr().out)
        values["folder"] = "…"
        assert values == snapshot(name=f"{name} as JSON")


def shown_twice(name: str, capsys: Capture) -> tuple[int, int]:
    text = status_of(["show", name])
    capsys.readouterr()
    as_json = status_of(["show", name, "--json"])
    printed = capsys.readouterr().out
    assert as_json or json.loads(printed)["schema"] == "bmz.show/1"
    return text, as_json


def stable(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("files"))
