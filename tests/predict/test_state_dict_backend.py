"""Networks from a state dict: built by the code of the package, filled strictly, told clearly."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.predict.backend import Backend, LoadRequest, NoBackend, WeightsUnreadable
from bmz.predict.formats import open_backend
from bmz.predict.state_dict import (
    ArchitectureFailed,
    ArchitectureNotNamed,
    RunsOwnCode,
    StateDiffers,
)
from bmz.spec.model import Architecture, PackagedFile
from bmz.testing.backend import OverlapContract

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
import torch

@dataclass
class Layout:
    channels: int = 2

class Net(torch.nn.Module):
    def __init__(self, channels=2, bias=True):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, Layout(channels).channels, 3, padding=1, bias=bias)
        self.norm = torch.nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.conv(x.add_(1)))

def broken(size):
    raise ValueError("first line\\nno network of size %d" % size)

def leaving():
    raise SystemExit(3)

def nothing():
    return {"a": 1}

def later():
    import no_such_library.models

not_callable = 3
"""


def net(channels: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    found = torch.nn.Sequential()
    found.conv = torch.nn.Conv2d(1, channels, 3, padding=1)
    found.norm = torch.nn.BatchNorm2d(channels)
    return found


def written(folder: Path, state: object = None, source: str = SOURCE) -> Path:
    (folder / "net.py").write_text(source, encoding="utf-8")
    torch.save(net().state_dict() if state is None else state, folder / "weights.pt")
    return folder


def architecture(folder: Path, name: str = "Net", **kwargs: object) -> Architecture:
    return Architecture(name, kwargs, PackagedFile(folder / "net.py"))


def opened(folder: Path, built_by: Architecture | None = None, *, strict: bool = True) -> Backend:
    weights = LoadRequest(
        folder / "weights.pt",
        ("raw",),
        ("mask",),
        architecture=built_by or architecture(folder),
        strict=strict,
        trusted=True,
    )
    return open_backend("pytorch_state_dict", weights)


def images() -> AnyArray:
    return np.random.default_rng(0).random((2, 1, 12, 16), np.float32)


class TestStateDictBackend(OverlapContract):
    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path: Path) -> None:
        self.folder = written(tmp_path)

    def backend(self) -> Backend:
        return opened(self.folder)

    def inputs(self) -> list[AnyArray]:
        return [images()]


def test_it_gives_the_numbers_of_the_network_in_evaluation_mode(tmp_path: Path) -> None:
    with torch.no_grad():
        wanted = net().eval()(torch.from_numpy(images() + 1)).numpy()

    (found,) = opened(written(tmp_path)).run([images()])

    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_a_library_may_hold_the_architecture(tmp_path: Path) -> None:
    convolution = torch.nn.Conv2d(1, 2, 3)
    written(tmp_path, convolution.state_dict())
    library = Architecture(
        "Conv2d",
        {"in_channels": 1, "out_channels": 2, "kernel_size": 3},
        library="torch.nn",
    )

    (found,) = opened(tmp_path, library).run([images()])

    with torch.no_grad():
        wanted = convolution(torch.from_numpy(images())).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_two_packages_with_a_file_of_one_name_keep_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    doubled = SOURCE.replace("self.norm(", "2 * self.norm(")

    first, second = opened(written(one)), opened(written(other, source=doubled))

    np.testing.assert_allclose(2 * first.run([images()])[0], second.run([images()])[0], rtol=1e-6)


def test_nothing_is_written_and_no_foreign_bytecode_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    cached = tmp_path / "__pycache__"
    cached.mkdir()
    bytecode = cached / f"net.{sys.implementation.cache_tag}.pyc"
    bytecode.write_bytes(b"other code")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    opened(tmp_path).run([images()])

    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


BUILDERS = {
    "absent": ("Nett", {}, "no callable 'Nett'"),
    "no-callable": ("not_callable", {}, "no callable 'not_callable'"),
    "wrong-kwargs": ("Net", {"depth": 3}, r"unexpected keyword argument 'depth' \(given: depth\)"),
    "kwargs-lack": ("broken", {}, "missing a required argument: 'size'"),
    "raises": ("broken", {"size": 7}, "ValueError: no network of size 7"),
    "leaves": ("leaving", {}, "SystemExit: 3"),
    "no-network": ("nothing", {}, "a dict, not a torch.nn.Module"),
}


@pytest.mark.parametrize(("name", "kwargs", "words"), BUILDERS.values(), ids=BUILDERS)
def test_code_that_builds_no_network_is_told_by_its_reason(
    tmp_path: Path, name: str, kwargs: dict[str, Any], words: str
) -> None:
    written(tmp_path)

    with pytest.raises(ArchitectureFailed, match=words) as raised:
        opened(tmp_path, architecture(tmp_path, name, **kwargs))

    assert raised.value.code == "weights.architecture"
    assert "net.py" in raised.value.message
    assert "\n" not in raised.value.message


def test_code_that_does_not_import_is_told_and_leaves_no_module(tmp_path: Path) -> None:
    before = set(sys.modules)

    with pytest.raises(ArchitectureFailed, match="importing it fails: ZeroDivisionError"):
        opened(written(tmp_path, source="1 / 0\n"))

    assert not {name for name in set(sys.modules) - before if "architecture_" in name}


@pytest.mark.parametrize("where", ["file", "in-call", "library"])
def test_an_absent_library_is_named(tmp_path: Path, where: str) -> None:
    source = "import no_such_library.nets\n" if where == "file" else SOURCE
    written(tmp_path, source=source)
    built_by = {
        "file": architecture(tmp_path),
        "in-call": architecture(tmp_path, "later"),
        "library": Architecture("Net", library="no_such_library.nets"),
    }[where]

    with pytest.raises(NoBackend, match="needs the library 'no_such_library'") as raised:
        opened(tmp_path, built_by)

    assert "pip install no_such_library" in raised.value.hint


def test_a_state_dict_without_architecture_is_the_fault_of_the_description(tmp_path: Path) -> None:
    weights = LoadRequest(written(tmp_path) / "weights.pt", ("raw",), ("mask",))

    with pytest.raises(ArchitectureNotNamed):
        open_backend("pytorch_state_dict", weights)


def test_code_that_nobody_trusts_is_not_even_imported(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    folder = written(tmp_path, source=f"open({str(marker)!r}, 'w').close()\n{SOURCE}")
    weights = LoadRequest(
        folder / "weights.pt", ("raw",), ("mask",), architecture=architecture(folder)
    )

    with pytest.raises(RunsOwnCode) as raised:
        open_backend("pytorch_state_dict", weights)

    assert raised.value.code == "package.runs-code"
    assert not marker.exists()


def renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("conv", "first"): value for key, value in state.items()}


DIFFERENT = {
    "renamed": (renamed(net().state_dict()), "lacks 'conv.weight', 'conv.bias'; .*'first.weight'"),
    "other-size": (net(3).state_dict(), "size mismatch for norm"),
    "missing": ({k: v for k, v in net().state_dict().items() if "bias" not in k}, "'norm.bias'"),
}


@pytest.mark.parametrize(("state", "words"), DIFFERENT.values(), ids=DIFFERENT)
def test_weights_of_another_network_are_told_by_the_names_of_tensors(
    tmp_path: Path, state: dict[str, Any], words: str
) -> None:
    written(tmp_path, state)

    with pytest.raises(StateDiffers, match=words) as raised:
        opened(tmp_path)

    assert raised.value.code == "weights.state-differs"


def test_a_surplus_tensor_passes_only_where_the_description_is_not_strict(tmp_path: Path) -> None:
    written(tmp_path, dict(net().state_dict()) | {"head.weight": torch.zeros(3)})

    lenient = opened(tmp_path, strict=False)

    assert lenient.run([images()])[0].shape == (2, 2, 12, 16)
    with pytest.raises(StateDiffers, match=r"the network lacks 'head\.weight'"):
        opened(tmp_path)


def test_weights_without_any_tensor_of_the_network_are_refused_in_any_case(tmp_path: Path) -> None:
    written(tmp_path, {"encoder.weight": torch.zeros(3)})

    with pytest.raises(StateDiffers, match="the file lacks"):
        opened(tmp_path, strict=False)


class Payload:
    """Unpickled as a call that leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (str(self.marker),))


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    written(tmp_path, {"conv.weight": Payload(marker)})

    with pytest.raises(WeightsUnreadable, match="more than tensors") as raised:
        opened(tmp_path)

    assert not marker.exists()
    assert "weights_only" not in raised.value.message


UNREADABLE: dict[str, tuple[object, str]] = {
    "checkpoint": ({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, "'state_dict', 'epoch'"),
    "tensor": (torch.zeros(3), "it contains a Tensor"),
}


@pytest.mark.parametrize(("state", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_is_no_plain_state_dict_is_told_by_what_it_holds(
    tmp_path: Path, state: object, words: str
) -> None:
    written(tmp_path, state)

    with pytest.raises(WeightsUnreadable, match=words):
        opened(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not weights", None], ids=["empty", "text", "none"])
def test_an_unreadable_file_of_weights_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = written(tmp_path) / "weights.pt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WeightsUnreadable, match=r"weights\.pt"):
        opened(tmp_path)


def test_the_layout_of_old_files_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    new = opened(tmp_path).run([images()])
    torch.save(net().state_dict(), tmp_path / "weights.pt", _use_new_zipfile_serialization=False)

    np.testing.assert_array_equal(opened(tmp_path).run([images()])[0], new[0])


def test_a_network_whose_code_fails_in_the_run_is_told_in_one_line(tmp_path: Path) -> None:
    source = SOURCE.replace("self.norm(self.conv(x.add_(1)))", "{}['no']")
    backend = opened(written(tmp_path, source=source))

    with pytest.raises(BmzError, match="failed in torch"):
        backend.run([images()])
