"""What a confined process can still do: each deed is tried in one, and in a free one beside it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bmz.predict import confine, seccomp
from bmz.predict.confine import Cell, means_here

pytestmark = pytest.mark.skipif(
    any(means_here().values()), reason=f"this computer cannot confine: {means_here()}"
)

ROOT = Path(confine.__file__).parents[2]

DEEDS = {
    "read a file": "open(world['secret']).read()",
    "read by way of a link": "os.symlink(world['secret'], 'link'); open('link').read()",
    "list a folder": "os.listdir(os.path.dirname(world['secret']))",
    "write a file": "open(world['marker'], 'w').write('here')",
    "empty a file": "os.truncate(world['victim'], 0)",
    "remove a file": "os.remove(world['victim'])",
    "rename a file": "os.rename(world['victim'], world['victim'] + '.gone')",
    "change rights": "os.chmod(world['victim'], 0o777)",
    "change times": "os.utime(world['victim'], (1, 1))",
    "link a file in": "os.link(world['secret'], 'hard')",
    "make a device": "os.mknod('device', 0o600 | stat.S_IFCHR, os.makedev(1, 1))",
    "make a folder": "os.mkdir(world['marker'])",
    "start a program": "subprocess.run(['/bin/true'], check=True)",
    "become a program": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork() or os._exit(0)",
    "fork by another name": "os.posix_spawn('/bin/true', ['true'], {})",
    "connect": "socket.create_connection(('127.0.0.1', world['port']), 2)",
    "send a datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "listen": "socket.create_server(('127.0.0.1', 0))",
    "connect to a local socket": (
        "socket.socket(socket.AF_UNIX).connect(chr(0) + world['abstract'])"
    ),
    "signal the parent": "os.kill(os.getppid(), 0)",
    "signal everyone": "os.kill(-1, 0)",
    "read the parent's environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "read the parent's memory": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "trace the parent": "checked(libc.ptrace(16, os.getppid(), 0, 0))",
    "mount": "checked(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))",
    "leave the namespace": "checked(libc.unshare(0x20000))",
    "new key": "checked(libc.syscall(248, b'user', b'a', b'b', 1, -3))",
    "shared memory by name": "open('/dev/shm/bmz-test', 'w')",
    "anonymous file": "os.memfd_create('x')",
    "raise a limit": "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))",
    "write a huge file": "open('huge', 'wb').truncate(2**31)",
    "take all memory": "bytearray(2**33)",
}
"""Name -> one line of Python that raises when the deed is refused."""

HARMLESS = {
    "write into the scratch folder": "open('mine', 'w').write('x')",
    "read a library": "open(json.__file__).read()",
    "start a thread": "t = threading.Thread(target=int); t.start(); t.join()",
    "read about processors": "open('/proc/cpuinfo').read()",
    "random numbers": "open('/dev/urandom', 'rb').read(4)",
    "abort only oneself": "os.kill(os.getpid(), 0)",
}

PROGRAM = """
import ctypes, json, os, resource, signal, socket, stat, subprocess, sys, threading
words = json.loads(sys.argv[1])
world = words["world"]
libc = ctypes.CDLL(None, use_errno=True)
def checked(found):
    if found < 0:
        raise OSError(ctypes.get_errno(), "refused")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
told = {}
if words["cell"]:
    sys.path.append(words["root"])
    from pathlib import Path
    from bmz.predict.confine import Cell, confine
    cell = words["cell"]
    paths = {k: tuple(map(Path, cell[k])) for k in ("readable", "listable")}
    told = confine(Cell(**{**cell, **paths, "scratch": Path(cell["scratch"])}), os.getppid())
found = {}
for name, deed in words["deeds"].items():
    try:
        exec(deed)
    except (OSError, MemoryError, ValueError) as why:
        found[name] = type(why).__name__
    else:
        found[name] = "done"
print(json.dumps({"told": told, "found": found}))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Give a folder with things to steal and to spoil, and a listener."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "secret").write_text("the secret")
    (folder / "victim").write_text("untouched")
    (folder / "scratch").mkdir()
    abstract = f"bmz-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind("\0" + abstract)
        local.listen()
        yield SimpleNamespace(
            folder=folder, port=tcp.getsockname()[1], abstract=abstract, listeners=(tcp, local)
        )


def tried(world: SimpleNamespace, deeds: dict[str, str], cell: Cell | None) -> dict[str, Any]:
    words = {
        "root": str(ROOT),
        "deeds": deeds,
        "cell": None if cell is None else asdict(cell),
        "world": {
            **{name: str(world.folder / name) for name in ("secret", "victim", "marker")},
            "port": world.port,
            "abstract": world.abstract,
        },
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", PROGRAM, json.dumps(words, default=str)],
        cwd=world.folder / "scratch",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def cell_in(folder: Path) -> Cell:
    libraries = tuple(Path(p) for p in (sys.prefix, sys.base_prefix, ROOT / "bmz"))
    return Cell(libraries, (ROOT,), folder / "scratch", memory_bytes=2**30)


def test_every_deed_is_refused_in_a_confined_process(world: SimpleNamespace) -> None:
    answer = tried(world, DEEDS, cell_in(world.folder))

    done = [name for name, word in answer["found"].items() if word == "done"]
    assert done == []
    assert not (world.folder / "marker").exists()
    assert (world.folder / "victim").read_text() == "untouched"


def test_what_a_network_needs_still_works_in_it(world: SimpleNamespace) -> None:
    answer = tried(world, HARMLESS, cell_in(world.folder))

    assert set(answer["found"].values()) == {"done"}


@pytest.mark.parametrize(
    "deed",
    ["read a file", "write a file", "change rights", "start a program", "fork", "connect",
     "connect to a local socket", "signal the parent", "read the parent's environment"],
)  # fmt: skip
def test_the_deed_succeeds_in_a_free_process(world: SimpleNamespace, deed: str) -> None:
    answer = tried(world, {deed: DEEDS[deed]}, None)
    (world.folder / "marker").unlink(missing_ok=True)

    assert answer["found"] == {deed: "done"}


@pytest.mark.parametrize("wall", ["restrict_files", "restrict_calls", "_leave_network"])
def test_what_could_not_be_shut_is_told(world: SimpleNamespace, wall: str) -> None:
    broken = PROGRAM.replace(
        "    cell = words",
        f"    import bmz.predict.confine as c\n"
        f"    def refuse(*_): raise OSError(1, 'not on this computer')\n"
        f"    c.{wall} = refuse\n"
        f"    cell = words",
        1,
    )
    words = {"root": str(ROOT), "deeds": {}, "world": {}, "cell": asdict(cell_in(world.folder))}

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", broken, json.dumps(words, default=str)],
        cwd=world.folder / "scratch",
        capture_output=True,
        text=True,
        check=True,
    )

    told = json.loads(done.stdout)["told"]
    assert [name for name, why in told.items() if "not on this computer" in why] == [
        {"restrict_files": "files", "restrict_calls": "calls", "_leave_network": "network"}[wall]
    ]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_of_calls_always_jumps_forward_to_a_step_that_is_there(machine: str) -> None:
    steps = seccomp.program(machine, 4711)

    jumps = {seccomp._EQUAL, seccomp._AT_LEAST, seccomp._ANY_BIT}
    for at, (code, true, false, _) in enumerate(steps):
        if code in jumps:
            assert at + 1 + max(true, false) < len(steps)
    assert steps[-1] == (seccomp._RETURN, 0, 0, seccomp._ALLOW)


def run_filter(machine: str, number: int, first: int = 0) -> int:
    """Interpret the filter as the kernel does."""
    steps = seccomp.program(machine, 4711)
    data = {seccomp._NUMBER: number, seccomp._ARCH: seccomp._ARCHS[machine], seccomp._FIRST: first}
    at = loaded = 0
    while True:
        code, true, false, operand = steps[at]
        at += 1
        if code == seccomp._LOAD:
            loaded = data[operand]
        elif code == seccomp._RETURN:
            return operand
        else:
            holds = {
                seccomp._EQUAL: loaded == operand,
                seccomp._AT_LEAST: loaded >= operand,
                seccomp._ANY_BIT: bool(loaded & operand),
            }[code]
            at += true if holds else false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_the_table_and_allows_the_rest(machine: str) -> None:
    column = seccomp._COLUMN[machine]
    refused = {numbers[column] for numbers in seccomp._NEVER.values()} - {None}
    special = {
        numbers[column]
        for numbers in (
            *seccomp._OWN_ONLY.values(), *seccomp._OWN_OR_ZERO.values(),
            seccomp._CLONE, seccomp._CLONE3,
        )
    }  # fmt: skip

    allowed = {n for n in range(512) if run_filter(machine, n) == seccomp._ALLOW}

    assert allowed.isdisjoint(refused)
    assert set(range(512)) - allowed - refused <= special


def test_threads_pass_the_filter_and_processes_and_signals_to_others_do_not() -> None:
    clone, kill, limit = seccomp._CLONE[0], 62, 302

    verdicts = {
        "thread": run_filter("x86_64", clone, 0x3D0F00),
        "process": run_filter("x86_64", clone, 17),
        "signal to itself": run_filter("x86_64", kill, 4711),
        "signal to another": run_filter("x86_64", kill, 1),
        "own limits": run_filter("x86_64", limit, 0),
        "limits of another": run_filter("x86_64", limit, 1),
        "other calling convention": run_filter("x86_64", 0x40000000 + 1),
    }

    allowed = [name for name, verdict in verdicts.items() if verdict == seccomp._ALLOW]
    assert allowed == ["thread", "signal to itself", "own limits"]
