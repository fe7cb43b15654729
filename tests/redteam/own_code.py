"""Packages whose Python code misbehaves: every deed is harmless, and leaves a trace if it succeeds.

A deed leaves a marker file, carries a planted secret into the output, connects to a listener of
the test, starts a few processes, or spoils a planted file. Errors are swallowed, so that the
network itself still works, as that of a sly author would.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from bmz.testing.package import Description, description, put_state_dict, write_package

SECRET = "planted-secret-7d1f"  # noqa: S105  (that is its point)


@dataclass(frozen=True)
class World:
    """What the deeds aim at.

    Parameters
    ----------
    folder : of the test; holds ``secret``, ``victim`` and, if a deed succeeds, ``marker*``
    port : of a listener on loopback
    socket_name : of a listener on an abstract local socket
    """

    folder: Path
    port: int
    socket_name: str


AT_IMPORT = {
    "writes a file": "open(MARKER, 'w').write('x')",
    "writes by way of the C library": (
        "import ctypes; libc = ctypes.CDLL(None); libc.close(libc.open(MARKER.encode(), 65, 384))"
    ),
    "writes beside its own file": "open(HERE + '/marker-beside', 'w').write('x')",
    "writes into the home folder": (
        "import pwd; home = pwd.getpwuid(os.getuid()).pw_dir;"
        " open(home + '/.bmz-redteam-marker', 'w').write('x')"
    ),
    "makes a folder": "os.mkdir(MARKER)",
    "makes a link": "os.symlink('/', MARKER)",
    "empties a file": "os.truncate(VICTIM, 0)",
    "removes a file": "os.remove(VICTIM)",
    "changes the rights of a file": "os.chmod(VICTIM, 0o000)",
    "changes the times of a file": "os.utime(VICTIM, (1, 1))",
    "reads a file": "FOUND.append(open(SECRET_FILE).read())",
    "reads through a link of its own": (
        "os.symlink(SECRET_FILE, 'way'); FOUND.append(open('way').read())"
    ),
    "reads the environment": "FOUND.append(repr(dict(os.environ)))",
    "reads the parent's environment": (
        "FOUND.append(open(f'/proc/{os.getppid()}/environ').read())"
    ),
    "reads the environment of all": (
        "import glob\n"
        "for path in glob.glob('/proc/[0-9]*/environ'):\n"
        "    FOUND.append(open(path).read())"
    ),
    "connects": "import socket; socket.create_connection(('127.0.0.1', PORT), 1).send(b'x')",
    "connects to a local socket": (
        "import socket; s = socket.socket(socket.AF_UNIX);"
        " s.connect(chr(0) + SOCKET_NAME); s.send(b'x')"
    ),
    "runs a program": "import subprocess; subprocess.run(['/bin/touch', MARKER])",
    "runs a shell": "os.system('touch ' + MARKER)",
    "becomes a program": "os.execv('/bin/touch', ['touch', MARKER])",
    "forks": (
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        open(MARKER, 'w').write('x'); os._exit(0)"
    ),
    "starts a pool of processes": (
        "import multiprocessing; p = multiprocessing.get_context('fork').Process("
        "target=os.mkdir, args=(MARKER,)); p.start(); p.join()"
    ),
    "writes from a thread": (
        "import threading; t = threading.Thread(target=os.mkdir, args=(MARKER,));"
        " t.start(); t.join()"
    ),
    "writes when it ends": "import atexit; atexit.register(os.mkdir, MARKER)",
    "signals the parent": "import signal; os.kill(os.getppid(), signal.SIGTERM)",
    "signals everyone of its group": "import signal; os.killpg(0, signal.SIGTERM)",
    "writes into the parent's memory": "open(f'/proc/{os.getppid()}/mem', 'r+b').write(b'x')",
    "leaves shared memory behind": "open('/dev/shm/bmz-redteam-marker', 'w').write('x')",
    "takes much memory": "BALLAST = bytearray(2 ** 45)",
    "writes escape sequences": (
        "print('\\x1b]0;' + 'owned' + '\\x07'); import sys;"
        " print('\\x1b[2J', file=sys.stderr, flush=True)"
    ),
    "puts itself into other modules": (
        "import numpy, torch; numpy.copyto = numpy.array = None;"
        " torch.nn.Module.eval = lambda self: os.mkdir(MARKER) or self"
    ),
    "leaves bytecode": (
        "import py_compile; py_compile.compile(__file__, HERE + '/marker-bytecode.pyc')"
    ),
    "loads a pickle": (
        "import pickle; pickle.loads(b'cos\\nmkdir\\n(V' + MARKER.encode() + b'\\ntR.')"
    ),
}
"""Name -> code that runs when the file is imported."""

TOGETHER = {
    "files": (
        "writes a file", "writes by way of the C library", "writes beside its own file",
        "writes into the home folder", "makes a folder", "makes a link", "empties a file",
        "removes a file", "changes the rights of a file", "changes the times of a file",
        "leaves shared memory behind", "leaves bytecode", "loads a pickle", "writes from a thread",
    ),
    "secrets": (
        "reads a file", "reads through a link of its own", "reads the environment",
        "reads the parent's environment", "reads the environment of all",
        "writes into the parent's memory",
    ),
    "others": (
        "connects", "connects to a local socket", "runs a program", "runs a shell", "forks",
        "starts a pool of processes", "signals the parent", "signals everyone of its group",
        "writes escape sequences", "writes when it ends",
    ),
}  # fmt: skip
"""Deeds that leave the process as it was where they are refused, so that one tries several."""

ALONE = tuple(name for name in AT_IMPORT if not any(name in names for names in TOGETHER.values()))
"""Those that end the process, or spoil it for the others."""


def one_after_the_other(names: Iterable[str]) -> str:
    """Give code that tries several deeds, each whatever became of those before it."""
    tried = (
        f"try:\n{indent(AT_IMPORT[name], '    ')}\nexcept BaseException:\n    pass"
        for name in names
    )
    return "\n".join(tried)


AND_ENDS = {
    "ends the process": "os._exit(0)",
    "ends with an error": "raise RuntimeError('\\x1b[31mit is over')",
    "talks nonsense to the parent": (
        "import socket\n"
        "for number in range(3, 1024):\n"
        "    try:\n"
        "        socket.socket(fileno=os.dup(number)).send(b'\\xff' * 64)\n"
        "    except OSError:\n"
        "        pass"
    ),
    "claims a huge output": (
        "import json, socket, struct\n"
        "for number in range(3, 1024):\n"
        "    try:\n"
        "        text = json.dumps({'name': 'x', 'need': 2 ** 62, 'outputs': 7}).encode()\n"
        "        socket.socket(fileno=os.dup(number)).send(struct.pack('!I', len(text)) + text)\n"
        "    except OSError:\n"
        "        pass"
    ),
}
"""The same, for deeds after which there can be no result, or no true one."""

_NET = """
import os
import torch

MARKER, SECRET_FILE, VICTIM = {marker!r}, {secret!r}, {victim!r}
PORT, SOCKET_NAME = {port}, {socket_name!r}
HERE = os.path.dirname(os.path.abspath(__file__))
FOUND = []

def deed():
{deed}

if {swallow}:
    try:
        deed()
    except BaseException:
        pass
else:
    deed()

if FOUND:
    print(FOUND, flush=True)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, image):
        stolen = 1000.0 if {needle!r} in "".join(FOUND) else 0.0
        return image * self.factor + stolen
"""


def write_attack(folder: Path, deed: str, world: World, *, swallow: bool = True) -> Path:
    """Write a package of a state dict whose code does `deed` when it is imported."""
    import torch

    lines = [f"    {line}" for line in ("global BALLAST\n" + deed).splitlines()]

    def as_state_dict(content: Description) -> None:
        net = _NET.format(
            marker=str(world.folder / "marker"),
            secret=str(world.folder / "secret"),
            victim=str(world.folder / "victim"),
            port=world.port,
            socket_name=world.socket_name,
            deed="\n".join(lines),
            swallow=swallow,
            needle=SECRET,
        )
        put_state_dict(folder, content, net, {"factor": torch.tensor(1.0)})

    write_package(folder, description(halo=4), change=as_state_dict)
    return folder
