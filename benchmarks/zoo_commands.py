"""How long do the commands of the zoo take, as a user waits for them?

Each time is that of a whole process. The 137 real manifests are served by the imitation of the
live service on loopback. Repeat: ``python benchmarks/zoo_commands.py ../shared``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

REPEATS = 9
WARM = {
    "bmz --help": (["--help"], 0.2),
    "bmz search nuclei": (["search", "nuclei"], 0.5),
    "bmz search nuclei --json": (["search", "nuclei", "--json"], 0.5),
    "bmz list": (["list"], 0.5),
    "bmz show affable-shark": (["show", "affable-shark"], 0.4),
    "bmz show diplomatic-bug --json": (["show", "diplomatic-bug", "--json"], 0.4),
}
"""Words and the longest time that is wanted, in seconds."""


@contextmanager
def served(shared: Path) -> Iterator[str]:
    """Run the imitation in a process of its own and give its address."""
    command = [sys.executable, "-u", str(shared / "zoo" / "serve.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603  (ours)
        line = server.stdout.readline() if server.stdout else ""
        try:
            yield line.rpartition(" ")[2].strip()
        finally:
            server.terminate()


def timed(words: list[str], environment: Mapping[str, str]) -> float:
    """Give the seconds of one call."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "bmz", *words]
    subprocess.run(command, env=environment, capture_output=True, check=True)  # noqa: S603  (as above)
    return time.perf_counter() - start


def main(shared: Path) -> None:
    """Print one row a command."""
    with tempfile.TemporaryDirectory() as cache, served(shared) as url:
        environment = os.environ | {
            "BMZ_CACHE_DIR": cache,
            "BMZ_INDEX_URL": f"{url}/collection/index.json",
            "BMZ_MIRROR": f"https://hypha.aicell.io={url}",
        }
        print(f"first bmz list, nothing cached: {timed(['list'], environment):.2f} s")
        for name, (words, wanted) in WARM.items():
            timed(words, environment)
            took = sorted(timed(words, environment) for _ in range(REPEATS))
            print(f"{name}: {median(took):.3f} s (best {took[0]:.3f}), wanted < {wanted} s")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"))
