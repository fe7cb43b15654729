"""Lines of a report.

A line is a pair of a kind (``answer``, ``error``, ``warning``, ``note``, ``hint``) and a text, so
that whoever prints it decides where it goes and in which colour.
"""

from __future__ import annotations

Line = tuple[str, str]
