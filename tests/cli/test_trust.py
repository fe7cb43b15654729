"""The code of a model on the command line: refused, allowed once, allowed for good."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from bmz.cli.main import status_of
from bmz.engine import load
from bmz.predict import confined
from bmz.predict.confine import means_here
from bmz.testing.package import (
    Description,
    description,
    put_state_dict,
    sha256_of,
    write_package,
)

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

Capture = pytest.CaptureFixture[str]
confining = pytest.mark.skipif(
    any(means_here().values()), reason=f"this computer cannot confine: {means_here()}"
)

NET = """
import os
import torch

MARKER = {marker!r}
try:
    with open(MARKER, "w") as stream:
        stream.write("the code was here")
except OSError:
    pass

class Net(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(float(factor)))

    def forward(self, image):
        return image * self.factor
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that is code, with an image of two squares."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    write_state_dict_package(tmp_path / "net")
    image = np.zeros((60, 44), np.float32)
    image[4:12, 4:12] = 1
    image[30:50, 20:40] = 1
    tifffile.imwrite(tmp_path / "a.tif", image)
    return tmp_path


def write_state_dict_package(folder: Path) -> None:
    def as_state_dict(content: Description) -> None:
        code = NET.format(marker=str(folder.parent / "marker"))
        put_state_dict(folder, content, code, {"factor": torch.tensor(1.0)}, {"factor": 2})

    write_package(folder, description(halo=4), change=as_state_dict)


def labels_of(folder: Path) -> Any:
    return tifffile.imread(folder / "out" / "a.labels.tif")


def test_code_is_refused_and_told_and_was_not_run(folder: Path, capsys: Capture) -> None:
    status = status_of(["run", "./net", "a.tif", "-o", "out"])

    told = capsys.readouterr().err
    assert status == 3
    assert "runs its own code, which is not allowed yet: Net of net.py" in told
    assert sha256_of(folder / "net" / "net.py")[:12] in told
    assert "imports os, torch" in told
    assert "[package.runs-code]" in told
    assert f"'bmz trust add {folder / 'net'}'" in told or "'bmz trust add net'" in told
    assert not (folder / "marker").exists()
    assert not (folder / "out").exists()


def test_the_check_says_so_too_and_runs_nothing(folder: Path, capsys: Capture) -> None:
    refused = status_of(["check", "./net", "a.tif", "--json"])
    findings = json.loads(capsys.readouterr().out)["images"][0]["findings"]
    allowed = status_of(["check", "./net", "a.tif", "--trust"])

    assert (refused, allowed) == (1, 0)
    assert {f["code"]: f["severity"] for f in findings}["package.runs-code"] == "error"
    assert not (folder / "marker").exists()


@confining
def test_trusted_for_one_run_it_runs_shut_in(folder: Path) -> None:
    status = status_of(["run", "--trust", "./net", "a.tif", "-o", "out"])

    record = json.loads((folder / "out" / "a.run.json").read_text())
    assert status == 0
    assert labels_of(folder).max() == 2
    assert record["weights"]["format"] == "pytorch_state_dict"
    assert record["own_code"]["run"] == "confined"
    assert record["own_code"]["what"] == "Net of net.py builds the network"
    assert not (folder / "marker").exists()
    assert status_of(["run", "./net", "a.tif", "-o", "out2"]) == 3


@confining
def test_trusted_for_good_it_runs_until_its_code_changes(folder: Path, capsys: Capture) -> None:
    added = status_of(["trust", "add", "./net"])
    ran = status_of(["run", "./net", "a.tif", "-o", "out"])
    code = folder / "net" / "net.py"
    code.write_text(code.read_text() + "# changed\n")
    manifest = folder / "net" / "bioimageio.yaml"
    content = json.loads(manifest.read_text())
    content["weights"]["pytorch_state_dict"]["architecture"]["sha256"] = sha256_of(code)
    manifest.write_text(json.dumps(content))
    capsys.readouterr()

    again = status_of(["run", "./net", "a.tif", "-o", "out2"])

    assert (added, ran, again) == (0, 0, 3)
    assert "[package.runs-code]" in capsys.readouterr().err


def test_what_is_trusted_is_listed_and_can_be_taken_back(folder: Path, capsys: Capture) -> None:
    status_of(["trust", "add", "./net"])
    capsys.readouterr()

    status_of(["trust", "list", "--json"])
    (entry,) = json.loads(capsys.readouterr().out)["trusted"]
    listed = status_of(["trust", "list"])
    table = capsys.readouterr().out
    removed = [status_of(["trust", "remove", entry["sha256"][:10]]) for _ in range(2)]
    empty = status_of(["trust", "list"])

    assert entry["weights_format"] == "pytorch_state_dict"
    assert entry["sha256"][:12] in table
    assert (listed, removed, empty) == (0, [0, 1], 0)
    assert "no model's code is trusted" in capsys.readouterr().err
    assert not (folder / "marker").exists()


def test_a_model_without_code_needs_no_trust(folder: Path, capsys: Capture) -> None:
    write_package(folder / "plain", description(halo=4))

    status = status_of(["trust", "add", "./plain"])

    assert status == 1
    assert "[trust.nothing]" in capsys.readouterr().err


def test_where_it_cannot_be_shut_in_only_unconfined_runs_it(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined, "means_here", lambda: {"files": "no Landlock here", "calls": ""})

    refused = status_of(["run", "--trust", "./net", "a.tif", "-o", "out"])
    told = capsys.readouterr().err
    marked = (folder / "marker").exists()
    unconfined = status_of(["run", "--trust=unconfined", "./net", "a.tif", "-o", "out"])

    assert (refused, marked, unconfined) == (3, False, 0)
    assert "no Landlock here" in told
    assert "--trust=unconfined" in told
    assert (folder / "marker").exists()  # so the confined runs above had something to stop


def test_trust_never_takes_the_next_word(folder: Path, capsys: Capture) -> None:
    wrong = status_of(["run", "--trust=maybe", "./net", "a.tif", "-o", "out"])

    assert wrong == 2
    assert "maybe" in capsys.readouterr().err
    assert not (folder / "marker").exists()


def test_show_names_the_code(folder: Path, capsys: Capture) -> None:
    status_of(["show", "./net", "--json"])

    (code,) = json.loads(capsys.readouterr().out)["runs_code"]
    assert code.startswith("weights pytorch_state_dict: Net of net.py builds the network")
    assert not (folder / "marker").exists()


def test_weights_that_reach_the_computer_need_trust_as_well(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(folder / "plain", description(halo=4))
    monkeypatch.setattr(load, "look_into", lambda _format: lambda _path: ("WriteFile",))

    status = status_of(["run", "./plain", "a.tif", "-o", "out"])

    assert status == 3
    assert "the onnx weights call WriteFile" in capsys.readouterr().err


def scripted(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a package of TorchScript weights, as `write` makes the file."""

    def as_script(content: Description) -> None:
        (folder / "weights.onnx").unlink()
        write(folder / "weights.pt")
        sha256 = sha256_of(folder / "weights.pt")
        stated = {"source": "weights.pt", "sha256": sha256, "pytorch_version": "2.6"}
        content["weights"] = {"torchscript": stated}

    write_package(folder, description(halo=4), change=as_script)


class Plain(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * 2


class Saving(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        torch.save(image, "marker")
        return image * 2


def saved(network: torch.nn.Module) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            script: Any = torch.jit.script(network)
        script.save(str(path))

    return write


def twice_listed(path: Path) -> None:
    """Write an archive of which each reader sees another half."""
    saved(Plain())(path)
    path.write_bytes(path.read_bytes() * 2)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (saved(Plain()), "no: weights and numbers only"),
        (saved(Saving()), "weights torchscript: the torchscript weights call torch.save"),
        (twice_listed, "weights torchscript: unknown, because they are not loaded: "),
        (
            lambda path: path.write_bytes(b"PK"),
            "weights torchscript: unknown, because they are not",
        ),
    ],
)
def test_show_says_no_to_code_of_those_weights_alone_that_it_has_read(
    tmp_path: Path, write: Callable[[Path], None], told: str, capsys: Capture
) -> None:
    scripted(tmp_path / "net", write)

    assert status_of(["show", str(tmp_path / "net")]) == 0
    words = capsys.readouterr().out
    assert status_of(["show", str(tmp_path / "net"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert told in " ".join(words.partition("runs code")[2].split())
    assert bool(document["code_unknown"]) == ("unknown" in told)


def test_show_does_not_know_of_weights_that_are_not_fetched(
    tmp_path: Path, capsys: Capture
) -> None:
    scripted(tmp_path / "net", saved(Plain()))
    (tmp_path / "net" / "weights.pt").unlink()

    status_of(["show", str(tmp_path / "net")])

    assert "weights torchscript: unknown until they are fetched" in capsys.readouterr().out
