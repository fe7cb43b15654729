"""``bmz compare``: run several models and settings on the same images, and write the results."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.files import sha256_of
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.comparison import Sweep, sorted_results
from bmz.engine.judged import judgements_of
from bmz.engine.kept_outputs import NoLabels, command_of, of_model, with_network_settings
from bmz.engine.label_masks import true_masks
from bmz.engine.request import RunRequest, is_chain
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.process.consensus import plausibility
from bmz.results.compare import Comparison, ResultQuality, SettingResult
from bmz.results.images import ChainedImage, ImageFailure


@dataclass(frozen=True)
class CompareRequest:
    """The options of a call of ``bmz compare``.

    Parameters
    ----------
    images, models : all models are run on all images; a model may have options of its own, see
        `bmz.engine.kept_outputs.of_model`, or be the file of a chain
    sweeps : key -> values to try, in all combinations
    truth : a true mask, or a folder of true masks named like the images; None for none
    stability : whether models are also run on changed images if there is no truth
    options : all other options, as for ``bmz run``
    command : the call, for the report
    components : what to do with true masks that do not number their objects, see
        `bmz.engine.label_masks.read_mask`
    judgements : ``judgements.csv`` of ``bmz open``, with which the results are compared, see
        `bmz.engine.judged`; None for none
    """

    images: tuple[Path, ...]
    models: tuple[str, ...]
    sweeps: Mapping[str, Sequence[str]]
    truth: Path | None
    stability: bool
    options: RunRequest
    command: str = ""
    components: bool | None = None
    judgements: Path | None = None


def compare(request: CompareRequest, listener: Listener = nobody) -> Comparison:
    """Run every model with every setting on every image, and rank the results.

    The network of a model is run once for each of its own settings; other settings reuse its
    output. A failure is a result with an error.

    Parameters
    ----------
    request : the options of the call
    listener : is called for each result

    Raises
    ------
    SweepRefused, NoTruthFor, NoMask, JudgementsUnreadable, JudgedElsewhere
        An option of the call is wrong.
    """
    # a wrong option is reported before the networks are run
    there = [image for image in request.images if image not in request.options.absent]
    truths = true_masks(request.truth, there, components=request.components)
    judged = judgements_of(request.judgements, there)
    settings = [
        dict(zip(request.sweeps, values, strict=True))
        for values in product(*request.sweeps.values())
    ]
    for setting in settings:
        with_network_settings(request.options, setting)  # raises if refused
    sweep = Sweep(settings, request.stability and request.truth is None, listener)
    results: dict[Path, list[SettingResult]] = {image: [] for image in request.images}
    total = len(request.models) * len(request.images) * len(settings)
    asked = [(word, of_model(word, request.options)) for word in request.models]
    for word, options in asked:
        own = replace(options, images=request.images)
        chained = is_chain(options.model)
        for image, result in _of_chain(own, sweep) if chained else sweep.results(own):
            results[image].append(replace(result, model=word))
            done = sum(map(len, results.values()))
            listener(Progress("results", done, total, result.name))
    images = [
        sorted_results(
            image, of_image, truths.get(image), sweep.pixels.get(image), judged.get(image, ())
        )
        for image, of_image in results.items()
    ]
    return Comparison(request.command, tuple(images), sweep.models)


def _of_chain(request: RunRequest, sweep: Sweep) -> Iterator[tuple[Path, SettingResult]]:
    """Run a chain on its images once, and yield the masks of its last step.

    Values of a sweep and options of a single model, such as its channels, do not apply to a chain,
    whose steps have options of their own.
    """
    from bmz.app.chain import Chain, run_chain  # most comparisons have no chain

    listener = sweep.listener
    if any(sweep.settings):
        listener(Note(f"the steps of '{request.model}' say their own values: it is run once"))
    results: dict[Path, SettingResult] = {}
    with TemporaryDirectory() as folder:
        own = replace(request, folder=Path(folder), save=frozenset({"labels", "table"}))
        try:
            chain = Chain.read(request.model)
            outcomes = run_chain(chain, own, listener).outcomes
        except BmzError as why:
            failed = SettingResult(request.model, {}, "", error=why)
            yield from ((image, failed) for image in request.images)
            return
        steps = ", ".join(step.name for step in chain.steps)
        title, sha256 = f"the steps {steps}", sha256_of(Path(request.model))
        sweep.models.append({"name": request.model, "title": title, "sha256": sha256})
        for outcome in outcomes:
            results[outcome.image] = _last_step(request, outcome)
        for image in request.images:
            sweep.pixels.setdefault(image, read_image(inspect_image(image, axes=request.axes)))
            yield image, results[image]


def _last_step(request: RunRequest, outcome: ChainedImage | ImageFailure) -> SettingResult:
    command = command_of(replace(request, recipe=None), outcome.image, {})
    empty = SettingResult(request.model, {}, command)
    if isinstance(outcome, ImageFailure):
        return replace(empty, error=outcome.error)
    last = [*outcome.steps.values()][-1]
    if "labels" not in last.files:
        return replace(empty, error=NoLabels(request.model))
    labels = read_image(inspect_image(last.files["labels"]))
    with last.files["table"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    table = {name: _as_numbers(values) for name, values in columns.items()}
    took_s = [step.record["timings_s"] for step in outcome.steps.values()]
    return replace(
        empty,
        labels=replace(labels, array=np.asarray(labels.array)),
        table=table,
        recipe=last.record["recipe"]["name"],
        parameters=last.record["recipe"]["parameters"],
        network_s=sum(stages.get("network", 0.0) for stages in took_s),
        labels_s=sum(stages.get("labels", 0.0) for stages in took_s),
        quality=ResultQuality(plausible=plausibility(table)),
    )


def _as_numbers(words: Sequence[str]) -> AnyArray:
    try:
        return np.array([float(word) if word else np.nan for word in words])
    except ValueError:
        return np.array(words)
