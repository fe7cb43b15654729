"""Errors between an address and a folder."""

from __future__ import annotations

from pathlib import Path

from bmz.base.errors import CouldNotTell, WrongUsage


class ModelNotFound(CouldNotTell):
    """There is no model at the address."""

    def __init__(self, model: str, why: str, *, hint: str) -> None:
        super().__init__(f"no model '{model}': {why}", hint=hint, code="model.not-found")


class ModelAmbiguous(CouldNotTell):
    """Several models of the zoo claim one DOI or nickname."""

    def __init__(self, model: str, aliases: tuple[str, ...]) -> None:
        super().__init__(
            f"'{model}' matches {len(aliases)} models: {', '.join(aliases)}",
            hint=f"choose one, such as {aliases[0]}",
            code="model.ambiguous",
        )


class NotAPackage(CouldNotTell):
    """There is something at the address, but no model package."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(
            f"'{path}' is not a model package: {why}",
            hint="a package is a folder or zip with a bioimageio.yaml or rdf.yaml",
            code="model.not-a-package",
        )


class ArchiveRefused(CouldNotTell):
    """A zip would write outside its folder, or is far larger when unpacked."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(
            f"the archive '{path}' is refused: {why}",
            hint="do not use this file unless you know who made it and why",
            code="model.archive-refused",
        )


class FileNotInPackage(CouldNotTell):
    """The manifest names a file that its package does not have."""

    def __init__(self, model: str, name: str, what: str, *, hint: str) -> None:
        super().__init__(
            f"the package of '{model}' has no file '{name}' ({what})",
            hint=hint,
            code="package.missing-file",
        )


class FileLeavesPackage(CouldNotTell):
    """The manifest names a file outside its package, or among our notes."""

    def __init__(self, model: str, name: str) -> None:
        super().__init__(
            f"the description of '{model}' names '{name}', which is outside its package",
            hint="do not use this package: a model must not refer to files outside it",
            code="package.path",
        )


class HashRefused(CouldNotTell):
    """A file is not the one that the manifest describes, or not the one that was fetched first."""

    def __init__(self, model: str, name: str, *, expected: str, actual: str) -> None:
        super().__init__(
            f"file '{name}' of '{model}' is not the one described: wanted sha256 {expected}, "
            f"found {actual}",
            hint="tell the authors of the model; --allow-changed accepts the file as it is",
            code="package.hash-differs",
        )


class DescriptionDiffers(CouldNotTell):
    """A description is not the one that the index of the zoo lists."""

    def __init__(self, model: str, version: str, *, expected: str, actual: str, page: bool) -> None:
        instead = "a web page was returned instead" if page else f"found {actual}"
        super().__init__(
            f"the description of '{model}' {version} is not the one that the index lists: wanted "
            f"sha256 {expected}, {instead}; it was not stored",
            hint="behind a login page or proxy, make sure that it allows the zoo, and try again; "
            "if the zoo has changed the model since the daily index was written, wait for "
            f"the next index, or accept the model as it is: bmz fetch {model} --allow-changed",
            code="package.hash-differs",
        )


class Offline(CouldNotTell):
    """The network is needed, but is not allowed."""

    def __init__(self, what: str, model: str = "MODEL") -> None:
        super().__init__(
            f"BMZ_OFFLINE is set, but the cache does not contain {what}",
            hint=f"run bmz fetch {model} with a network, or copy it with bmz cache export and "
            "import",
            code="zoo.offline",
        )


class Unreachable(CouldNotTell):
    """The service gave no usable answer after several attempts."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"no answer from {url}: {why}",
            hint="check the network and try again; finished downloads are kept",
            code="zoo.unreachable",
        )


class Refused(CouldNotTell):
    """The service answered, but refused the request."""

    def __init__(
        self,
        url: str,
        status: int,
        why: str,
        hint: str = "check the address and the version; bmz search lists the models",
    ) -> None:
        super().__init__(
            f"{url} answered {status}{f': {why}' if why else ''}", hint=hint, code="zoo.refused"
        )
        self.status = status
        self.why = why


class CertificateRefused(CouldNotTell):
    """The server cannot prove its identity."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"the certificate of {url} was not accepted: {why}",
            hint="behind a proxy with its own certificate, set REQUESTS_CA_BUNDLE to that file",
            code="zoo.certificate",
        )


class CacheFull(CouldNotTell):
    """There is no space for a download."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"there is no space left for the cache in '{folder}'",
            hint="free space with bmz cache remove, or set BMZ_CACHE_DIR to another folder",
            code="cache.full",
        )


class CacheUnwritable(CouldNotTell):
    """The cache cannot be written to."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"cannot write to the cache '{folder}': {why}",
            hint="set BMZ_CACHE_DIR to a folder of your own",
            code="cache.unwritable",
        )


class NotCached(CouldNotTell):
    """The cache has no such package."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"the cache has no package '{model}'",
            hint="bmz cache list shows the packages",
            code="cache.not-there",
        )


class CacheDamaged(CouldNotTell):
    """A file of the cache has changed."""

    def __init__(self, model: str, name: str, *, expected: str, actual: str) -> None:
        super().__init__(
            f"file '{name}' of '{model}' in the cache is damaged: wanted sha256 {expected}, "
            f"found {actual}",
            hint=f"bmz fetch {model} downloads it again",
            code="cache.damaged",
        )


class ExportDamaged(CouldNotTell):
    """An archive of the cache is not what was exported."""

    def __init__(self, archive: Path, why: str) -> None:
        super().__init__(
            f"the archive '{archive}' was not imported: {why}",
            hint="copy it again, or create it again with bmz cache export",
            code="cache.export-damaged",
        )


class IndexUnavailable(CouldNotTell):
    """The list of models cannot be downloaded, and none is cached."""

    def __init__(self, url: str, why: str, *, hint: str = "") -> None:
        usual = "try again with a network, set BMZ_INDEX_URL, or use bmz cache import"
        super().__init__(
            f"the index {url} cannot be read, and none is cached: {why}",
            hint=hint or usual,
            code="index.unavailable",
        )


class LimitUnclear(WrongUsage):
    """A time limit cannot be parsed."""

    def __init__(self, variable: str, text: str) -> None:
        super().__init__(
            f"{variable} is '{text}'; wanted a number of seconds above 0",
            hint=f"for example {variable}=600",
            code="zoo.limit",
        )


class MirrorUnclear(WrongUsage):
    """``BMZ_MIRROR`` cannot be parsed."""

    def __init__(self, part: str) -> None:
        super().__init__(
            f"BMZ_MIRROR holds '{part}'; wanted FROM=TO, two addresses with ://",
            hint="for example BMZ_MIRROR=https://hypha.aicell.io=https://mirror.example",
            code="zoo.mirror",
        )
