"""Write what a benchmark measured into a page of the docs."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, marks: tuple[str, str], text: str) -> None:
    """Replace the text between two marks of a page.

    Parameters
    ----------
    marks : the lines before and after, including their line ends
    text : Markdown; a blank line follows it

    Raises
    ------
    ValueError
        The page lacks a mark.
    """
    words = page.read_text(encoding="utf-8")
    start, end = (words.find(mark) for mark in marks)
    if min(start, end) < 0:
        missing = marks[0] if start < 0 else marks[1]
        raise ValueError(f"{page} has no line {missing.strip()!r} to write between: add it")
    head = words[: start + len(marks[0])]
    page.write_text(f"{head}\n{text.strip()}\n\n{words[end:]}", encoding="utf-8")
