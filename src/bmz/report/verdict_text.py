"""Verdicts in words."""

from __future__ import annotations

from bmz.results.check import ImageChecked

_WORDS = {
    ("fits", False): "fits as it is",
    ("adapts", False): "fits; bmz run adapts what the notes say",
    ("fits", True): "fits, with warnings",
    ("adapts", True): "fits, with warnings; bmz run adapts what the notes say",
}
_NO_FIT = {"mismatch": "does not fit", None: "could not be checked"}


def verdict_words(verdict: str | None, warnings: int) -> str:
    """Give a verdict in words: fits, fits with warnings, or does not fit.

    Parameters
    ----------
    verdict : ``fits``, ``adapts`` or ``mismatch``; None where there is none
    warnings : how many there are
    """
    return _NO_FIT.get(verdict) or _WORDS[str(verdict), warnings > 0]


def short_verdict(verdict: str | None, warnings: int) -> str:
    """Give a verdict for a cell of a table: its own name, and whether there are warnings."""
    if verdict in _NO_FIT:
        return verdict or ""
    return f"{verdict}, with warnings" if warnings else str(verdict)


def image_words(image: ImageChecked) -> str:
    """Give the verdict of an image in words."""
    return verdict_words(image.verdict, image.warnings)
