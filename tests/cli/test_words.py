"""Words of the command line, and how each is refused."""

from __future__ import annotations

from typing import Any

import click
import pytest

from bmz.cli.main import status_of
from bmz.cli.words import Channels, Listed, PixelSize, Scale, Setting, Sweep


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (Scale(), "auto", "auto"),
        (Scale(), "off", 1.0),
        (Scale(), "0.5", 0.5),
        (Channels(), "1,none", (1, -1)),
        (PixelSize(), "0.5um", {"y": 0.5, "x": 0.5}),
        (PixelSize(), "z=2um,x=500nm", {"z": 2.0, "x": 0.5}),
        (Listed(("raw", "labels")), "raw, labels", frozenset({"raw", "labels"})),
        (Sweep(), "t=0.1, 0.2", ("t", ("0.1", "0.2"))),
        (Setting(), "t=0.1", ("t", "0.1")),
    ],
)
def test_a_word_means(kind: click.ParamType[Any], word: str, value: object) -> None:
    assert kind.convert(word, None, None) == value


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (Scale(), "0"), (Scale(), "wide"), (Scale(), "1e9"),
        (Channels(), "a"), (Channels(), "none"), (Channels(), "-1"),
        (PixelSize(), "five"), (PixelSize(), "t=1um"), (PixelSize(), "-1um"),
        (Listed(("raw",)), "labels"), (Listed(("raw",)), ","),
        (Sweep(), "t"), (Sweep(), "=1"), (Sweep(), "t="),
        (Setting(), "t"),
    ],
)  # fmt: skip
def test_a_word_that_means_nothing_is_refused_with_an_example(
    kind: click.ParamType[Any], word: str
) -> None:
    with pytest.raises(click.BadParameter) as raised:
        kind.convert(word, None, None)

    assert len(raised.value.message) > 15


def test_a_finding_is_explained_and_an_unknown_one_is_wrong_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = status_of(["check", "--explain", "axes.missing"])
    told = capsys.readouterr().out
    unknown = status_of(["check", "--explain", "axes.gone"])
    near = capsys.readouterr().err
    strange = status_of(["check", "--explain", "colour.odd"])

    assert (known, unknown, strange) == (0, 2, 2)
    assert "Take a 2-D model" in told
    assert "axes.missing" in near
    assert "scale.far" in capsys.readouterr().err
