"""What can go wrong between an address and a folder."""

from __future__ import annotations

from pathlib import Path

from bmz.base.errors import CouldNotTell


class ModelNotFound(CouldNotTell):
    """Nothing lies at the address."""

    def __init__(self, word: str, why: str, *, hint: str) -> None:
        super().__init__(f"no model '{word}': {why}", hint=hint, code="model.not-found")


class NotAPackage(CouldNotTell):
    """Something lies there, but no model package."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is not a model package: {why}",
            hint="a package is a folder or zip with a bioimageio.yaml or rdf.yaml",
            code="model.not-a-package",
        )


class ArchiveRefused(CouldNotTell):
    """A zip would leave its folder, or is far larger inside than out."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the archive '{path}' is refused: {why}",
            hint="do not use this file unless you know who made it and why",
            code="model.archive-refused",
        )
