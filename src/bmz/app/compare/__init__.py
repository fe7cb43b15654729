"""``bmz compare``: several models and settings on the same images, and what is written of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from bmz.app.score import true_masks
from bmz.base.files import whole_file, writable_folder
from bmz.base.progress import Listener, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.comparison import Sweep, sorted_results, with_network_settings
from bmz.engine.request import RunRequest
from bmz.results.compare import Comparison, SettingResult
from bmz.write.names import stem_of
from bmz.write.tiff import write_labels


@dataclass(frozen=True)
class CompareRequest:
    """The options of one call of ``bmz compare``.

    Parameters
    ----------
    images, models : each with each
    sweeps : key -> values that are tried, all with all
    truth : a true mask, or a folder of them with the names of the images; None for none
    stability : models are tried on changed images too, where there is no truth
    options : all else, as for ``bmz run``
    command : the call, for the report
    components : of true masks that do not number their objects, see
        `bmz.app.score.label_mask.read_mask`
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


def prove_writable(folders: Iterable[Path]) -> None:
    """Make folders and prove that files can be made in them, before anything is run.

    Raises
    ------
    FolderNotWritable
    """
    for folder in folders:
        writable_folder(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file; its folder is made.

    Raises
    ------
    FolderNotWritable
    """
    writable_folder(path.parent)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_labels_of(comparison: Comparison, folder: Path) -> None:
    """Write the label mask of every result, named after the image, the rank and the result.

    Raises
    ------
    FolderNotWritable
    """
    writable_folder(folder)
    for image in comparison.images:
        for rank, result in enumerate(image.done, start=1):
            name = re.sub(r"[^\w.=-]+", "_", result.name).strip("_")[:80]
            if result.labels is not None:
                file = f"{stem_of(image.path)}.{rank:02d}.{name}.labels.tif"
                write_labels(folder / file, result.labels)
