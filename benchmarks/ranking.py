"""Measure how well ``bmz compare`` and ``bmz fit --try`` predict the true order of results.

``python benchmarks/ranking.py ../shared [IMAGES] [--write docs/how-to/compare.md]`` runs models for
nuclei on test images of DSB 2018 (by default 20 of 80, evenly spaced). For each measure, and for
the guess by which ``bmz compare`` sorts results (warnings of the check lower it), it prints, with
standard errors over the images: Kendall's tau (b) with the order by F1 at IoU 0.5 (1 for the same
order, 0 for none), where results that `bmz.process.consensus.ranks` calls a tie share a place; the
share of images whose best result is first; and the regret, which is the F1 of the best result less
that of the first one. It also prints the regret of a random choice and of the model that is best
over all images, and how much more the guess loses than agreement alone. The last column is for the
model that is first over all images of a source, by the mean over them, as in the summary of
``bmz compare``: how much lower its mean F1 is than that of the model that is best over them, with
the standard error over the sources. Images of one size are a source, as for ``--sources``.

``--sources`` runs no network. It sorts all networks that were run on an image, for the cases of
``model_cards/quality`` without a fault, as ``bmz fit --try`` does, with predictions of forests that
did not see the source. It writes the regret of each source, and their mean with its standard error
(``--write docs/explanation/trial.md``). Below are the regrets for all images of a source together,
by the mean of their predictions, also lowered by warnings as in ``bmz compare``; for other orders;
for an ideal order (always the network that is best over all images of the source); and the loss on
the other images of a source of the network that is first on one of them. ``--time`` measures
``bmz fit --try 10`` on an image of 1024 px with the models of ``../shared/models`` and of bmz that
are made for it, two of them twice. If the processor is busy, give more ``--seconds``, and read the
CPU time.
"""

from __future__ import annotations

import argparse
import csv
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "model_cards/quality"))

import numpy as np
import tifffile
from gather import read_pairs
from pages import write_between
from scipy.stats import kendalltau

from bmz.app.compare import CompareRequest, compare
from bmz.app.fit import fit
from bmz.engine.fit_image import FitRequest
from bmz.engine.request import RunRequest
from bmz.engine.run_quality import FLAGS
from bmz.process.consensus import MaskPairs, ranks
from bmz.results.compare import WARNED, SettingResult
from bmz.testing.package import small_zoo
from bmz.zoo.settings import ZooSettings

QUALITY = Path(__file__).parents[1] / "model_cards/quality"
OF_SOURCES = ("<!-- benchmarks/ranking.py --sources -->\n", "<!-- end of sources -->\n")

LEFT_OUT = "without source, beside masks of other models"
"""A ranking knows the networks of a zoo, but not the image."""

BOTH_LEFT_OUT = "without source and network, beside masks of other models"

BY_ITSELF = "without source"

WORKS = 0.5
"""F1 that the best network must reach for an image to count."""

IS_WARNING = 2
"""Flag of a warning in ``evidence.csv``, from `bmz.engine.run_quality.FLAGS`."""

LEAST = 3
"""Minimum number of networks that were run on an image."""

FITTING = (
    "nuclei-broad", "unmicst-nuclei", "stardist-dsb2018", "stardist-dsb2018-declared",
    "cellpose-cyto",
)  # fmt: skip
"""Models of ``../shared/models`` that are made for the image of ``--time``."""

TWICE = 2
"""Number of these models that are used twice, so that there are ten with those of bmz."""

Figures = tuple[float, float, float]
"""Kendall's tau, the regret, and the regret of a random choice."""

MARKS = ("<!-- benchmarks/ranking.py -->\n", "<!-- end of ranking -->\n")

MODELS = ("starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour",
          "nuclei-broad", "unmicst-nuclei", "stardist-dsb2018")  # fmt: skip

Measure = Callable[[SettingResult], float]

MEASURES: Mapping[str, Measure] = {
    "agreement": lambda result: result.quality.agreement or 0.0,
    "stability": lambda result: result.quality.stability or 0.0,
    "plausible": lambda result: result.quality.plausible.share if result.quality.plausible else 0.0,
    "guess": lambda result: result.guess,
}


@dataclass(frozen=True, eq=False)
class RankedImage:
    """All networks that were run on an image.

    Parameters
    ----------
    source : source of the image
    networks : (n) names of the networks
    known : (n,) true F1 of their masks
    guesses : column of ``left_out.csv`` -> (n,) predictions
    warnings : (n,) number of warnings of the check that are in the evidence
    pairs : what their masks have in common
    """

    source: str
    networks: tuple[str, ...]
    known: np.ndarray
    guesses: Mapping[str, np.ndarray]
    warnings: np.ndarray
    pairs: MaskPairs

    @property
    def counts(self) -> bool:
        """Return whether enough networks were run, at least one of them with a good mask."""
        return len(self.networks) >= LEAST and self.known.max() >= WORKS

    @property
    def agreement(self) -> np.ndarray:
        """Return how well each mask agrees with the others, of which good ones count more."""
        return self.pairs.agreements(self.guesses[BY_ITSELF].tolist())

    def of(self, networks: Sequence[str], values: np.ndarray) -> list[float]:
        """Return the values of some networks, in their order."""
        return [float(values[self.networks.index(network)]) for network in networks]

    def among(self, networks: Sequence[str]) -> RankedImage:
        """Return the same for some of the networks; predictions remain those made among all."""
        kept = [i for i, network in enumerate(self.networks) if network in networks]
        guesses = {name: values[kept] for name, values in self.guesses.items()}
        names = tuple(self.networks[i] for i in kept)
        pairs, warnings = self.pairs.among(kept), self.warnings[kept]
        return RankedImage(self.source, names, self.known[kept], guesses, warnings, pairs)


def ranked_images() -> list[RankedImage]:
    """Read the images without a fault on which several networks were run."""
    rows, evidence = _without_fault("left_out.csv"), _without_fault("evidence.csv")
    images = []
    for image, (networks, pairs) in read_pairs().items():
        mine = [rows[*image, network] for network in networks]
        guesses = {
            name: np.array([float(row[name]) for row in mine])
            for name in (LEFT_OUT, BOTH_LEFT_OUT, BY_ITSELF)
        }
        known = np.array([float(row["f1"]) for row in mine])
        warnings = np.array([_warnings(evidence[*image, network]) for network in networks])
        images.append(RankedImage(image[0], tuple(networks), known, guesses, warnings, pairs))
    return images


def order_tau(guess: np.ndarray, known: np.ndarray) -> float:
    """Return Kendall's tau between places, which are equal for a tie, and the truth."""
    tau = kendalltau([-place for place in ranks(guess.tolist())], known).statistic
    return 0.0 if np.isnan(tau) else float(tau)


def _without_fault(name: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """Read the rows of images without a fault, by source, image and network."""
    return {
        (row["source"], row["image"], row["network"]): row
        for row in _rows(name)
        if row["fault"] == "none"
    }


def _warnings(row: Mapping[str, str]) -> int:
    return sum(float(row[f"found_{flag}"]) == IS_WARNING for flag in FLAGS)


def _rows(name: str) -> list[dict[str, str]]:
    with (QUALITY / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


Order = Callable[[RankedImage], np.ndarray]
"""Function that returns a number for each network of an image, the highest for the first one."""

OTHER_ORDERS: Mapping[str, Order] = {
    "the same, each network left out, too": lambda image: image.guesses[BOTH_LEFT_OUT],
    "by what is predicted of each mask by itself": lambda image: image.guesses[BY_ITSELF],
    "by agreement alone": lambda image: image.agreement,
}

WHOLE_ORDERS: Mapping[str, Order] = {
    "by the mean": lambda image: image.guesses[LEFT_OUT],
    "as `bmz compare` orders them": lambda image: np.maximum(
        image.guesses[LEFT_OUT] - WARNED * image.warnings, 0
    ),
}
"""Orders by the mean over the images of a source."""

OF_SIX: Mapping[str, Order] = {
    "as above": lambda image: image.guesses[LEFT_OUT],
    "by agreement alone": lambda image: image.agreement,
}
"""Orders of the networks that ``bmz compare`` is measured with."""


def source_lines() -> Iterator[str]:
    """Yield the table of sources, followed by other orders of the same networks."""
    images = ranked_images()
    figures = _by_source(images, lambda image: image.guesses[LEFT_OUT])
    yield "| source | images | Kendall's tau | regret | regret at random |"
    yield "|---|---|---|---|---|"
    for source, values in sorted(figures.items()):
        yield _order_line(source, len(values), np.mean(values, 0))
    yield _mean_line(f"mean of {len(figures)} sources", figures)
    for name, order in WHOLE_ORDERS.items():
        yield _mean_line(f"all images of a source together, {name}", together(images, order))
    for name, order in OTHER_ORDERS.items():
        yield _mean_line(name, _by_source(images, order))
    hindsight = _by_source(images, _best_of_source(images))
    yield _mean_line("always the network that is best for the source", hindsight, tau=False)
    six = [image.among(MODELS) for image in images if set(MODELS) <= {*image.networks}]
    for name, order in OF_SIX.items():
        yield _mean_line(f"six networks of nuclei, {name}", _by_source(six, order))
    further = further_images(images, lambda image: image.guesses[LEFT_OUT])
    yield _mean_line(f"other images of {len(further)} sources", further, tau=False)


def _best_of_source(images: Sequence[RankedImage]) -> Order:
    """Return the order that puts the network with the best mean F1 for the source first."""
    best = {}
    for source, mine in _counted(images).items():
        names = _everywhere(mine)
        means = np.mean([image.of(names, image.known) for image in mine], 0)
        best[source] = names[int(np.argmax(means))]
    return lambda image: np.array([float(name == best[image.source]) for name in image.networks])


def _by_source(images: Sequence[RankedImage], order: Order) -> dict[str, list[Figures]]:
    return {
        source: [_order_figures(image.known, order(image)) for image in mine]
        for source, mine in _counted(images).items()
    }


def _order_figures(known: np.ndarray, guess: np.ndarray) -> Figures:
    first = known[int(np.argmax(guess))]
    return order_tau(guess, known), known.max() - first, known.max() - known.mean()


def together(images: Sequence[RankedImage], order: Order) -> dict[str, list[Figures]]:
    """Sort the networks by the mean over all images of a source.

    Returns
    -------
    dict
        source -> figures of the mean F1 over its images, once
    """
    figures = {}
    for source, mine in _counted(images).items():
        names = _everywhere(mine)
        known = np.mean([image.of(names, image.known) for image in mine], 0)
        guess = np.mean([image.of(names, order(image)) for image in mine], 0)
        figures[source] = [_order_figures(known, guess)]
    return figures


def further_images(images: Sequence[RankedImage], order: Order) -> dict[str, list[Figures]]:
    """Return the loss of the network that is first on an image on the others of its source.

    Its mean F1 over them is compared with that of the network that is the best over them.

    Returns
    -------
    dict
        source of at least two images -> for each image: no tau, the regret, and that at random
    """
    figures = defaultdict[str, list[Figures]](list)
    for source, mine in _counted(images).items():
        for image in mine if len(mine) > 1 else ():
            others = [other for other in mine if other is not image]
            names = _everywhere(mine)
            means = np.mean([other.of(names, other.known) for other in others], 0)
            first = means[int(np.argmax(image.of(names, order(image))))]
            figures[source].append((np.nan, means.max() - first, means.max() - means.mean()))
    return figures


def _counted(images: Sequence[RankedImage]) -> dict[str, list[RankedImage]]:
    """Group the images that count by their source."""
    groups = defaultdict[str, list[RankedImage]](list)
    for image in sorted(images, key=lambda image: image.source):
        if image.counts:
            groups[image.source].append(image)
    return groups


def _everywhere(images: Sequence[RankedImage]) -> list[str]:
    """Return the names of the networks that were run on all of these images."""
    return sorted(set.intersection(*(set(image.networks) for image in images)))


def _mean_line(name: str, figures: Mapping[str, list[Figures]], *, tau: bool = True) -> str:
    """Return the mean over the sources, with its standard error.

    Parameters
    ----------
    tau : whether all networks were sorted, instead of only one being put before the others
    """
    count = sum(map(len, figures.values()))
    means = [np.mean(values, 0) for values in figures.values()]
    order, regret, chance = map(with_error, np.transpose(means), (2, 3, 3))
    return f"| {name} | {count} | {order if tau else ''} | {regret} | {chance} |"


def with_error(values: Sequence[float] | np.ndarray, digits: int) -> str:
    """Return the mean of some values, with its standard error."""
    error = np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def _order_line(source: str, count: int, values: np.ndarray) -> str:
    tau, regret, chance = values
    return f"| {source} | {count} | {tau:.2f} | {regret:.3f} | {chance:.3f} |"


def time_line(shared: Path, seconds: float) -> str:
    """Try ten models on an image of 1024 px, and describe how long it took."""
    folders = [(shared / "models" / name).resolve() for name in FITTING]
    tile = tifffile.imread(next((shared / "data/dsb2018/test/images").glob("*.tif")))[:256, :256]
    with tempfile.TemporaryDirectory() as folder, small_zoo(Path(folder) / "empty") as zoo:
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


@dataclass(frozen=True, eq=False)
class ComparedImage:
    """All models of ``bmz compare`` on an image.

    Parameters
    ----------
    source : source of the image
    results : model -> its result without the truth
    known : model -> true F1
    """

    source: str
    results: Mapping[str, SettingResult]
    known: Mapping[str, float]

    def figures(self, measure: Measure) -> Figures:
        """Return the figures of the order by a measure."""
        return _order_figures(self.truth, self.guess(measure))

    def guess(self, measure: Measure) -> np.ndarray:
        """Return the measure of each model, (n,)."""
        return np.array([measure(self.results[model]) for model in self.known])

    @property
    def truth(self) -> np.ndarray:
        """The true F1 of each model, (n,)."""
        return np.array([*self.known.values()])


def measure_lines(images: Sequence[ComparedImage]) -> Iterator[str]:
    """Yield the table of how well each measure sorts models, with standard errors."""
    yield (
        "| order by | Kendall's tau | the best is first | regret "
        "| regret of the first over all images of a source |"
    )
    yield "|---|---|---|---|---|"
    regrets = {}
    for name, measure in MEASURES.items():
        taus, lost, _ = np.transpose([image.figures(measure) for image in images])
        regrets[name] = lost
        _, whole, _ = np.transpose([*_first_of_sources(images, measure)])
        cells = (with_error(taus, 2), f"{np.mean(lost == 0):.0%}", with_error(lost, 3))
        yield f"| {name} | {' | '.join(cells)} | {with_error(whole, 3)} |"
    known = np.array([image.truth for image in images])
    chance = with_error(known.max(1) - known.mean(1), 3)
    _, _, drawn = np.transpose([*_first_of_sources(images, MEASURES["guess"])])
    yield f"| at random | 0 | {1 / known.shape[1]:.0%} | {chance} | {with_error(drawn, 3)} |"
    always = int(known.mean(0).argmax())
    name = Path([*images[0].known][always]).name
    yield f"| always {name} | | | {with_error(known.max(1) - known[:, always], 3)} | |"
    apart = with_error(regrets["guess"] - regrets["agreement"], 3)
    yield f"| guess less agreement, image by image | | | {apart} | |"


def _first_of_sources(images: Sequence[ComparedImage], measure: Measure) -> Iterator[Figures]:
    """Yield the figures of the order by the mean over the images of each source."""
    for source in sorted({image.source for image in images}):
        mine = [image for image in images if image.source == source]
        guess = np.mean([image.guess(measure) for image in mine], 0)
        yield _order_figures(np.mean([image.truth for image in mine], 0), guess)


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
    compared = []
    for path, blind, seen in zip(images, guessed.images, known.images, strict=True):
        f1 = {one.model: one.quality.f1 or 0.0 for one in seen.done}
        source = "x".join(map(str, tifffile.imread(path).shape[:2]))
        if failed := {*models} - {*f1}:
            raise SystemExit(f"{path.name}: {', '.join(sorted(failed))} failed")
        in_order = {model: f1[model] for model in models}
        compared.append(ComparedImage(source, {one.model: one for one in blind.done}, in_order))
    lines = list(measure_lines(compared))
    print("\n".join(lines))
    if words.write is not None:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
