"""Measure all planes and their variants, and keep what was measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from variants import variant

import bmz.check.kind_features
from bmz.check.kind_features import measured_features, seen_features
from corpus import Sample

BY_HAND = (
    "kind_features.py",
    "kind_texture.py",
    "kind_greys.py",
    "kind_levels.py",
)
BY_NETWORK = ("kind_features.py", "kind_network.py", "kind_network.npz")
"""Files that decide what the features are: with other ones, all are measured again."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Features of many planes.

    Parameters
    ----------
    rows : (n, k) float32 `features`; NaN for colours of a grey image
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
    codes = _code(BY_HAND), _code(BY_NETWORK)
    rows, places, plain, kept = [], [], [], []
    seen = set()
    for sample in samples:
        digest = hashlib.sha256(np.ascontiguousarray(sample.array).tobytes()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        names = (f"{code}-{digest[:24]}-{variants}.npy" for code in codes)
        table = _table(sample, digest, variants, *(cache / name for name in names))
        if not len(table):
            continue
        rows.append(table)
        places.append(np.full(len(table), len(kept)))
        plain.append(np.arange(len(table)) == 0)
        kept.append(replace(sample, array=np.zeros(0)))
    return Measured(np.concatenate(rows), np.concatenate(places), np.concatenate(plain), kept)


def _table(
    sample: Sample, digest: str, variants: int, by_hand: Path, by_network: Path
) -> np.ndarray:
    """Give the features of a sample and its variants; those of flat variants are left out."""

    def images() -> list[np.ndarray]:
        chance = np.random.default_rng(int(digest[:12], 16))
        return [sample.array, *(variant(sample.array, chance) for _ in range(variants))]

    def rows(path: Path, measure: Callable[[np.ndarray], np.ndarray | None]) -> np.ndarray:
        if not path.exists():
            told = [row for row in map(measure, images()) if row is not None]
            np.save(path, np.array(told, np.float32) if told else np.zeros((0, 1), np.float32))
        return np.load(path)

    measured, seen = rows(by_hand, measured_features), rows(by_network, seen_features)
    if len(measured) < len(seen):
        seen = seen[[measured_features(image) is not None for image in images()]]
    return np.concatenate([measured, seen], axis=1)


def _code(files: tuple[str, ...]) -> str:
    folder = Path(bmz.check.kind_features.__file__).parent
    text = b"".join((folder / name).read_bytes() for name in files)
    text += (Path(__file__).parent / "variants.py").read_bytes()
    return hashlib.sha256(text).hexdigest()[:12]
