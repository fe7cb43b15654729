"""How well the order of ``bmz compare`` and of ``bmz fit --try`` predicts the order by the truth.

``python benchmarks/ranking.py ../shared [IMAGES] [--write docs/how-to/compare.md]``: models for
nuclei on test images of DSB 2018 (default 20 of 80, evenly spread). Printed for each measure, and
for the guess: Kendall's tau (b) with the order by F1 at IoU 0.5 (1 the same order, 0 none), where
results that `bmz.process.consensus.ranks` calls a tie have one place,
the share of images whose best result is first, and the regret: F1 of the best result less F1 of the
one that was put first. Beside it the regret of a choice at random, and of the model that is the
best over all images.

``--sources`` runs nothing: of the cases of ``model_cards/quality`` without a fault it puts all
networks that were run on an image in the order of ``bmz fit --try``, with predictions of forests
that did not see the source, and writes the regret of each source, and their mean with its standard
error (``--write docs/explanation/trial.md``). ``--time`` says how long ``bmz fit --try 10`` takes
on an image of 1024 px with the models of ``../shared/models`` and those of bmz that are made for
it, two of them twice; give more ``--seconds`` where the processor is busy, and read its time.
"""

from __future__ import annotations

import argparse
import csv
import resource
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tifffile
from pages import write_between
from scipy.stats import kendalltau

from bmz.app.compare import CompareRequest, compare
from bmz.app.fit import fit
from bmz.engine.fit_image import FitRequest
from bmz.engine.request import RunRequest
from bmz.process.consensus import ranks
from bmz.results.compare import ResultQuality
from bmz.testing.package import small_zoo
from bmz.zoo.settings import ZooSettings

QUALITY = Path(__file__).parents[1] / "model_cards/quality"
OF_SOURCES = ("<!-- benchmarks/ranking.py --sources -->\n", "<!-- end of sources -->\n")

LEFT_OUT = "without source, beside masks of other models"
"""The networks of a zoo are known to who ranks them; the image is not."""

BOTH_LEFT_OUT = "without source and network, beside masks of other models"

WORKS = 0.5
"""F1 that the best network must reach, for an image to be counted."""

LEAST = 3
"""So many networks must have been run on an image."""

FITTING = (
    "nuclei-broad", "unmicst-nuclei", "stardist-dsb2018", "stardist-dsb2018-declared",
    "cellpose-cyto",
)  # fmt: skip
"""Of ``../shared/models`` those for which the image of ``--time`` is."""

TWICE = 2
"""So many of them are there twice, so that there are ten with those of bmz."""

MARKS = ("<!-- benchmarks/ranking.py -->\n", "<!-- end of ranking -->\n")

MODELS = ("starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour",
          "nuclei-broad", "unmicst-nuclei", "stardist-dsb2018")  # fmt: skip

MEASURES: dict[str, Callable[[ResultQuality], float]] = {
    "agreement": lambda quality: quality.agreement or 0.0,
    "stability": lambda quality: quality.stability or 0.0,
    "plausible": lambda quality: quality.plausible.share if quality.plausible else 0.0,
    "guess": lambda quality: quality.guess,
}


def ranked_images(left_out: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the source of an image, the true F1 of each network, and the guess that ranks it.

    Parameters
    ----------
    left_out : column of ``left_out.csv``
    """
    images = defaultdict[tuple[str, str], list[tuple[float, float]]](list)
    for row in _rows("left_out.csv"):
        if row["fault"] == "none" and row[left_out]:
            images[row["source"], row["image"]].append((float(row["f1"]), float(row[left_out])))
    for (source, _), told in images.items():
        known, guess = np.array(told).T
        if len(known) >= LEAST and known.max() >= WORKS:
            yield source, known, guess


def order_tau(guess: np.ndarray, known: np.ndarray) -> float:
    """Give Kendall's tau between places, those of a tie being the same, and the truth."""
    tau = kendalltau([-place for place in ranks(guess.tolist())], known).statistic
    return 0.0 if np.isnan(tau) else float(tau)


def _rows(name: str) -> list[dict[str, str]]:
    with (QUALITY / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def source_lines() -> Iterator[str]:
    """Yield the table of sources, and how well networks are ranked that were left out, too."""
    columns = defaultdict[str, list[tuple[float, ...]]](list)
    for source, known, guess in ranked_images(LEFT_OUT):
        columns[source].append(_order_figures(known, guess))
    yield "| source | images | Kendall's tau | regret | regret at random |"
    yield "|---|---|---|---|---|"
    for source, values in sorted(columns.items()):
        yield _order_line(source, len(values), np.mean(values, 0))
    count = sum(map(len, columns.values()))
    yield _mean_line(f"mean of {len(columns)} sources", count, columns)
    both = defaultdict[str, list[tuple[float, ...]]](list)
    for source, known, guess in ranked_images(BOTH_LEFT_OUT):
        both[source].append(_order_figures(known, guess))
    yield _mean_line("the same, each network left out, too", count, both)


def _order_figures(known: np.ndarray, guess: np.ndarray) -> tuple[float, float, float]:
    first = known[int(np.argmax(guess))]
    return order_tau(guess, known), known.max() - first, known.max() - known.mean()


def _mean_line(name: str, count: int, columns: Mapping[str, list[tuple[float, ...]]]) -> str:
    """Give the mean of the sources, with its standard error."""
    means = np.array([np.mean(values, 0) for values in columns.values()])
    errors = means.std(0, ddof=1) / len(means) ** 0.5
    tau, regret, chance = (
        f"{mean:.{digits}f} ± {error:.{digits}f}"
        for mean, error, digits in zip(means.mean(0), errors, (2, 3, 3), strict=True)
    )
    return f"| {name} | {count} | {tau} | {regret} | {chance} |"


def _order_line(name: str, count: int, values: np.ndarray) -> str:
    tau, regret, chance = values
    return f"| {name} | {count} | {tau:.2f} | {regret:.3f} | {chance:.3f} |"


def time_line(shared: Path, seconds: float) -> str:
    """Try ten models on an image of 1024 px, and say how long it took."""
    folders = [(shared / "models" / name).resolve() for name in FITTING]
    tile = tifffile.imread(next((shared / "data/dsb2018/test/images").glob("*.tif")))[:256, :256]
    with tempfile.TemporaryDirectory() as folder, small_zoo(Path(folder)) as zoo:
        more = [shutil.copytree(path, Path(folder) / f"{path.name}-2") for path in folders[:TWICE]]
        models = tuple(map(str, [*folders, *more]))
        path = Path(folder) / "a.tif"
        tifffile.imwrite(path, np.tile(tile, (4, 4)))
        settings = ZooSettings(Path(folder) / "cache", index_url=zoo.index_url, models=models)
        request = FitRequest((path,), tries=10, try_seconds=seconds, trust="confined")
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        tried = fit(request, settings).tried
        took, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    words = ", ".join(f"{Path(model.id).name} {model.guess:.2f}" for model in tried)
    return f"{len(tried)} models in {took:.0f} s, {processor:.0f} s of processor: {words}"


def main() -> None:
    """Compare the orders."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("images", type=int, nargs="?", default=20)
    parser.add_argument("--write", type=Path, help="put the table into this page")
    parser.add_argument("--sources", action="store_true", help="the table of sources; run nothing")
    parser.add_argument("--time", action="store_true", help="how long fit --try takes; no table")
    parser.add_argument("--seconds", type=float, default=60.0, help="the bound of --time")
    words = parser.parse_args()
    if words.time:
        print(time_line(words.shared, words.seconds))
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
            taus.append(order_tau(np.array(values), np.array([f1[model] for model in order])))
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
