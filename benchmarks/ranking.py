"""How well the order of ``bmz compare`` and of ``bmz fit --try`` predicts the order by the truth.

``python benchmarks/ranking.py ../shared [IMAGES] [--write docs/how-to/compare.md]``: models for
nuclei on test images of DSB 2018 (default 20 of 80, evenly spread). Printed for each measure, and
for their mean, the guess: Kendall's tau with the order by F1 at IoU 0.5 (1 the same order, 0 none),
the share of images whose best result is first, and the regret: F1 of the best result less F1 of the
one that was put first. Beside it the regret of a choice at random, and of the model that is the
best over all images.

``--sources`` runs nothing: of the cases of ``model_cards/quality`` without a fault it puts all
networks that were run on an image in the order of ``bmz fit --try``, with predictions of forests
that did not see the source, and writes the regret of each source
(``--write docs/explanation/trial.md``). ``--time`` says how long ``bmz fit --try 10`` takes on an
image of 1024 px with the models of ``../shared/models`` and those of bmz that are made for it.
"""

from __future__ import annotations

import argparse
import csv
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from pages import write_between
from scipy.stats import kendalltau

from bmz.app.compare import CompareRequest, compare
from bmz.app.fit import fit
from bmz.engine.fit_image import FitRequest
from bmz.engine.request import RunRequest
from bmz.process.consensus import LEAST_COUNT, RELIANCE
from bmz.results.compare import ResultQuality
from bmz.testing.package import small_zoo
from bmz.zoo.settings import ZooSettings

QUALITY = Path(__file__).parents[1] / "model_cards/quality"
OF_SOURCES = ("<!-- benchmarks/ranking.py --sources -->\n", "<!-- end of sources -->\n")

LEFT_OUT = "without source"
"""The networks of a zoo are known to who ranks them; the image is not."""

WORKS = 0.5
"""F1 that the best network must reach, for an image to be counted."""

LEAST = 3
"""So many networks must have been run on an image."""

MARKS = ("<!-- benchmarks/ranking.py -->\n", "<!-- end of ranking -->\n")

MODELS = ("starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour",
          "nuclei-broad", "unmicst-nuclei", "stardist-dsb2018")  # fmt: skip

MEASURES: dict[str, Callable[[ResultQuality], float]] = {
    "agreement": lambda quality: quality.agreement or 0.0,
    "stability": lambda quality: quality.stability or 0.0,
    "plausible": lambda quality: quality.plausible.share if quality.plausible else 0.0,
    "predicted": lambda quality: quality.predicted.f1 if quality.predicted else 0.0,
    "guess": lambda quality: quality.guess,
}


def ranked_images() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the source of an image, the true F1 of each network, and the guess that ranks it."""
    predicted, truth = defaultdict[tuple[str, str], dict[str, float]](dict), {}
    for row in _rows("left_out.csv"):
        if row["fault"] == "none":
            predicted[row["source"], row["image"]][row["network"]] = float(row[LEFT_OUT])
            truth[row["source"], row["image"], row["network"]] = float(row["f1"])
    f1 = defaultdict[tuple[str, str], dict[frozenset[str], float]](dict)
    for row in _rows("agreements.csv"):
        f1[row["source"], row["image"]][frozenset((row["network"], row["other"]))] = float(
            row["f1"]
        )
    for image, told in predicted.items():
        networks = sorted(told)
        known = np.array([truth[*image, network] for network in networks])
        if len(networks) >= LEAST and known.max() >= WORKS:
            counts = {name: told[name] ** RELIANCE + LEAST_COUNT for name in networks}
            agreement = [_relied(name, f1[image], counts) for name in networks]
            yield image[0], known, (np.array([told[n] for n in networks]) + agreement) / 2


def _relied(network: str, f1: dict[frozenset[str], float], counts: dict[str, float]) -> float:
    """Give the agreement of a network with the others, as `relied_agreements` does."""
    others = [name for name in counts if name != network]
    total = sum(counts[other] for other in others)
    return sum(f1[frozenset((network, other))] * counts[other] for other in others) / total


def _rows(name: str) -> list[dict[str, str]]:
    with (QUALITY / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def source_lines() -> Iterator[str]:
    """Yield the table of sources."""
    taus, regrets = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    chances = defaultdict[str, list[float]](list)
    for source, known, guess in ranked_images():
        tau = kendalltau(guess, known).statistic
        taus[source].append(0.0 if np.isnan(tau) else tau)
        regrets[source].append(known.max() - known[int(np.argmax(guess))])
        chances[source].append(known.max() - known.mean())
    yield "| source | images | Kendall's tau | regret | regret at random |"
    yield "|---|---|---|---|---|"
    for source in sorted(taus):
        means = (np.mean(values[source]) for values in (taus, regrets, chances))
        tau, regret, chance = means
        yield f"| {source} | {len(taus[source])} | {tau:.2f} | {regret:.3f} | {chance:.3f} |"
    tau, regret, chance = (
        np.mean([np.mean(values) for values in each.values()]) for each in (taus, regrets, chances)
    )
    count = sum(map(len, taus.values()))
    yield f"| mean of {len(taus)} sources | {count} | {tau:.2f} | {regret:.3f} | {chance:.3f} |"


def time_line(shared: Path) -> str:
    """Try ten models on an image of 1024 px, and say how long it took."""
    models = tuple(map(str, sorted((shared / "models").resolve().glob("*/"))))
    tile = tifffile.imread(next((shared / "data/dsb2018/test/images").glob("*.tif")))[:256, :256]
    with tempfile.TemporaryDirectory() as folder, small_zoo(Path(folder)) as zoo:
        path = Path(folder) / "a.tif"
        tifffile.imwrite(path, np.tile(tile, (4, 4)))
        settings = ZooSettings(Path(folder) / "cache", index_url=zoo.index_url, models=models)
        request = FitRequest((path,), tries=10, try_seconds=1e4, trust="confined")
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        tried = fit(request, settings).tried
        took, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    words = ", ".join(f"{model.id} {model.predicted:.2f}" for model in tried)
    return f"{len(tried)} models in {took:.0f} s, {processor:.0f} s of processor: {words}"


def main() -> None:
    """Compare the orders."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("images", type=int, nargs="?", default=20)
    parser.add_argument("--write", type=Path, help="put the table into this page")
    parser.add_argument("--sources", action="store_true", help="the table of sources; run nothing")
    parser.add_argument("--time", action="store_true", help="how long fit --try takes; no table")
    words = parser.parse_args()
    if words.time:
        print(time_line(words.shared))
        return
    if words.sources:
        text = "\n".join(source_lines())
        print(text)
        if words.write is not None:
            write_between(words.write, OF_SOURCES, text)
        return
    folder = words.shared / "data/dsb2018/test"
    every = sorted((folder / "images").glob("*.tif"))
    images = tuple(every[i] for i in np.linspace(0, len(every) - 1, words.images).astype(int))
    models = tuple(
        name if name.startswith("starter/") else str(words.shared / "models" / name)
        for name in MODELS
    )
    run = RunRequest("", (), Path(), force=True)
    guessed, known = (
        compare(CompareRequest(images, models, {}, truth, stability=truth is None, options=run))
        for truth in (None, folder / "masks")
    )
    rows = []
    for blind, seen in zip(guessed.images, known.images, strict=True):
        f1 = {one.model: one.quality.f1 or 0.0 for one in seen.done}
        rows.append(({one.model: one.quality for one in blind.done}, f1))
    mean = {model: np.mean([f1[model] for _, f1 in rows if model in f1]) for model in models}
    always = max(mean, key=lambda model: mean[model])
    lines = ["| order by | Kendall's tau | the best is first | regret |", "|---|---|---|---|"]
    for name, measure in MEASURES.items():
        taus, firsts, regrets = [], [], []
        for quality, f1 in rows:
            order = sorted(f1)
            values = [measure(quality[model]) for model in order]
            tau = kendalltau(values, [f1[model] for model in order]).statistic
            taus.append(0.0 if np.isnan(tau) else tau)
            first = max(order, key=lambda model: measure(quality[model]))
            regrets.append(max(f1.values()) - f1[first])
            firsts.append(f1[first] == max(f1.values()))
        means = f"{np.mean(taus):.2f} | {np.mean(firsts):.0%} | {np.mean(regrets):.3f}"
        lines.append(f"| {name} | {means} |")
    chance = np.mean([max(f1.values()) - np.mean(list(f1.values())) for _, f1 in rows])
    one = np.mean([max(f1.values()) - f1[always] for _, f1 in rows])
    lines.append(f"| at random | 0 | {1 / len(models):.0%} | {chance:.3f} |")
    lines.append(f"| always {Path(always).name} | | | {one:.3f} |")
    print("\n".join(lines))
    if words.write is not None:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
