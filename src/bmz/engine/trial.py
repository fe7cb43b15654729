"""Try a model on a crop of an image: label the original crop and changed copies of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from math import inf, isfinite, nan

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.errors import BmzError, not_none
from bmz.base.notes import Notes
from bmz.base.progress import nobody
from bmz.base.values import dataclass
from bmz.check.content import (
    family_probability,
    sample_distance,
    shown_kind,
    structure_probability,
)
from bmz.check.fit import CheckedHeader, check_values
from bmz.check.pixel_values import ValueSummary
from bmz.check.values import image_diameter, model_diameter
from bmz.engine.image_header import GivenImage, check_image_header, given_image
from bmz.engine.labelling import Decoding
from bmz.engine.pipeline import (
    PlaneContext,
    PlaneResult,
    finished_plane,
    network_outputs,
    planes_of,
)
from bmz.engine.run_quality import flags_of, side_of_sample
from bmz.engine.setup import PlannedImage, RunSetup, planned_image, with_options
from bmz.engine.stages import Stopwatch
from bmz.engine.test_tensors import first_inputs, is_white_noise
from bmz.engine.tile_gate import expect_image
from bmz.image.pixels import Pixels
from bmz.plan.plan import Plan
from bmz.predict.backend import Backend
from bmz.process.adapt import from_layout, seen_channels
from bmz.process.mask_evidence import (
    OF_SAMPLE,
    SAMPLE,
    MaskOnImage,
    evidence_of,
    mask_evidence,
    telling_maps,
)
from bmz.process.quality import is_seen
from bmz.process.relabel import closed_up
from bmz.spec.made_for import made_for
from bmz.spec.model import ModelSpec

SHIFT_PX = 5
"""Shift of the mirrored copy along y and x, px."""

GAMMA = 0.8
"""Exponent of the intensities, scaled to their range; brightens dim objects."""

NOISE = 0.5
"""Standard deviation of the added noise, relative to that of the noise in the image."""


@dataclass(frozen=True)
class Change:
    """A change of an image under which good labels stay the same.

    Parameters
    ----------
    image : creates the changed copy, (..., y, x)
    back : maps the labels of the copy back to the grid of the image
    scale : factor by which the copy is also resized before the network
    """

    image: Callable[[AnyArray], AnyArray] = lambda array: array
    back: Callable[[AnyArray], AnyArray] = lambda labels: labels
    scale: float = 1.0


def _mirrored(array: AnyArray) -> AnyArray:
    return np.ascontiguousarray(np.roll(array, SHIFT_PX, (-2, -1))[..., ::-1, ::-1])


def _mirrored_back(labels: AnyArray) -> AnyArray:
    return np.roll(labels[..., ::-1, ::-1], -SHIFT_PX, (-2, -1))


def _in_range(changed: FloatArray, like: AnyArray) -> AnyArray:
    if like.dtype.kind not in "iu":
        return changed.astype(like.dtype)
    bounds = np.iinfo(like.dtype)
    return np.clip(np.rint(changed), bounds.min, bounds.max).astype(like.dtype)


def _brightened(array: AnyArray) -> AnyArray:
    low, high = float(np.min(array)), float(np.max(array))
    if not high > low:
        return array
    share = (array.astype(np.float64) - low) / (high - low)
    return _in_range(low + (high - low) * share**GAMMA, array)


def _noisy(array: AnyArray) -> AnyArray:
    values = array.astype(np.float64)
    beside = np.diff(values, axis=-1)
    spread = float(np.median(np.abs(beside))) / 0.6745 / 2**0.5
    least = (float(values.max()) - float(values.min())) / 256
    noise = np.random.default_rng(0).normal(0, NOISE * max(spread, least), array.shape)
    return _in_range(values + noise, array)


CHANGES: Mapping[str, Change] = {
    "mirrored": Change(_mirrored, _mirrored_back),
    "smaller": Change(scale=0.9),
    "larger": Change(scale=1.1),
    "brighter": Change(_brightened),
    "noisier": Change(_noisy),
}
"""The changed copies of a crop that are also labelled."""


FEW_CHANGES = ("mirrored", "smaller")
"""The changed copies of a crop that are labelled if a network is slow."""


@dataclass(frozen=True)
class Tried:
    """Result of a model on a crop.

    Parameters
    ----------
    crop : the crop
    checked : model and crop, with measurements of the crop and the findings of the check
    mask : the labels, with the channels and maps from which they were made
    result : labels and map of the original crop
    copies : change -> labels of the changed copy, on the grid of the crop; without those that
        failed
    own : values from `sample_values`; empty if no copies were made
    """

    crop: GivenImage
    checked: CheckedHeader
    mask: MaskOnImage
    result: PlaneResult
    copies: Mapping[str, AnyArray]
    own: Mapping[str, float]

    @cached_property
    def case_values(self) -> dict[str, float]:
        """Values from the check of the crop, as the function `case_values` returns them."""
        return case_values(self.checked, self.result.plan.scale)

    @cached_property
    def evidence(self) -> dict[str, float]:
        """Evidence for and against the labels; see `bmz.process.mask_evidence`."""
        return evidence_of(self.mask, self.copies, {**self.case_values, **self.own})


def is_like_examples(model: ModelSpec) -> bool:
    """Return whether masks of such networks were among the training data of the predictor."""
    return is_seen(model.space, model.required_inputs[0].channels or 1)


def case_values(checked: CheckedHeader, scale: float) -> dict[str, float]:
    """Return values from the check of an image, which do not depend on a mask.

    Parameters
    ----------
    checked : model and image, with measurements of the image and findings on its pixels
    scale : factor by which the image is resized before the network

    Returns
    -------
    dict
        name -> value, NaN if unknown; `seen_px` and `made_px` are the diameters of the objects in
        the image, and of those that the model is made for, in px of the image
    """
    case = checked.case
    seen, made = image_diameter(case), model_diameter(case)
    distance = sample_distance(case)
    kind, wanted = shown_kind(case), made_for(case.model)
    return {
        **flags_of(checked.report.findings),
        "unlike": nan if distance is None else distance,
        "seen_px": nan if seen is None else seen.diameter_px,
        "made_px": nan if made is None else made.px / scale,
        "side_made": side_of_sample(case),
        "suits_family": nan
        if kind is None or not wanted.families
        else family_probability(kind, wanted),
        "suits_structure": nan
        if kind is None or not wanted.structures
        else structure_probability(kind, wanted),
    }


OWN_PX = 512
"""Side of the part of its own sample on which a network is run, px."""

SAMPLES = Notes.of("sample-trial", 1, dict[str, float])
"""Results of `sample_values`; the key is the sha256 of the manifest and the recipe."""


def sample_values(setup: RunSetup, backend: Backend) -> dict[str, float]:
    """Return how confident a network is on the first image of its own sample, from notes if known.

    Parameters
    ----------
    setup : setup of the model; its options for images do not matter

    Returns
    -------
    dict
        values of `OF_SAMPLE`, by name prefixed with `SAMPLE`; empty if there is no sample, or if
        it is noise
    """
    key = f"{setup.model.sha256} {setup.labelling.choice.name}"
    notes = setup.network.notes
    values = SAMPLES.find(notes, key)
    if values is None:
        values = _sample_values(setup, backend)
        SAMPLES.keep(notes[-1], key, values)
    return values


def _sample_values(setup: RunSetup, backend: Backend) -> dict[str, float]:
    inputs = [*first_inputs(setup.model).values()]
    if len(inputs) != 1:
        return {}
    array, letters = inputs[0]
    whole, axes = from_layout(array, letters)
    pixels = np.ascontiguousarray(whole[..., :OWN_PX, :OWN_PX])
    if is_white_noise(pixels[(0,) * (pixels.ndim - 2)]):
        return {}
    channels = tuple(range(len(pixels)))
    request = replace(setup.request, axes=axes, channels=channels, scale=1.0, clip=None)
    plain = with_options(setup, replace(request, invert=False, settings={}))
    try:
        mask = tried(plain, given_image(pixels, axes), backend, {}).mask
    except BmzError:
        return {}  # ``bmz test`` reports what is wrong with a sample
    told = mask_evidence(mask)
    return {SAMPLE + name: told[name] for name in OF_SAMPLE if isfinite(told[name])}


def tried(
    setup: RunSetup,
    crop: GivenImage,
    backend: Backend,
    changes: Mapping[str, Change] = CHANGES,
    *,
    slow_s: float = inf,
) -> Tried:
    """Label a crop, and changed copies of it.

    Parameters
    ----------
    setup : setup whose request has a number as scale, or none
    crop : one plane or stack, with the model's axes and c
    changes : the changes to apply
    slow_s : if the original crop takes longer, only `FEW_CHANGES` are applied, s

    Raises
    ------
    BmzError
        The crop does not fit, or the network fails on the original crop.
    """
    begun = time.monotonic()
    planned, result = _labelled(setup, crop, backend)
    if time.monotonic() - begun > slow_s:
        changes = {name: changes[name] for name in FEW_CHANGES if name in changes}
    plan = result.plan
    pixels = crop.read(planned.case.image)
    checked = check_measured(planned.header, pixels)
    copies = {}
    for name, change in changes.items():
        changed = replace(crop, array=change.image(np.asarray(crop.array)))
        scale = plan.scale * change.scale
        resized = replace(setup, request=replace(setup.request, scale=scale))
        try:
            _, other = _labelled(resized, changed, backend)
        except BmzError:
            continue  # for example, the larger copy exceeds the fixed input size of a model
        if other.labels is not None:
            copies[name] = change.back(other.labels)
    (plane, *_) = planes_of(pixels, plan, setup.model.space)
    mask = mask_on(plane, not_none(result.labels), not_none(result.raw), plan)
    own = sample_values(setup, backend) if changes else {}
    return Tried(crop, checked, mask, result, copies, own)


def mask_on(plane: AnyArray, labels: AnyArray, maps: AnyArray, plan: Plan) -> MaskOnImage:
    """Combine a label mask with the channels and maps from which it was made.

    Parameters
    ----------
    plane : (c, (z,) y, x), as read
    labels : ((z,) y, x), 0 for background
    maps : (k, (z,) y, x) output of the network
    """
    seen = [seen_channels(plane, used, plan.clip, invert=plan.invert) for used in plan.channels]
    return MaskOnImage(closed_up(labels)[0], np.concatenate(seen), telling_maps(maps))


def check_measured(header: CheckedHeader, pixels: Pixels) -> CheckedHeader:
    """Check pixels, and add their measurements to the case."""
    case = header.case.measured_on(pixels)
    return CheckedHeader(case, check_values(replace(header, case=case), ValueSummary(pixels)))


def _labelled(
    setup: RunSetup, crop: GivenImage, backend: Backend
) -> tuple[PlannedImage, PlaneResult]:
    header = check_image_header(setup.model, crop.info, setup.request, setup.sample, crop.sample)
    planned = planned_image(setup, crop.info.place, header)
    work = PlaneContext(
        setup.model,
        planned.plan,
        setup.labelling,
        backend,
        Stopwatch(),
        decoding=Decoding.beside(backend),
    )
    expect_image(backend, setup.network, planned.case.image, planned.plan, nobody)
    (plane, *_) = planes_of(crop.read(planned.case.image), planned.plan, setup.model.space)
    known, plan = network_outputs(plane, work)
    return planned, finished_plane(known, plane.shape[1:], replace(work, plan=plan))
