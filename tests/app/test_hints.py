"""Each hint of each finding that names an option or a command is followed once, and it helps."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from tests.corpus.write import as_imagej

from bmz.base.arrays import AnyArray
from bmz.check import fit_case, measured
from bmz.check.codes import CODES
from bmz.check.kind import ImageKind
from bmz.cli.main import status_of
from bmz.testing.package import Description, description, sha256_of, small_zoo, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

_OPTION = (
    r"--(?:axes|channels|clip|kind|link|pixel-size|recipe|save|scale) (?:[a-z0-9.,=]*[a-z0-9])"
)
OPTIONS = re.compile(f"{_OPTION}(?: {_OPTION})*")
FIT = re.compile(r"bmz fit ('[^']*'|[^ ;,]+)")


@dataclass(frozen=True)
class Situation:
    """A call that brings a finding up.

    Parameters
    ----------
    command : brings it up
    followed_by : the command to which the hint belongs, where it is another
    options : how many options and commands the hint names, that can be followed
    """

    model: str
    image: Path
    words: tuple[str, ...] = ()
    command: Literal["check", "run"] = "check"
    followed_by: Literal["check", "run"] | None = None
    options: int = 1

    def call(self, *more: str) -> list[str]:
        """Give the words of the call, with more options, of which one replaces that of before."""
        command = (more and self.followed_by) or self.command
        out = ["-o", str(self.image.parent / "out"), "--overwrite"] if command == "run" else []
        words = () if self.words[:1] == more[:1] else self.words
        return [command, self.model, str(self.image), "--json", *out, *words, *more]


def package(folder: Path, change: Callable[[Description], None] | None = None, **more: Any) -> str:
    described = description(**{"halo": 4, **more})
    return str(write_package(folder / "net", described, change=change).parent)


def discs(*shape: int) -> AnyArray:
    """Give bright discs of 12 px on a dark noisy ground, uint8."""
    y, x = np.indices(shape[-2:])
    far = np.hypot(y % 30 - 15, x % 30 - 15)
    values = np.where(far < 6, 180, 20) + np.random.default_rng(0).normal(0, 4, shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def saved(folder: Path, pixels: AnyArray, **more: Any) -> Path:
    tifffile.imwrite(folder / "a.tif", pixels, **more)
    return folder / "a.tif"


def channels_saved(folder: Path, *names: str) -> Path:
    return as_imagej(folder / "a.tif", discs(len(names), 96, 96), "CYX", names=names)


def named(*names: str) -> Callable[[Description], None]:
    def change(content: Description) -> None:
        content["inputs"][0]["axes"][1]["channel_names"] = list(names)

    return change


def sized_px(diameter: float) -> Callable[[Description], None]:
    def change(content: Description) -> None:
        content["config"] = {"bmz": {"object_diameter_px": diameter}}

    return change


def pixel_um(um: float) -> Callable[[Description], None]:
    def change(content: Description) -> None:
        for tensor in (*content["inputs"], *content["outputs"]):
            for axis in tensor["axes"][2:]:
                axis |= {"unit": "micrometer", "scale": um}

    return change


def axes_ambiguous(folder: Path, *_: Any) -> Situation:
    np.save(folder / "a.npy", discs(3, 64, 64))
    return Situation(package(folder), folder / "a.npy")


def axes_missing(folder: Path, *_: Any) -> Situation:
    return Situation(package(folder, space="zyx", size=16), saved(folder, discs(64, 64)))


def channel_count(folder: Path, *_: Any) -> Situation:
    model = package(folder, named("nuclei"))
    return Situation(model, channels_saved(folder, "WGA", "DAPI"))


def channel_order(folder: Path, *_: Any) -> Situation:
    model = package(folder, named("membrane", "nuclei"), channels=2)
    return Situation(model, channels_saved(folder, "DAPI", "WGA"))


def channel_rgb(folder: Path, *_: Any) -> Situation:
    model = package(folder, named("red", "green", "blue"), channels=3)
    return Situation(model, channels_saved(folder, "DAPI", "GFP", "WGA"))


def range_outlier(folder: Path, *_: Any) -> Situation:
    pixels = discs(96, 96).astype(np.uint16)
    pixels[3, 3] = 60_000
    return Situation(package(folder), saved(folder, pixels), command="run")


def scale_far(folder: Path, *_: Any) -> Situation:
    image = as_imagej(folder / "a.tif", discs(96, 96), "YX", 1.0)
    return Situation(package(folder, pixel_um(0.4)), image, options=2)


def scale_off(folder: Path, *_: Any) -> Situation:
    image = as_imagej(folder / "a.tif", discs(96, 96), "YX", 0.6)
    return Situation(package(folder, pixel_um(0.4)), image, options=2)


def scale_implausible(folder: Path, *_: Any) -> Situation:
    image = as_imagej(folder / "a.tif", discs(96, 96), "YX", 400.0)
    return Situation(package(folder, pixel_um(0.4)), image, options=2)


def object_size(folder: Path, *_: Any) -> Situation:
    return Situation(package(folder, sized_px(40)), saved(folder, discs(300, 300)), options=2)


def not_joined(folder: Path, *_: Any) -> Situation:
    image = as_imagej(folder / "a.tif", discs(3, 64, 64), "ZYX")
    return Situation(package(folder), image, command="run")


def not_tracked(folder: Path, *_: Any) -> Situation:
    image = as_imagej(folder / "a.tif", discs(3, 64, 64), "TYX")
    return Situation(package(folder), image, command="run")


def no_labels(folder: Path, *_: Any) -> Situation:
    model = package(folder, lambda content: content.update(tags=["denoising"]))
    return Situation(model, saved(folder, discs(64, 64)), followed_by="run")


def modality(_: Path, shared: Path, *__: Any) -> Situation:
    image = shared / "data/kinds/01_fluo_nuclei/deepimagej-sr__widefield_dapi.tif"
    return Situation(str(shared / "models/cremi-membrane"), image, options=2)


def not_microscopy(_: Path, shared: Path, *__: Any) -> Situation:
    image = shared / "data/kinds/14_not_microscopy/skimage__coins.tif"
    return Situation(str(shared / "models/psc-keras"), image, options=2)


def structure(folder: Path, _: Path, patch: pytest.MonkeyPatch) -> Situation:
    """Take two channels, of which the brighter one shows nuclei and the other one filaments."""

    def shown(plane: AnyArray) -> ImageKind:
        word = "nuclei" if plane.mean() > 100 else "filaments"
        return ImageKind({"fluorescence": 1.0}, {word: 1.0})

    patch.setattr(measured, "look_at", lambda plane: measured.Look(shown(plane)))
    patch.setattr(fit_case, "kind_of", shown)
    planes = discs(2, 96, 96) + np.array([0, 70], np.uint8)[:, None, None]
    image = as_imagej(folder / "a.tif", planes, "CYX")
    tagged = package(folder, lambda content: content.update(tags=["fluorescence", "nuclei"]))
    return Situation(tagged, image, ("--channels", "0"))


def unlike(folder: Path, shared: Path, *_: Any) -> Situation:
    """Take the sample and the network of a model of which nothing is stated."""
    rough = np.kron(np.random.default_rng(0).random((16, 16)), np.ones((32, 32)))

    def change(content: Description) -> None:
        np.save(folder / "net" / "test_inputs_0.npy", rough[None, None].astype(np.float32))
        sha256 = sha256_of(folder / "net" / "test_inputs_0.npy")
        content["inputs"][0]["test_tensor"]["sha256"] = sha256

    image = shared / "data/kinds/01_fluo_nuclei/neubias__xy_8bit__mitocheck_incenp_t1.tif"
    return Situation(package(folder, change), image)


FOLLOWED: Mapping[str, Callable[[Path, Path, pytest.MonkeyPatch], Situation]] = {
    "axes.ambiguous": axes_ambiguous,
    "axes.missing": axes_missing,
    "channel.count": channel_count,
    "channel.order": channel_order,
    "channel.rgb": channel_rgb,
    "content.modality": modality,
    "content.not-microscopy": not_microscopy,
    "content.structure": structure,
    "object.size": object_size,
    "objects.not-joined": not_joined,
    "objects.not-tracked": not_tracked,
    "range.outlier": range_outlier,
    "scale.far": scale_far,
    "scale.implausible": scale_implausible,
    "scale.off": scale_off,
    "sample.unlike": unlike,
    "task.no-labels": no_labels,
}
"""Each code whose hint names an option or a command, and a call that brings it up."""


NOT_FOLLOWED = {
    "axes.extra": "there is nothing to do",
    "axes.order": "there is nothing to do",
    "channel.empty": "the user must look at the image",
    "channel.filled": "there is nothing to do",
    "channel.grey": "there is nothing to do",
    "dtype.cast": "there is nothing to do",
    "dtype.narrowed": "the image must be changed outside of bmz",
    "file.caution": "the user must look at the file",
    "file.remark": "the user must look at the file",
    "input.grid": "the right file must be named",
    "objects.nothing-to-join": "an option is to be left out",
    "output.no-objects": "the user must look at the image",
    "output.nonfinite": "the network is at fault",
    "prompts.outside": "the right file must be named",
    "range.flat": "the image must be taken again",
    "range.inverted": "bmz run takes it: see tests/app/test_invert.py",
    "range.nonfinite": "the image must be changed outside of bmz",
    "range.outside": "the image must be changed outside of bmz",
    "range.saturated": "the image must be taken again",
    "range.unit": "the image must be changed outside of bmz",
    "scale.anisotropy": "the image must be changed outside of bmz",
    "scale.unknown": "the user must compare sizes by eye",
    "size.below-least": "there is nothing to do",
    "size.fixed": "there is nothing to do",
    "size.off-step": "there is nothing to do",
    "trial.doubtful": "the user must look at the worst crop",
    "trial.wrong": "the user must look at the worst crop",
}
"""Each code whose hint names nothing that could be typed as it stands, and why."""


def test_every_code_is_followed_or_has_a_reason_against_it() -> None:
    of_model = {code for code in CODES if code.startswith(("package.", "weights.", "contract."))}

    assert FOLLOWED.keys() | NOT_FOLLOWED.keys() | of_model == CODES.keys()
    assert not FOLLOWED.keys() & NOT_FOLLOWED.keys()


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, str]]]:
    """Call bmz; give the exit status and the findings."""
    capsys.readouterr()
    status = status_of(words)
    document = json.loads(capsys.readouterr().out)
    if document["schema"] == "bmz.check/1":
        (document,) = document["images"]
        assert document["error"] is None
    return status, document.get("findings", [])


def commands_of(hint: str, situation: Situation) -> list[list[str]]:
    """Give the calls that a hint names, each option by itself."""
    calls = [situation.call(*words.split()) for words in OPTIONS.findall(hint)]
    return calls + [["fit", *shlex.split(path)] for path in FIT.findall(hint)]


@pytest.mark.parametrize("code", sorted(FOLLOWED))
def test_what_a_hint_names_can_be_typed_and_ends_the_finding(
    code: str,
    tmp_path: Path,
    shared: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    situation = FOLLOWED[code](tmp_path, shared, monkeypatch)
    write_package(tmp_path / "zoo" / "flat-cat")

    _, findings = told(situation.call(), capsys)
    first = next(finding for finding in findings if finding["code"] == code)

    calls = commands_of(first["hint"], situation)
    assert len(calls) == situation.options, first["hint"]
    with small_zoo(tmp_path / "zoo") as zoo:
        monkeypatch.setenv("BMZ_INDEX_URL", zoo.index_url)
        monkeypatch.setenv("BMZ_OFFLINE", "0")
        for call in calls:
            if call[0] == "fit":
                assert status_of(call) in (0, 1)
                continue
            status, left = told(call, capsys)
            assert status == 0 or call[0] == "check"
            # what the network does not need is still carried on, and told in the milder case
            assert (code, first["severity"]) not in {(f["code"], f["severity"]) for f in left}
