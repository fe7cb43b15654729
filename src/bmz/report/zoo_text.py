"""The models of the zoo, as found by a search and ranked by fit: as tables and as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Any

from bmz.base.axes import channel_text
from bmz.report.computer_text import size_words
from bmz.report.text import Line, document_text, failure_of, short_verdict
from bmz.spec.made_for import FAMILY_TITLES, MODALITIES, STRUCTURES

if TYPE_CHECKING:
    from bmz.check.kind import ImageKind
    from bmz.results.fit import AboutModel, ImageFit, ModelFit, Ranking, SeenImage
    from bmz.results.image_documents import (
        FitDocument,
        ImageFitRecord,
        ImageKindRecord,
        RankedModel,
        SeenRecord,
    )
    from bmz.results.model_documents import FoundModel, Listing, MadeForRecord, SearchDocument
    from bmz.results.models import SearchHit, SearchView
    from bmz.spec.made_for import MadeFor


SEARCH_HEADINGS = ("model", "made for", "task", "weights", "here", "labels", "name")

NAME_COLUMN = SEARCH_HEADINGS.index("name")
"""The column of a model's own name, which is below its alias if there is little room."""

SHORT_FORMATS: Mapping[str, str] = {
    "pytorch_state_dict": "pytorch",
    "tensorflow_saved_model_bundle": "tensorflow",
    "keras_hdf5": "keras",
    "keras_v3": "keras",
    "tensorflow_js": "tfjs",
}
"""Short names of weights formats for a table; the others are short enough."""


def search_table(view: SearchView) -> list[tuple[str, ...]]:
    """Return one row of cells per model, under the headings `SEARCH_HEADINGS`."""
    return [_hit_cells(found) for found in view.hits]


def _hit_cells(hit: SearchHit) -> tuple[str, ...]:
    card = hit.card
    if card.status != "ok":
        return (card.id, card.reason or "", card.status, "", "", "", "")
    weights = dict.fromkeys(SHORT_FORMATS.get(name, name) for name in card.weights)
    return (
        card.id,
        card.made_for.title,
        " ".join(word for word in (card.dims, card.task) if word),
        ", ".join(weights),
        "yes" if hit.runs_here else "",
        card.labels or "",
        " ".join(card.name.split()),
    )


def made_for_record(purpose: MadeFor) -> MadeForRecord:
    """Return the kind of image that a model is made for, with its source."""
    return {
        "modalities": purpose.modalities,
        "structures": purpose.structures,
        "source": purpose.source,
    }


def search_summary(view: SearchView) -> str:
    """Return on one line how many models there are, and how old the list is."""
    age = " (old: it could not be refreshed)" if view.stale else ""
    return f"{len(view.hits)} of {view.of} models, as listed {_day(view)}{age}"


def _day(view: SearchView) -> str:
    return datetime.fromtimestamp(view.fetched_at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def search_json(view: SearchView) -> str:
    """Return the JSON document."""
    document: SearchDocument = {
        "schema": "bmz.search/1",
        "models": [_values(found) for found in view.hits],
        **listing(view.of, view.fetched_at, stale=view.stale),
    }
    return document_text(document)


def listing(of: int, fetched_at: float, *, stale: bool) -> Listing:
    """Return the age of a list of models.

    Parameters
    ----------
    of : number of models in the list
    fetched_at : seconds since 1970
    stale : the list is old, and a new one could not be downloaded
    """
    listed_at = datetime.fromtimestamp(fetched_at, UTC).isoformat(timespec="seconds")
    return {"of": of, "listed_at": listed_at, "stale": stale}


def _values(hit: SearchHit) -> FoundModel:
    card = hit.card
    return {
        "id": card.id,
        "version": card.version,
        "sha256": card.sha256,
        "aliases": card.aliases,
        "status": card.status,
        "reason": card.reason,
        "name": card.name,
        "description": card.description,
        "task": card.task,
        "dims": card.dims,
        "weights": card.weights,
        "tags": card.tags,
        "labels": card.labels,
        "made_for": made_for_record(card.made_for),
        "runs_here": hit.runs_here,
        "score": round(hit.score, 3),
    }


FIT_HEADINGS = ("#", "model", "title", "made for", "verdict", "channels", "scale", "here")

_FOLDER = "out"
"""Folder to which the printed command writes."""

_STRUCTURES = {word: structure.title for word, structure in STRUCTURES.items()}

_COMMANDS = 3
"""Maximum number of printed commands: one per structure."""

_LIKELY = 0.5
"""Models below this share of the best score get no command."""


def fit_table(ranking: Ranking, top: int | None = None) -> list[tuple[str, ...]]:
    """Return one row of cells per model, under the headings `FIT_HEADINGS`.

    Parameters
    ----------
    top : number of models; None for all that can be read
    """
    several = len(ranking.images) > 1
    models = ranking.ranked[:top]
    return [_fit_cells(place, model, several) for place, model in enumerate(models, start=1)]


def _fit_cells(place: int, model: ModelFit, several: bool) -> tuple[str, ...]:  # noqa: FBT001  (of one call)
    worst, about = model.worst, model.about
    verdict = tried_words(model) + _verdict(model)
    if several and worst is not None and len({fit.verdict for fit in model.images}) > 1:
        verdict += f" ({worst.image})"
    return (
        str(place),
        model.id,
        " ".join(about.title.split()),
        about.made_for.title or "not stated",
        verdict,
        "" if worst is None else _channel_words(worst.channels),
        "" if worst is None else _scale(worst),
        runs_here_words(about),
    )


def tried_words(model: ModelFit) -> str:
    """Describe the result of a trial, such as ``likely good (0.86), ``; empty without a trial."""
    if model.untried is not None:
        return "cannot be tried, "
    quality = model.quality
    return "" if quality is None else f"{quality.word} ({quality.f1:.2f}), "


def _channel_words(channels: tuple[int, ...] | None) -> str:
    """Return the value for ``--channels``."""
    return channel_text(channels or ())


def _scale(fit: ImageFit) -> str:
    if fit.scale is None:
        return ""
    return f"{fit.scale:.2g}" if fit.resized else "1"


_REFUSALS: Mapping[str, str] = {
    "axes.missing": "needs a stack",
    "axes.ambiguous": "needs --axes",
    "channel.count": "other channels",
    "channel.rgb": "other colours",
}
"""Errors in words short enough for a cell; the others are named by their code."""


def _verdict(model: ModelFit) -> str:
    worst = model.worst
    if worst is None:
        return ""
    if worst.content.is_another:
        ways = [MODALITIES[word].title for word in model.about.made_for.modalities]
        return f"made for {' or '.join(ways)}" if ways else "another kind of image"
    if worst.verdict == "mismatch":
        code = worst.reasons[0].code if worst.reasons else ""
        return _REFUSALS.get(code, code)
    words = short_verdict(worst.verdict, worst.warnings)
    if any(finding.code == "axes.extra" for finding in worst.findings):
        words += ", plane by plane"
    elif worst.of_stack:
        words += ", projected" if worst.of_stack == "max" else f", plane {worst.of_stack}"
    return f"{words}; no labels" if model.about.only_restores else words


def runs_here_words(about: AboutModel) -> str:
    """Return whether a model runs here, or else what it needs."""
    told = [_need(need.code, need.hint) for need in about.needs] or ["yes"]
    if about.download_bytes:
        told.append(f"{size_words(about.download_bytes)} to fetch")
    return ", ".join(told)


def _need(code: str, hint: str) -> str:
    extra = re.search(r"bmz\[(\w+)\]", hint)
    if code == "weights.no-backend" and extra:
        return f"needs {extra[1]}"
    return "with --trust" if "--trust" in hint else "no"


def fit_summary(ranking: Ranking) -> list[Line]:
    """Describe what the images show, count the verdicts, and suggest what to do next."""
    lines: list[Line] = [
        line
        for why in ranking.unread.values()
        for line in (("error", str(why)), ("hint", why.hint))
    ]
    lines += [("note", words) for words in seen_words(ranking.images)]
    lines.append(("note", _counted(ranking)))
    if ranking.left_out:
        why = Counter(ranking.left_out.values())
        told = "; ".join(f"{count}: {reason}" for reason, count in sorted(why.items()))
        lines.append(
            ("note", f"{len(ranking.left_out)} models are left out ({told}); --all also ranks them")
        )
    lines += [
        ("note", f"{model.id} could not be tried: {model.untried}")
        for model in ranking.models
        if model.untried is not None
    ]
    if tied := ranking.tied:
        names = ", ".join(model.id for model in tied)
        lines.append(("note", f"a tie with {ranking.tried[0].id}: {names}"))
    if ranking.tried and not ranking.any_works:
        return [*lines, ("note", NONE_WORKS), ("hint", TRY_MORE)]
    if ranking.any_fits:
        return [*lines, *(("hint", words) for words in run_lines(ranking))]
    lines.append(("note", NONE_MADE))
    best = next((m.worst for m in ranking.ranked if m.worst), None)
    if best is not None and best.content.is_another:
        lines.append(
            ("hint", "if the pixels mislead, state what the image shows: --kind MODALITY,STRUCTURE")
        )
    elif best is not None and best.reasons:
        worst = best.reasons[0]
        lines.append(
            ("hint", f"the score of the best model is lowered by: {worst.message}; {worst.hint}")
        )
    return lines


NONE_WORKS = "none of the models that were tried works well here: all masks are likely wrong"

TRY_MORE = "try more models with --try N; bmz check MODEL IMAGE --try --pictures DIR shows a mask"

NONE_MADE = "no model in the zoo is made for this"

_OUTCOMES = FITS, ADAPTS, WARNED, OTHER, MISMATCH, RESTORES, UNREAD = (
    "fit",
    "fit once bmz run has adapted the image",
    "fit with warnings",
    "are made for another kind of image",
    "do not fit",
    "make no label mask and are ranked last",
    "cannot be read (see --json)",
)


def _counted(ranking: Ranking) -> str:
    counts = Counter(_outcome(model) for model in ranking.models)
    told = [f"{counts[words]} {words}" for words in _OUTCOMES if counts[words]]
    age = " (the list is old: it could not be refreshed)" if ranking.stale else ""
    return f"of {len(ranking.models)} models {', '.join(told)}{age}"


def _outcome(model: ModelFit) -> str:
    worst = model.worst
    if worst is None:
        return UNREAD
    if model.about.only_restores:
        return RESTORES
    if worst.content.is_another:
        return OTHER
    if worst.verdict == "mismatch":
        return MISMATCH
    if worst.warnings:
        return WARNED
    return FITS if worst.verdict == "fits" else ADAPTS


def seen_words(images: Iterable[SeenImage]) -> Iterator[str]:
    """Describe what each image shows, or if this is unclear, how to state it."""
    for image in images:
        if image.whole is None:
            yield f"{image.image} shows nothing that identifies its kind"
        elif image.family is None:
            yield (
                f"the kind of image {image.image} is not clear "
                f"({_likeliest(image.whole.families, FAMILY_TITLES, 2)}): state it with --kind"
            )
        else:
            family = _likeliest(image.whole.families, FAMILY_TITLES)
            yield f"{image.image} looks like {family}; {_shown(image)}"


def _shown(image: SeenImage) -> str:
    one = not image.apart or len(image.channels) == 1
    channels = (
        {"it": image.whole} if one else {f"channel {n}": k for n, k in image.channels.items()}
    )
    shown = [
        f"{what} shows {_likeliest(kind.structures, _STRUCTURES)}"
        if kind.structure
        else f"what {what} shows is not clear ({_likeliest(kind.structures, _STRUCTURES, 2)})"
        for what, kind in channels.items()
        if kind is not None
    ]
    return ", ".join(shown)


def _likeliest(shares: Mapping[str, float], titles: Mapping[Any, str], most: int = 1) -> str:
    """Return the most likely kinds in words, with their probability."""
    best = sorted(shares, key=lambda word: -shares[word])[:most]
    return " or ".join(f"{titles[word]} ({100 * shares[word]:.0f} %)" for word in best)


def run_lines(ranking: Ranking) -> Iterator[str]:
    """Yield the next commands to type: the first model for each likely structure."""
    told, joined, flat = set[tuple[str, ...]](), False, False
    least = max((model.score for model in ranking.fitting), default=0.0) * _LIKELY
    for model in ranking.fitting:
        structures = model.about.made_for.structures
        unlikely = model.about.only_restores or model.score < least or model.untried is not None
        if structures in told or unlikely or len(told) == _COMMANDS:
            continue
        told.add(structures)
        yield from (
            f"first, {need.hint}"
            for need in model.about.needs
            if need.hint and "--trust" not in need.hint
        )
        yield run_line(model, ranking.words)
        joined = joined or any(_is_of_planes(fit) for fit in model.images)
        flat = flat or any(fit.of_stack for fit in model.images)
    if joined:
        yield JOIN
    elif flat:
        yield EACH


JOIN = (
    "add --link 0.25 to join the objects of neighbouring planes; without it, each plane has its own"
)

EACH = (
    "without z= in --axes, a 2-D model runs on each plane; --link 0.25 then joins the objects of "
    "neighbouring planes"
)


def _is_of_planes(fit: ImageFit) -> bool:
    """Return whether the model runs plane by plane on the image."""
    found = (f for f in fit.findings if f.code == "axes.extra")
    return any(finding.where.endswith(".z") for finding in found)


def run_line(model: ModelFit, options: Mapping[str, str]) -> str:
    """Return the command that runs a model on the images as the ranking says.

    Parameters
    ----------
    options : option -> value that the user stated about the images
    """
    fit = model.images[0]
    told = {**options, **({"--axes": fit.axes} if fit.axes else {})}
    if fit.named:
        told["--channels"] = _channel_words(fit.channels)
    if any(one.resized for one in model.images):
        told["--scale"] = "auto"
    words = ["bmz", "run", model.id, *(one.image for one in model.images)]
    words += [word for pair in told.items() for word in pair]
    if any("--trust" in need.hint for need in model.about.needs):
        words.append("--trust")
    return " ".join(map(quote, [*words, "-o", _FOLDER]))


def fit_json(ranking: Ranking, top: int | None = None) -> str:
    """Return the document ``bmz.fit/1``.

    Parameters
    ----------
    top : number of models; None for all, including those that cannot be read
    """
    document: FitDocument = {
        "schema": "bmz.fit/1",
        "image": ranking.images[0].image if ranking.images else "",
        "images": [_seen(image) for image in ranking.images],
        "none_made_for_this": not ranking.any_fits,
        "models": [_plain(n, model) for n, model in enumerate(ranking.models[:top], start=1)],
        "left_out": ranking.left_out,
        "failed": [{"image": image, **failure_of(why)} for image, why in ranking.unread.items()],
        **listing(len(ranking.models), ranking.fetched_at, stale=ranking.stale),
    }
    return document_text(document)


def _seen(image: SeenImage) -> SeenRecord:
    return {
        "image": image.image,
        "family": image.family,
        "kind": None if image.whole is None else _kind(image.whole),
        "by_channel": {str(n): _kind(kind) for n, kind in image.channels.items()},
    }


def _kind(kind: ImageKind) -> ImageKindRecord:
    return {
        "families": {word: round(share, 4) for word, share in kind.families.items()},
        "structures": {word: round(share, 4) for word, share in kind.structures.items()},
    }


def _plain(place: int, model: ModelFit) -> RankedModel:
    from bmz.process.quality import quality_record  # here, so that bmz search never loads NumPy
    from bmz.report.check_text import trial_record  # as above

    worst, about = model.worst, model.about
    broken = [model.broken] if model.broken else []
    return {
        "rank": place,
        "id": model.id,
        "version": model.version,
        "title": about.title,
        "status": model.status,
        "made_for": made_for_record(about.made_for),
        "verdict": model.verdict,
        "made_for_another": worst is not None and worst.content.is_another,
        "warnings": 0 if worst is None else worst.warnings,
        "score": round(model.score, 4),
        "reasons": broken if worst is None else [f.message for f in worst.reasons],
        "channels": None if worst is None else worst.channels,
        "axes": None if worst is None else worst.axes,
        "scale": None if worst is None else worst.scale,
        "image": None if worst is None else worst.image,
        "images": [_one(fit) for fit in model.images],
        "task": about.task,
        "only_restores": about.only_restores,
        "runs_here": not about.needs,
        "needs": about.needs,
        "download_bytes": about.download_bytes,
        "weights_here": about.weights,
        "labels": about.labels,
        "sample_compared": about.sampled,
        "reports": {"passed": about.passed, "failed": about.failed},
        "findings": () if worst is None else worst.findings,
        "trials": [trial_record(trial) for trial in model.trials],
        "agreement": model.agreement,
        "predicted": None if model.quality is None else quality_record(model.quality),
        "untried": None if model.untried is None else failure_of(model.untried),
    }


def _one(fit: ImageFit) -> ImageFitRecord:
    return {
        "image": fit.image,
        "verdict": fit.verdict,
        "score": round(fit.score, 4),
        "family": round(fit.content.family, 4),
        "structure": round(fit.content.structure, 4),
        "channels": fit.channels,
        "axes": fit.axes,
        "scale": fit.scale,
    }
