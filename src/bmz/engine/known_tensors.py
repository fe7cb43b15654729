"""The inputs and outputs of a network, and results cached from one setting to the next."""

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
    outputs : id -> output as returned by the network
    """

    inputs: Mapping[str, Reference]
    outputs: Mapping[str, Reference]

    @classmethod
    def of(
        cls, model: ModelSpec, inputs: Mapping[str, Reference], outputs: Sequence[AnyArray]
    ) -> KnownTensors:
        """Create the tensors from the outputs of a network, in the order of the description."""
        named = zip(model.outputs, outputs, strict=True)
        return cls(inputs, {tensor.id: (array, tensor.letters) for tensor, array in named})

    @property
    def references(self) -> dict[str, Reference]:
        """All tensors by id, as ``bmz.process.ops.apply_steps`` expects them."""
        return {**self.inputs, **self.outputs}

    @property
    def output_arrays(self) -> dict[str, AnyArray]:
        """The outputs by id, without their letters."""
        return {name: array for name, (array, _) in self.outputs.items()}

    def stepped(
        self, output: str, steps: Sequence[Step], look: Seen = not_seen
    ) -> tuple[AnyArray, str]:
        """Apply steps to an output.

        Parameters
        ----------
        look : is called with the result of each step

        Returns
        -------
        ndarray, str
            the array and the letters of its dimensions

        Raises
        ------
        BmzError
            A step does not fit its tensor.
        """
        return apply_steps(steps, *self.outputs[output], references=self.references, look=look)

    def once(self, _stage: str, _of: tuple[object, ...], make: Callable[[], Made], /) -> Made:
        """Compute the result of a stage, which depends only on `_of`; `KeptTensors` caches it."""
        return make()

    def keeping(self, labelling: Labelling) -> Labelling:
        """Return the labelling; `KeptTensors` lets its recipe cache results between settings."""
        return labelling

    def forget(self) -> None:
        """Discard cached results; only `KeptTensors` has any."""


@dataclass(frozen=True)
class KeptTensors(KnownTensors):
    """Known tensors that also cache the last result of each stage.

    The maps after the declared steps, the maps resized to the image, and the recipe's own cache
    are recomputed only if something they depend on changes. Only one thread may use it at a time.
    """

    made: dict[str, tuple[tuple[object, ...], Any]] = field(default_factory=dict, compare=False)

    @classmethod
    def of_known(cls, known: KnownTensors) -> KeptTensors:
        """Return the same tensors with an empty cache."""
        return cls(known.inputs, known.outputs)

    def once(self, stage: str, of: tuple[object, ...], make: Callable[[], Made], /) -> Made:
        """Return the last result of a stage, recomputed if something it depends on has changed."""
        kept = self.made.get(stage)
        if kept is None or not all(map(_same, kept[0], of)):
            self.made.pop(stage, None)  # so that the old and the new result are not both in memory
            kept = self.made[stage] = (of, make())
        made: Made = kept[1]
        return made

    def forget(self) -> None:
        """Discard cached results, which take up to about ten times the memory of a map channel."""
        self.made.clear()

    def stepped(
        self, output: str, steps: Sequence[Step], look: Seen = not_seen
    ) -> tuple[AnyArray, str]:
        """Apply steps to an output, or return the cached result; see `KnownTensors.stepped`."""
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
            look(number, step, x)  # the results of other steps are finite
        return stepped

    def keeping(self, labelling: Labelling) -> Labelling:
        """Return the labelling with a recipe that caches results between settings."""
        recipe = labelling.recipe
        if recipe is None or recipe.kept is None:
            return labelling
        label = self.once("recipe", (recipe.name,), resolve_name(recipe.kept))
        return replace(labelling, recipe=replace(recipe, label=label))


def _same(one: object, other: object) -> bool:
    # arrays are only the same if they are one object
    return one is other or (not hasattr(one, "shape") and bool(one == other))
