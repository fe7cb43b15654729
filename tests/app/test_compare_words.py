"""What one setting of a comparison changes in a run, and the command that repeats it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.app.compare import CompareRequest, compare
from bmz.cli.main import status_of
from bmz.engine.kept_outputs import SweepRefused, command_of, with_network_settings
from bmz.engine.request import RunRequest
from bmz.testing.package import description, write_package

WORDS = RunRequest("net", (), Path())


@pytest.mark.parametrize(
    ("settings", "scale", "clip"),
    [
        ({}, 3.0, 99.0),
        ({"threshold": "0.5"}, 3.0, 99.0),
        ({"scale": "0.001"}, 0.001, 99.0),
        ({"scale": "1000"}, 1000.0, 99.0),
        ({"scale": "auto"}, "auto", 99.0),
        ({"scale": "off"}, 1.0, 99.0),
        ({"scale": "none"}, None, 99.0),
        ({"clip": "50", "scale": "2"}, 2.0, 50.0),
        ({"clip": "100"}, 3.0, 100.0),
        ({"clip": "none"}, 3.0, None),
    ],
    ids=str,
)
def test_scale_and_clip_of_a_setting_stand_in_for_those_of_the_call(
    settings: dict[str, str], scale: object, clip: object
) -> None:
    words = RunRequest("net", (), Path(), scale=3.0, clip=99.0, tile=64)

    changed = with_network_settings(words, settings)

    assert (changed.scale, changed.clip, changed.tile) == (scale, clip, 64)


EXAMPLES = {"scale": "0.5,1,2", "clip": "99,99.9,none"}
FACTOR = "a factor between 0.001 and 1000, auto, off or none"
PERCENTILE = "a percentile from 50 to 100, or none"


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        *(("scale", value, FACTOR) for value in ("big", "0", "-1", "nan", "inf", "1000.1")),
        *(("clip", value, PERCENTILE) for value in ("auto", "off", "49.9", "100.1", "nan", "0")),
    ],
)
def test_a_value_that_run_would_refuse_is_no_value_of_a_sweep(
    key: str, value: str, meant: str
) -> None:
    with pytest.raises(SweepRefused) as caught:
        with_network_settings(WORDS, {key: value})

    assert caught.value.message == f"--sweep {key}={value}: '{value}' is not {meant}"
    assert caught.value.hint == f"for example --sweep {key}={EXAMPLES[key]}"
    assert (caught.value.code, caught.value.exit_status) == ("compare.sweep", 2)


@pytest.mark.parametrize("key", EXAMPLES)
def test_the_values_of_the_example_are_taken(key: str) -> None:
    for value in EXAMPLES[key].split(","):
        with_network_settings(WORDS, {key: value})


@pytest.mark.parametrize(
    ("words", "settings", "options"),
    [
        ({}, {}, []),
        ({"axes": "zyx"}, {}, ["--axes", "zyx"]),
        ({"channels": (1, -1)}, {}, ["--channels", "1,none"]),
        ({"channels": (0,)}, {}, ["--channels", "0"]),
        ({"pixel_um": {"y": 0.5, "x": 0.25}}, {}, ["--pixel-size", "y=0.5um,x=0.25um"]),
        ({"scale": 2.0}, {}, ["--scale", "2.0"]),
        ({"scale": 2.0}, {"scale": "auto"}, ["--scale", "auto"]),
        ({"scale": 2.0}, {"scale": "none"}, []),
        ({"clip": 99.5}, {}, ["--clip", "99.5"]),
        ({"clip": 99.5}, {"clip": "none"}, []),
        ({"recipe": "flows"}, {}, ["--recipe", "flows"]),
        ({"recipe": "flows"}, {"recipe": "components"}, ["--recipe", "components"]),
        ({"tile": 64}, {}, ["--tile", "64"]),
        ({"force": True}, {}, ["--force"]),
        ({"settings": {"a": "1", "b": "2"}}, {"b": "3"}, ["--set", "a=1", "--set", "b=3"]),
        ({"trust": "unconfined", "device": "cuda", "overwrite": True}, {}, []),
    ],
    ids=str,
)
def test_the_command_has_all_words_that_decide_the_labels_and_no_others(
    words: dict[str, Any], settings: dict[str, str], options: list[str]
) -> None:
    command = command_of(RunRequest("net", (), Path(), **words), Path("a.tif"), settings)

    call, folder, told = shlex.split(command)[:5], shlex.split(command)[5], shlex.split(command)[6:]
    assert call == ["bmz", "run", "net", "a.tif", "-o"]
    assert folder == "results/" + "_".join(["net", *(f"{k}={v}" for k, v in settings.items())])
    assert told == options


def test_names_with_spaces_and_quotes_stay_one_word_each() -> None:
    words = RunRequest("my model", (), Path())

    command = command_of(words, Path("it's a.tif"), {"output": "a b", "c": "$x;"})

    assert shlex.split(command) == [
        "bmz", "run", "my model", "it's a.tif", "-o", "results/my-model_output=a-b_c=-x",
        "--set", "output=a b", "--set", "c=$x;",
    ]  # fmt: skip


def test_the_command_of_a_result_makes_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    write_package(tmp_path / "my net", description())
    pixels = np.zeros((1, 2, 60, 70), np.float32)
    pixels[0, 1, 5:20, 5:20] = pixels[0, 1, 30:33, 30:33] = 0.6
    np.save("a b.npy", pixels[0])
    words = RunRequest(
        "", (), Path(), axes="cyx", channels=(1,), settings={"min_size": "10"}, scale=2.0, tile=64
    )
    sweeps = {"scale": ("off",), "threshold": ("0.7", "0.4")}
    request = CompareRequest(
        (Path("a b.npy"),), ("./my net",), sweeps, truth=None, stability=False, options=words
    )

    (image,) = compare(request).images
    lower = next(one for one in image.done if one.settings["threshold"] == "0.4")
    status = status_of(shlex.split(lower.command)[1:])

    assert status == 0
    assert lower.objects == 1
    mask = "results/my-net_scale=off_threshold=0.4/a b.labels.tif"
    np.testing.assert_array_equal(tifffile.imread(mask), lower.labels)
