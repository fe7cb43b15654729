"""Compare the time and memory that ``bmz run --plan`` predicts with those of the run.

``python benchmarks/plan.py ../shared [SIDE ...]``, by default 1024 3000, uses smooth noise as image
and runs in separate processes. The predicted and the measured seconds of the network and peak
memory are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

MODELS = ("starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour",
          "nuclei-broad", "unmicst-nuclei", "stardist-dsb2018")  # fmt: skip


def run(command: list[str]) -> tuple[str, float]:
    """Run a command; return its stdout and its peak memory in GB."""
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.DEVNULL)  # noqa: S603  (our own program)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        told.seek(0)
        return told.read(), usage.ru_maxrss / 1e6


def main() -> None:
    """Compare every model and size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("sides", type=int, nargs="*", default=[1024, 3000])
    words = parser.parse_args()
    print("| model | image | network, foretold | found | memory, foretold | found |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in words.sides:
            noise = ndimage.gaussian_filter(np.random.default_rng(0).random((side, side)), 5)
            image = folder / f"{side}.tif"
            pixels = (noise * 40_000 - 18_000).clip(0).astype(np.uint16)
            tifffile.imwrite(image, pixels, metadata={"axes": "YX"})
            for model in MODELS:
                path = (
                    model if model.startswith("starter/") else str(words.shared / "models" / model)
                )
                base = [
                    sys.executable, "-m", "bmz", "run", path, str(image),
                    "-o", str(folder / "o"), "--json", "--overwrite", "--force",
                ]  # fmt: skip
                text, _ = run([*base, "--plan"])
                (plan,) = json.loads(text)["plans"]
                estimate = plan["estimate"]
                text, peak = run(base)
                took = json.loads(text)["timings_s"]["network"]
                network = estimate["network_bytes"] or 0
                told = estimate["held_bytes"] + max(network, estimate["image_bytes"])
                print(f"| {model} | {side} px | {estimate['network_s']:.1f} s | {took:.1f} s | "
                      f"{told / 1e9:.2f} GB | {peak:.2f} GB |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
