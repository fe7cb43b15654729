"""Text that anyone may have written, made safe for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Put a space for every character that is not shown but steers: escapes, bells, line ends.

    Examples
    --------
    >>> printable(f"{chr(27)}[31mred")
    ' [31mred'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
