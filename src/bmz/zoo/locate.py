"""Turn the word MODEL into the folder and manifest of a package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bmz.zoo.archive import unpack
from bmz.zoo.cache import cache_folder
from bmz.zoo.errors import ModelNotFound, NotAPackage

MANIFESTS = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
"""Names of a manifest, the newest first."""

STARTER = "starter/"
"""Prefix of the models that come with bmz."""


@dataclass(frozen=True)
class Package:
    """A model package on disk.

    Parameters
    ----------
    id : the name by which it was asked for, in short
    manifest : path of its manifest; the files lie beside it
    """

    id: str
    manifest: Path


def starter_folder() -> Path:
    """Give the folder of the models that come with bmz."""
    return Path(str(resources.files("bmz") / "starter"))


def starter_names() -> tuple[str, ...]:
    """List the models that come with bmz."""
    return tuple(sorted(p.parent.name for p in starter_folder().glob("*/bioimageio.yaml")))


def locate(word: str) -> Package:
    """Find the package that `word` names.

    A folder counts only when it is written as a path (``./name``), so that a folder can
    never take the place of a model of the zoo with the same name.

    Parameters
    ----------
    word : ``starter/NAME``, or the path of a folder, zip or manifest

    Raises
    ------
    ModelNotFound, NotAPackage, ArchiveRefused
        There is nothing, no package, or an unsafe one.
    """
    if word.startswith(STARTER):
        return _starter(word)
    path = Path(word).expanduser()
    is_path = (
        path.parent != Path() or word.startswith(".") or path.suffix in {".zip", ".yaml", ".yml"}
    )
    if not is_path:
        raise _unknown_alias(word, path)
    return _at(word, path)


def _starter(word: str) -> Package:
    manifest = starter_folder() / word.removeprefix(STARTER) / "bioimageio.yaml"
    if "/" in word.removeprefix(STARTER) or not manifest.is_file():
        known = ", ".join(STARTER + name for name in starter_names())
        raise ModelNotFound(word, "it does not come with bmz", hint=f"there is: {known}")
    return Package(word, manifest)


def _unknown_alias(word: str, path: Path) -> ModelNotFound:
    hint = "give the path of a folder, zip or manifest, or starter/nuclei"
    if path.exists():
        hint = f"for the {'folder' if path.is_dir() else 'file'} here, write ./{word}"
    return ModelNotFound(word, "names of the zoo are not looked up by this version", hint=hint)


def _at(word: str, path: Path) -> Package:
    if not path.exists():
        raise ModelNotFound(word, "there is no such file or folder", hint="look at the path again")
    if path.is_dir():
        return Package(path.resolve().name, _manifest_in(path))
    if path.suffix in {".yaml", ".yml"}:
        return Package(path.resolve().parent.name, path)
    if path.suffix == ".zip":
        return Package(path.stem, _manifest_in(unpack(path, cache_folder())))
    raise NotAPackage(path, f"a file ending in '{path.suffix}'")


def _manifest_in(folder: Path) -> Path:
    tops = [folder, *(p for p in sorted(folder.iterdir()) if p.is_dir())]
    for top in tops:
        for name in MANIFESTS:
            if (top / name).is_file():
                return top / name
    raise NotAPackage(folder, f"it holds none of {', '.join(MANIFESTS)}")
