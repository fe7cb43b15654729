"""Test one model: its single checks, every weights format, its speed and its objects."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import field, replace
from functools import partial
from math import prod

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.base.errors import BmzError, WrongUsage
from bmz.base.progress import Listener, nobody
from bmz.base.values import dataclass
from bmz.engine.engines import open_reference
from bmz.engine.load import Permit, fetch_code, fetch_tensors, fetch_weights, permit_for
from bmz.engine.network_choice import open_network
from bmz.engine.test_tensors import (
    OwnTensors,
    as_maps,
    finished,
    given_inputs,
    own_labels,
    read_test_tensors,
)
from bmz.plan.geometry import axis_rules, output_rules
from bmz.plan.recipe_choice import MakesNoLabels, OutputUnclear, RecipeMissing, RecipeUnclear
from bmz.plan.weights_choice import ORDER, WeightsNotShipped
from bmz.predict.backend import Backend, NoBackend, OutOfMemory
from bmz.predict.formats import DeviceAbsent, backends, resolve_device
from bmz.predict.frameworks import AUTO, NATIVE, usable_formats
from bmz.predict.reach import Reach, measured_reach, run_two_ways
from bmz.process.consensus import Agreement, compare
from bmz.process.ops_values import RunsCode
from bmz.results.models import ModelCheck, ObjectSizes, Speed
from bmz.spec.model import ModelSpec, PackagedFile, Tolerance, Weights
from bmz.spec.package_files import verified
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings

SEAM_SHARE = 0.01
"""Tolerated difference at a seam, as a share of the output range; more is visible in a mask."""

SEAM_PPM = 1000
"""Number of values per million that may differ by more."""


def manifest_check(model: ModelSpec) -> ModelCheck:
    """Report that the description is valid, with the remarks of its parser."""
    remarks = "".join(f"; {remark}" for remark in model.remarks)
    return ModelCheck("manifest.valid", "passed", f"format {model.format_version}{remarks}")


def file_checks(
    model: ModelSpec, entries: Sequence[Weights], *, local: bool
) -> Iterator[ModelCheck]:
    """Hash every file that the description names and that is needed here.

    Parameters
    ----------
    entries : weights that can run here
    local : whether all files of the package should be here, including those of other weights
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
        the check, and the outputs after the declared postprocessing; None if the run fails
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
    """Return how far each output deviates from the expected one."""
    if len(agreements) == 1:
        return str(agreements[0])
    return "; ".join(
        f"{t.id}: {agreement}" for t, agreement in zip(model.outputs, agreements, strict=True)
    )


def network_checks(model: ModelSpec, tensors: OwnTensors, backend: Backend) -> Iterator[ModelCheck]:
    """Measure the receptive field of the network, the effect of tiles, and whether it gives labels.

    None of these checks fails: they assess the quality of a model that works as described.

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
    """Compare the declared halo with the receptive field measured on the test input.

    A halo that is too narrow is a warning, not a failure: the model still works as described.
    """
    if not model.space or not _all_spatial(model):
        return None, ModelCheck("halo", "skipped", "an output is not on a grid of the input")
    declared = _declared_halo(model)
    try:
        rules, outputs = axis_rules(model), output_rules(model)
        maps = partial(as_maps, model, tensors.taken)
        reach = measured_reach(backend, tensors.inputs, rules, outputs, maps)
    except BmzError as why:
        return None, ModelCheck("halo", "skipped", str(why))
    reach_words = f"a pixel has influence {reach.pixel_px} px away, an edge {reach.edge_px} px away"
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
    """Run the test input in tiles and in one piece, and compare the results away from its border.

    A network that sees the whole image gives a different result for each tile. This is reported
    but is not a failure, since no choice of tiles could change it.
    """
    if reach is None:
        return ModelCheck("seams", "skipped", "an output is not on a grid of the input")
    try:
        ways = run_two_ways(backend, tensors.inputs, axis_rules(model), output_rules(model))
    except BmzError as why:
        return ModelCheck("seams", "skipped", str(why))
    tiles = f"{ways.tiling.count} tiles of {_tile_text(ways.tiling.tile)}"
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
    """Return the largest difference as a share of the range, and the ppm above `SEAM_SHARE`."""
    first, other = tiled.astype(np.float64), whole.astype(np.float64)
    spread = float(np.ptp(other)) or 1.0
    apart = np.abs(first - other) / spread
    return float(apart.max(initial=0.0)), 1e6 * float((apart > SEAM_SHARE).mean())


def _tile_text(tile: Mapping[str, int]) -> str:
    return " x ".join(f"{axis} {size}" for axis, size in tile.items())


def label_check(model: ModelSpec, tensors: OwnTensors, backend: Backend) -> ModelCheck:
    """Compute labels from the output for the test input, as ``bmz run`` would."""
    try:
        recipe, labels = own_labels(model, tensors, backend)
    except (MakesNoLabels, OutputUnclear, RecipeMissing, RecipeUnclear) as why:
        return ModelCheck("labels", "skipped", str(why))
    except BmzError as why:
        # an output that our recipe does not accept is not a fault of the model
        ours = why.code.startswith("recipe.")
        return ModelCheck("labels", "skipped" if ours else "warning", str(why))
    count = int(labels.max(initial=0))
    summary = f"recipe {recipe}: {count} objects on the test input"
    # test inputs of noise contain no objects, which is not a fault
    return ModelCheck("labels", "passed" if count else "skipped", summary)


DEPARTURES = {
    "zero_mean_unit_variance": "core omits eps, and takes all statistics from the raw tensor",
    "scale_range": "core omits eps, and takes all statistics from the raw tensor",
    "scale_mean_variance": "core fails on it",
    "binarize": "core applies the thresholds of several channels along x",
    "fixed_zero_mean_unit_variance": "core adds 1e-6 to the deviation",
    "clip": "core takes only values that occur as percentiles",
}
"""Steps in which core deviates from the specification; see ``docs/design/steps.md``."""

FACTOR = 10
"""Factor on the tolerance: both runtimes may deviate by it, and sum in different order."""


def reference_check(
    model: ModelSpec, weights: Weights, tensors: OwnTensors, ours: Sequence[AnyArray]
) -> ModelCheck:
    """Run the test inputs through bioimageio.core and compare its outputs with ours.

    Parameters
    ----------
    weights : the entry that both run
    ours : our outputs after the declared postprocessing
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
    agreement_text = agreements_words(model, agreements)
    if all(agreement.within for agreement in agreements):
        return ModelCheck(name, "passed", agreement_text)
    known = sorted({DEPARTURES[step.name] for step in _steps(model) if step.name in DEPARTURES})
    if known:
        return ModelCheck(name, "skipped", f"they differ: {agreement_text}; {'; '.join(known)}")
    return ModelCheck(
        name, "failed", f"they differ, and no known deviation explains why: {agreement_text}"
    )


def _wide(model: ModelSpec, output: str, weights_format: str) -> Tolerance:
    declared = model.tolerance_for(output, weights_format)
    return replace(
        declared, absolute=declared.absolute * FACTOR, relative=declared.relative * FACTOR
    )


def _steps(model: ModelSpec) -> list[Step]:
    return [step for tensor in (*model.inputs, *model.outputs) for step in tensor.steps]


@dataclass
class ModelTrial:
    """The test of one model, which loads each weights format once.

    Parameters
    ----------
    package, model : the model under test
    settings : settings of the zoo
    weights : a weights format; None for all that the model ships
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``
    trust : whether code of the model may run
    reference : whether to compare with bioimageio.core
    """

    package: Package
    model: ModelSpec
    settings: ZooSettings
    weights: str | None = None
    device: str = "cpu"
    trust: Permit = "no"
    reference: bool = False
    listener: Listener = nobody
    tensors: OwnTensors | None = field(default=None, init=False)

    def checks(self) -> Iterator[ModelCheck]:
        """Run every check, and yield each result as it becomes available."""
        yield manifest_check(self.model)
        entries = self._entries()
        planned = [(entry, self._reason(entry)) for entry in entries]
        fetch_tensors(self.package, self.model, self.settings, self.listener)
        usable = [entry for entry, reason in planned if not reason]
        yield from file_checks(self.model, usable, local=self.package.remote is None)
        yield from self._read_tensors()
        is_measured = False
        for entry, reason in planned:
            if reason:
                yield ModelCheck(f"{entry.format}.loads", "skipped", reason)
                continue
            for check, backend in self._of_format(entry):
                yield check
                if backend is not None and not is_measured and self.tensors is not None:
                    is_measured = True
                    yield from network_checks(self.model, self.tensors, backend)

    def _entries(self) -> Sequence[Weights]:
        places = {name: place for place, name in enumerate(ORDER)}
        # a newer bioimageio.spec may define formats that are unknown here
        entries = sorted(self.model.weights, key=lambda w: places.get(w.format, len(ORDER)))
        chosen = [entry for entry in entries if self.weights in (None, entry.format)]
        if not chosen:
            raise WeightsNotShipped(self.model, str(self.weights))
        return chosen

    def _reason(self, entry: Weights) -> str:
        """Return why an entry cannot be run here; empty if it can and its files are available."""
        usable = usable_formats()
        if entry.format not in usable:
            return f"bmz does not run {entry.format}"
        if usable[entry.format]:
            return f"its framework is not installed: {usable[entry.format]}"
        try:
            fetch_code(self.package, self.model, entry, self.settings, self.listener)
            permit_for(self.model, entry, self.trust, self.settings)
            if self.package.remote is not None:
                fetch_weights(self.package, self.model, entry, self.settings, self.listener)
        except BmzError as why:
            return str(why)
        return ""

    def _read_tensors(self) -> Iterator[ModelCheck]:
        try:
            self.tensors = read_test_tensors(self.model)
        except RunsCode as why:
            yield ModelCheck("tensors.readable", "skipped", str(why))
        except BmzError as why:
            yield ModelCheck("tensors.readable", "failed", str(why))
        else:
            shapes = ", ".join("x".join(map(str, t.array.shape)) for t in self.tensors.inputs)
            yield ModelCheck("tensors.readable", "passed", f"inputs {shapes}")

    def open(self, entry: Weights, backend: str = "") -> Backend:
        """Load the network of an entry for the inputs of the test.

        Parameters
        ----------
        backend : the framework; empty for the one to which the format belongs

        Raises
        ------
        BmzError
            As in `bmz.engine.network_choice.open_network` or `bmz.predict.formats.resolve_device`.
        """
        device = resolve_device(self.device, entry.format, backend or NATIVE)
        permit = permit_for(self.model, entry, self.trust, self.settings)
        ids = [tensor.id for tensor in given_inputs(self.model)]
        return open_network(self.model, entry, device, permit=permit, inputs=ids, backend=backend)

    def _of_format(self, entry: Weights) -> Iterator[tuple[ModelCheck, Backend | None]]:
        """Yield the checks of a format; a passed reproduction comes with its network."""
        loads = partial(ModelCheck, f"{entry.format}.loads")
        try:
            backend = self.open(entry)
        except WrongUsage:
            raise  # an option of the call is wrong, not the model
        except (NoBackend, DeviceAbsent, OutOfMemory) as why:
            yield loads("skipped", str(why)), None
            return
        except BmzError as why:
            yield loads("failed", str(why)), None
            return
        with closing(backend):
            yield loads("passed", f"{backend.name} on {backend.device}"), None
            if self.tensors is None:
                return
            check, outputs = reproduces(self.model, entry, self.tensors, backend)
            yield check, backend if check.status == "passed" else None
            if self.reference and outputs is not None:
                yield reference_check(self.model, entry, self.tensors, outputs), None
        if check.status == "passed":
            for name in filter(None, backends(entry.format, AUTO, backend.device)):
                yield self._by_other(entry, name, self.tensors), None

    def _by_other(self, entry: Weights, name: str, tensors: OwnTensors) -> ModelCheck:
        """Reproduce in another framework; a failure there is not a fault of the model."""
        check = partial(ModelCheck, f"{entry.format}.{name}")
        try:
            with closing(self.open(entry, name)) as backend:
                reproduction, _ = reproduces(self.model, entry, tensors, backend)
        except BmzError as why:
            return check("skipped", str(why))
        passed = reproduction.status == "passed"
        return check("passed" if passed else "warning", f"{backend.name}: {reproduction.detail}")

    def measured(self, formats: Collection[str]) -> tuple[tuple[Speed, ...], ObjectSizes | None]:
        """Time the network of some weights formats, and measure the objects of the test input.

        Parameters
        ----------
        formats : formats that reproduce the test outputs

        Returns
        -------
        tuple of Speed, ObjectSizes or None
            None if no format gives labels with objects
        """
        tensors = read_test_tensors(self.model)
        speeds: list[Speed] = []
        sizes: ObjectSizes | None = None
        for entry in self.model.weights:
            if entry.format in formats:
                with closing(self.open(entry)) as backend:
                    speeds.append(_speed(entry, tensors, backend))
                    sizes = sizes or _sizes(self.model, tensors, backend)
        return tuple(speeds), sizes


RUNS = 6
"""Number of timed runs; the fastest counts, as TorchScript compiles during the first ones."""


def _speed(entry: Weights, tensors: OwnTensors, backend: Backend) -> Speed:
    arrays = [tensor.array for tensor in tensors.inputs]
    took_s = []
    for _ in range(RUNS):
        start = time.perf_counter()
        backend.run(arrays)
        took_s.append(time.perf_counter() - start)
    speed = _pixels(tensors) / min(took_s) / 1e6
    return Speed(entry.format, backend.name, str(backend.device), speed)


def _pixels(tensors: OwnTensors) -> int:
    array, axes = tensors.inputs[0]
    return prod(n for n, axis in zip(array.shape, axes, strict=True) if axis in "bzyx")


def _sizes(model: ModelSpec, tensors: OwnTensors, backend: Backend) -> ObjectSizes | None:
    try:
        recipe, labels = own_labels(model, tensors, backend)
    except BmzError:
        return None  # the check 'labels' gives the reason, and is on the card
    diameters = _diameters(labels, model.space)
    if not len(diameters):
        return None
    low, middle, high = np.percentile(diameters, [5, 50, 95])
    return ObjectSizes(recipe, len(diameters), float(low), float(middle), float(high))


def _diameters(labels: AnyArray, space: str) -> AnyArray:
    """Return the diameter of the ball or circle with the volume or area of each object, px."""
    sizes = np.bincount(labels.ravel())[1:].astype(np.float64)
    sizes = sizes[sizes > 0]
    diameters: AnyArray = np.cbrt(6 * sizes / np.pi) if "z" in space else np.sqrt(4 * sizes / np.pi)
    return diameters
