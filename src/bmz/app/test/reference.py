"""A model in bioimageio.core beside bmz, on the same tensors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from bmz.app.test.checks import agreements_words
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.steps import Step
from bmz.engine.reference import open_reference
from bmz.engine.test_tensors import OwnTensors
from bmz.process.agreement import compare
from bmz.results.test import ModelCheck
from bmz.spec.model import ModelSpec, Tolerance, Weights

DEPARTURES = {
    "zero_mean_unit_variance": "core drops eps, and takes all statistics of the raw tensor",
    "scale_range": "core drops eps, and takes all statistics of the raw tensor",
    "scale_mean_variance": "core fails on it",
    "binarize": "core lays thresholds of several channels along x",
    "fixed_zero_mean_unit_variance": "core adds 1e-6 to the deviation",
    "clip": "core takes percentiles of values that occur",
}
"""Steps in which core departs from the specification; see ``docs/design/steps.md``."""

FACTOR = 10
"""Two runtimes may each be off by the tolerance, and sum in another order."""


def reference_check(
    model: ModelSpec, weights: Weights, tensors: OwnTensors, ours: Sequence[AnyArray]
) -> ModelCheck:
    """Run the test inputs through bioimageio.core and compare its outputs with ours.

    Parameters
    ----------
    weights : the entry that both run
    ours : outputs after the declared postprocessing
    """
    name = f"{weights.format}.reference"
    raw = [array for array, _ in tensors.taken.values()]
    try:
        with closing(open_reference(model, weights, tuple(tensors.taken))) as core:
            theirs = core.run(raw)
            told = [
                compare(
                    array,
                    other,
                    tensor.letters,
                    _wide(model, tensor.id, weights.format),
                    name=tensor.id,
                )
                for tensor, array, other in zip(
                    model.outputs, ours, theirs[: len(ours)], strict=True
                )
            ]
    except BmzError as why:
        return ModelCheck(name, "skipped", f"bioimageio.core does not run it: {why.message}")
    words = agreements_words(model, told)
    if all(agreement.within for agreement in told):
        return ModelCheck(name, "passed", words)
    known = sorted({DEPARTURES[step.name] for step in _steps(model) if step.name in DEPARTURES})
    if known:
        return ModelCheck(name, "skipped", f"they differ: {words}; {'; '.join(known)}")
    return ModelCheck(name, "failed", f"they differ, and no known departure tells why: {words}")


def _wide(model: ModelSpec, output: str, weights_format: str) -> Tolerance:
    declared = model.tolerance_for(output, weights_format)
    return replace(
        declared, absolute=declared.absolute * FACTOR, relative=declared.relative * FACTOR
    )


def _steps(model: ModelSpec) -> list[Step]:
    return [step for tensor in (*model.inputs, *model.outputs) for step in tensor.steps]
