"""What counts as code of a model, and under which sha256."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from bmz.spec.model import Architecture, PackagedFile, Weights
from bmz.spec.package_files import code_of, imports_of

NET = "import os, torch.nn as nn\nfrom .helper import x\ndef f():\n    from socket import socket\n"


def entry(folder: Path, text: str = NET, **words: object) -> Weights:
    path = folder / "net.py"
    path.write_text(text)
    architecture = Architecture("Net", {"depth": 3}, PackagedFile(path))
    weights = PackagedFile(folder / "w.pt")
    weights.path.write_bytes(b"numbers")
    return Weights("pytorch_state_dict", weights, architecture=replace(architecture, **words))  # type: ignore[arg-type]


def from_library(library: str, name: str = "UNet") -> Weights:
    architecture = Architecture(name, {}, None, library)
    return Weights("pytorch_state_dict", PackagedFile(Path("w.pt")), architecture=architecture)


def test_numbers_alone_are_no_code() -> None:
    assert code_of(Weights("onnx", PackagedFile(Path("w.onnx")))) is None


def test_a_file_of_the_package_is_code_and_its_imports_are_told(tmp_path: Path) -> None:
    code = code_of(entry(tmp_path))

    assert code is not None
    assert code.what == "Net of net.py builds the network"
    assert code.files[0].imports == ("os", "torch", ".helper", "socket")
    assert code.files[0].size_bytes == len(NET)


def test_every_change_of_what_would_run_changes_the_identity(tmp_path: Path) -> None:
    codes = [
        code_of(entry(tmp_path)),
        code_of(entry(tmp_path, NET + "\n")),
        code_of(entry(tmp_path, callable="Other")),
        code_of(entry(tmp_path, kwargs={"depth": 4})),
        code_of(from_library("subprocess", "Net")),
        code_of(from_library("subprocess")),
        code_of(from_library("os")),
        code_of(Weights("torchscript", entry(tmp_path).architecture.code), ["save"]),  # type: ignore[union-attr,arg-type]
    ]

    assert len({code.sha256 for code in codes if code}) == len(codes)


def test_other_weights_are_another_identity(tmp_path: Path) -> None:
    weights = entry(tmp_path)
    before = code_of(weights)

    weights.file.path.write_bytes(b"other numbers, which the code may execute")
    after = code_of(weights)

    assert before is not None
    assert after is not None
    assert before.sha256 != after.sha256


def test_the_same_code_in_another_folder_has_the_same_identity(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()

    here, there = code_of(entry(tmp_path)), code_of(entry(tmp_path / "elsewhere"))

    assert here is not None
    assert there is not None
    assert here.sha256 == there.sha256


def test_a_file_that_is_not_here_counts_by_its_stated_sha256(tmp_path: Path) -> None:
    here = code_of(entry(tmp_path))
    assert here is not None
    weights = entry(tmp_path).file
    stated = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    (tmp_path / "net.py").unlink()
    weights.path.unlink()
    file = PackagedFile(tmp_path / "net.py", here.files[0].sha256)
    away = Weights(
        "pytorch_state_dict",
        PackagedFile(weights.path, stated),
        architecture=Architecture("Net", {"depth": 3}, file),
    )

    code = code_of(away)

    assert code is not None
    assert code.sha256 == here.sha256
    assert code.files[0].size_bytes is None


@pytest.mark.parametrize(
    ("library", "name", "is_code"),
    [
        ("careamics.models.unet", "UNet", False),
        ("monai.networks.nets", "UNet", False),
        ("monai.networks.netsabotage", "UNet", True),
        ("subprocess", "check_call", True),
        ("torchvision.models", "__loader__", True),
        ("torchvision.models", "os.system", True),
        ("torch.hub", "load", True),
    ],
)
def test_of_libraries_only_the_known_ones_are_no_code(
    library: str, name: str, *, is_code: bool
) -> None:
    assert (code_of(from_library(library, name)) is not None) == is_code


def test_weights_that_call_the_computer_are_code(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    weights = Weights("torchscript", PackagedFile(tmp_path / "w.pt"))

    code = code_of(weights, ["from_file", "save"])

    assert code is not None
    assert code.what == "the torchscript weights call from_file, save"
    assert code.files[0].imports is None


@pytest.mark.parametrize("text", ["def broken(", "import os\0", "(" * 5000])
def test_what_does_not_parse_has_no_known_imports(tmp_path: Path, text: str) -> None:
    (tmp_path / "net.py").write_text(text)

    assert imports_of(tmp_path / "net.py") is None
