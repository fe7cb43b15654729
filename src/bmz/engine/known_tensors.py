"""The tensors of one run of a network, to which the declared steps after it may refer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bmz.base.arrays import AnyArray
from bmz.base.steps import Step
from bmz.process.ops import Seen, apply_steps, not_seen
from bmz.process.ops_scaling import Reference
from bmz.spec.model import ModelSpec, TensorSpec


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
        self, output: str, steps: Sequence[Step], seen: Seen = not_seen
    ) -> tuple[AnyArray, str]:
        """Apply steps to an output.

        Parameters
        ----------
        seen : is shown what each step gives

        Returns
        -------
        ndarray, str
            the array and the letters of its dimensions

        Raises
        ------
        BmzError
            A step does not go with its tensor.
        """
        return apply_steps(steps, *self.outputs[output], references=self.references, seen=seen)


def all_stepped(
    model: ModelSpec,
    known: KnownTensors,
    steps_of: Callable[[TensorSpec], Sequence[Step]] = lambda tensor: tensor.steps,
) -> list[AnyArray]:
    """Apply declared steps to every output, in the order of the description.

    Parameters
    ----------
    steps_of : which steps of an output; all by default

    Raises
    ------
    BmzError
        A step does not go with its tensor.
    """
    return [known.stepped(tensor.id, steps_of(tensor))[0] for tensor in model.outputs]


def referred_inputs(model: ModelSpec) -> frozenset[str]:
    """Give the ids of the inputs to which a step after the network refers.

    They must be kept until the network has run; all others need not.
    """
    steps = (step for tensor in model.outputs for step in tensor.steps)
    named = {str(step.kwargs.get("reference_tensor")) for step in steps}
    return frozenset(tensor.id for tensor in model.inputs if tensor.id in named)
