"""A TorchScript file that would do more than compute is known before it is loaded."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bmz.predict.backend import Weights, WeightsUnreadable
from bmz.predict.open import open_backend
from bmz.predict.script_calls import host_calls
from bmz.predict.torchscript import ScriptTouchesHost
from bmz.zoo.errors import ArchiveRefused

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

PLACE = "written-by-a-network"


class Plain(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print(x.shape)  # noqa: T201  (an operator that networks do hold)
        saved = torch.relu(x)
        more: torch.Tensor = torch.jit.wait(torch.jit.fork(torch.relu, x))  # type: ignore[no-untyped-call]
        return saved + more


class Reading(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/hostname", False, 4)  # noqa: FBT003  (its schema)


class Writing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "written-by-a-network")
        return x


class WritingWhenLoaded(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.training = False

    @torch.jit.export
    def __getstate__(self) -> int:
        return 3

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        torch.save(state, "written-by-a-network")
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Quantized(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.quantized.add(x, x, 1.0, 0)
        return y


class Sharing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops._c10d_functional.wait_tensor(x)
        return y


def saved(network: torch.nn.Module, folder: Path) -> Path:
    path = folder / "weights.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script: Any = torch.jit.script(network)
    script.save(str(path))
    return path


def rewritten(path: Path, line: str, *, name: str = "_calls.py") -> Path:
    """Put a line of source before the return of the network, as an attacker could by hand."""
    target = path.with_name("changed.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename.endswith(name):
                content = content.replace(b"    return", f"    {line}\n    return".encode(), 1)
            new.writestr(member.filename, content)
    return target


@pytest.mark.parametrize("network", [Plain(), Quantized()], ids=["plain", "quantized"])
def test_a_network_that_computes_calls_nothing_of_the_host(
    tmp_path: Path, network: torch.nn.Module
) -> None:
    assert host_calls(saved(network, tmp_path)) == ()


@pytest.mark.parametrize(
    ("network", "calls"),
    [
        (Reading(), ("torch.from_file",)),
        (Writing(), ("torch.save",)),
        (WritingWhenLoaded(), ("torch.save",)),
        (Sharing(), ("ops._c10d_functional",)),
    ],
    ids=["reading", "writing", "writing-when-loaded", "other-computers"],
)
def test_a_compiled_network_that_touches_the_host_is_named_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: torch.nn.Module, calls: tuple[str]
) -> None:
    path = saved(network, tmp_path)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ScriptTouchesHost, match=calls[0]) as raised:
        open_backend("torchscript", Weights(path, ("raw",), ("mask",)))

    assert host_calls(path) == calls
    assert raised.value.code == "package.runs-code"
    assert not (tmp_path / PLACE).exists()


def test_the_check_is_needed_since_loading_alone_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(WritingWhenLoaded(), tmp_path)
    monkeypatch.chdir(tmp_path)

    open_backend("torchscript", Weights(path, ("raw",), ("mask",), trusted=True))

    assert (tmp_path / PLACE).exists()


@pytest.mark.parametrize(
    "line",
    [
        'torch . save(x, "a")',
        'torch.\\\n  save(x, "a")',
        'ops.aten.save(x, "a")',
        'getattr(torch, "save")(x, "a")',
        'getattr(torch, "\\163ave")(x, "a")',
        "t = torch; t.save(x, 'a')",
        "f = torch.save",
        "_0 = ops.prim.PythonOp(x)",
        "_0 = ops.mylib.read(x)",
        "_0 = __torch__.torch.classes.c10d.ProcessGroup(1, 2)",
        "_0 = rpc_sync(x, x, x)",
        "not ( python",
    ],
)
def test_source_written_by_hand_does_not_get_past(tmp_path: Path, line: str) -> None:
    path = rewritten(saved(Plain(), tmp_path), line, name=".py")

    assert len(host_calls(path)) >= 1


def test_the_second_of_two_members_of_one_name_is_read_too(tmp_path: Path) -> None:
    path = saved(Plain(), tmp_path)
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".py"))
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr(name, "torch.save(1, 'a')")

    assert host_calls(path) == ("torch.save",)


def test_the_layout_of_pytorch_1_0_is_not_taken_for_harmless(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("old/model.json", "{}")

    assert "PyTorch 1.0" in host_calls(path)[0]


def test_a_file_that_swells_beyond_measure_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"a/data/{number}", bytes(100 * 2**20))

    with pytest.raises(ArchiveRefused):
        open_backend("torchscript", Weights(path, ("raw",), ("mask",)))


def test_a_damaged_member_is_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/code/net.py", "x = 1")
    path.write_bytes(path.read_bytes().replace(b"x = 1", b"x = 2"))

    with pytest.raises(WeightsUnreadable, match=r"a\.pt"):
        open_backend("torchscript", Weights(path, ("raw",), ("mask",)))


def test_real_networks_compute_only(shared: Path) -> None:
    files = sorted((shared / "models").glob("*/*.pt"))

    assert {path.name: host_calls(path) for path in files} == {path.name: () for path in files}
    assert len(files) >= 2
