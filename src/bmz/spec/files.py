"""Prove that a file of a package is there and is the one described."""

from __future__ import annotations

import hashlib

from bmz.spec.errors import FileMissing, HashDiffers
from bmz.spec.model import PackagedFile


def verified(file: PackagedFile, what: str) -> PackagedFile:
    """Give `file` back when it exists and has the sha256 that the manifest states.

    Parameters
    ----------
    file : of the package
    what : its part, for the message, such as ``"onnx weights"``

    Raises
    ------
    FileMissing, HashDiffers
        It is not there, or is another file.
    """
    if not file.path.is_file():
        raise FileMissing(file.path, what)
    if file.sha256:
        with file.path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != file.sha256.lower():
            raise HashDiffers(file.path, file.sha256, found)
    return file
