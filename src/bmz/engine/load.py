"""Find and fetch the package of a model, and decide whether the model and its code may run."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bmz.base.errors import AnswerIsNo, BmzError, CouldNotTell
from bmz.base.files import sha256_of
from bmz.base.progress import Listener, Note, nobody
from bmz.check.finding import Evidence, Finding
from bmz.plan.recipe_choice import MakesNoLabels, choose_recipe
from bmz.plan.weights_choice import ORDER, WeightsNotShipped, WeightsUnusable, choose_weights
from bmz.predict.frameworks import usable_formats
from bmz.spec.facts import refuse_absent_packages
from bmz.spec.model import ModelSpec, PackagedFile, TensorSpec, Weights
from bmz.spec.package_files import ModelCode, PackageUnreadable, code_of, verified
from bmz.spec.read import read_stored
from bmz.zoo.fetch import WantedFile, fetch_files, sizes_of
from bmz.zoo.locate import locate
from bmz.zoo.package import Package
from bmz.zoo.settings import (
    TrustedCode,
    ZooSettings,
    add_trust,
    read_trust,
    remove_trust,
    settings_from_environment,
)
from bmz.zoo.store import notes_folders

if TYPE_CHECKING:
    from bmz.results.models import ModelFetch

Permit = Literal["no", "confined", "unconfined"]
"""Whether a model's code may run: not at all, sandboxed, or with all rights of the user."""

Look = Callable[[Path], tuple[str, ...]]
"""Lists what in a weights file accesses the host, such as operations that write files."""


class NeedsTrust(CouldNotTell):
    """The model runs its own code, which has not been allowed."""

    def __init__(self, model: ModelSpec, code: ModelCode, name: str = "") -> None:
        from bmz.report.model_text import code_words  # here: opening a network needs few libraries

        others = [w.format for w in model.weights if model_code(w) is None]
        instead = f"; weights without code: --weights {others[0]}" if others else ""
        super().__init__(
            f"'{model.id}' runs its own code, which is not allowed yet: {code_words(code)}",
            hint=f"read the code in '{model.folder}', then allow it for this run with --trust, "
            f"or permanently with 'bmz trust add {name or model.folder}'{instead}",
            code="package.runs-code",
        )


def model_code(weights: Weights) -> ModelCode | None:
    """Return the code that an entry runs, inspecting its weights file if it exists locally."""
    return code_of(weights, _host_calls(weights))


def code_unknown(weights: Weights) -> str:
    """Return why it is unknown whether an entry runs code; empty if it is known.

    No code of such an entry runs: its file is not available locally, or loading it is refused.
    """
    if weights.architecture is not None or look_into(weights.format) is None:
        return ""
    if not weights.file.path.exists():
        return "unknown until they are fetched"
    try:
        _looked_into(weights)
    except BmzError as why:
        return f"unknown, because they are not loaded: {why.message}"
    except (OSError, zipfile.BadZipFile) as why:
        return f"unknown, because they are not loaded: {why}"
    return ""


def _host_calls(weights: Weights) -> tuple[str, ...]:
    if not weights.file.path.exists():
        return ()
    try:
        return _looked_into(weights)
    except (BmzError, OSError, zipfile.BadZipFile):
        return ()  # the file cannot be loaded, and loading it will report that


def _looked_into(weights: Weights) -> tuple[str, ...]:
    look = look_into(weights.format)
    return () if look is None else look(weights.file.path)


def look_into(weights_format: str) -> Look | None:
    """Return the inspector of files of a weights format; None if there is nothing to look for."""
    # imported here: `bmz show` of a model that is not fetched loads no NumPy
    if weights_format == "torchscript":
        from bmz.predict.torchscript import host_calls

        return host_calls
    if weights_format == "tensorflow_saved_model_bundle":
        from bmz.predict.graph_code import host_ops

        return host_ops
    if weights_format in {"keras_v3", "keras_hdf5"}:
        from bmz.predict.graph_code import keras_code

        return keras_code
    return None


def load_model(
    source: str, settings: ZooSettings | None = None, *, listener: Listener = nobody
) -> ModelSpec:
    """Find and read a model; only its manifest is fetched.

    Parameters
    ----------
    source : a model, in any form that ``bmz.zoo.locate.locate`` accepts
    settings : settings of the zoo; None for those of the environment

    Raises
    ------
    CouldNotTell
        The model does not exist, is not a package, or has an invalid description.
    """
    return find_model(source, settings or settings_from_environment(), listener=listener)[1]


def find_model(
    source: str, settings: ZooSettings, *, listener: Listener = nobody
) -> tuple[Package, ModelSpec]:
    """Find and read a model as `load_model` does; also return the package it comes from."""
    package = locate(source, settings, listener=listener)
    return package, describe(
        package.manifest, settings, model_id=package.id, alias=alias_of(package)
    )


def alias_of(package: Package) -> str:
    """Return the name of a package in the index of the zoo; empty if it is not listed."""
    listed = package.remote is not None and package.remote.index_sha256 is not None
    return package.id if listed else ""


def describe(
    manifest: Path, settings: ZooSettings, *, model_id: str | None = None, alias: str = ""
) -> ModelSpec:
    """Read a manifest, and cache the result.

    Parameters
    ----------
    model_id : the name by which the model was requested
    alias : its name in the zoo, if it is listed there
    """
    try:
        sha256 = sha256_of(manifest)
    except OSError as why:
        raise PackageUnreadable(manifest, why.strerror or "it cannot be read") from why
    notes = notes_folders(manifest, sha256, settings)
    return read_stored(manifest, model_id=model_id, alias=alias, notes=notes)


def fetch_weights(
    package: Package,
    model: ModelSpec,
    weights: Weights,
    settings: ZooSettings,
    listener: Listener = nobody,
) -> None:
    """Verify the files of weights against the description, and fetch those that are missing.

    Raises
    ------
    CouldNotTell
        A file does not exist, cannot be obtained, or differs from the description.
    """
    files = tuple(weights_files(model, weights))
    if package.remote is None:
        for file in (weights.file, *weights.beside):
            verified(file, f"{weights.format} weights", model.folder)
        return
    announce(package, files, settings, listener)
    fetch_files(package, files, settings, listener=listener)


def fetch_code(
    package: Package,
    model: ModelSpec,
    weights: Weights,
    settings: ZooSettings,
    listener: Listener = nobody,
) -> None:
    """Verify or fetch the file with the code of an entry, without its weights.

    Raises
    ------
    CouldNotTell
        The file does not exist, cannot be obtained, or differs from the description.
    """
    code = weights.architecture.code if weights.architecture else None
    if code is None:
        return
    if package.remote is None:
        verified(code, f"code of {weights.format} weights", model.folder)
    else:
        files = tuple(_wanted(model, (code,), f"code of {weights.format} weights"))
        fetch_files(package, files, settings, listener=listener)


def fetch_tensors(
    package: Package, model: ModelSpec, settings: ZooSettings, listener: Listener = nobody
) -> None:
    """Fetch the test tensors if they are available; running continues without them."""
    if package.remote is None:
        return
    try:
        fetch_files(package, tuple(tensor_files(model)), settings, listener=listener)
    except CouldNotTell as why:
        listener(Note(f"continuing without the test tensors of the model: {why.message}"))


def fetch_model(
    source: str, weights_format: str | None, settings: ZooSettings, listener: Listener = nobody
) -> ModelFetch:
    """Fetch and verify the manifest of a model, the files of its weights and its test tensors.

    Parameters
    ----------
    source : the model, as in `load_model`
    weights_format : ``all``, ``none``, or a weights format; None to choose as ``bmz run`` does

    Raises
    ------
    WeightsNotShipped
        The model has no weights of that format.
    CouldNotTell
        The model does not exist, its description is invalid, or a file cannot be obtained or
        differs from the description.
    """
    package, model = find_model(source, settings, listener=listener)
    entries = _weights_to_fetch(model, weights_format, listener)
    files = tuple(_files_to_fetch(model, entries))
    announce(package, files, settings, listener)
    report = fetch_files(
        package, files, settings, listener=listener, allow_changed=settings.allow_changed
    )
    if any(file.action != "cached" for file in report.files):
        from bmz.engine.test_tensors import sample_measures  # here: it loads NumPy and SciPy

        sample_measures(package, model, settings)
    from bmz.results.models import ModelFetch  # here: only ``bmz fetch`` reports what it fetched

    formats = tuple(entry.format for entry in entries)
    return ModelFetch(source, str(model.folder), formats, report.files)


def _weights_to_fetch(
    model: ModelSpec, weights_format: str | None, listener: Listener
) -> tuple[Weights, ...]:
    """Choose the weights to fetch; if none can run here, the first format in the usual order."""
    if weights_format in {"all", "none"}:
        return model.weights if weights_format == "all" else ()
    entries = {entry.format: entry for entry in model.weights}
    if weights_format is not None:
        if weights_format not in entries:
            raise WeightsNotShipped(model, weights_format)
        return (entries[weights_format],)
    try:
        return (choose_weights(model, usable_formats(), None),)
    except WeightsUnusable as why:
        first = next((name for name in (*ORDER, *entries) if name in entries), None)
        listener(Note(f"{why.message}; fetching {first} anyway"))
        return (entries[first],) if first else ()


def _files_to_fetch(model: ModelSpec, entries: Sequence[Weights]) -> Iterator[WantedFile]:
    groups = [weights_files(model, entry) for entry in entries]
    groups += [environment_files(model, entry) for entry in entries]
    files: dict[str, WantedFile] = {}
    for group in (*groups, tensor_files(model)):
        for file in group:
            files.setdefault(file.name, file)
    yield from files.values()


def announce(
    package: Package, files: Sequence[WantedFile], settings: ZooSettings, listener: Listener
) -> None:
    """Announce the size of the download, if there is anything to download."""
    folder = package.manifest.parent
    names = [file.name for file in files if not (folder / file.name).is_file()]
    if package.remote is not None and names:
        from bmz.report.computer_text import ahead_words  # here: usually nothing is missing

        listener(Note(ahead_words(package.id, sizes_of(package, names, settings))))


def weights_files(model: ModelSpec, weights: Weights) -> Iterator[WantedFile]:
    """Yield the files needed to load weights."""
    yield from _wanted(model, (weights.file,), f"{weights.format} weights")
    yield from _wanted(model, weights.beside, f"beside {weights.format} weights")


def environment_files(model: ModelSpec, weights: Weights) -> Iterator[WantedFile]:
    """Yield the file that lists the packages that weights need, if there is one."""
    if weights.environment is not None:
        yield from _wanted(model, (weights.environment,), f"environment of {weights.format}")


def tensor_files(model: ModelSpec) -> Iterator[WantedFile]:
    """Yield the test tensors."""
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
        for tensor in tensors:
            if tensor.test is not None:
                yield from _wanted(model, (tensor.test,), f"test {kind} {tensor.id}")


def _wanted(model: ModelSpec, files: Iterable[PackagedFile], what: str) -> Iterator[WantedFile]:
    for file in files:
        name = file.path.relative_to(model.folder).as_posix()
        yield WantedFile(name, file.sha256, what, file.url)


_SHA256 = re.compile(r"[0-9a-f]{8,64}")


class NothingToTrust(AnswerIsNo):
    """None of the weights of a model contain code."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__(
            f"'{model.id}' runs no code of its own",
            hint="it runs without --trust",
            code="trust.nothing",
        )


class NotTrusted(AnswerIsNo):
    """The list of trusted code has no entry of this name."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"the list of trusted code has no entry '{model}'",
            hint="'bmz trust list' shows the entries",
            code="trust.not-listed",
        )


def permit_for(model: ModelSpec, weights: Weights, permit: Permit, settings: ZooSettings) -> Permit:
    """Decide whether the code of an entry may run.

    Parameters
    ----------
    permit : what the user allows for this run
    settings : settings of the zoo; its cache stores the list of permanently trusted code

    Raises
    ------
    NeedsTrust
        The entry runs code that is allowed neither for this run nor permanently.
    """
    code = model_code(weights)
    if code is None or permit != "no":
        return permit
    if any(entry.sha256 == code.sha256 for entry in read_trust(settings)):
        return "confined"
    # a model of the zoo is named as in the zoo; any other can only be found by its folder
    address = model.id if settings.cache.absolute() in model.folder.absolute().parents else ""
    raise NeedsTrust(model, code, address)


def model_findings(
    model: ModelSpec,
    settings: ZooSettings,
    *,
    fetched: bool,
    weights_format: str | None = None,
    trust: Permit = "no",
    usable: Mapping[str, str] | None = None,
) -> Iterator[Finding]:
    """Yield findings on the model that prevent a label mask of any image.

    Parameters
    ----------
    settings : settings of the zoo, with the list of trusted code
    fetched : its files come from the zoo, and are verified when fetched rather than here
    weights_format : a weights format; None for the one that would be chosen
    trust : what the user allows the model's own code
    usable : result of `usable_formats`, if several models are checked; None to compute it
    """
    try:
        choose_recipe(model)
    except MakesNoLabels as why:
        known: Evidence = "curated" if why.curated else "declared"
        yield Finding.of_error(why, "model", known)
    except BmzError:
        pass  # `bmz run` asks for the recipe; this says nothing about the fit
    try:
        refuse_code((*model.inputs, *model.outputs))
        weights = choose_weights(
            model, usable_formats() if usable is None else usable, weights_format
        )
        refuse_absent_packages(model, weights.format)
        for file in () if fetched else (weights.file, *weights.beside):
            verified(file, f"{weights.format} weights", model.folder)
        permit_for(model, weights, trust, settings)
    except BmzError as why:
        yield Finding.of_error(why, "model")


def refuse_code(tensors: Iterable[TensorSpec]) -> None:
    """Raise if a step is the model's own code, or unknown here, before anything is loaded.

    Raises
    ------
    RunsCode
        There is a ``custom`` step.
    UnknownOp
        There is a step that only a newer bioimageio.spec defines.
    """
    from bmz.process.ops import OPS  # here: it loads NumPy, which bmz search does not need
    from bmz.process.ops_values import RunsCode, UnknownOp

    for step in (step for tensor in tensors for step in tensor.steps):
        if step.name == "custom":
            raise RunsCode(step)
        if step.name not in OPS:
            raise UnknownOp(step, OPS)


def add(source: str, listener: Listener = nobody) -> tuple[TrustedCode, ...]:
    """Trust the current code of a model permanently.

    Raises
    ------
    NothingToTrust
        The model has no code.
    CouldNotTell
        The model or its code cannot be obtained.
    """
    settings = settings_from_environment()
    package, model = find_model(source, settings, listener=listener)
    for weights in model.weights:
        fetch_code(package, model, weights, settings, listener)
    entries = tuple(_trusted(model))
    if not entries:
        raise NothingToTrust(model)
    add_trust(settings, entries)
    return entries


def _trusted(model: ModelSpec) -> Iterator[TrustedCode]:
    from bmz.report.model_text import code_words  # here: it is rarely needed

    now = datetime.now(UTC).isoformat(timespec="seconds")
    for weights in model.weights:
        code = model_code(weights)
        if code is not None:
            yield TrustedCode(code.sha256, model.id, weights.format, code_words(code), now)


def remove(name: str) -> tuple[TrustedCode, ...]:
    """Remove code from the trusted list by name or by sha256 (at least its first 8 digits).

    Raises
    ------
    NotTrusted
        The list has no such entry.
    """
    settings = settings_from_environment()
    held = read_trust(settings)
    named = {entry.sha256 for entry in held if entry.model == name}
    if _SHA256.fullmatch(name):
        named |= {entry.sha256 for entry in held if entry.sha256.startswith(name)}
    if not named:
        raise NotTrusted(name)
    return remove_trust(settings, named)


def listed() -> tuple[TrustedCode, ...]:
    """Return the trusted code, oldest first."""
    return read_trust(settings_from_environment())
