"""HTML that notebooks show: models, findings, results; it makes no request."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO

from PIL import Image, features

from bmz.base.arrays import AnyArray
from bmz.check.finding import Finding
from bmz.report.model_text import model_rows
from bmz.report.run_text import finding_lines
from bmz.results.models import ModelView

TEXT_COLOURS = {"error": "#b3261e", "warning": "#8a5a00", "note": "#4a5568", "hint": "#4a5568"}
"""Colours of text on a white background; each has a contrast of at least 4.5 to 1."""

_QUALITY = 90  # of WebP
_CELL = 'style="text-align:left;vertical-align:top;padding:2px 12px 2px 0"'


def model_html(view: ModelView) -> str:
    """Show a model, as ``bmz show`` does."""
    rows = "".join(
        f"<tr><th {_CELL}>{escape(heading)}</th><td {_CELL}>{escape(text)}</td></tr>"
        for heading, text in model_rows(view)
    )
    return f"<table>{rows}</table>"


def findings_html(heading: str, findings: Iterable[Finding]) -> str:
    """Show a verdict with all findings, worst first."""
    items = "".join(
        f'<li style="color:{TEXT_COLOURS[kind]}">{"" if kind == "hint" else f"<b>{kind}</b> "}'
        f"{escape(text)}</li>"
        for kind, text in finding_lines(findings)
    )
    return f'<p><b>{escape(heading)}</b></p><ul style="list-style:none">{items}</ul>'


def result_html(words: Sequence[str], picture: AnyArray | None, findings: Iterable[Finding]) -> str:
    """Show a result: the overlay, a few words, and the findings of the check.

    Parameters
    ----------
    words : sentences; the first one is the heading
    picture : (y, x, 3) uint8; None without labels
    """
    shown = (
        "" if picture is None else f'<img alt="{escape(words[0])}" src="{picture_uri(picture)}"/>'
    )
    rest = "".join(f"<p>{escape(text)}</p>" for text in words[1:])
    return f"{shown}{rest}{findings_html(words[0], findings)}"


def picture_uri(picture: AnyArray, *, small: bool = False) -> str:
    """Return a picture as a data URI.

    Parameters
    ----------
    picture : (y, x) or (y, x, 3) uint8
    small : use lossy WebP if Pillow can write it, else PNG
    """
    form = "webp" if small and features.check("webp") else "png"
    data = BytesIO()
    Image.fromarray(picture).save(data, form, **({"quality": _QUALITY} if form == "webp" else {}))
    return f"data:image/{form};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
