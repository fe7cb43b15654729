"""``bmz compare``: several models and settings on the same images, and what is written of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from bmz.base.progress import Listener, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.comparison import Sweep, sorted_results, with_network_settings
from bmz.engine.label_masks import true_masks
from bmz.engine.request import RunRequest
from bmz.results.compare import Comparison, SettingResult


@dataclass(frozen=True)
class CompareRequest:
    """The options of one call of ``bmz compare``.

    Parameters
    ----------
    images, models : each with each
    sweeps : key -> values that are tried, in every combination
    truth : a true mask, or a folder of them with the names of the images; None for none
    stability : models are tried on changed images too, where there is no truth
    options : all else, as for ``bmz run``
    command : the call, for the report
    components : of true masks that do not number their objects, see
        `bmz.engine.label_masks.read_mask`
    """

    images: tuple[Path, ...]
    models: tuple[str, ...]
    sweeps: Mapping[str, Sequence[str]]
    truth: Path | None
    stability: bool
    options: RunRequest
    command: str = ""
    components: bool | None = None


def compare(request: CompareRequest, listener: Listener = nobody) -> Comparison:
    """Run every model with every setting on every image, and put the results in order.

    The network of a model is run once for an image; settings of labels reuse its output. What
    fails is a result with an error.

    Parameters
    ----------
    request : the options of the call
    listener : is called for each result

    Raises
    ------
    SweepRefused, NoTruthFor, NoMask
        An option of the call is wrong.
    """
    # a wrong option is reported before the networks are run
    there = [image for image in request.images if image not in request.options.absent]
    truths = true_masks(request.truth, there, components=request.components)
    settings = [
        dict(zip(request.sweeps, values, strict=True))
        for values in product(*request.sweeps.values())
    ]
    for setting in settings:
        with_network_settings(request.options, setting)  # or refuse it now
    sweep = Sweep(settings, request.stability and request.truth is None, listener)
    results: dict[Path, list[SettingResult]] = {image: [] for image in request.images}
    total = len(request.models) * len(request.images) * len(settings)
    for model in request.models:
        of_model = replace(request.options, model=model, images=request.images)
        for image, result in sweep.results(of_model):
            results[image].append(result)
            done = sum(map(len, results.values()))
            listener(Progress("results", done, total, result.name))
    images = [
        sorted_results(image, of_image, truths.get(image), sweep.pixels.get(image))
        for image, of_image in results.items()
    ]
    return Comparison(request.command, tuple(images), sweep.models)
