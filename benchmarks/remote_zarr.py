"""Compare memory, time and bytes of ``bmz run`` on an OME-Zarr on a slow server and a local one.

``python benchmarks/remote_zarr.py ../shared FOLDER [--side 4096] [--chunk 1024] [--delay-ms 20]
[--write FILE]``

The mosaic of ``benchmarks/large.py`` is labelled with starter/nuclei three times, each time in a
separate process with its own cache: from the disk; from a server on this computer that delays every
request; and from such a server that is killed when a third of the chunks are served and started
again, after which ``--resume`` continues the run. The following is printed and, with ``--write``,
written as a table between its marks in FILE: the ratios of time and peak memory of the second run
to the first, the bytes that the server sent relative to those of the chunks, whether the chunks of
the label masks are identical, and what the third run requested again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from large import write_mosaic
from pages import write_between

IMAGE = "a.ome.zarr"
MARKS = ("<!-- benchmarks/remote_zarr.py -->\n", "<!-- end of remote -->\n")
KILLED_AFTER = 1 / 3
"""Share of the chunks that are served before the server is killed."""


class Waiting(SimpleHTTPRequestHandler):
    """Handler that serves files after a delay, and logs each of them."""

    protocol_version = "HTTP/1.1"
    wait_s = 0.0
    log: Path

    def do_GET(self) -> None:
        """Wait, answer, and log the request with its number of bytes."""
        time.sleep(self.wait_s)
        place = Path(self.translate_path(self.path))
        size = place.stat().st_size if place.is_file() else 0
        with self.server.lock, self.log.open("a") as log:
            log.write(f"{size} {self.path}\n")
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """Server of many parallel requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, folder: Path) -> None:
        super().__init__(("127.0.0.1", port), partial(Waiting, directory=str(folder)))
        self.lock = threading.Lock()


@dataclass(frozen=True)
class Cost:
    """The resources that a run used.

    Parameters
    ----------
    status : exit status
    wall_s, cpu_s : wall time and CPU time in s
    peak_gb : peak memory in GB
    """

    status: int
    wall_s: float
    cpu_s: float
    peak_gb: float


class Bench:
    """Runs and servers in one folder.

    Parameters
    ----------
    folder : folder of the image, the results and the caches
    delay_ms : delay of each request in ms
    """

    def __init__(self, folder: Path, delay_ms: float) -> None:
        self.folder, self.delay_ms = folder, delay_ms
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/{IMAGE}"

    def start_server(self, log: Path) -> subprocess.Popen[bytes]:
        """Start a server in a separate process, and wait until it answers."""
        command = [
            sys.executable, __file__, "--serve", str(self.port), str(self.delay_ms), str(log),
            str(self.folder),
        ]  # fmt: skip
        server = subprocess.Popen(command)  # noqa: S603  (our own program)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.05)
                continue
            return server

    def run(self, image: str, name: str, *more: str) -> Cost:
        """Label an image in a separate process."""
        command = [
            sys.executable, "-m", "bmz", "run", "starter/nuclei", image, "-o",
            str(self.folder / name), "--format", "zarr", "--memory", "0.2", *more,
        ]  # fmt: skip
        cache = {"BMZ_CACHE_DIR": str(self.folder / f"{name}-cache"), "BMZ_OFFLINE": ""}
        start = time.perf_counter()
        errors = (self.folder / f"{name}.err").open("a")
        process = subprocess.Popen(command, stderr=errors, stdout=errors, env=os.environ | cache)  # noqa: S603
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - start
        cpu = usage.ru_utime + usage.ru_stime
        return Cost(os.waitstatus_to_exitcode(status), took, cpu, usage.ru_maxrss / 1e6)

    def mask(self, name: str) -> Mapping[str, bytes]:
        """Return the chunks of a label mask, without metadata, which contain the image's name."""
        (folder,) = (self.folder / name).glob("*.labels.ome.zarr")
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def asked(log: Path) -> list[tuple[int, str]]:
    """Read the bytes and path of each request from a log."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(size), path) for size, _, path in (line.partition(" ") for line in lines)]


def kill_in_the_middle(server: subprocess.Popen[bytes], log: Path, chunks: int) -> None:
    """Kill a server as soon as `KILLED_AFTER` of the chunks are served."""
    while sum("/0/c/" in path for _, path in asked(log)) < KILLED_AFTER * chunks:
        time.sleep(0.05)
    server.send_signal(signal.SIGKILL)
    server.wait()


def measured(bench: Bench) -> dict[str, object]:
    """Run the image from the disk, from the server, and from one that is killed."""
    chunk_files = [path for path in (bench.folder / IMAGE / "0" / "c").rglob("*") if path.is_file()]
    stored = sum(path.stat().st_size for path in chunk_files)
    bench.run(str(bench.folder / IMAGE), "warm", "--plan")  # compiles, and fills the disk's cache
    local = bench.run(str(bench.folder / IMAGE), "local")
    log = bench.folder / "remote.log"
    server = bench.start_server(log)
    remote = bench.run(bench.address, "remote")
    server.kill()
    server.wait()
    requests = asked(log)
    given = sum(size for size, _ in requests)
    again = killed_run(bench, len(chunk_files))
    return {
        "local": vars(local),
        "remote": vars(remote),
        "time": round(remote.wall_s / local.wall_s, 3),
        "processor": round(remote.cpu_s / local.cpu_s, 3),
        "memory": round(remote.peak_gb / local.peak_gb, 3),
        "bytes": round(given / stored, 4),
        "requests": len(requests),
        "chunks": len(chunk_files),
        "same mask": bench.mask("remote") == bench.mask("local"),
        **again,
    }


def killed_run(bench: Bench, chunks: int) -> dict[str, object]:
    """Kill the server of a run, start it again, and resume the run."""
    log = bench.folder / "killed.log"
    server = bench.start_server(log)
    killer = threading.Thread(target=kill_in_the_middle, args=(server, log, chunks))
    killer.start()
    stopped = bench.run(bench.address, "killed")
    killer.join()
    server = bench.start_server(log)
    resumed = bench.run(bench.address, "killed", "--resume")
    server.kill()
    server.wait()
    counts = Counter(path for _, path in asked(log) if "/0/c/" in path)
    return {
        "killed: exit status": [stopped.status, resumed.status],
        "killed: seconds": [round(stopped.wall_s, 1), round(resumed.wall_s, 1)],
        "killed: chunks asked for twice": sum(count > 1 for count in counts.values()),
        "killed: same mask": bench.mask("killed") == bench.mask("local"),
    }


def table(result: Mapping[str, Any]) -> str:
    """Return the measurements as a table in Markdown and a sentence."""
    local, remote = result["local"], result["remote"]
    same = result["same mask"] and result["killed: same mask"]
    stopped, resumed = result["killed: exit status"]
    size = f"{result['side']} px, chunks of {result['chunk']} px"
    rows = [
        (size, "from the disk", "from the server", "ratio"),
        ("---",) * 4,
        ("seconds", f"{local['wall_s']:.0f}", f"{remote['wall_s']:.0f}", result["time"]),
        (
            "seconds of processor",
            f"{local['cpu_s']:.1f}",
            f"{remote['cpu_s']:.1f}",
            result["processor"],
        ),
        (
            "peak memory, GB",
            f"{local['peak_gb']:.3f}",
            f"{remote['peak_gb']:.3f}",
            result["memory"],
        ),
        (f"bytes given, over those of the {result['chunks']} chunks", "", "", result["bytes"]),
    ]
    again = result["killed: chunks asked for twice"]
    masks = "the same bytes" if same else "DIFFERENT BYTES"
    return "\n".join(
        [
            *("| " + " | ".join(map(str, row)) + " |" for row in rows),
            "",
            f"The masks have {masks}. With the server killed after a third of the chunks the run",
            f"ends with {stopped}; started again, `--resume` ends with {resumed}, asks for",
            f"{again} chunks twice and writes the same mask.",
        ]
    )


def serve(port: str, delay_ms: str, log: str, folder: str) -> None:
    """Serve a folder until the process is killed."""
    Waiting.wait_s, Waiting.log = float(delay_ms) / 1e3, Path(log)
    Server(int(port), Path(folder)).serve_forever()


def main() -> None:
    """Measure one size."""
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--write", type=Path, help="put the table into this page")
    parser.add_argument("--keep", action="store_true", help="leave images and results there")
    words = parser.parse_args()
    place = (words.folder / f"remote{words.side}-{words.chunk}").absolute()
    shutil.rmtree(place, ignore_errors=True)
    write_mosaic(words.shared, place / IMAGE, words.side, words.chunk)
    result = {
        "side": words.side,
        "chunk": words.chunk,
        **measured(Bench(place, words.delay_ms)),
    }
    print(json.dumps(result, indent=1), flush=True)
    if words.write is not None:
        write_between(words.write, MARKS, table(result))
    if not words.keep:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
