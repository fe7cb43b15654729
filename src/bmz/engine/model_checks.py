"""The single checks of ``bmz test``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.base.errors import BmzError
from bmz.engine.engines import open_reference
from bmz.engine.labelling import decide_labelling
from bmz.engine.test_tensors import (
    OwnTensors,
    as_maps,
    finished,
    first_of_batch,
    labels_of_first,
)
from bmz.plan.geometry import axis_rules, output_rules
from bmz.plan.recipe_choice import MakesNoLabels, OutputUnclear, RecipeMissing, RecipeUnclear
from bmz.predict.backend import Backend
from bmz.predict.reach import Reach, measured_reach, run_two_ways
from bmz.process.consensus import Agreement, compare
from bmz.results.models import ModelCheck
from bmz.spec.model import ModelSpec, PackagedFile, Tolerance, Weights
from bmz.spec.package_files import verified

SEAM_SHARE = 0.01
"""At a seam the output may differ by this share of its range; what is larger shows in a mask."""

SEAM_PPM = 1000
"""So many values of a million may differ by more."""


def manifest_check(model: ModelSpec) -> ModelCheck:
    """Say that the description is valid, with what its parser remarked."""
    remarks = "".join(f"; {remark}" for remark in model.remarks)
    return ModelCheck("manifest.valid", "passed", f"format {model.format_version}{remarks}")


def file_checks(
    model: ModelSpec, entries: Sequence[Weights], *, local: bool
) -> Iterator[ModelCheck]:
    """Hash every file that the description names and that is needed here.

    Parameters
    ----------
    entries : weights that can run here
    local : all files of the package should be here, those of other weights too
    """
    files = dict(_files(model, model.weights if local else entries))
    wrong = []
    for what, file in files.items():
        try:
            verified(file, what, model.folder)
        except BmzError as why:
            wrong.append(why.message)
    without = sum(not file.sha256 for file in files.values())
    stated = f", {without} of them without a stated sha256" if without else ""
    detail = "; ".join(wrong) or f"{len(files)} files{stated}"
    yield ModelCheck("files.verified", "failed" if wrong else "passed", detail)


def _files(model: ModelSpec, entries: Sequence[Weights]) -> Iterator[tuple[str, PackagedFile]]:
    for entry in entries:
        for file in (entry.file, *entry.beside):
            yield f"{entry.format} weights ({file.path.name})", file
    for tensor in (*model.inputs, *model.outputs):
        if tensor.test is not None:
            yield f"test tensor of {tensor.id}", tensor.test


def reproduces(
    model: ModelSpec, entry: Weights, tensors: OwnTensors, backend: Backend
) -> tuple[ModelCheck, Sequence[AnyArray] | None]:
    """Run the network on the test inputs and compare with the test outputs.

    Returns
    -------
    ModelCheck, list of arrays or None
        and the outputs after the declared postprocessing, where there are any
    """
    name = f"{entry.format}.reproduces"
    try:
        outputs = backend.run([tensor.array for tensor in tensors.inputs])
        results = finished(model, outputs, tensors.taken)
        agreements = [
            compare(
                array,
                expected,
                tensor.letters,
                model.tolerance_for(tensor.id, entry.format),
                name=tensor.id,
            )
            for tensor, array, expected in zip(
                model.outputs, results, tensors.expected, strict=True
            )
        ]
    except BmzError as why:
        return ModelCheck(name, "failed", str(why)), None
    good = all(agreement.within for agreement in agreements)
    return ModelCheck(
        name, "passed" if good else "failed", agreements_words(model, agreements)
    ), results


def agreements_words(model: ModelSpec, agreements: Sequence[Agreement]) -> str:
    """Say how far each output is from what it should be."""
    if len(agreements) == 1:
        return str(agreements[0])
    return "; ".join(
        f"{t.id}: {agreement}" for t, agreement in zip(model.outputs, agreements, strict=True)
    )


def network_checks(model: ModelSpec, tensors: OwnTensors, backend: Backend) -> Iterator[ModelCheck]:
    """Measure how far the network sees, what tiles change, and whether labels come out.

    None of these fails: they tell of the quality of a model that does what it says.

    Parameters
    ----------
    backend : a network that reproduces the test outputs
    """
    reach, halo = halo_check(model, tensors, backend)
    yield halo
    yield seam_check(model, tensors, backend, reach)
    yield label_check(model, tensors, backend)


def halo_check(
    model: ModelSpec, tensors: OwnTensors, backend: Backend
) -> tuple[Reach | None, ModelCheck]:
    """Compare the declared halo with the receptive field that is measured on the test input.

    One that is too narrow is a matter of quality: the model does what it says all the same.
    """
    if not model.space or not _all_spatial(model):
        return None, ModelCheck("halo", "skipped", "an output lies on no grid of the input")
    declared = _declared_halo(model)
    try:
        rules, outputs = axis_rules(model), output_rules(model)
        maps = partial(as_maps, model, tensors.taken)
        reach = measured_reach(backend, tensors.inputs, rules, outputs, maps)
    except BmzError as why:
        return None, ModelCheck("halo", "skipped", str(why))
    reach_words = f"a pixel is seen {reach.pixel_px} px away, an edge {reach.edge_px} px"
    if reach.pixel_px >= reach.seen_px - 1 or reach.sees_whole:
        return reach, ModelCheck(
            "halo", "skipped", f"the network sees the whole input ({reach_words})"
        )
    if not declared:
        return reach, ModelCheck("halo", "passed", f"none is declared; {reach_words}")
    wide = min(declared.values()) >= reach.pixel_px
    halo_words = ", ".join(f"{axis} {px}" for axis, px in declared.items())
    return reach, ModelCheck(
        "halo", "passed" if wide else "warning", f"declared {halo_words} px; {reach_words}"
    )


def _all_spatial(model: ModelSpec) -> bool:
    return all(set(model.space) <= set(tensor.letters) for tensor in model.outputs)


def _declared_halo(model: ModelSpec) -> Mapping[str, int]:
    rules = axis_rules(model) if any(a.halo for t in model.outputs for a in t.axes) else ()
    return {rule.axis: rule.halo for rule in rules if rule.halo}


def seam_check(
    model: ModelSpec, tensors: OwnTensors, backend: Backend, reach: Reach | None
) -> ModelCheck:
    """Run the test input in tiles and in one piece, and compare what lies away from its border.

    A network that sees the whole image gives another answer for each tile; this is told and is
    no failure, for no tiles could change it.
    """
    if reach is None:
        return ModelCheck("seams", "skipped", "an output lies on no grid of the input")
    try:
        ways = run_two_ways(backend, tensors.inputs, axis_rules(model), output_rules(model))
    except BmzError as why:
        return ModelCheck("seams", "skipped", str(why))
    tiles = f"{ways.tiling.count} tiles of {_sizes(ways.tiling.tile)}"
    tiled, whole = (as_maps(model, tensors.taken, arrays) for arrays in (ways.tiled, ways.whole))
    shares, ppm = zip(*map(_apart, tiled, whole), strict=True)
    differences = (
        f"{tiles}: at most {max(shares):.2g} of the range apart, {max(ppm):.4g} ppm by > 1 %"
    )
    if max(ppm) <= SEAM_PPM:
        return ModelCheck("seams", "passed", differences)
    if reach.sees_whole or reach.edge_px >= reach.seen_px - 1:
        return ModelCheck("seams", "skipped", f"the network sees the whole image; {differences}")
    return ModelCheck("seams", "warning", differences)


def _apart(tiled: AnyArray, whole: AnyArray) -> tuple[float, float]:
    """Give the largest difference as a share of the range, and how many values differ by more."""
    first, other = tiled.astype(np.float64), whole.astype(np.float64)
    spread = float(np.ptp(other)) or 1.0
    apart = np.abs(first - other) / spread
    return float(apart.max(initial=0.0)), 1e6 * float((apart > SEAM_SHARE).mean())


def _sizes(tile: Mapping[str, int]) -> str:
    return " x ".join(f"{axis} {size}" for axis, size in tile.items())


def label_check(model: ModelSpec, tensors: OwnTensors, backend: Backend) -> ModelCheck:
    """Make labels of the output for the test input, as ``bmz run`` would."""
    try:
        recipe, labels = own_labels(model, tensors, backend)
    except (MakesNoLabels, OutputUnclear, RecipeMissing, RecipeUnclear) as why:
        return ModelCheck("labels", "skipped", str(why))
    except BmzError as why:
        # what a recipe of ours does not take is no fault of the model
        ours = why.code.startswith("recipe.")
        return ModelCheck("labels", "skipped" if ours else "warning", str(why))
    count = int(labels.max(initial=0))
    summary = f"recipe {recipe}: {count} objects on the test input"
    # test inputs of noise hold none, and are no fault
    return ModelCheck("labels", "passed" if count else "skipped", summary)


def own_labels(model: ModelSpec, tensors: OwnTensors, backend: Backend) -> tuple[str, AnyArray]:
    """Give the recipe, and the labels ((z,) y, x) that it makes of the first test input.

    Raises
    ------
    BmzError
        There is no recipe, or it does not take the output.
    """
    labelling = decide_labelling(model, recipe=None, settings={})
    outputs = backend.run([first_of_batch(tensor.array, tensor.axes) for tensor in tensors.inputs])
    taken = {name: (first_of_batch(x, axes), axes) for name, (x, axes) in tensors.taken.items()}
    return labelling.choice.name, labels_of_first(model, labelling, taken, outputs)


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
            agreements = [
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
    words = agreements_words(model, agreements)
    if all(agreement.within for agreement in agreements):
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
