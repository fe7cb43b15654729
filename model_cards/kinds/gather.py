"""Measure all planes and their variants, and keep what was measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from variants import variant

import bmz.check.kind_features
from bmz.check.kind_features import features
from corpus import Sample

MODULES = ("kind_features", "kind_texture", "kind_greys", "kind_levels", "kind_colours")


@dataclass(frozen=True, eq=False)
class Measured:
    """Features of many planes.

    Parameters
    ----------
    rows : (n, k) float32 features; NaN for colours of a grey image
    sample : (n,) number of the sample that a row was made from
    plain : (n,) whether it is the sample itself and no variant
    samples : what they are made from, without their pixels
    """

    rows: np.ndarray
    sample: np.ndarray
    plain: np.ndarray
    samples: list[Sample]


def measured(samples: Iterable[Sample], variants: int, cache: Path) -> Measured:
    """Measure each sample and some variants of it; those of earlier runs are read."""
    cache.mkdir(parents=True, exist_ok=True)
    code = _code()
    rows, places, plain, kept = [], [], [], []
    seen = set()
    for sample in samples:
        digest = hashlib.sha256(np.ascontiguousarray(sample.array).tobytes()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        table = _table(sample, digest, variants, cache / f"{code}-{digest[:24]}-{variants}.npy")
        if not len(table):
            continue
        rows.append(table)
        places.append(np.full(len(table), len(kept)))
        plain.append(np.arange(len(table)) == 0)
        kept.append(replace(sample, array=np.zeros(0)))
    return Measured(np.concatenate(rows), np.concatenate(places), np.concatenate(plain), kept)


def _table(sample: Sample, digest: str, variants: int, path: Path) -> np.ndarray:
    if path.exists():
        return np.load(path)
    chance = np.random.default_rng(int(digest[:12], 16))
    images = [sample.array, *(variant(sample.array, chance) for _ in range(variants))]
    found = [row for row in map(features, images) if row is not None]
    table = np.array(found, np.float32) if found else np.zeros((0, 1), np.float32)
    np.save(path, table)
    return table


def _code() -> str:
    folder = Path(bmz.check.kind_features.__file__).parent
    text = b"".join((folder / f"{name}.py").read_bytes() for name in MODULES)
    text += (Path(__file__).parent / "variants.py").read_bytes()
    return hashlib.sha256(text).hexdigest()[:12]
