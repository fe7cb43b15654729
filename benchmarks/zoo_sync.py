"""Measure how long the first sync of all 137 manifests takes, and a later one with a warm cache.

    python benchmarks/zoo_sync.py ../shared/zoo/serve.py

The given script imitates the services on loopback in a separate process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bmz.zoo.index import load_index
from bmz.zoo.locate import locate
from bmz.zoo.settings import ZooSettings

T = TypeVar("T")


@contextmanager
def serving(script: Path) -> Iterator[str]:
    """Run the imitation on a free port and yield its address."""
    words = [sys.executable, "-u", str(script), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        said = server.stdout.readline() if server.stdout else ""
        yield said.split()[-1]
        server.terminate()


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Call `work`; return the seconds it took and its result."""
    began = time.perf_counter()
    done = work()
    return time.perf_counter() - began, done


def main(script: Path) -> None:
    """Print the figures."""
    with serving(script) as url, tempfile.TemporaryDirectory() as cache:
        services = ("https://hypha.aicell.io", "https://bioimage-io.github.io")
        settings = ZooSettings(Path(cache), mirrors=tuple((real, url) for real in services))
        took_s, index = timed(lambda: load_index(settings))
        kept = sum(entry.manifest is not None for entry in index.entries)
        print(f"first sync: {took_s:.2f} s for {kept} of {len(index.entries)} manifests")
        warm_s = min(timed(lambda: load_index(settings))[0] for _ in range(5))
        print(f"warm index: {warm_s * 1000:.0f} ms (best of 5)")
        alias_s = min(timed(lambda: locate("affable-shark", settings))[0] for _ in range(5))
        print(f"warm alias: {alias_s * 1000:.0f} ms (best of 5)")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
