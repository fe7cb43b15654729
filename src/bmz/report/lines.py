"""Lines of a report.

A line is a pair of a kind (``answer``, ``error``, ``warning``, ``note``, ``hint``) and a text, so
that whoever prints it decides where it goes and in which colour.
"""

from __future__ import annotations

Line = tuple[str, str]


def encodable(text: str) -> str:
    """Put a mark for what UTF-8 cannot hold: the name of a file may be any bytes.

    Examples
    --------
    >>> encodable(f"a{chr(0xDCFF)}.tif")
    'a?.tif'
    """
    return text.encode("utf-8", "replace").decode("utf-8")
