"""The text of bioimageio.yaml of starter/nuclei-flows and starter/nuclei-contour."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from description import HEAD, MADE_FOR, TRAINING_DATA, hashed, input_description
from map_tune import RECIPE, SIZE_STEP
from weights import OPSET

Yaml = dict[str, Any]
SMALLEST_PX = 240
"""The specification wants more than twice the halo."""

HALO = 112

CITED_METHOD = {
    "nuclei-flows": {
        "text": "Stringer C. et al., Cellpose: a generalist algorithm for cellular segmentation,"
        " Nature Methods 2021",
        "doi": "10.1038/s41592-020-01018-x",
    },
    "nuclei-contour": {
        "text": "Ronneberger O. et al., U-Net: Convolutional Networks for Biomedical Image"
        " Segmentation, MICCAI 2015",
        "doi": "10.1007/978-3-319-24574-4_28",
    },
}
WHAT = {
    "nuclei-flows": "flows to the centre of each nucleus and the logit of being in one",
    "nuclei-contour": "probabilities of foreground and contour",
}
CHANNELS = {
    "nuclei-flows": ["flow_y", "flow_x", "nucleus_logit"],
    "nuclei-contour": ["foreground", "contour"],
}
MEANING = {
    "nuclei-flows": "5 times the unit flow along y and x, then the logit of the nucleus",
    "nuclei-contour": "probability of foreground, and of the pixels of a nucleus that touch"
    " something else",
}
WORKING_RANGE_PX = {"nuclei-flows": (8, 80), "nuclei-contour": (10, 60)}
"""Diameters between which F1 at IoU 0.5 stays above 0.8 (`sizes.csv` of the card)."""


@dataclass(frozen=True)
class Measured:
    """What was measured on the trained network and its data."""

    parameters: dict[str, float]
    object_diameter_px: float
    reach_px: int
    usual_reach_px: int


def output_description(model: str, folder: Path) -> Yaml:
    """Describe the maps, which have the size of the input."""
    axes = [
        {
            "type": "space",
            "id": axis,
            "size": {"tensor_id": "input", "axis_id": axis},
            "halo": HALO,
        }
        for axis in "yx"
    ]
    names = {"type": "channel", "channel_names": CHANNELS[model]}
    return {
        "id": "output",
        "description": MEANING[model],
        "axes": [{"type": "batch"}, names, *axes],
        "test_tensor": hashed(folder, "test_output.npy"),
        "data": {"type": "float32"},
    }


def bmz_config(model: str, measured: Measured) -> Yaml:
    """Say what it is made for, how maps become labels, and what was measured."""
    return {
        "made_for": MADE_FOR,
        "recipe": {"name": RECIPE[model], "parameters": measured.parameters},
        "object_diameter_px": round(measured.object_diameter_px, 1),
        "object_diameter_range_px": list(WORKING_RANGE_PX[model]),
        "receptive_field": {
            "radius_px": measured.reach_px,
            "at_share_of_output_range": 0.0,
            "global_context": False,
            "note": "No pixel reaches further, in px of the input; 0.1 % of the range of the"
            f" output is passed up to {measured.usual_reach_px} px away.",
        },
        "training_data": TRAINING_DATA,
    }


def described(model: str, folder: Path, measured: Measured) -> Yaml:
    """Give the whole description of the package in `folder`."""
    entry = input_description(folder)
    for axis in entry["axes"][2:]:
        axis["size"] = {"min": SMALLEST_PX, "step": SIZE_STEP}
    tags = [tag for tag in HEAD["tags"] if tag not in ("stardist", "object-detection")]
    tolerance = {"absolute_tolerance": 1e-3, "relative_tolerance": 1e-3}
    return {
        **HEAD,
        "name": f"bmz starter {model}",
        "description": f"Small U-Net for nuclei in 2D fluorescence images: {WHAT[model]}. Trained"
        " on Data Science Bowl 2018.",
        "cite": [CITED_METHOD[model], *HEAD["cite"][1:]],
        "tags": tags,
        "inputs": [entry],
        "outputs": [output_description(model, folder)],
        "weights": {"onnx": {**hashed(folder, "weights.onnx"), "opset_version": OPSET}},
        "config": {
            "bioimageio": {"reproducibility_tolerance": [tolerance]},
            "bmz": bmz_config(model, measured),
        },
    }
