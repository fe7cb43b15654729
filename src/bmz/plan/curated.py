"""What the curated facts say of the way from a model's output to labels."""

from __future__ import annotations

from dataclasses import dataclass

from bmz.base.errors import BmzError
from bmz.plan.errors import MakesNoLabels, RecipeMissing
from bmz.spec.facts import Fact, LabelWay, facts_of
from bmz.spec.model import ModelSpec, TensorSpec


@dataclass(frozen=True)
class Curated:
    """The curated way to labels of one model.

    Parameters
    ----------
    way : a recipe, or the reason why there is none
    source : of the fact
    maps : how many channels the output had when the fact was noted; None where that is not known
    segments : the model is for segmentation
    """

    way: LabelWay
    source: str
    maps: int | None
    segments: bool

    def fits(self, tensor: TensorSpec) -> bool:
        """Say whether the fact can still be meant: an author may have changed the output since."""
        if self.way.output and self.way.output != tensor.id:
            return False
        return self.maps is None or tensor.channels is None or self.maps == tensor.channels

    def refusal(self, model: ModelSpec) -> BmzError | None:
        """Give the error that tells why there is no recipe; None when there is one."""
        if self.way.name or not any(self.fits(tensor) for tensor in model.outputs):
            return None
        why = f"{self.way.reason}; {self.source}"
        if self.segments:
            return RecipeMissing(model.id, why)
        return MakesNoLabels(model.id, why, curated=True)


def curated_way(model: ModelSpec) -> Curated | None:
    """Give what the table knows of a model's way to labels; None when that is nothing."""
    facts = facts_of(model.alias) if model.alias else None
    if facts is None or facts.recipe is None:
        return None
    meaning = facts.output_channels
    maps = len(meaning.value) if meaning is not None else None
    return Curated(facts.recipe.value, facts.recipe.source, maps, segments=_segments(facts.task))


def _segments(task: Fact[str] | None) -> bool:
    return task is None or "segmentation" in task.value
