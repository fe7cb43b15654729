"""From the word MODEL to a description, and to the files it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bmz.base.errors import CouldNotTell
from bmz.base.progress import Listener, Note, nobody
from bmz.report.fetch_text import ahead_words
from bmz.spec.code import verified
from bmz.spec.errors import PackageUnreadable
from bmz.spec.model import ModelSpec, PackagedFile, Weights
from bmz.spec.stored import read_stored
from bmz.zoo.fetch import WantedFile, fetch_files, sizes_of
from bmz.zoo.locate import locate
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings, settings_from_environment
from bmz.zoo.store import NOTES, folder_of, sha256_of


def load_model(
    word: str, settings: ZooSettings | None = None, *, listener: Listener = nobody
) -> ModelSpec:
    """Find and read a model; of its files only the manifest is fetched.

    Parameters
    ----------
    word : whatever ``bmz.zoo.locate.locate`` takes for a model
    settings : of the zoo; None for those of the environment

    Raises
    ------
    CouldNotTell
        It is not there, no package, or its description is invalid.
    """
    return find_model(word, settings or settings_from_environment(), listener=listener)[1]


def find_model(
    word: str, settings: ZooSettings, *, listener: Listener = nobody
) -> tuple[Package, ModelSpec]:
    """Find and read a model, as `load_model` does, and tell where its files come from."""
    package = locate(word, settings, listener=listener)
    return package, describe(
        package.manifest, settings, model_id=package.id, alias=alias_of(package)
    )


def alias_of(package: Package) -> str:
    """Give the name by which the index of the zoo lists a package; empty when it lists none."""
    listed = package.remote is not None and package.remote.index_sha256 is not None
    return package.id if listed else ""


def describe(
    manifest: Path, settings: ZooSettings, *, model_id: str | None = None, alias: str = ""
) -> ModelSpec:
    """Read a manifest, and keep what was read for the next time.

    Parameters
    ----------
    model_id : the name by which the model was asked for
    alias : its name in the zoo, where the zoo gave it
    """
    try:
        sha256 = sha256_of(manifest)
    except OSError as why:
        raise PackageUnreadable(manifest, why.strerror or "it cannot be read") from why
    notes = notes_folders(manifest, sha256, settings)
    return read_stored(manifest, model_id=model_id, alias=alias, notes=notes)


def notes_folders(manifest: Path, sha256: str, settings: ZooSettings) -> tuple[Path, ...]:
    """Give the folders for our notes about a package; each is read, the last is written to.

    Notes lie beside a manifest only in the cache and in the layers that others share. A folder
    or zip of the user's is not written into, and what it calls a note may be anyone's.

    Parameters
    ----------
    sha256 : of the manifest
    """
    own = settings.cache / "descriptions" / sha256
    beside = manifest.parent / NOTES
    here = manifest.parent.absolute()
    if here == folder_of(settings.cache, sha256).absolute():
        return (beside,)
    shared = any(here == folder_of(layer, sha256).absolute() for layer in settings.layers)
    return (beside, own) if shared else (own,)


def fetch_weights(
    package: Package,
    model: ModelSpec,
    weights: Weights,
    settings: ZooSettings,
    listener: Listener = nobody,
) -> None:
    """See that the files of weights are there and are those described; fetch what is missing.

    Raises
    ------
    CouldNotTell
        A file is not there, cannot be had, or is another one.
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
    """See that the file with the code of an entry is here, without its weights.

    Raises
    ------
    CouldNotTell
        It is not there, cannot be had, or is another one.
    """
    code = weights.architecture.code if weights.architecture else None
    if code is None:
        return
    if package.remote is None:
        verified(code, f"code of {weights.format} weights", model.folder)
    else:
        wanted = tuple(_wanted(model, (code,), f"code of {weights.format} weights"))
        fetch_files(package, wanted, settings, listener=listener)


def fetch_tensors(
    package: Package, model: ModelSpec, settings: ZooSettings, listener: Listener = nobody
) -> None:
    """Fetch the test tensors where they can be had; what is done with them is an aid alone."""
    if package.remote is None:
        return
    try:
        fetch_files(package, tuple(tensor_files(model)), settings, listener=listener)
    except CouldNotTell as why:
        listener(Note(f"without the test tensors of the model: {why.message}"))


def announce(
    package: Package, wanted: Sequence[WantedFile], settings: ZooSettings, listener: Listener
) -> None:
    """Tell how much there is to download, where anything is."""
    folder = package.manifest.parent
    names = [file.name for file in wanted if not (folder / file.name).is_file()]
    if package.remote is not None and names:
        listener(Note(ahead_words(package.id, sizes_of(package, names, settings))))


def weights_files(model: ModelSpec, weights: Weights) -> Iterator[WantedFile]:
    """Yield the files without which weights cannot be loaded."""
    yield from _wanted(model, (weights.file,), f"{weights.format} weights")
    yield from _wanted(model, weights.beside, f"beside {weights.format} weights")


def environment_files(model: ModelSpec, weights: Weights) -> Iterator[WantedFile]:
    """Yield the list of what must be installed for weights, where there is one."""
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
