"""Prove that a file of a package is there and is the one described."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bmz.spec.errors import FileMissing, HashDiffers, PathLeavesPackage
from bmz.spec.model import PackagedFile


def verified(file: PackagedFile, what: str, folder: Path) -> PackagedFile:
    """Give `file` back when it is there, inside, and has the sha256 that the manifest states.

    Parameters
    ----------
    file : of the package
    what : its part, for the message, such as ``"onnx weights"``
    folder : of the package, out of which no link may lead

    Raises
    ------
    FileMissing, HashDiffers
        It is not there, or is another file.
    PathLeavesPackage
        It is a link, or lies behind one, that leads out of the folder.
    """
    if not file.path.is_file():
        raise FileMissing(file.path, what)
    if folder.resolve() not in file.path.resolve().parents:
        raise PathLeavesPackage(folder, str(file.path.resolve()))
    if file.sha256:
        with file.path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != file.sha256.lower():
            raise HashDiffers(file.path, file.sha256, found)
    return file
