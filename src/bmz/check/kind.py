"""The kind of an image, as its pixels tell: how it was made, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SURE = 0.9
"""From this probability on something is said of an image as a fact."""


@dataclass(frozen=True)
class ImageKind:
    """What the pixels of an image, or of one channel, tell of its kind.

    Probabilities are calibrated: of all that is said with 0.9, nine in ten are right on images of
    sources that the classifier was not trained on. Where pixels tell little they are even, and an
    image that is like none that the classifier knows has low ones throughout: what is missing to 1
    is the probability of a kind that it does not know.

    Parameters
    ----------
    families : `bmz.spec.made_for.Family` -> probability
    structures : key of `bmz.spec.made_for.STRUCTURES` -> probability
    """

    families: Mapping[str, float]
    structures: Mapping[str, float]

    @property
    def family(self) -> str | None:
        """Give the family that is more likely than not; None where there is none."""
        return _likely(self.families)

    @property
    def structure(self) -> str | None:
        """Give the structure that is more likely than not; None where there is none."""
        return _likely(self.structures)


def _likely(probabilities: Mapping[str, float]) -> str | None:
    best = max(probabilities, key=lambda word: probabilities[word], default=None)
    return best if best is not None and probabilities[best] > 1 / 2 else None
