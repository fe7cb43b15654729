"""The inputs and outputs of a network, and what is kept of them from one setting to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pkgutil import resolve_name
from typing import Any, TypeVar

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.base.values import dataclass
from bmz.engine.labelling import Labelling
from bmz.engine.output_check import nonfinite_pixels
from bmz.process.ops import Seen, apply_steps, not_seen
from bmz.process.ops_scaling import Reference
from bmz.spec.model import ModelSpec

Made = TypeVar("Made")


@dataclass(frozen=True)
class KnownTensors:
    """The inputs and outputs of one run, with the letters of their dimensions.

    Parameters
    ----------
    inputs : id -> input before any preprocessing
    outputs : id -> output as the network gives it
    """

    inputs: Mapping[str, Reference]
    outputs: Mapping[str, Reference]

    @classmethod
    def of(
        cls, model: ModelSpec, inputs: Mapping[str, Reference], outputs: Sequence[AnyArray]
    ) -> KnownTensors:
        """Name the outputs of a network, which are in the order of the description."""
        named = zip(model.outputs, outputs, strict=True)
        return cls(inputs, {tensor.id: (array, tensor.letters) for tensor, array in named})

    @property
    def references(self) -> dict[str, Reference]:
        """All tensors by their id, as ``bmz.process.ops.apply_steps`` takes them."""
        return {**self.inputs, **self.outputs}

    @property
    def output_arrays(self) -> dict[str, AnyArray]:
        """The outputs alone, without their letters."""
        return {name: array for name, (array, _) in self.outputs.items()}

    def stepped(
        self, output: str, steps: Sequence[Step], look: Seen = not_seen
    ) -> tuple[AnyArray, str]:
        """Apply steps to an output.

        Parameters
        ----------
        look : is shown what each step gives

        Returns
        -------
        ndarray, str
            the array and the letters of its dimensions

        Raises
        ------
        BmzError
            A step does not go with its tensor.
        """
        return apply_steps(steps, *self.outputs[output], references=self.references, look=look)

    def once(self, _stage: str, _of: tuple[object, ...], make: Callable[[], Made], /) -> Made:
        """Make what a stage gives, which depends on `_of` alone; `KeptTensors` keeps it."""
        return make()

    def keeping(self, labelling: Labelling) -> Labelling:
        """Let a recipe keep what other settings leave as it is; see `KeptTensors`."""
        return labelling

    def forget(self) -> None:
        """Let go of what is kept; see `KeptTensors`."""


@dataclass(frozen=True)
class KeptTensors(KnownTensors):
    """The same, with what the newest setting made of them: of each stage its last result.

    The maps after the declared steps, the maps resized to the image, and what the recipe keeps by
    itself are made again only where something changes on which they depend. One thread uses it at
    a time.
    """

    made: dict[str, tuple[tuple[object, ...], Any]] = field(default_factory=dict, compare=False)

    @classmethod
    def of_known(cls, known: KnownTensors) -> KeptTensors:
        """Keep what is made of some tensors from now on."""
        return cls(known.inputs, known.outputs)

    def once(self, stage: str, of: tuple[object, ...], make: Callable[[], Made], /) -> Made:
        """Give what a stage gave at last, where all that it depends on is the same."""
        kept = self.made.get(stage)
        if kept is None or not all(map(_same, kept[0], of)):
            self.made.pop(stage, None)  # the old one need not be there beside the new one
            kept = self.made[stage] = (of, make())
        made: Made = kept[1]
        return made

    def forget(self) -> None:
        """Let go of what is kept: up to some ten times as much memory as a channel of a map."""
        self.made.clear()

    def stepped(
        self, output: str, steps: Sequence[Step], look: Seen = not_seen
    ) -> tuple[AnyArray, str]:
        """Apply steps to an output, or give what they gave; see `KnownTensors.stepped`."""
        odd: list[tuple[int, Step, AnyArray]] = []
        letters = self.outputs[output][1]
        looked = False

        def seen(number: int, step: Step, x: AnyArray) -> None:
            nonlocal looked
            looked = True
            look(number, step, x)
            if nonfinite_pixels(x, letters)[0]:
                odd.append((number, step, x))

        stepped, shown = self.once(
            "steps",
            (output, tuple(steps)),
            lambda: (KnownTensors.stepped(self, output, steps, seen), odd),
        )
        for number, step, x in () if looked else shown:
            look(number, step, x)  # of others there is nothing to tell
        return stepped

    def keeping(self, labelling: Labelling) -> Labelling:
        """Let a recipe keep what other settings leave as it is."""
        recipe = labelling.recipe
        if recipe is None or recipe.kept is None:
            return labelling
        label = self.once("recipe", (recipe.name,), resolve_name(recipe.kept))
        return replace(labelling, recipe=replace(recipe, label=label))


def _same(one: object, other: object) -> bool:
    # arrays are the same only where they are one array
    return one is other or (not hasattr(one, "shape") and bool(one == other))
