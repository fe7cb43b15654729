"""Collect what is known, without an image, about the models that are ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Note, Progress
from bmz.base.values import dataclass
from bmz.check.finding import Finding
from bmz.engine.cards import all_cards, published, with_model
from bmz.engine.load import describe, find_model, model_findings, tensor_files, weights_files
from bmz.plan.weights_choice import ORDER
from bmz.predict.frameworks import usable_formats
from bmz.results.fit import SHOWN, AboutModel, ModelFit
from bmz.results.models import Card
from bmz.spec.facts import facts_of, reports_of
from bmz.spec.made_for import made_for
from bmz.spec.model import ModelSpec
from bmz.zoo.fetch import fetch_files, packages_in_folder
from bmz.zoo.http import AT_ONCE
from bmz.zoo.index import Index
from bmz.zoo.locate import locate
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings

EXAMPLE = "ex-"
"""Prefix of the names of the test artefacts of the specification."""


@dataclass(frozen=True)
class Candidate:
    """A model that can be read.

    Parameters
    ----------
    package, model, card : the model
    about : what is known about it, independent of the image
    findings : findings about the model itself that prevent a label mask for any image, except needs
    to_fetch : names of the files that are required to load its weights
    """

    package: Package
    model: ModelSpec
    card: Card
    about: AboutModel
    findings: tuple[Finding, ...] = ()
    to_fetch: tuple[str, ...] = ()

    @property
    def plane_by_plane(self) -> bool:
        """Return whether it treats a plane as a stack, according to ``bmz.spec.facts``."""
        facts = facts_of(self.model.alias) if self.model.alias else None
        return facts is not None and facts.plane_by_plane is not None and facts.plane_by_plane.value


@dataclass(frozen=True)
class Candidates:
    """The models that are considered for an image.

    Parameters
    ----------
    ranked : models that can be read
    broken : models that cannot be read
    left_out : model -> why it is not ranked
    """

    ranked: tuple[Candidate, ...]
    broken: tuple[ModelFit, ...]
    left_out: Mapping[str, str]


def candidates_of(
    index: Index, settings: ZooSettings, listener: Listener, *, everything: bool = False
) -> Candidates:
    """Collect what is known about the models of an index.

    Parameters
    ----------
    everything : also rank test artefacts and models whose input is not an image
    """
    read = _Reader(settings)
    ranked, broken, left_out = list[Candidate](), list[ModelFit](), dict[str, str]()
    cards = all_cards(index, settings, listener=listener)
    for entry, card in zip(index.entries, cards, strict=True):
        if card.id.startswith(EXAMPLE) and not everything:
            left_out[card.id] = "a test artefact of the specification"
        elif card.status != "ok" or entry.manifest is None:
            why = card.reason or "its manifest is missing"
            broken.append(ModelFit(card.id, card.version, status=card.status, broken=why))
        else:
            model = describe(entry.manifest, settings, model_id=card.id, alias=card.id)
            candidate = read(Package(card.id, entry.manifest), model, card)
            if candidate.about.made_for.of_predictions and not everything:
                left_out[card.id] = "its input is the prediction of another network, not an image"
            else:
                ranked.append(candidate)
    return Candidates(tuple(ranked), tuple(broken), left_out)


def own_candidates(words: Iterable[str], settings: ZooSettings, listener: Listener) -> Candidates:
    """Read the models that the user names in addition to those of the zoo.

    A folder of several packages adds all of them; those that cannot be read are listed as broken.

    Raises
    ------
    BmzError
        A model that is named individually does not exist or cannot be read.
    """
    read = _Reader(settings)
    ranked, broken = list[Candidate](), list[ModelFit]()

    def add(address: str) -> None:
        package, model = find_model(address, settings, listener=listener)
        ranked.append(read(package, model, with_model(Card(address, "", model.sha256), model)))

    for address in words:
        several = packages_in_folder(Path(address).expanduser())
        if len(several) <= 1:
            add(address)
        for folder in several if len(several) > 1 else ():
            try:
                add(str(folder))
            except BmzError as why:
                broken.append(ModelFit(str(folder), "", status="broken", broken=why.message))
    return Candidates(tuple(ranked), tuple(broken), {})


class _Reader:
    """Collect what is known about one model per call."""

    def __init__(self, settings: ZooSettings) -> None:
        self._settings = settings
        self._usable = usable_formats()

    def __call__(self, package: Package, model: ModelSpec, card: Card) -> Candidate:
        findings = tuple(
            model_findings(
                model, self._settings, fetched=not _is_whole(package, card), usable=self._usable
            )
        )
        report, files = reports_of(model.alias), self._files(model)
        about = AboutModel(
            title=model.name,
            task=card.task,
            labels=card.labels,
            only_restores=any(finding.is_only_for_labels for finding in findings),
            made_for=made_for(model),
            weights=tuple(name for name in card.weights if self._usable.get(name) == ""),
            needs=tuple(finding for finding in findings if finding.is_need),
            download_bytes=0 if all((model.folder / n).is_file() for n in files) else None,
            passed=report.passed,
            failed=report.failed,
        )
        others = tuple(finding for finding in findings if not finding.is_need)
        return Candidate(package, model, card, about, others, files)

    def _files(self, model: ModelSpec) -> tuple[str, ...]:
        """Return the file names of the weights that would run, or else of the first in `ORDER`."""
        entries = {weights.format: weights for weights in model.weights}
        usable = [name for name in ORDER if name in entries and self._usable.get(name) == ""]
        chosen = usable or [name for name in ORDER if name in entries]
        files = weights_files(model, entries[chosen[0]]) if chosen else ()
        return tuple(file.name for file in files)


def _is_whole(package: Package, card: Card) -> bool:
    """Return whether the package belongs to the user or to bmz, so that its files must exist."""
    return card.version == "" and package.remote is None


def with_sizes(
    models: Sequence[ModelFit], candidates: Iterable[Candidate], settings: ZooSettings
) -> tuple[ModelFit, ...]:
    """Add download sizes to the first models that still have files to download.

    The sizes are requested once a day; those that cannot be obtained remain unknown.

    Parameters
    ----------
    models : models, best first; sizes are added to the first `SHOWN`
    """
    by_id = {candidate.card.id: candidate for candidate in candidates}
    asked = [m for m in models[:SHOWN] if m.about.download_bytes is None and m.id in by_id]
    with ThreadPoolExecutor(AT_ONCE, "sizes") as pool:
        sizes = dict(
            zip(
                (model.id for model in asked),
                pool.map(lambda model: _size(by_id[model.id], settings), asked),
                strict=True,
            )
        )
    return tuple(_with_size(model, sizes) for model in models)


def _with_size(model: ModelFit, sizes: Mapping[str, int | None]) -> ModelFit:
    if model.id not in sizes:
        return model
    return replace(model, about=replace(model.about, download_bytes=sizes[model.id]))


def _size(candidate: Candidate, settings: ZooSettings) -> int | None:
    """Return the total size of the missing files, bytes; None if one size is unknown."""
    folder = candidate.model.folder
    names = [name for name in candidate.to_fetch if not (folder / name).is_file()]
    try:
        package = locate(candidate.card.id, settings)
    except BmzError:
        return None  # the index no longer lists it; running it reports the error
    published_sizes = published(package, candidate.model.sha256, names, settings).sizes
    sizes = [published_sizes.get(name) for name in names]
    return None if None in sizes else sum(size or 0 for size in sizes)


def fetch_samples(
    candidates: Iterable[Candidate], settings: ZooSettings, listener: Listener
) -> None:
    """Fetch the test inputs of models of the zoo; a failure does not stop the others."""
    chosen = list(candidates)
    for number, candidate in enumerate(chosen, start=1):
        tensors = tuple(tensor_files(replace(candidate.model, outputs=())))
        try:
            package = locate(candidate.card.id, settings, listener=listener)
            if package.remote is not None:
                fetch_files(package, tensors, settings, listener=listener)
        except BmzError as why:
            listener(Note(f"the sample of {candidate.card.id} was not compared: {why}"))
        listener(Progress("samples", number, len(chosen), candidate.card.id))
