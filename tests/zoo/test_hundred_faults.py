"""A hundred random faults: no corrupt load, and every run after the fault ends right."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bmz.base.errors import CouldNotTell
from bmz.zoo.fetch import WantedFile, fetch_files
from bmz.zoo.locate import locate
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import NOTES

if TYPE_CHECKING:
    from tests.zoo.conftest import Service

IN_PROCESS = 80
KILLED, TOGETHER, FULL = 12, 4, 4
NAMES = ("weights.onnx", "test_input.npy")

CHILD = """
import hashlib, resource, sys
from bmz.base.errors import BmzError
from bmz.zoo.fetch import WantedFile, fetch_files
from bmz.zoo.locate import locate
from bmz.zoo.settings import settings_from_environment

settings = settings_from_environment()
try:
    package = locate("affable-shark", settings)
    if limit := int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    fetch_files(package, [WantedFile("weights.onnx", sys.argv[1] or None, "weights")], settings)
except BmzError as why:
    print(why.code)
    sys.exit(why.exit_status)
print(hashlib.sha256((package.manifest.parent / "weights.onnx").read_bytes()).hexdigest())
"""


def load(service: Service, settings: ZooSettings, *, hashed: bool) -> bool:
    """Load both files as a run would; say whether they are right."""
    right = service.packages["affable-shark"]
    wanted = [WantedFile(n, sha256_of(right[n]) if hashed else None, n) for n in NAMES]
    package = locate("affable-shark", settings)
    fetch_files(package, wanted, settings)
    folder = package.manifest.parent
    return all((folder / name).read_bytes() == right[name] for name in (*NAMES, "rdf.yaml"))


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


Fault = Callable[["Service", Path, random.Random], Any]


def busy(service: Service, _cache: Path, dice: random.Random) -> None:
    service.faults.busy = dice.randint(1, 9)


def limited(service: Service, _cache: Path, dice: random.Random) -> None:
    service.faults.limited = dice.randint(1, 9)


def refused(service: Service, _cache: Path, dice: random.Random) -> None:
    service.faults.refuse = dice.choice([403, 404, 500, 502])


def cut(service: Service, _cache: Path, dice: random.Random) -> None:
    service.faults.cuts = dice.randint(1, 20)
    service.faults.cut_after = dice.randint(0, 199_999)
    service.faults.ranges = dice.random() < 0.7


def flipped_on_the_way(service: Service, _cache: Path, dice: random.Random) -> None:
    service.faults.flips = dice.randint(1, 2)


def flipped_in_the_cache(_service: Service, cache: Path, dice: random.Random) -> None:
    """Flip a bit of any file there is, our own notes among them."""
    files = [path for path in sorted(cache.rglob("*")) if path.is_file() and path.stat().st_size]
    path = dice.choice(files)
    body = bytearray(path.read_bytes())
    body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)
    path.write_bytes(body)


def cut_in_the_cache(_service: Service, cache: Path, dice: random.Random) -> None:
    files = [path for path in sorted(cache.rglob("*")) if path.is_file() and path.stat().st_size]
    path = dice.choice(files)
    os.truncate(path, dice.randrange(path.stat().st_size))


def litter_of_a_crash(service: Service, cache: Path, dice: random.Random) -> None:
    """Leave a part and a temporary file, as a crash does, with a tail that never came."""
    (folder,) = (p.parent for p in cache.glob("packages/*/rdf.yaml"))
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)
    service.faults.cuts, service.faults.cut_after = 99, dice.randint(20_000, 199_999)
    service.faults.ranges = False
    with pytest.raises(CouldNotTell):
        load(service, service.settings(cache), hashed=True)
    service.faults.cuts, service.faults.ranges = 0, True
    for part in folder.glob(f"{NOTES}/arrivals/*/part"):
        part.write_bytes(part.read_bytes() + dice.randbytes(dice.randint(0, 9)))
        part.with_name("tmpabc").touch()


@contextmanager
def full_disk(_service: Service, _cache: Path, dice: random.Random) -> Iterator[None]:
    """Let the disk be full at any write of ours."""
    written, room = Path.write_text, dice.randint(0, 4)
    count = iter(range(99))

    def write(path: Path, *args: Any, **more: Any) -> int:
        if next(count) >= room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(path, *args, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "write_text", write)
        yield


FAULTS: tuple[Fault, ...] = (
    busy,
    limited,
    refused,
    cut,
    flipped_on_the_way,
    flipped_in_the_cache,
    cut_in_the_cache,
    litter_of_a_crash,
    full_disk,
)


@pytest.mark.parametrize("seed", range(IN_PROCESS))
def test_no_fault_leads_to_a_corrupt_load_and_the_next_run_ends_right(
    service: Service, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311  (no secret)
    fault = FAULTS[seed % len(FAULTS)]
    # a first download without a stated hash has nothing but TLS to prove it
    hashed = dice.random() < 0.7 or fault is flipped_on_the_way
    settings = service.settings(tmp_path)
    needs_cache = fault in {flipped_in_the_cache, cut_in_the_cache, litter_of_a_crash}
    if needs_cache or dice.random() < 0.3:
        load(service, settings, hashed=hashed)

    during = fault(service, tmp_path, dice)
    right: bool | None = None
    try:
        if during is None:
            right = load(service, settings, hashed=hashed)
        else:
            with during:
                right = load(service, settings, hashed=hashed)
    except CouldNotTell:
        pass
    service.faults.__init__()  # type: ignore[misc]  # all faults are over
    after = load(service, settings, hashed=hashed)

    assert right in {None, True}
    assert after


@pytest.fixture
def large(service: Service) -> Service:
    service.packages["affable-shark"]["weights.onnx"] = random.Random(2).randbytes(2_000_000)  # noqa: S311
    return service


def start(service: Service, cache: Path, limit: int = 0) -> subprocess.Popen[str]:
    mirrors = ",".join(f"{a}={b}" for a, b in service.settings(cache).mirrors)
    places = {"BMZ_CACHE_DIR": str(cache), "BMZ_MIRROR": mirrors, "BMZ_OFFLINE": "0"}
    environment = {**os.environ, **places, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sha256_of(service.packages["affable-shark"]["weights.onnx"]), str(limit)]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *words], env=environment, stdout=subprocess.PIPE, text=True
    )


def end(child: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = child.communicate(timeout=60)
    return child.returncode, said.strip()


@pytest.mark.parametrize("seed", range(KILLED))
def test_a_process_killed_while_downloading_leaves_a_cache_that_works(
    large: Service, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311
    large.faults.slow_s = 0.005
    child = start(large, tmp_path)

    until = dice.randint(0, 2_100_000)
    while large.sent < until and child.poll() is None:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    large.faults.slow_s = 0
    found = load(large, large.settings(tmp_path), hashed=True)

    assert found
    assert not [path for path in tmp_path.rglob("*") if path.name in {"part", "whole"}]


@pytest.mark.parametrize("seed", range(TOGETHER))
def test_processes_at_once_download_once_and_all_end_right(
    large: Service, tmp_path: Path, seed: int
) -> None:
    large.faults.slow_s = 0.005
    children = [start(large, tmp_path) for _ in range(2)]
    if seed % 2:  # one of them dies on the way, and the other takes over
        while large.sent < 500_000 and any(child.poll() is None for child in children):
            time.sleep(0.002)
        killed = children.pop()
        killed.kill()
        killed.communicate()

    ends = [end(child) for child in children]

    right = sha256_of(large.packages["affable-shark"]["weights.onnx"])
    assert ends == [(0, right)] * len(children)
    whole = [line for line in large.asked_for("weights.onnx") if "bytes=" not in line]
    assert len(whole) == 1


@pytest.mark.parametrize("seed", range(FULL))
def test_a_process_whose_quota_ends_says_so_and_the_next_ends_right(
    large: Service, tmp_path: Path, seed: int
) -> None:
    limit = random.Random(seed).randint(1_000, 1_900_000)  # noqa: S311

    full = end(start(large, tmp_path, limit))
    found = load(large, large.settings(tmp_path), hashed=True)

    assert full == (3, "cache.full")
    assert found


def test_a_full_file_system_says_so_and_with_room_the_next_run_ends_right(
    large: Service, tmp_path: Path
) -> None:
    cache = tmp_path / "small"
    cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(cache)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        full = end(start(large, cache))
        subprocess.run(["mount", "-o", "remount,size=9m", str(cache)], check=True)  # noqa: S607
        after = end(start(large, cache))
    finally:
        subprocess.run(["umount", str(cache)], check=True)  # noqa: S607

    right = sha256_of(large.packages["affable-shark"]["weights.onnx"])
    assert (full, after) == ((3, "cache.full"), (0, right))
