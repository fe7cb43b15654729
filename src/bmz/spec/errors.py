"""Errors of a package."""

from __future__ import annotations

from pathlib import Path

from bmz.base.errors import CouldNotTell


class PackageInvalid(CouldNotTell):
    """The manifest is unreadable or violates the specification."""

    def __init__(self, manifest: Path, why: str) -> None:
        super().__init__(
            f"the description '{manifest}' is not valid: {why}",
            hint="tell the authors of the model; bmz needs a description of format 0.4 or 0.5",
            code="package.invalid",
        )
        self.why = why


class PackageUnreadable(PackageInvalid):
    """The manifest is no readable YAML mapping, so that nothing is known about the model."""


class PackageNewer(CouldNotTell):
    """The manifest has a format, or names, that the installed version does not know."""

    def __init__(self, manifest: Path, why: str) -> None:
        super().__init__(
            f"the description '{manifest}' needs a newer bmz, or a newer bioimageio.spec: {why}",
            hint="update them: pip install --upgrade bmz bioimageio.spec; where the newest do not "
            "know it either, tell the authors of the model",
            code="package.newer",
        )
        self.why = why


class PathLeavesPackage(CouldNotTell):
    """A path in the manifest, or a link in the folder, points outside the package."""

    def __init__(self, package: Path, source: str) -> None:
        super().__init__(
            f"the package '{package}' names '{source}', which lies outside of it",
            hint="do not use this package: a model has no business with other files",
            code="package.path",
        )


class FileMissing(CouldNotTell):
    """A file that the manifest names is not in the package."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"the package has no file '{path.name}' ({what}); wanted it at '{path}'",
            hint="get the whole package again, or choose weights that are there with --weights",
            code="package.missing-file",
        )


class HashDiffers(CouldNotTell):
    """A file is not the one that the manifest describes."""

    def __init__(self, path: Path, wanted: str, found: str) -> None:
        super().__init__(
            f"'{path.name}' is not the file described: wanted sha256 {wanted[:12]}…, "
            f"found {found[:12]}…",
            hint="the file is damaged or was changed; get the package again",
            code="package.hash-differs",
        )
