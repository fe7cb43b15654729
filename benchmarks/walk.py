"""Count the names that carry an image in ``bmz run``, and the frames down to the network.

``python benchmarks/walk.py [COMMIT ...] [--list] [--write FILE]``

``starter/nuclei`` runs on one image in one piece, with this checkout and with each named commit.
Whenever a function of bmz ends, its parameters and variables are inspected. A name carries the
image if it is its path, an array of its pixels (of its size, or padded for the network), or a value
of bmz or a collection that contains one of these within three steps. Different names except `self`
are counted in all packages of bmz but ``check``, which measures the image and passes nothing on.
Frames are those of named functions from the one that runs the command to ``run`` of the framework,
both included. ``--list`` also prints the names and frames of this checkout; ``--write`` writes all
of it between its marks in FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tifffile
from house import unpacked
from pages import write_between
from throughput import spots

MARKS = ("<!-- benchmarks/walk.py -->\n", "<!-- end of walk -->\n")
SHAPE = (203, 315)
PADDED = (256, 320)
"""What `SHAPE` becomes for the network of ``starter/nuclei``: at least 256 px, a multiple of 16."""

TRACER = """
import json, sys, threading
from pathlib import Path

source, image, folder, answer = sys.argv[1:]
sizes = {SIZES}
names, frames = {}, []
NETWORKS = ("onnx.py", "openvino.py", "onnx_backend.py")

def holds(value, depth):
    if isinstance(value, (str, Path)):
        return str(value) == image
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and any(set(size) <= set(shape) for size in sizes):
        return True
    if depth == 0 or value is None or isinstance(value, (int, float, bytes, type)):
        return False
    if isinstance(value, dict):
        inside = [*value, *value.values()][:8]
    elif isinstance(value, (list, tuple, frozenset, set)):
        inside = list(value)[:8]
    elif type(value).__module__.startswith("bmz."):
        inside = [*getattr(value, "__dict__", {}).values()]
        inside += [getattr(value, s, None) for s in getattr(type(value), "__slots__", ())]
    else:
        return False
    return any(holds(part, depth - 1) for part in inside)

def look(frame, event, _):
    code = frame.f_code
    if not code.co_filename.startswith(source):
        return
    if event == "call" and code.co_name == "run" and not frames:
        place = Path(code.co_filename)
        if place.parent.name == "predict" and place.name in NETWORKS:
            up = frame
            while up is not None:
                file = up.f_code.co_filename
                if file.startswith(source) and not up.f_code.co_name.startswith("<"):
                    where = Path(file).relative_to(source).with_suffix("").parts
                    frames.append(".".join((*where, up.f_code.co_qualname)))
                if frames and frames[-1] == "bmz.cli.run._run":
                    break
                up = up.f_back
    if event == "return" and Path(code.co_filename).relative_to(source).parts[1] != "check":
        for name, value in list(frame.f_locals.items()):
            if name != "self" and not name.startswith(".") and name not in names:
                try:
                    if holds(value, 3):
                        where = Path(code.co_filename).relative_to(source).with_suffix("").parts
                        names[name] = ".".join((*where, code.co_qualname))
                except Exception:
                    pass

sys.path.insert(0, source)
sys.argv = ["bmz", "run", "starter/nuclei", image, "-o", folder, "--overwrite"]
from bmz.cli.main import main
threading.setprofile(look)
sys.setprofile(look)
try:
    main()
except SystemExit as end:
    status = end.code
finally:
    sys.setprofile(None)
    threading.setprofile(None)
Path(answer).write_text(json.dumps({"status": status, "names": names, "frames": frames[::-1]}))
"""


def main() -> int:
    """Print the counts, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("commits", nargs="*", metavar="COMMIT")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    root = Path(__file__).parents[1]
    walks = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        tifffile.imwrite(place / "image.tif", spots(max(SHAPE))[: SHAPE[0], : SHAPE[1]])
        for commit in options.commits:
            (place / commit).mkdir()
            walks[commit] = walk(place, unpacked(root, commit, place / commit))
        walks["now"] = walk(place, root / "src")
    text = table(walks)
    lists = listed(walks["now"])
    print(f"{text}\n\n{lists}" if options.list else text)
    if options.write:
        write_between(options.write, MARKS, f"{text}\n\n{lists}")
    return 0


def walk(place: Path, source: Path) -> dict[str, Any]:
    """Run the image with the code in a folder, and return its names and frames."""
    answer = place / "answer.json"
    code = TRACER.replace("{SIZES}", repr([SHAPE, PADDED]))
    words = [str(source), str(place / "image.tif"), str(place / "out"), str(answer)]
    environment = {**os.environ, "PYTHONPATH": str(source), "BMZ_CACHE_DIR": str(place / "cache")}
    run = [sys.executable, "-c", code, *words]
    subprocess.run(run, env=environment, check=True, capture_output=True)  # noqa: S603
    result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if result["status"]:
        raise RuntimeError(f"bmz run ended with {result['status']}")
    return result


def table(walks: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the counts as a table in Markdown."""
    rows = {
        "names that carry the image": [len(walk["names"]) for walk in walks.values()],
        "frames from the command to the network": [len(walk["frames"]) for walk in walks.values()],
    }
    head = f"| | {' | '.join(walks)} |\n|---|{'---:|' * len(walks)}"
    lines = [f"| {what} | {' | '.join(map(str, counts))} |" for what, counts in rows.items()]
    return "\n".join([head, *lines])


def listed(walk: Mapping[str, Any]) -> str:
    """Return the names in alphabetical order, and the frames from the command down."""
    names: Sequence[str] = sorted(walk["names"])
    frames = " -> ".join(f"`{frame.rpartition('.')[2]}`" for frame in walk["frames"])
    return f"Names: {', '.join(f'`{name}`' for name in names)}.\n\nFrames: {frames}."


if __name__ == "__main__":
    raise SystemExit(main())
