"""Figures of the classifier on left-out sources: tables, and a diagram as SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIDE = 320
"""Side of the diagram, in px."""


BINS = 10
"""Bins of probability."""


def confusion(truth: Sequence[str], answers: Sequence[str]) -> str:
    """Write a table in Markdown: a row for each true word, a column for each answer."""
    rows, columns = sorted(set(truth)), sorted(set(answers) - {"unknown"})
    columns += ["unknown"]
    lines = [f"| | {' | '.join(columns)} | images | right |", "|---|" + "---|" * (len(columns) + 2)]
    for word in rows:
        given = [a for t, a in zip(truth, answers, strict=True) if t == word]
        cells = [str(given.count(column)) for column in columns]
        right = given.count(word) / len(given)
        lines.append(f"| {word} | {' | '.join(cells)} | {len(given)} | {right:.0%} |")
    return "\n".join(lines)


def reliability(said: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Give the mean probability, the share that is right and the number, for each bin.

    Parameters
    ----------
    said : (n,) probability that was given
    right : (n,) whether it was so
    """
    places = np.minimum((said * BINS).astype(int), BINS - 1)
    points = []
    for k in sorted(set(places)):
        here = places == k
        points.append((float(said[here].mean()), float(right[here].mean()), int(here.sum())))
    return points


def diagram(points: Sequence[tuple[float, float, int]]) -> str:
    """Draw the points of `reliability` as SVG; the area of a disc is their number."""
    most = max(count for _, _, count in points)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-40 -12 {SIDE + 60} {SIDE + 52}">',
        "<style>text{font:11px sans-serif}</style>",
        f'<rect width="{SIDE}" height="{SIDE}" fill="#fff" stroke="#888"/>',
        f'<path d="M0 {SIDE}L{SIDE} 0" stroke="#bbb" stroke-dasharray="4"/>',
    ]
    for tick in range(0, 11, 2):
        at, word = SIDE * tick / 10, f"{tick / 10:g}"
        lines.append(f'<text x="{at:.0f}" y="{SIDE + 14}" text-anchor="middle">{word}</text>')
        lines.append(f'<text x="-6" y="{SIDE - at + 4:.0f}" text-anchor="end">{word}</text>')
    for said, right, count in points:
        radius = 3 + 11 * (count / most) ** 0.5
        place = f'cx="{SIDE * said:.1f}" cy="{SIDE * (1 - right):.1f}" r="{radius:.1f}"'
        title = f"<title>{count} answers</title>"
        lines.append(f'<circle {place} fill="#00897b" fill-opacity="0.7">{title}</circle>')
    across = f'x="{SIDE / 2:.0f}" y="{SIDE + 32}" text-anchor="middle"'
    up = f'transform="translate(-28 {SIDE / 2:.0f}) rotate(-90)" text-anchor="middle"'
    lines.append(f"<text {across}>probability given</text>")
    lines.append(f"<text {up}>share that is right</text></svg>")
    return "\n".join(lines) + "\n"


def between(text: str, name: str, part: str) -> str:
    """Put a part between the marks of its name in a page.

    Raises
    ------
    ValueError
        The page has no such marks.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no place for {name}")
    return f"{before}{start}\n{part}\n{end}{after}"
