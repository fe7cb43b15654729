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

from bmz.predict import confine
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
    "datagram by a pair": (
        "import socket as s; a, b = s.socketpair(s.AF_UNIX, s.SOCK_DGRAM); "
        "a.sendto(b'x', world['datagram'])"
    ),
    "pair of sockets": "socket.socketpair()",
    "own a handle of signals": ("r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())"),
    "choose the signal of a handle": "r, w = os.pipe(); fcntl.fcntl(r, 10, signal.SIGUSR1)",
    "own a handle by ioctl": (
        "r, w = os.pipe(); fcntl.ioctl(r, 0x8901, struct.pack('i', os.getppid()))"
    ),
    "signals of input and output": "r, w = os.pipe(); fcntl.ioctl(r, 0x5452, struct.pack('i', 1))",
    "lease": "fcntl.fcntl(os.open(json.__file__, 0), 1024, 1)",
    "watch a folder": "fcntl.fcntl(os.open('.', 0), 1026, 0x80000001)",
    "processors of the parent": "os.sched_setaffinity(os.getppid(), {0})",
    "policy of the parent": "os.sched_setscheduler(os.getppid(), 5, os.sched_param(0))",
    "parameters of the parent": "os.sched_setparam(os.getppid(), os.sched_param(0))",
    "attributes of the parent": (
        "checked(libc.syscall(314, os.getppid(), "
        "struct.pack('IIQiIQQQ', 48, 5, 0, 0, 0, 0, 0, 0), 0))"
    ),
    "priority of the parent": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 10)",
    "disk priority of the parent": "checked(libc.syscall(251, 1, os.getppid(), 3 << 13))",
    "limits of the parent": ("resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))"),
    "outlive the parent": "checked(libc.prctl(1, 0, 0, 0, 0))",
    "filter of its own": "checked(libc.syscall(317, 1, 0, 0))",
    "no dump": "checked(libc.prctl(4, 1, 0, 0, 0))",
    "flags of an inode": (
        "fcntl.ioctl(os.open(json.__file__, 0), 0x40086602, struct.pack('l', 64))"
    ),
    "attributes of a file": ("checked(libc.syscall(469, -100, b'/tmp', bytes(32), 32, 0))"),
    "tree with attributes": "checked(libc.syscall(467, -100, b'/', 1, bytes(32), 32))",
    "tree": "checked(libc.syscall(428, -100, b'/', 1))",
    "new mount": "checked(libc.syscall(430, b'tmpfs', 0))",
    "list of mounts": "checked(libc.syscall(458, bytes(24), bytes(64), 8, 0))",
    "another user": "os.setuid(os.getuid())",
    "another group": "os.setgid(os.getgid())",
    "groups": "os.setgroups([])",
    "rights of a process": (
        "checked(libc.syscall(126, struct.pack('Ii', 0x20080522, 0), bytes(24)))"
    ),
    "another root": "os.chroot('.')",
    "host name": "socket.sethostname('x')",
    "the clock": "time.clock_settime(time.CLOCK_REALTIME, time.time())",
    "rings": "checked(libc.syscall(425, 1, bytes(120)))",
    "program of the kernel": "checked(libc.syscall(321, 0, bytes(72), 72))",
    "events of the processor": "checked(libc.syscall(298, bytes(112), 0, -1, -1, 0))",
    "faults of memory": "checked(libc.syscall(323, 1))",
    "handle of a process": "os.pidfd_open(os.getppid())",
    "read another's memory": "checked(libc.syscall(310, os.getppid(), None, 0, None, 0, 0))",
    "write another's memory": "checked(libc.syscall(311, os.getppid(), None, 0, None, 0, 0))",
    "compare processes": "checked(libc.syscall(312, os.getpid(), os.getppid(), 0, 0, 0))",
    "advise another's memory": "checked(libc.syscall(440, 1, None, 0, 4, 0))",
    "move another's pages": "checked(libc.syscall(279, os.getppid(), 0, None, None, None, 0))",
    "queue a signal": "checked(libc.syscall(129, os.getppid(), 10, bytes(128)))",
    "signal by thread": "checked(libc.syscall(200, os.getppid(), 0))",
    "signal the group": "os.killpg(os.getpgid(os.getppid()), 0)",
    "another session": "os.setsid()",
    "another group of processes": "os.setpgid(0, 0)",
    "shared memory": "checked(libc.syscall(29, 1234, 4096, 0o1600))",
    "queue of messages": "checked(libc.syscall(68, 1234, 0o1600))",
    "queue by name": "checked(libc.syscall(240, b'bmz', 0o102, 0o600, None))",
    "semaphores": "checked(libc.syscall(64, 1234, 1, 0o1600))",
    "secret memory": "checked(libc.syscall(447, 0))",
    "extended attribute": "os.setxattr('mine', 'user.x', b'1')",
    "owner of a file": "os.chown(world['victim'], os.getuid(), os.getgid())",
    "rights by handle": "os.fchmod(os.open(json.__file__, 0), 0o777)",
    "rights by the newest call": "checked(libc.syscall(452, -100, b'mine', 0o777, 0))",
    "times by handle": "os.utime(os.open(json.__file__, 0), (1, 1))",
    "open by number": "checked(libc.syscall(304, -100, bytes(16), 0))",
    "fifo": "os.mkfifo('fifo') or os.mknod('fifo2')",
    "watch files": "checked(libc.inotify_init1(0))",
    "watch all files": "checked(libc.syscall(300, 0, 0))",
    "personality": "checked(libc.personality(0x0400000))",
    "kernel log": "checked(libc.syscall(103, 3, bytes(64), 64))",
    "kernel module": "checked(libc.syscall(313, 0, b'', 0))",
    "restart": "checked(libc.syscall(169, 0, 0, 0, 0))",
    "swap": "checked(libc.syscall(168, b'/x'))",
    "accounting": "checked(libc.syscall(163, b'/x'))",
    "ports": "checked(libc.syscall(172, 3))",
    "local descriptors": "checked(libc.syscall(154, 1, bytes(16), 16))",
    "new process, newest call": "checked(libc.syscall(435, bytes(88), 88))",
    "thread that is a process": "checked(libc.syscall(56, 17, 0, 0, 0, 0)) or os._exit(0)",
    "read the parent's maps": "open(f'/proc/{os.getppid()}/maps').read()",
    "read the parent's handles": "os.listdir(f'/proc/{os.getppid()}/fd')",
    "parent's folder": "os.listdir(f'/proc/{os.getppid()}/cwd')",
    "kill by the kernel": "open(f'/proc/{os.getppid()}/oom_score_adj', 'w').write('1000')",
    "own oom score": "open('/proc/self/oom_score_adj', 'w').write('-1000')",
    "terminal": "open('/dev/tty', 'w').write('x')",
    "kernel messages": "open('/dev/kmsg', 'w').write('x')",
    "memory of the machine": "open('/dev/mem', 'rb')",
    "temporary folder": "open('/tmp/bmz-probe', 'w')",
    "home": "open(os.path.expanduser('~/.bmz-probe'), 'w')",
    "spoil a library": "open(json.__file__, 'a').write('x')",
    "rename a library": "os.rename(json.__file__, json.__file__ + '.x')",
    "link out": "os.link('mine', world['marker'])",
    "rename out": "os.rename('mine', world['marker'])",
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
import ctypes, fcntl, json, os, resource, signal, socket, stat, struct, subprocess, sys
import threading, time
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
    import bmz.predict.confine as landlock
    version = min(words["landlock"], landlock.landlock_version())
    landlock.landlock_version = lambda: version
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
    (folder / "scratch" / "mine").write_text("x")
    letters = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    letters.bind(str(folder / "datagram"))
    abstract = f"bmz-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind("\0" + abstract)
        local.listen()
        yield SimpleNamespace(
            folder=folder, port=tcp.getsockname()[1], abstract=abstract, listeners=(tcp, local)
        )
    letters.setblocking(False)  # noqa: FBT003  (its only parameter)
    with letters, pytest.raises(BlockingIOError):
        letters.recv(1)  # nobody wrote


def tried(
    world: SimpleNamespace, deeds: dict[str, str], cell: Cell | None, landlock: int = 99
) -> dict[str, Any]:
    words = {
        "landlock": landlock,
        "root": str(ROOT),
        "deeds": deeds,
        "cell": None if cell is None else asdict(cell),
        "world": {
            **{name: str(world.folder / name) for name in ("secret", "victim", "marker")},
            "port": world.port,
            "abstract": world.abstract,
            "datagram": str(world.folder / "datagram"),
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


@pytest.mark.parametrize("landlock", [1, 3, 5, 99])
def test_every_deed_is_refused_in_a_confined_process(world: SimpleNamespace, landlock: int) -> None:
    answer = tried(world, DEEDS, cell_in(world.folder), landlock)

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
        f"    def refuse(*_, **__): raise OSError(1, 'not on this computer')\n"
        f"    c.{wall} = refuse\n"
        f"    cell = words",
        1,
    )
    words = {
        "root": str(ROOT),
        "deeds": {},
        "world": {},
        "landlock": 99,
        "cell": asdict(cell_in(world.folder)),
    }

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
    steps = confine.program(machine, 4711)

    jumps = {confine._EQUAL, confine._AT_LEAST, confine._ANY_BIT}
    for at, (code, true, false, _) in enumerate(steps):
        if code in jumps:
            assert at + 1 + max(true, false) < len(steps)
    assert steps[-1] == confine._NO


def run_filter(machine: str, number: int, *arguments: int, gpu: bool = False) -> int:
    """Interpret the filter as the kernel does."""
    steps = confine.program(machine, 4711, gpu=gpu)
    data = {confine._NUMBER: number, confine._ARCH: confine._ARCHS[machine]}
    for position in range(6):
        value = arguments[position] if position < len(arguments) else 0
        data[confine._ARGUMENTS + 8 * position] = value & 0xFFFFFFFF
        data[confine._ARGUMENTS + 8 * position + 4] = value >> 32
    at = loaded = 0
    while True:
        code, true, false, operand = steps[at]
        at += 1
        if code == confine._LOAD:
            loaded = data[operand]
        elif code == confine._RETURN:
            return operand
        else:
            holds = {
                confine._EQUAL: loaded == operand,
                confine._AT_LEAST: loaded >= operand,
                confine._ANY_BIT: bool(loaded & operand),
            }[code]
            at += true if holds else false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_the_table_and_refuses_the_rest(machine: str) -> None:
    column = confine._COLUMN[machine]
    allowed = {numbers[column] for numbers in confine._ALWAYS.values()} - {None}
    by_arguments = {numbers[column] for numbers in confine._NUMBERS.values()}

    passed = {n for n in range(2**10) if run_filter(machine, n, 2**31, 2**31) == confine._ALLOW}

    assert allowed.isdisjoint(by_arguments)
    assert passed == allowed


DANGEROUS = {
    "x86_64": {
        "socketpair": 53, "socket": 41, "io_uring_setup": 425, "open_tree": 428, "setuid": 105,
        "open_tree_attr": 467, "file_setattr": 469, "ioprio_set": 251, "sched_setattr": 314,
        "sched_setparam": 142, "sched_setscheduler": 144, "setpriority": 141, "execve": 59,
        "ptrace": 101, "pidfd_open": 434, "memfd_create": 319, "chmod": 90, "fchmodat": 268,
        "setxattr": 188, "utimensat": 280, "mount": 165, "unshare": 272, "bpf": 321, "fork": 57,
        "vfork": 58, "tkill": 200, "rt_sigqueueinfo": 129, "shmget": 29, "mq_open": 240,
        "userfaultfd": 323, "setrlimit": 160, "mbind of others": 256, "vmsplice": 278,
    },
    "aarch64": {
        "socketpair": 199, "socket": 198, "setuid": 146, "ioprio_set": 30, "sched_setattr": 274,
        "execve": 221, "ptrace": 117, "fchmodat": 53, "mount": 40, "open_tree_attr": 467,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "name"), [(machine, name) for machine in DANGEROUS for name in DANGEROUS[machine]]
)
def test_a_call_that_reaches_further_is_refused_whatever_its_arguments(
    machine: str, name: str
) -> None:
    number = DANGEROUS[machine][name]

    verdicts = {run_filter(machine, number, first, first) for first in (0, 1, 4711)}

    assert confine._ALLOW not in verdicts


THREAD, NOT_ZERO = 0x3D0F00, 0x7F0000000000
CALLS = {
    # name: (number on x86-64, arguments, allowed)
    "thread": (56, (THREAD,), True),
    "process": (56, (17,), False),
    "signal to itself": (62, (4711,), True),
    "signal to another": (62, (1,), False),
    "signal to all": (62, (0xFFFFFFFF,), False),
    "signal to its thread": (234, (4711, 4712), True),
    "limits read": (302, (0, 7, 0), True),
    "limits set": (302, (0, 7, NOT_ZERO), False),
    "limits set, low address": (302, (0, 7, 16), False),
    "limits of another": (302, (1, 7, 0), False),
    "own processors": (203, (0,), True),
    "processors of another": (203, (1,), False),
    "owner of a handle": (72, (3, 8, 1), False),
    "signal of a handle": (72, (3, 10, 12), False),
    "lease": (72, (3, 1024, 1), False),
    "flags of a handle": (72, (3, 3), True),
    "is it a terminal": (16, (1, 0x5401), True),
    "type into the terminal": (16, (1, 0x5412), False),
    "flags of an inode": (16, (3, 0x40086602), False),
    "owner by ioctl": (16, (3, 0x8901), False),
    "name of a thread": (157, (15,), True),
    "outlive the parent": (157, (1, 0), False),
    "another filter": (157, (22, 2), False),
    "other calling convention": (0x40000000 + 1, (), False),
}


@pytest.mark.parametrize("name", CALLS)
def test_some_calls_pass_the_filter_by_their_arguments(name: str) -> None:
    number, arguments, allowed = CALLS[name]

    assert (run_filter("x86_64", number, *arguments) == confine._ALLOW) == allowed


def test_the_driver_of_a_gpu_may_be_asked_anything_but_what_reaches_others() -> None:
    requests = {0xC020462A: True, 0x5401: True, 0x8901: False, 0x5412: False, 0x40086602: False}

    verdicts = {
        request: run_filter("x86_64", 16, 3, request, gpu=True) == confine._ALLOW
        for request in requests
    }

    assert verdicts == requests
