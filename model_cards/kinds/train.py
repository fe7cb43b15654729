"""Train the classifier of kinds of images, and write its arrays, its figures and its card.

``python model_cards/kinds/train.py ../shared --data FOLDER ...``: FOLDER holds an `index.csv`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import click
import numpy as np
import torch
from classifier import forest_arrays
from gather import Measured, measured
from left_out import HEADS, LEVELS, LeftOut, left_out, mixture_fit, space_of

import bmz.check.kind_classifier as shipped
from corpus import DSB_IMAGES, Sample, dsb2018_train, samples_of, shown_structures
from report import write_report

VARIANTS = 10

LEAST_SOURCES = 2
"""A structure that fewer sources show is learnt as another structure of its family."""


def samples(shared: Path, folders: tuple[Path, ...]) -> Iterator[Sample]:
    """Yield all that is learnt from."""
    for folder in (shared / "data/kinds", *folders):
        yield from samples_of(folder)
    yield from dsb2018_train(shared / "data", DSB_IMAGES)


def without_rare(data: Measured) -> Measured:
    """Count structures of too few sources as other structures of their family.

    What is still of too few sources is left out: nothing could be said of it on other sources.
    """
    sources = _source_counts(data.samples)
    renamed = [
        s if sources[s.kind] >= LEAST_SOURCES else replace(s, kind=f"{s.kind.split('/')[0]}/other")
        for s in data.samples
    ]
    sources = _source_counts(renamed)
    kept = np.array([sources[s.kind] >= LEAST_SOURCES for s in renamed])
    rows, number = kept[data.sample], np.cumsum(kept) - 1
    return Measured(
        data.rows[rows],
        number[data.sample[rows]],
        data.plain[rows],
        [s for s, keep in zip(renamed, kept, strict=True) if keep],
    )


def _source_counts(every: list[Sample]) -> Counter[str]:
    return Counter(kind for kind, _ in {(s.kind, s.source) for s in every})


def arrays_of(data: Measured, answers: LeftOut) -> dict[str, np.ndarray]:
    """Fit both heads to all rows and give all that is shipped."""
    structures = sorted({word for kind in answers.kinds for word in shown_structures(kind)})
    every = np.ones(len(data.rows), bool)
    space = space_of(data, every)
    arrays: dict[str, np.ndarray] = {
        "families": np.array([kind.split("/")[0] for kind in answers.kinds]),
        "structures": np.array(structures),
        "shares": np.array([shares(kind, structures) for kind in answers.kinds]),
        "axes": space.axes / answers.unit,
        "centres": space.centres / answers.unit,
        "fade": np.array(answers.fade) * (1 / answers.unit, answers.unit),
    }
    for head, level in product(HEADS, LEVELS):
        fit = mixture_fit(data, answers.kinds, every, head, level)
        parts = forest_arrays(fit.trees, fit.classes)
        for name in ("mean", "scale", "weights", "offsets"):
            parts[name] = getattr(fit.linear, name)
        parts["mix"] = answers.mixes[head, level]
        arrays |= {f"{head}_{level}_{name}": array for name, array in parts.items()}
    return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}


def shares(kind: str, structures: list[str]) -> list[float]:
    """Tell how much of a kind shows which structure."""
    shown = shown_structures(kind)
    return [float(word in shown) / len(shown) for word in structures]


@click.command()
@click.argument("shared", type=click.Path(exists=True, path_type=Path))
@click.option("--data", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--cache", default="build/kind-features", type=click.Path(path_type=Path))
def main(shared: Path, data: tuple[Path, ...], cache: Path) -> None:
    """Train on the images of SHARED and of all folders of --data."""
    torch.set_num_threads(1)
    table = without_rare(measured(samples(shared, data), VARIANTS, cache))
    answers = left_out(table, sorted({sample.kind for sample in table.samples}))
    np.savez(shipped.ARRAYS, **arrays_of(table, answers))
    print(f"{len(table.samples)} planes, {shipped.ARRAYS.stat().st_size} bytes")
    write_report(table, answers, shared)


if __name__ == "__main__":
    main()
