"""Words of the command line, and how each is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from bmz.cli.main import status_of
from bmz.cli.options import (
    CHANNELS,
    PIXEL_SIZE,
    SCALE,
    SETTING,
    SWEEP,
    TrustingCommand,
    as_path,
    listed,
    trust_option,
)


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (SCALE, "auto", "auto"),
        (SCALE, "off", 1.0),
        (SCALE, "0.5", 0.5),
        (CHANNELS, "1,none", (1, -1)),
        (PIXEL_SIZE, "0.5um", {"y": 0.5, "x": 0.5}),
        (PIXEL_SIZE, "z=2um,x=500nm", {"z": 2.0, "x": 0.5}),
        (listed(("raw", "labels")), "raw, labels", frozenset({"raw", "labels"})),
        (SWEEP, "t=0.1, 0.2", ("t", ("0.1", "0.2"))),
        (SETTING, "t=0.1", ("t", "0.1")),
    ],
)
def test_a_word_means(kind: click.ParamType[Any], word: str, value: object) -> None:
    assert kind.convert(word, None, None) == value


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (SCALE, "0"), (SCALE, "wide"), (SCALE, "1e9"),
        (CHANNELS, "1,"), (CHANNELS, "none"), (CHANNELS, "-1"),
        (PIXEL_SIZE, "five"), (PIXEL_SIZE, "t=1um"), (PIXEL_SIZE, "-1um"),
        (listed(("raw",)), "labels"), (listed(("raw",)), ","),
        (SWEEP, "t"), (SWEEP, "=1"), (SWEEP, "t="),
        (SETTING, "t"),
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
    assert "Use a 2-D model" in told
    assert "axes.missing" in near
    assert "scale.far" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (SCALE, "0.001", 0.001),
        (SCALE, "1000", 1000.0),
        (CHANNELS, " 2 , none,0 ", (2, -1, 0)),
        (CHANNELS, "7", (7,)),
        (CHANNELS, "DAPI, Alexa 488,0", ("DAPI", "Alexa 488", 0)),
        (listed(("raw", "labels")), "raw,,raw,", frozenset({"raw"})),
        (SWEEP, " t = a=b, ,c", ("t", ("a=b", "c"))),
        (SETTING, " channels = F+C = x ", ("channels", "F+C = x")),
    ],
)
def test_spaces_and_limits_of_words_are_taken(
    kind: click.ParamType[Any], word: str, value: object
) -> None:
    assert kind.convert(word, None, None) == value


@pytest.mark.parametrize(
    ("kind", "word", "told"),
    [
        (SCALE, "0.0009", "'0.0009' is not 'auto', 'off' or a factor between 0.001 and 1000"),
        (SCALE, "1000.5", "'1000.5' is not 'auto', 'off' or a factor between 0.001 and 1000"),
        (SCALE, "nan", "'nan' is not 'auto', 'off' or a factor between 0.001 and 1000"),
        (SCALE, "Auto", "'Auto' is not 'auto', 'off' or a factor between 0.001 and 1000"),
        (
            CHANNELS,
            "1,,2",
            "a channel is missing; write numbers from 0 or names, such as 1,0 or DAPI",
        ),
        (CHANNELS, "none,none", "at least one channel must come from the image"),
        (listed(("raw", "labels")), "b,raw,a", "a, b cannot be saved; choose from raw,labels"),
        (
            SWEEP,
            "t=,",
            "'t=,' does not have the form KEY=V1,V2, such as flow_threshold=0.2,0.4,0.8",
        ),
        (
            SWEEP,
            " =1",
            "' =1' does not have the form KEY=V1,V2, such as flow_threshold=0.2,0.4,0.8",
        ),
        (SETTING, "=1", "'=1' does not have the form key=value"),
        (SETTING, "t= ", "'t= ' does not have the form key=value"),
    ],
)
def test_a_refusal_names_the_word_and_what_would_do(
    kind: click.ParamType[Any], word: str, told: str
) -> None:
    with pytest.raises(click.BadParameter) as raised:
        kind.convert(word, None, None)

    assert raised.value.message == told
    assert raised.value.exit_code == 2


def test_the_wave_is_the_home_folder_at_the_start_of_a_path_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")

    assert as_path("~/a.tif") == Path("/home/ada/a.tif")
    assert as_path("data/~/a.tif") == Path("data/~/a.tif")


@pytest.mark.parametrize(
    ("words", "trust", "rest"),
    [
        ([], "no", ()),
        (["a", "b"], "no", ("a", "b")),
        (["--trust", "a"], "confined", ("a",)),
        (["a", "--trust"], "confined", ("a",)),
        (["--trust=unconfined", "a"], "unconfined", ("a",)),
        (["--trust", "--trust=no"], "no", ()),
        (["--", "--trust"], "no", ("--trust",)),
        (["--trust", "--", "--trust", "a"], "confined", ("--trust", "a")),
    ],
    ids=" ".join,
)
def test_a_bare_trust_stands_alone_and_is_a_word_behind_two_dashes(
    words: list[str], trust: str, rest: tuple[str, ...]
) -> None:
    @click.command(cls=TrustingCommand)
    @click.argument("others", nargs=-1)
    @trust_option
    def told(trust: str, others: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        return trust, others

    assert told.main(words, standalone_mode=False) == (trust, rest)


@pytest.mark.parametrize("word", ["--trust=confine", "--trust=", "--trust=yes"])
def test_a_trust_of_another_kind_is_wrong_usage(word: str) -> None:
    assert status_of(["run", word, "m", "i", "-o", "o"]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--tile", "15", "m", "i", "-o", "o"],
        ["run", "--batch", "0", "m", "i", "-o", "o"],
        ["run", "--scale", "0", "m", "i", "-o", "o"],
        ["run", "--set", "threshold", "m", "i", "-o", "o"],
        ["run", "--save", "everything", "m", "i", "-o", "o"],
        ["run", "--format", "png", "m", "i", "-o", "o"],
        ["run", "--pixel-size", "0um", "m", "i", "-o", "o"],
        ["compare", "i", "-m", "m", "--sweep", "t"],
        ["search", "--dims", "4d"],
        ["cache", "remove"],
        ["nothing"],
        ["run", "--nothing"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_with_the_usage_on_stderr_alone(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = status_of(words)

    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert told.err.startswith("Usage: bmz")
    assert "\nerror: " in told.err
    assert "--help lists the " in told.err


@pytest.mark.parametrize(
    ("word", "meant"),
    [("runn", "bmz run"), ("serach", "bmz search"), ("help", "bmz --help"), ("segment", "bmz run")],
)
def test_a_command_that_is_none_is_answered_with_the_nearest(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = status_of([word])

    assert status == 2
    assert f"There is no command '{word}': did you mean '{meant}'?" in capsys.readouterr().err


def test_a_command_that_is_like_none_is_answered_without_a_guess(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status_of(["xyzzy"]) == 2
    assert "There is no command 'xyzzy'.\n" in capsys.readouterr().err
