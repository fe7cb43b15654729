"""``bmz.search``, ``bmz.score`` and ``bmz.compare``: the commands of these names, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bmz.app import compare as comparing
from bmz.app import score as scoring
from bmz.app import search as searching
from bmz.app.api.options import ChannelsLike, ImageOptions, OptionRefused, PixelSize, Setting
from bmz.app.api.options import images as images_of_file
from bmz.app.search.query import SearchRequest
from bmz.base.progress import Listener, nobody
from bmz.results.compare import IOUS
from bmz.zoo.settings import settings_from_environment

if TYPE_CHECKING:
    from bmz.results.compare import Comparison, ScoreSummary
    from bmz.results.models import SearchView


def search(  # noqa: PLR0913  (each is a keyword with a default)
    *words: str,
    task: str | None = None,
    weights: str | None = None,
    dims: Literal["2d", "3d"] | None = None,
    tags: Sequence[str] = (),
    modality: str | None = None,
    structure: str | None = None,
    labels: bool = False,
    runs_here: bool = False,
    listener: Listener = nobody,
) -> SearchView:
    """Find models in the zoo, the most relevant first.

    Parameters
    ----------
    words
        Words that must each occur in the model, or name what it is made for
    task, weights, dims, tags
        Filters, as for ``bmz search``, such as ``"segmentation"``, ``"onnx"``, ``"3d"``
    modality, structure
        The kind of microscopy and what the images show, such as ``"phase"`` and ``"nuclei"``
    labels
        Only models with a label recipe
    runs_here
        Only models for which a framework is installed
    listener
        Notified of downloads

    Raises
    ------
    BmzError
        A filter is unknown, or there is no list of models.
    """
    request = SearchRequest(
        words, task, weights, dims, tuple(tags), runs_here, labels,
        modality=modality, structure=structure,
    )  # fmt: skip
    return searching.search(request, settings_from_environment(), listener)


def score(
    predicted: str | Path,
    truth: str | Path,
    *,
    ious: Sequence[float] = IOUS,
    components: bool | None = None,
    listener: Listener = nobody,
) -> ScoreSummary:
    """Compare label masks with the ground truth, as ``bmz score`` does.

    Parameters
    ----------
    predicted, truth
        A file, a folder, or a pattern such as ``"results/*.labels.tif"``
    ious
        Thresholds of intersection over union, each above 0 and at most 1
    components
        Number the connected pieces of masks that do not number their objects; None to refuse such
        masks if they can be recognised
    listener
        Notified of each pair

    Raises
    ------
    BmzError
        A path contains no mask, or no names match.
    """
    for name, masks in (("predicted", predicted), ("truth", truth)):
        if not isinstance(masks, str | Path):
            raise OptionRefused(
                name, type(masks).__name__, "pass a path; result.save('results') writes a mask"
            )
    return scoring.score(
        Path(predicted), Path(truth), ious=ious, components=components, listener=listener
    )


def compare(  # noqa: PLR0913  (each is a keyword with a default)
    images: str | Path | Sequence[str | Path],
    models: str | Sequence[str],
    *,
    sweeps: Mapping[str, Sequence[Setting]] | None = None,
    truth: str | Path | None = None,
    judgements: str | Path | None = None,
    stability: bool = True,
    device: str = "auto",
    axes: str | None = None,
    channels: ChannelsLike | None = None,
    pixel_size: PixelSize | None = None,
    scale: float | Literal["auto"] | None = None,
    settings: Mapping[str, Setting] | None = None,
    listener: Listener = nobody,
) -> Comparison:
    """Run several models and settings on images, and rank the results.

    Parameters
    ----------
    images
        Paths; each image of a file with several counts on its own
    models
        Names, DOIs, URLs or paths, each run on each image
    sweeps
        Parameter -> values to try, in every combination
    truth
        A true mask, or a folder of masks named like the images
    judgements
        The ``judgements.csv`` of ``bmz open``: results that agree with it come first
    stability
        Also run the models on changed copies if there is no truth
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``
    axes, channels, pixel_size, scale, settings
        See `Model.run`; they apply to every model
    listener
        Notified of each result

    Raises
    ------
    BmzError
        An option is wrong, or an image does not exist. A later failure is a result with an error.
    """
    options = ImageOptions(axes, channels, pixel_size, scale, settings=settings)
    several = [images] if isinstance(images, str | Path) else images
    request = comparing.CompareRequest(
        tuple(image for path in several for image in images_of_file(path)),
        (models,) if isinstance(models, str) else tuple(models),
        {key: [str(value) for value in values] for key, values in (sweeps or {}).items()},
        None if truth is None else Path(truth),
        stability,
        replace(options.request(), device=device),
        "bmz.compare",
        judgements=None if judgements is None else Path(judgements),
    )
    return comparing.compare(request, listener)
