"""The identity of what an image file holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bmz.image.series import split_series


def content_sha256(path: Path) -> str:
    """Give the sha256 of a file; of a folder, such as a Zarr, that of the list of its files.

    The list has a line ``SHA256  PATH`` for each file, in the order of the paths, as
    ``sha256sum`` prints it.
    """
    path, _ = split_series(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = (f"{content_sha256(f)}  {f.relative_to(path).as_posix()}\n" for f in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
