"""Train the classifier of kinds of images, and write its arrays, its figures and its card.

``python model_cards/kinds/train.py ../shared --data FOLDER ...``: FOLDER holds an `index.csv`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from classifier import forest_arrays
from gather import Measured, measured
from left_out import HEADS, LEVELS, HeadFit, LeftOut, head_fit, left_out, space_of

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


MIXED = "other"
"""The family of unlike things, such as metals and second harmonic light: it is not learnt."""


def learnt_and_not(data: Measured) -> tuple[Measured, Measured]:
    """Count structures of too few sources as other structures of their family, and part the rows.

    What is still of too few sources is not learnt from: nothing could be said of it on other
    sources.
    """
    sources = _source_counts(data.samples)
    renamed = [
        s if sources[s.kind] >= LEAST_SOURCES else replace(s, kind=f"{s.kind.split('/')[0]}/other")
        for s in data.samples
    ]
    sources = _source_counts(renamed)
    is_learnt = np.array(
        [sources[s.kind] >= LEAST_SOURCES and not s.kind.startswith(MIXED) for s in renamed]
    )
    return _part(data, renamed, is_learnt), _part(data, renamed, ~is_learnt)


def _part(data: Measured, samples: list[Sample], kept: np.ndarray) -> Measured:
    rows, number = kept[data.sample], np.cumsum(kept) - 1
    return Measured(
        data.rows[rows],
        number[data.sample[rows]],
        data.plain[rows],
        [s for s, keep in zip(samples, kept, strict=True) if keep],
    )


def _source_counts(every: list[Sample]) -> Counter[str]:
    return Counter(kind for kind, _ in {(s.kind, s.source) for s in every})


def arrays_of(data: Measured, answers: LeftOut) -> dict[str, np.ndarray]:
    """Fit both heads to all rows and give all that is shipped."""
    structures = sorted({word for kind in answers.kinds for word in shown_structures(kind)})
    every = np.ones(len(data.rows), bool)
    space = space_of(data, every)
    common = {
        "families": np.array([kind.split("/")[0] for kind in answers.kinds]),
        "structures": np.array(structures),
        "shares": np.array([shares(kind, structures) for kind in answers.kinds]),
        "mean": space.mean,
        "scale": space.scale,
        "axes": space.axes / answers.unit,
        "centres": space.centres / answers.unit,
        "fade": np.array(answers.fade) * (1 / answers.unit, answers.unit),
    }
    arrays = {f"common_{name}": array for name, array in common.items()}
    for head in HEADS:
        parts = head_arrays(head_fit(data, answers.kinds, every, head))
        parts["mix"] = np.stack([answers.mixes[head, level] for level in LEVELS])
        arrays |= {f"{head}_{name}": array for name, array in parts.items()}
    return {name: small(name, array) for name, array in arrays.items()}


def head_arrays(fit: HeadFit) -> dict[str, np.ndarray]:
    """Give the arrays of a head; the regressions of families and of kinds lie side by side."""
    both = [fit.linear[level] for level in LEVELS]
    return {
        "mean": both[0].mean,
        "scale": both[0].scale,
        "weights": np.concatenate([one.weights for one in both], axis=1),
        "offsets": np.concatenate([one.offsets for one in both]),
        **forest_arrays(fit.trees, len(fit.family_of)),
    }


HALVES = ("weights", "axes", "centres", "threshold")
"""Large arrays that are kept in 16 bits."""


def small(name: str, array: np.ndarray) -> np.ndarray:
    """Give an array in 16 or 32 bits a number."""
    if array.dtype.kind != "f":
        return array
    is_half = name.split("_")[1] in HALVES
    limit = np.finfo(np.float16).max
    return np.clip(array, -limit, limit).astype(np.float16) if is_half else array.astype(np.float32)


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
    table, beside = learnt_and_not(measured(samples(shared, data), VARIANTS, cache))
    answers = left_out(table, sorted({sample.kind for sample in table.samples}), beside)
    np.savez_compressed(shipped.ARRAYS, **arrays_of(table, answers))
    print(f"{len(table.samples)} planes, {shipped.ARRAYS.stat().st_size} bytes")
    write_report(table, beside, answers, shared)


if __name__ == "__main__":
    main()
