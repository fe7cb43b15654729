"""A command ``bmz`` that starts quickly: each call is a child of one process that is warm already.

The process has imported the libraries and waits; a call is a fork of it, with the arguments, the
working folder, the environment and the streams of the caller. It runs `bmz.cli.main.main` as the
installed script does. What an import itself does is tested with the real command elsewhere.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType

READY = b"1"
ENDED = 70

_CLIENT = """#!{python} -IS
import json, os, socket, sys
if "--workers" in sys.argv:  # what starts processes is not a fork itself
    os.execv({command!r}, ["bmz", *sys.argv[1:]])
here = socket.socket(socket.AF_UNIX)
here.connect({address!r})
call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(here, [len(call).to_bytes(4, "big")], [0, 1, 2])
here.sendall(call)
told = here.recv(1)
sys.exit(told[0] if told else {ended})
"""

_LIBRARIES = (
    "bioimageio.spec", "numba", "numpy", "onnxruntime", "pandas", "PIL.Image", "rich.progress",
    "scipy.ndimage", "skimage.measure", "skimage.segmentation", "tifffile", "xarray", "zarr",
    "bmz.app.run", "bmz.spec.read",
)  # fmt: skip


@contextmanager
def warm_command(folder: Path) -> Iterator[Path]:
    """Put a script ``bmz`` into a folder, which is given; it works until the block ends."""
    with tempfile.TemporaryDirectory(prefix="bmz-warm-") as place:
        address = str(Path(place) / "calls")  # the name of a socket has 107 bytes at most
        root = str(Path(__file__).parents[2])
        server_words = [sys.executable, "-m", "tests.ship.warm", address]
        with subprocess.Popen(server_words, cwd=root, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.read(1) == READY
            script = folder / "bmz"
            command = str(Path(sys.executable).parent / "bmz")
            words = {"python": sys.executable, "command": command, "address": address}
            text = _CLIENT.format(**words, ended=ENDED)
            script.write_text(text, encoding="utf-8")
            script.chmod(0o755)
            try:
                yield folder
            finally:
                server.kill()


def serve(address: str) -> None:
    """Import the libraries, say so on stdout, and answer calls until the process is killed."""
    for name in _LIBRARIES:
        import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, READY)
        while True:
            caller, _ = listener.accept()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # so that what they took is told of this
                    pass
            if os.fork() == 0:
                listener.close()
                _answer(caller)
            caller.close()


def _answer(caller: socket.socket) -> None:
    """Run one call in this process, tell its exit status, and end.

    The process ends without the clearing up of libraries, some of which waits for threads that a
    fork does not have.
    """
    from bmz.cli.main import main

    length, streams, _, _ = socket.recv_fds(caller, 4, 3)
    with caller.makefile("rb") as stream:
        words, folder, environment = json.loads(stream.read(int.from_bytes(length, "big")))
    for number, handle in enumerate(streams):
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.chdir(folder)
    sys.modules["__main__"] = ModuleType("__main__")  # which processes of a pool import again
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["bmz", *words]
    status = ENDED
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    caller.send(bytes([status]))
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
