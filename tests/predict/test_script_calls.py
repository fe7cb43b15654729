"""A TorchScript file that would do more than compute is known before it is loaded."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.redteam.zips import VARIANTS, written

from bmz.predict.backend import LoadRequest, WeightsUnreadable
from bmz.predict.formats import open_backend
from bmz.predict.torchscript import ScriptTouchesHost, host_calls
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


class WritingByMapping(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        there = torch.from_file("written-by-a-network", True, 4)  # noqa: FBT003
        return x + there.copy_(torch.ones(4))


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
        (WritingByMapping(), ("torch.from_file",)),
        (WritingWhenLoaded(), ("torch.save",)),
        (Sharing(), ("ops._c10d_functional",)),
    ],
    ids=["reading", "writing", "writing-by-mapping", "writing-when-loaded", "other-computers"],
)
def test_a_compiled_network_that_touches_the_host_is_named_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: torch.nn.Module, calls: tuple[str]
) -> None:
    path = saved(network, tmp_path)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ScriptTouchesHost, match=calls[0]) as raised:
        open_backend("torchscript", LoadRequest(path, ("raw",), ("mask",)))

    assert host_calls(path) == calls
    assert raised.value.code == "package.runs-code"
    assert not (tmp_path / PLACE).exists()


def test_the_check_is_needed_since_loading_alone_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(WritingWhenLoaded(), tmp_path)
    monkeypatch.chdir(tmp_path)

    open_backend("torchscript", LoadRequest(path, ("raw",), ("mask",), trusted=True))

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
        "x.save('a')",
        "t = torch",
        "_0 = torch.read_file('a')",
        "_0 = ops.torchvision.read_file('a')",
        "_0 = __torch__ . torch . classes . c10d . ProcessGroup(1, 2)",
        "y = x  # a comment",
        "y = x \\\n  + x",
        'y = """x"""',
        "y = x\f",
    ],
)
def test_source_written_by_hand_does_not_get_past(tmp_path: Path, line: str) -> None:
    path = rewritten(saved(Plain(), tmp_path), line, name=".py")

    assert len(host_calls(path)) >= 1


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = saved(Plain(), tmp_path)
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".py"))
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr(name, "torch.save(1, 'a')")

    with pytest.raises(ArchiveRefused, match="occurs twice"):
        host_calls(path)


def test_members_that_differ_in_capitals_are_looked_into(tmp_path: Path) -> None:
    old = saved(Writing(), tmp_path)
    path = tmp_path / "capitals.pt"
    with zipfile.ZipFile(old) as archive, zipfile.ZipFile(path, "w") as new:
        for member in archive.infolist():
            name = member.filename.replace(".py", ".PY").replace("/code/", "/Code/")
            new.writestr(name, archive.read(member))

    loaded_by_pytorch(path)

    assert host_calls(path) == ("torch.save",)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"c__torch__.torch.classes.c10d\nStore\n.", "torch.classes.c10d"),
        (b"c__torch__.torch\nclasses.c10d.Store\n.", "torch.classes.c10d"),
        (b"c__torch__\ntorch.classes.c10d.Store\n.", "torch.classes.c10d"),
        (b"X\x1a\0\0\0List[torch. classes.c10d.A].", "the type"),
        (b"cos\nsystem\nT\1\0\0\0a.", "pickle that PyTorch did not write"),
        (b"X\xff\0\0\0", "pickle that cannot be read"),
    ],
)
@pytest.mark.parametrize("name", ["data.pkl", "constants.pkl", "code/a.py.debug_pkl"])
def test_what_a_pickle_would_make_is_read(
    name: str, line: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"a/{name}", b"\x80\x02" + line)

    found = host_calls(path)

    assert found
    assert found[0].startswith(told)


def two_archives(folder: Path, variant: str, network: torch.nn.Module) -> Path:
    """Write a harmless network and another one, under the same names, into one file."""
    with zipfile.ZipFile(saved(network, folder)) as archive:
        evil = {member.filename: archive.read(member) for member in archive.infolist()}
    good = {
        name: content.replace(b"torch.save", b"torch.relu").replace(b"from_file", b"ones_like")
        for name, content in evil.items()
    }
    path = folder / "two.pt"
    path.write_bytes(VARIANTS[variant](written(good), written(evil, pad=4096)))
    return path


load_of_pytorch: Any = torch.jit.load


def loaded_by_pytorch(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return load_of_pytorch(str(path))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_that_holds_two_networks_is_refused(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_archives(tmp_path, variant, WritingWhenLoaded())
    monkeypatch.chdir(tmp_path)

    with pytest.raises((ArchiveRefused, WeightsUnreadable)):
        open_backend("torchscript", LoadRequest(path, ("raw",), ("mask",)))

    assert not (tmp_path / PLACE).exists()


@pytest.mark.parametrize("variant", ["end points elsewhere", "locator points elsewhere"])
@pytest.mark.parametrize("network", [WritingWhenLoaded(), WritingByMapping()])
def test_pytorch_itself_loads_the_other_of_the_two_networks(
    variant: str, network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_archives(tmp_path, variant, network)
    monkeypatch.chdir(tmp_path)

    loaded_by_pytorch(path)(torch.ones(4))

    assert (tmp_path / PLACE).exists()


def test_what_is_loaded_is_a_copy_of_what_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(Plain(), tmp_path)
    loaded: list[Path] = []

    def load(name: str, **_: str) -> Any:
        loaded.append(Path(name))
        return loaded_by_pytorch(Path(name))

    monkeypatch.setattr(torch.jit, "load", load)

    open_backend("torchscript", LoadRequest(path, ("raw",), ("mask",)))

    assert path not in loaded
    assert not loaded[0].exists()


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
        open_backend("torchscript", LoadRequest(path, ("raw",), ("mask",)))


def test_a_damaged_member_is_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/code/net.py", "x = 1")
    path.write_bytes(path.read_bytes().replace(b"x = 1", b"x = 2"))

    with pytest.raises(WeightsUnreadable, match=r"a\.pt"):
        open_backend("torchscript", LoadRequest(path, ("raw",), ("mask",)))


def test_real_networks_compute_only(shared: Path) -> None:
    files = sorted((shared / "models").glob("*/*.pt"))

    assert {path.name: host_calls(path) for path in files} == {path.name: () for path in files}
    assert len(files) >= 2
