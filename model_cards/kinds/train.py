"""Train the classifier of kinds of images, and write its arrays.

``python model_cards/kinds/train.py ../shared --data FOLDER ...``: FOLDER holds an `index.csv`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from classifier import LARGEST, Network, Setting, fitted, softmax
from gather import Measured, measured

import bmz.check.kind_classifier as shipped
from bmz.spec.made_for import STRUCTURES
from corpus import Sample, dsb2018_train, samples_of

SETTING = Setting(decay=1e-2)
VARIANTS = 10
DSB_IMAGES = 40
COLOURS = 33
AXES = 12


def samples(shared: Path, folders: tuple[Path, ...]) -> Iterator[Sample]:
    """Yield all that is learnt from."""
    for folder in (shared / "data/kinds", *folders):
        yield from samples_of(folder)
    yield from dsb2018_train(shared / "data", DSB_IMAGES)


def balance(data: Measured) -> np.ndarray:
    """Weigh rows so that neither a source with many images nor a common kind outweighs others."""
    of_pair = Counter((s.kind, s.source) for s in data.samples)
    each = np.array([of_pair[s.kind, s.source] ** -0.6 for s in data.samples])
    of_kind = Counter[str]()
    for sample, weight in zip(data.samples, each, strict=True):
        of_kind[sample.kind] += weight
    each *= np.array([of_kind[s.kind] ** -0.4 for s in data.samples])
    count = np.bincount(data.sample, minlength=len(data.samples))
    return (each / count)[data.sample]


def left_out_logits(data: Measured, kinds: list[str], setting: Setting) -> np.ndarray:
    """Give the logits of every row from a network that has seen no image of its source."""
    source = np.array([s.source for s in data.samples])[data.sample]
    logits = np.zeros((len(data.rows), len(kinds)))
    for name in sorted(set(source)):
        out = source == name
        for head in ("grey", "colour"):
            rows, part = head_rows(data, head)
            if (part & out).any():
                network = network_of(data, kinds, part & ~out, head, setting)
                logits[part & out] = network.logits(rows[part & out])
    return logits


def head_rows(data: Measured, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Give the features that a head sees, and for which rows it speaks or learns."""
    coloured = np.isfinite(data.rows[:, -1])
    if head == "colour":
        return data.rows, coloured
    return data.rows[:, :-COLOURS], np.ones(len(data.rows), bool)


def network_of(
    data: Measured, kinds: list[str], part: np.ndarray, head: str, setting: Setting
) -> Network:
    """Fit the network of a head to a part of the rows."""
    rows, _ = head_rows(data, head)
    targets = np.eye(len(kinds))[[kinds.index(data.samples[i].kind) for i in data.sample[part]]]
    return fitted(rows[part], targets, balance(data)[part], setting)


def temperature(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Choose the temperature of the best left-out likelihood."""
    choices = np.exp(np.linspace(np.log(0.5), np.log(6), 60))
    losses = [
        -(weights * np.log(softmax(logits / t)[np.arange(len(truth)), truth] + 1e-9)).sum()
        for t in choices
    ]
    return float(choices[int(np.argmin(losses))])


def discriminant(rows: np.ndarray, groups: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Give directions in which kinds lie apart and the images of a source do not (Fisher 1936).

    Parameters
    ----------
    rows : (n, k) standardised features
    groups, kinds : (n,) numbers of the source and kind, and of the kind
    """
    means = np.stack([rows[groups == g].mean(0) for g in range(groups.max() + 1)])
    inside = np.cov((rows - means[groups]).T) + 0.3 * np.eye(rows.shape[1])
    centres = np.stack([rows[kinds == k].mean(0) for k in range(kinds.max() + 1)])
    values, vectors = np.linalg.eigh(inside)
    white = vectors / np.sqrt(values)
    _, _, turned = np.linalg.svd((centres - centres.mean(0)) @ white, full_matrices=False)
    return white @ turned[:AXES].T


def unlike_axes(
    data: Measured, kinds: list[str], mean: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Give the directions of `unlikeness`, scaled so that 2 % of pairs of a kind exceed 1."""
    rows = np.clip((data.rows[:, :-COLOURS] - mean) / scale, -LARGEST, LARGEST)
    kind = np.array([kinds.index(data.samples[i].kind) for i in data.sample])
    pairs = sorted({(s.kind, s.source) for s in data.samples})
    group = np.array(
        [pairs.index((data.samples[i].kind, data.samples[i].source)) for i in data.sample]
    )
    axes = discriminant(rows, group, kind)
    places, kind = rows[data.plain] @ axes, kind[data.plain]
    far = np.linalg.norm(places[:, None] - places[None], axis=-1)
    same = (kind[:, None] == kind[None]) & ~np.eye(len(kind), dtype=bool)
    return axes / scale[:, None] / np.quantile(far[same], 0.98)


def arrays_of(
    data: Measured, kinds: list[str], logits: np.ndarray, setting: Setting
) -> dict[str, np.ndarray]:
    """Fit both heads to all rows and give all that is shipped."""
    structures = list(STRUCTURES)
    arrays: dict[str, np.ndarray] = {
        "families": np.array([kind.split("/")[0] for kind in kinds]),
        "structures": np.array(structures),
        "shares": np.array([shares(kind, structures) for kind in kinds], np.float32),
    }
    truth = np.array([kinds.index(data.samples[i].kind) for i in data.sample])
    coloured = np.isfinite(data.rows[:, -1])
    for head, spoken in (("grey", ~coloured), ("colour", coloured)):
        _, part = head_rows(data, head)
        network = network_of(data, kinds, part, head, setting)
        arrays[f"{head}_mean"], arrays[f"{head}_scale"] = network.mean, network.scale
        for number, (weights, offsets) in enumerate(network.weights):
            arrays[f"{head}_weights{number}"] = weights
            arrays[f"{head}_offsets{number}"] = offsets
        heat = temperature(logits[spoken], truth[spoken], balance(data)[spoken])
        arrays[f"{head}_temperature"] = np.array(heat)
    arrays["centre"] = arrays["grey_mean"]
    arrays["axes"] = unlike_axes(data, kinds, arrays["grey_mean"], arrays["grey_scale"])
    return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}


def shares(kind: str, structures: list[str]) -> list[float]:
    """Tell how much of a kind shows which structure: stained tissue shows its nuclei, too."""
    shown = ("tissue", "nuclei") if kind == "stained/tissue" else (kind.split("/")[1],)
    return [float(word in shown) / len(shown) for word in structures]


@click.command()
@click.argument("shared", type=click.Path(exists=True, path_type=Path))
@click.option("--data", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--cache", default="build/kind-features", type=click.Path(path_type=Path))
def main(shared: Path, data: tuple[Path, ...], cache: Path) -> None:
    """Train on the images of SHARED and of all folders of --data."""
    torch.set_num_threads(1)
    table = measured(samples(shared, data), VARIANTS, cache)
    kinds = sorted({sample.kind for sample in table.samples})
    logits = left_out_logits(table, kinds, SETTING)
    arrays = arrays_of(table, kinds, logits, SETTING)
    np.savez_compressed(shipped.ARRAYS, **arrays)
    print(f"{len(table.samples)} planes, {len(kinds)} kinds, {shipped.ARRAYS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
