"""Write a model package from a checkpoint, with weights, test tensors and a description."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.errors import WrongUsage
from bmz.base.files import sha256_of, unfinished, writable_folder
from bmz.base.progress import Listener, nobody
from bmz.base.values import dataclass
from bmz.engine.families import FAMILIES, Family
from bmz.engine.load import find_model
from bmz.engine.model_trial import ModelTrial
from bmz.engine.test_tensors import OwnTensors, as_maps, finished, read_test_tensors
from bmz.image.inspect import inspect_image
from bmz.image.npy import npy_array
from bmz.image.region import read_image
from bmz.plan.geometry import axis_rules, output_rules
from bmz.predict.backend import Backend
from bmz.predict.checkpoints import Checkpoint, read_checkpoint
from bmz.predict.reach import measured_reach
from bmz.process.adapt import resize_image
from bmz.results.packages import AdoptedPackage
from bmz.spec.facts import known_diameter_px
from bmz.spec.manifest import (
    FORMAT,
    PLACEHOLDER,
    Content,
    Credits,
    credit_fields,
    file_entry,
    refuse_invalid,
    space_axes,
    write_manifest,
    zip_package,
)
from bmz.spec.model import ModelSpec
from bmz.zoo.settings import ZooSettings

INPUT, OUTPUT = "image", "labels"
_ONNX = "weights.onnx"
SAMPLE_PX = 256
"""Largest side of a 2D test input, px; the sides of a 3D one are a quarter of it."""

_BUNDLED = "starter/nuclei"
_MOST_BUNDLED = 2  # channels: grey, and an empty second one, as in Cellpose's grey images


class PackageExists(WrongUsage):
    """The path of the new package already exists."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"'{path}' already exists, and bmz does not overwrite it",
            hint="choose another folder with -o, or remove this one",
            code="adopt.exists",
        )


class SampleNeeded(WrongUsage):
    """No image that comes with bmz suits the network, so the user must give a test input."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(
            f"its network takes {checkpoint.channels} channels along {checkpoint.space}, and bmz "
            "has no bundled image like that",
            hint="give an image of your own for the test input: --sample IMAGE",
            code="adopt.sample-needed",
        )


class SampleDiffers(WrongUsage):
    """An image is not a suitable test input for the network."""

    def __init__(self, image: Path, wanted: str, actual: str) -> None:
        super().__init__(
            f"'{image}' cannot be the test input: wanted {wanted}, found {actual}",
            hint="crop or convert it, or name its axes with --axes",
            code="adopt.sample",
        )


@dataclass(frozen=True)
class AdoptRequest:
    """The options of one call of ``bmz adopt``.

    Parameters
    ----------
    checkpoints : files, or StarDist folders
    folder : folder in which a folder and a zip are created for each checkpoint
    family : family of the checkpoints; None to recognise it
    sample : image for the test input; None for one that comes with bmz
    axes : axes of `sample`, if its file does not name them
    diameter_px : object diameter; None for the one that the checkpoint states, if any
    pixel_um : pixel size; None for the one that the checkpoint states, if any
    credits : authors, licence and other credits of the model
    """

    checkpoints: tuple[Path, ...]
    folder: Path = Path()
    family: str | None = None
    sample: Path | None = None
    axes: str | None = None
    diameter_px: float | None = None
    pixel_um: float | None = None
    credits: Credits = Credits()


def adopted(
    path: Path, request: AdoptRequest, settings: ZooSettings, listener: Listener = nobody
) -> AdoptedPackage:
    """Write the package of one checkpoint as a folder and a zip file.

    Raises
    ------
    CheckpointUnreadable, CheckpointUnknown, NoBackend
        ``bmz.predict.checkpoints.read_checkpoint`` raises it.
    PackageExists, SampleNeeded, SampleDiffers, DescriptionRefused
        An option does not suit the checkpoint.
    FolderNotWritable
    """
    stem = _named(path)
    folder, archive = request.folder / stem, request.folder / f"{stem}.zip"
    for place in (folder, archive):
        if place.exists():
            raise PackageExists(place)
    checkpoint = _with_words(read_checkpoint(path, request.family), request)
    sample, sample_words = _sample(checkpoint, request, settings)
    writable_folder(request.folder)
    draft = request.folder / f"{unfinished('writing')}{os.urandom(8).hex()}"
    draft.mkdir()
    try:
        package = _Draft(draft, checkpoint, request, path, sample_words)
        objects = package.write(sample, settings, listener)
        notes = tuple(package.notes(objects))
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    zip_package(folder, archive)
    return AdoptedPackage(str(path), folder, archive, checkpoint.family, checkpoint.why, notes)


def _with_words(checkpoint: Checkpoint, request: AdoptRequest) -> Checkpoint:
    return replace(
        checkpoint,
        diameter_px=request.diameter_px or checkpoint.diameter_px,
        pixel_um=request.pixel_um or checkpoint.pixel_um,
    )


def _sample(
    checkpoint: Checkpoint, request: AdoptRequest, settings: ZooSettings
) -> tuple[FloatArray, str]:
    """Return the test input (c, (z,) y, x) and a phrase that states its origin."""
    if request.sample is not None:
        given = _own_sample(checkpoint, request.sample, request.axes)
        words = f"the middle of {request.sample.name}, as stored"
    else:
        given = _bundled_sample(checkpoint, settings)
        words = f"nuclei from {_BUNDLED}, bundled with bmz, resized to the stated diameter"
    return _cropped(given, checkpoint, request.sample), words


def _own_sample(checkpoint: Checkpoint, path: Path, axes: str | None) -> FloatArray:
    info = inspect_image(path, axes=axes)
    pixels = read_image(info)
    space = checkpoint.space
    letters, array = "".join(pixels.axes), np.asarray(pixels.array)
    if "c" not in letters:
        letters, array = f"c{letters}", array[None]
    if letters != f"c{space}" or array.shape[0] > checkpoint.channels:
        wanted = f"axes {space} and up to {checkpoint.channels} channels"
        raise SampleDiffers(path, wanted, " x ".join(map(str, array.shape)) + f" ({letters})")
    return _with_empty(array.astype(np.float32), checkpoint.channels)


def _bundled_sample(checkpoint: Checkpoint, settings: ZooSettings) -> FloatArray:
    if checkpoint.space != "yx" or checkpoint.channels > _MOST_BUNDLED:
        raise SampleNeeded(checkpoint)
    _, model = find_model(_BUNDLED, settings)
    test, known = model.inputs[0].test, known_diameter_px(model)
    if test is None or known is None:
        raise SampleNeeded(checkpoint)
    image = npy_array(test.path)[0].astype(np.float32)
    factor = checkpoint.diameter_px / known.value if checkpoint.diameter_px else 1.0
    resized = resize_image(image, [round(n * factor) for n in image.shape[1:]])
    return _with_empty(resized, checkpoint.channels)


def _with_empty(image: FloatArray, channels: int) -> FloatArray:
    empty = np.zeros((channels - len(image), *image.shape[1:]), np.float32)
    return np.concatenate([image, empty])


def _cropped(image: FloatArray, checkpoint: Checkpoint, path: Path | None) -> FloatArray:
    """Crop the centre to a valid size that is not too large for a test."""
    step = checkpoint.step
    most = SAMPLE_PX if checkpoint.space == "yx" else max(SAMPLE_PX // 4, checkpoint.least_px)
    sizes = [min(n, most) // step * step for n in image.shape[1:]]
    if min(sizes) < checkpoint.least_px:
        wanted = f"{checkpoint.least_px} px or more along each axis"
        raise SampleDiffers(path or Path(_BUNDLED), wanted, " x ".join(map(str, image.shape[1:])))
    starts = [(n - size) // 2 for n, size in zip(image.shape[1:], sizes, strict=True)]
    box = tuple(slice(at, at + size) for at, size in zip(starts, sizes, strict=True))
    return np.ascontiguousarray(image[(slice(None), *box)])


@dataclass(frozen=True)
class _Draft:
    """A package that is being written.

    Parameters
    ----------
    folder : folder of its files, with a temporary name
    sample_words : phrase that states the origin of the test input
    """

    folder: Path
    checkpoint: Checkpoint
    request: AdoptRequest
    path: Path
    sample_words: str

    @property
    def family(self) -> Family:
        """The contents that descriptions of the family share."""
        return FAMILIES[self.checkpoint.family]

    def write(self, sample: FloatArray, settings: ZooSettings, listener: Listener) -> int:
        """Write all files; return the number of objects in the test output, or -1 for maps."""
        np.save(self.folder / "test_input.npy", sample[None])
        weights = self._write_weights(sample.shape)
        (self.folder / "README.md").write_text(self._readme(), encoding="utf-8")
        grid = self.checkpoint.grid or (1,) * (sample.ndim - 1)
        sides = (n // g for n, g in zip(sample.shape[1:], grid, strict=True))
        shape = (1, len(self.family.maps(self.checkpoint)), *sides)
        np.save(self.folder / "test_output.npy", np.zeros(shape, np.float32))
        refuse_invalid(write_manifest(self.folder, self._content(weights, {})))
        found, reach = self._run(settings, listener)
        np.save(self.folder / "test_output.npy", found)
        refuse_invalid(write_manifest(self.folder, self._content(weights, reach)))
        return int(found.max()) if found.dtype.kind in "ui" else -1

    def _write_weights(self, shape: Sequence[int]) -> Content:
        from bmz.predict import known_networks as export

        network, least = self.checkpoint.network, self.checkpoint.least_px
        example = (1, shape[0], *[least for _ in shape[1:]])
        script = self.folder / "weights.pt"
        export.write_torchscript(network, script, example)
        import torch

        version = torch.__version__.partition("+")[0]
        entries: Content = {"torchscript": file_entry(script) | {"pytorch_version": version}}
        if not isinstance(network, Path) and export.can_write_onnx():
            onnx = self.folder / _ONNX
            export.write_onnx(network, onnx, example, (INPUT, OUTPUT))
            entries["onnx"] = file_entry(onnx) | {"opset_version": export.OPSET}
        return entries

    def _run(self, settings: ZooSettings, listener: Listener) -> tuple[AnyArray, Content]:
        """Run the network on the test input; return the output and the receptive field."""
        package, model = find_model(str(self.folder.resolve()), settings, listener=listener)
        trial = ModelTrial(package, model, settings, trust="no", listener=listener)
        entry = next(w for w in model.weights if w.format == "torchscript")
        tensors = read_test_tensors(model)
        with closing(trial.open(entry)) as backend:
            outputs = backend.run([tensor.array for tensor in tensors.inputs])
            (found,) = finished(model, outputs, tensors.taken)
            reach = self._reach(backend, tensors, model)
        return found.astype(model.outputs[0].dtype), reach

    def _reach(self, backend: Backend, tensors: OwnTensors, model: ModelSpec) -> Content:
        """Return the receptive field in the form of ``config.bmz.receptive_field``."""
        if self.family.gives_labels:
            return {}
        if self.family.sees_whole:
            return {"global_context": True}
        maps = partial(as_maps, model, tensors.taken)
        rules, outputs = axis_rules(model), output_rules(model)
        reach = measured_reach(backend, tensors.inputs, rules, outputs, maps)
        if reach.sees_whole or max(reach.pixel_px, reach.edge_px) >= reach.seen_px - 1:
            return {"global_context": True}
        return {"radius_px": max(reach.pixel_px, reach.edge_px), "global_context": False}

    def _halo_px(self, reach: Content) -> int:
        """Return the halo, px of the input; 0 if the test input is too small for it."""
        radius: int = reach.get("radius_px", 0)
        shape = npy_array(self.folder / "test_input.npy").shape[2:]
        return radius if self._least_px(radius) <= min(shape) else 0

    def _least_px(self, halo: int) -> int:
        """Return the smallest side of an image that is not entirely halo."""
        step = self.checkpoint.step
        return max(self.checkpoint.least_px, (2 * halo // step + 2) * step)

    def _content(self, weights: Content, reach: Content) -> Content:
        checkpoint, family, given = self.checkpoint, self.family, self.request.credits
        pixel, radius = checkpoint.pixel_um, self._halo_px(reach)
        rule = {"min": self._least_px(radius), "step": checkpoint.step}
        inputs = {
            "id": INPUT,
            "axes": [
                {"type": "batch"},
                {"type": "channel", "channel_names": list(family.channels(checkpoint))},
                *space_axes(checkpoint.space, rule=rule, pixel_um=pixel),
            ],
            "data": {"type": "float32"},
            "preprocessing": family.preprocessing(checkpoint.space),
            "test_tensor": file_entry(self.folder / "test_input.npy"),
        }
        output = {
            "id": OUTPUT,
            "axes": [
                {"type": "batch"},
                {"type": "channel", "channel_names": list(family.maps(checkpoint))},
                *space_axes(
                    checkpoint.space, like=INPUT, pixel_um=pixel, halo=radius, grid=checkpoint.grid
                ),
            ],
            "test_tensor": file_entry(self.folder / "test_output.npy"),
        }
        return {
            "format_version": FORMAT,
            "type": "model",
            "name": given.name or f"{family.title} {_named(self.path)}",
            "description": given.description or f"{family.what} Adopted from {self.path.name}.",
            **credit_fields(given, family.cite),
            "tags": list(family.tags),
            "documentation": file_entry(self.folder / "README.md"),
            "inputs": [inputs],
            "outputs": [output | family.output(checkpoint)],
            "weights": weights,
            "config": self._config(reach),
        }

    def _config(self, reach: Content) -> Content:
        config = self.family.config(self.checkpoint)
        diameter = self.checkpoint.diameter_px
        ours = config.get("bmz", {}) | ({"object_diameter_px": diameter} if diameter else {})
        ours |= {"receptive_field": reach} if reach else {}
        return {**config, "bioimageio": {"reproducibility_tolerance": [_TOLERANCE]}, "bmz": ours}

    def _readme(self) -> str:
        checkpoint, given = self.checkpoint, self.request.credits
        diameter = f"{checkpoint.diameter_px:g} px" if checkpoint.diameter_px else "not stated"
        pixel = f"{checkpoint.pixel_um:g} um" if checkpoint.pixel_um else "not stated"
        hashed = f", sha256 `{sha256_of(self.path)}`" if self.path.is_file() else ""
        return _README.format(
            title=given.name or f"{self.family.title} {_named(self.path)}",
            what=given.description or self.family.what,
            source=f"`{self.path.name}`{hashed}",
            why=checkpoint.why,
            diameter=diameter,
            pixel=pixel,
            license=given.license or PLACEHOLDER,
            authors=", ".join(given.authors) or PLACEHOLDER,
            sample=self.sample_words,
        )

    def notes(self, objects: int) -> Iterator[str]:
        """Yield what the author should still state or check."""
        given, checkpoint = self.request.credits, self.checkpoint
        if not given.authors:
            yield f"the author is '{PLACEHOLDER}': give --author"
        if not given.license:
            yield "no licence is stated: give --license, such as BSD-3-Clause"
        if checkpoint.stated.get("usual"):
            yield "there is no thresholds.json: StarDist's default thresholds are declared"
        if not (checkpoint.diameter_px or checkpoint.pixel_um):
            yield "the checkpoint does not state the diameter of objects: give --diameter"
        if self.request.sample is None:
            yield f"the test input is {self.sample_words}: give --sample for an image of your own"
        if objects == 0:
            yield "no object was found in the test input: give another --sample"
        if not isinstance(checkpoint.network, Path) and not (self.folder / _ONNX).exists():
            yield "no ONNX file was written: pip install onnx, and adopt the checkpoint again"


_TOLERANCE: Content = {
    "absolute_tolerance": 0.1,
    "relative_tolerance": 0,
    "mismatched_elements_per_million": 1000,
}
"""Frameworks sum in different orders, which changes single pixels at the edges of labels."""

_README = """# {title}

{what}

- Source: {source}, {why}. The weights are unchanged; `bmz adopt` rebuilt the network for them.
- Licence: {license}. Authors: {authors}.
- Diameter of the objects: {diameter}. Pixel size: {pixel}.
- Test input: {sample}. The test output was made by running the network.

# Validation

Put scores on images of your own here: `bmz run` and `bmz score` compute them.
"""


def _named(path: Path) -> str:
    """Return the name of a file, restricted to characters that are allowed in model names."""
    name = path.resolve().name
    stem = name if path.is_dir() else name.removesuffix(path.suffix) or name
    return re.sub(r"[^A-Za-z0-9_+\- ()]", "-", stem)
