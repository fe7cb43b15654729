"""Code of a model that misbehaves: refused without trust, contained with it."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.redteam.own_code import (
    ALONE,
    AND_ENDS,
    AT_IMPORT,
    SECRET,
    TOGETHER,
    World,
    one_after_the_other,
    write_attack,
)

from bmz.cli.main import status_of
from bmz.predict.confine import means_here

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytestmark = pytest.mark.skipif(
    any(means_here().values()), reason=f"this computer cannot confine: {means_here()}"
)

Capture = pytest.CaptureFixture[str]
DEEDS = {**AT_IMPORT, **AND_ENDS}
OUTSIDE = (
    Path(pwd.getpwuid(os.getuid()).pw_dir) / ".bmz-redteam-marker",
    Path("/dev/shm/bmz-redteam-marker"),  # noqa: S108  (where the attack writes)
)
EFFECTIVE = {
    "writes a file": "marker",
    "writes by way of the C library": "marker",
    "runs a program": "marker",
    "runs a shell": "marker",
    "forks": "marker",
    "starts a pool of processes": "marker",
    "writes from a thread": "marker",
    "writes when it ends": "marker",
    "loads a pickle": "marker",
    "makes a link": "marker",
}
"""Deeds that are shown to succeed in a free process, with what they leave."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A folder with a secret, a victim and an image, and two listeners that count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("REDTEAM_SECRET", SECRET)
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "victim").chmod(0o644)
    image = np.zeros((60, 44), np.float32)
    image[4:12, 4:12] = image[30:50, 20:40] = 1
    tifffile.imwrite(tmp_path / "a.tif", image)
    name = f"bmz-redteam-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind("\0" + name)
        local.listen()
        yield World(tmp_path, tcp.getsockname()[1], name)
        for listener in (tcp, local):
            listener.setblocking(False)  # noqa: FBT003  (its only parameter)
            with pytest.raises(BlockingIOError):
                listener.accept()  # nobody called


def unharmed(world: World) -> None:
    """See that nothing was left, spoilt or stolen."""
    victim = world.folder / "victim"
    assert victim.read_text() == "untouched"
    assert victim.stat().st_mode & 0o777 == 0o644
    assert victim.stat().st_mtime > 1000
    assert list(world.folder.rglob("marker*")) == []
    assert [path for path in OUTSIDE if path.exists()] == []
    outputs = [p for p in (world.folder / "out").rglob("*") if p.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in outputs)


@pytest.mark.parametrize("name", DEEDS)
def test_without_trust_nothing_is_run(name: str, world: World, capsys: Capture) -> None:
    write_attack(world.folder / "net", DEEDS[name], world)

    statuses = [
        status_of(["show", "./net"]),
        status_of(["check", "./net", "a.tif"]),
        status_of(["run", "./net", "a.tif", "-o", "out"]),
    ]

    assert statuses == [0, 1, 3]
    assert "[package.runs-code]" in capsys.readouterr().err
    unharmed(world)


def contained(world: World, capfd: pytest.CaptureFixture[str]) -> int:
    """Run with trust, see that nothing was left, spoilt or stolen, and give the exit status."""
    status = status_of(["run", "--trust", "./net", "a.tif", "-o", "out", "--save", "labels,raw"])

    told = "".join(capfd.readouterr())
    assert SECRET not in told
    assert "\x1b" not in told
    assert status in (0, 3)
    if status == 0:
        raw = tifffile.imread(world.folder / "out" / "a.raw.tif")
        assert raw.max() <= 1  # the network adds 1000 where its code saw the secret
    unharmed(world)
    return status


@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
def test_with_trust_many_deeds_are_contained_and_the_network_runs(
    names: tuple[str, ...], world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    write_attack(world.folder / "net", one_after_the_other(names), world)

    assert contained(world, capfd) == 0  # so that each of them was tried


@pytest.mark.parametrize(
    "name",
    [name if name in ALONE else pytest.param(name, marks=pytest.mark.slow) for name in AT_IMPORT],
)
def test_with_trust_it_is_contained_and_the_network_runs(
    name: str, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    write_attack(world.folder / "net", AT_IMPORT[name], world)

    contained(world, capfd)


@pytest.mark.parametrize("name", AND_ENDS)
def test_with_trust_a_process_that_breaks_off_or_lies_is_an_error_or_no_harm(
    name: str, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    write_attack(world.folder / "net", AND_ENDS[name], world, swallow=False)

    status = status_of(["run", "--trust", "./net", "a.tif", "-o", "out"])

    told = "".join(capfd.readouterr())
    assert status == 3
    assert "\x1b" not in told
    assert "[trust." in told or "[weights.architecture]" in told or "[predict." in told
    unharmed(world)


def run_free(net: Path) -> bytes:
    """Run the code of a network where nothing stops it; what it needs of PyTorch is a stand-in.

    PyTorch takes two seconds to import.
    """
    program = (
        "import runpy, sys, types; torch = types.ModuleType('torch');"
        " torch.nn = types.SimpleNamespace(Module=object); sys.modules['torch'] = torch;"
        " runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    words = [sys.executable, "-c", program, str(net)]
    return subprocess.run(words, check=True, capture_output=True, timeout=60).stdout


@pytest.mark.parametrize("name", EFFECTIVE)
def test_the_deed_succeeds_where_nothing_stops_it(name: str, world: World) -> None:
    net = write_attack(world.folder / "net", DEEDS[name], world) / "net.py"

    run_free(net)

    left = world.folder / EFFECTIVE[name]
    assert left.exists() or left.is_symlink()


@pytest.mark.parametrize("name", ["reads a file", "reads the environment"])
def test_the_secret_is_there_to_be_read_where_nothing_stops_it(name: str, world: World) -> None:
    net = write_attack(world.folder / "net", DEEDS[name], world) / "net.py"

    assert SECRET.encode() in run_free(net)
