"""The fields of what `bmz check` and `bmz run` tell: name, type and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Field: TypeAlias = str | list[Any] | Mapping[str, Any]
"""A word, a list of one (and ``?`` where it may be null), or ``{"*": one}`` for names that are not
known beforehand."""

Fields: TypeAlias = Mapping[str, tuple[Field, str]]
"""Name (with a ``?`` where it may be left out) -> type and meaning."""

AXES: Field = {"*": "int"}

RUN_PARTS: Mapping[str, Fields] = {
    "finding": {
        "code": ("str", "its name for good; see the page of findings"),
        "severity": ("error|warning|note", "what it means for the result"),
        "where": ("str", "tensor and axis, such as `input0.x`"),
        "message": ("str", "one sentence"),
        "wanted": ("str", "what the model asks for"),
        "found": ("str", "what the image has"),
        "hint": ("str", "the next step"),
        "evidence": ("declared|curated|measured", "who says so: manifest, our table, or pixels"),
    },
    "failure": {
        "code": ("str", "of the error; never changes"),
        "message": ("str", "what happened, to what"),
        "hint": ("str", "the next step"),
    },
    "failed_image": {
        "image": ("str", "path"),
        "code": ("str", "of the error"),
        "message": ("str", "what happened"),
        "hint": ("str", "the next step"),
    },
    "plan": {
        "weights": ("str", "format"),
        "device": ("str", "`cpu`, `cuda:0`, `mps`"),
        "precision": ("str", "`float32`, `bfloat16` or `float16`"),
        "precision_why": ("str", "the reason for it"),
        "loop": (AXES, "positions along t and z, for each of which the network is run"),
        "channels": ([["int"]], "image channel of each channel of each input; -1 is zeros"),
        "clip": ("num?", "percentile above which intensities are cut"),
        "scale": ("num", "factor by which the image is resized"),
        "shape": (AXES, "of the resized image, px"),
        "tile": (AXES, "px"),
        "tiles": ("int", "how many"),
        "overlap": (AXES, "of neighbouring tiles, px"),
        "padding": ({"*": ["int"]}, "px before and behind the image"),
        "pad": ("str", "how the image goes on beyond its border"),
        "margin": ("int", "px that are added on every side at least, also where the size is legal"),
        "seams": ("cut|averaged", "what is done where tiles overlap"),
        "batch": ("int", "tiles at once"),
        "link": ({"*": "num"}, "axes over which labels are joined -> least IoU"),
        "link_gap": ("int", "planes or frames that a joined object may be missing in"),
        "whole_image_network": ("str?", "a word of warning where the network sees all at once"),
    },
    "recipe": {
        "name": ("str", "of the label recipe"),
        "why": ("str", "the evidence"),
        "output": ("str", "of the network that becomes labels"),
        "parameters": ({"*": "any"}, "of the recipe"),
        "declared?": (["str"], "declared steps after the network"),
    },
    "weights_file": {
        "format": ("str", "of the description"),
        "file": ("str", "its name"),
        "sha256": ("str?", "as the description states it"),
    },
    "request": {
        "model": ("str", "the word of the call"),
        "axes": ("str?", "--axes"),
        "channels": ("any", "--channels"),
        "pixel_um": ({"*": "num"}, "--pixel-size"),
        "scale": ("any", "--scale"),
        "clip": ("num?", "--clip"),
        "recipe": ("str?", "--recipe"),
        "settings": ({"*": "str"}, "--set"),
        "link": ({"*": "num"}, "--link: least IoU by axis"),
        "link_gap": ("int", "--link-gap"),
        "tile": ("int?", "--tile"),
        "save": (["str"], "--save"),
        "labels_format": ("tiff|zarr", "--format"),
        "engine": ("bmz|core", "--engine"),
        "force": ("bool", "--force"),
    },
    "own_code": {
        "what": ("str", "which code of the model"),
        "sha256": ("str", "of the code"),
        "run": ("str", "`confined` or `unconfined`"),
    },
    "streamed": {
        "block_px": ("int?", "side of the blocks in which labels were made"),
        "overlap_px": ("int?", "the widest overlap that was needed"),
        "note": ("str?", "where objects may differ from those of one piece"),
    },
    "estimate": {
        "run_s": ("num", "of one batch of tiles"),
        "network_s": ("num", "of the network for the whole image"),
        "held_bytes": ("int", "by the program before"),
        "network_bytes": ("int?", "by the network at its peak; null on a GPU"),
        "image_bytes": ("int", "by the image, its maps and labels"),
        "free_bytes": ("int", "when it was tried"),
        "workers": ("int", "that would fit"),
    },
    "image_plan": {
        "image": ("str", "path"),
        "plan": ("plan", "what would be done"),
        "bytes_in_one_piece": ("int", "about what the image would need"),
        "in_parts": ("bool", "it is read, labelled and written in parts"),
        "estimate": ("estimate?", "by a trial of two tiles"),
        "recipe": ("recipe", "of the labels"),
        "findings": (["finding"], "of the header"),
    },
    "run": {
        "schema": ("bmz.run/1", ""),
        "model": ("str", "the name by which it was asked for"),
        "model_name": ("str", "its own name"),
        "model_sha256": ("str", "of the manifest"),
        "weights": ("weights_file", "that were run"),
        "image": ("str", "path"),
        "image_sha256": ("str", "of the file; of a folder, of the list of its files"),
        "image_axes": ("str", "one letter an axis"),
        "image_shape": (["int"], "as stored"),
        "image_dtype": ("str", "as stored"),
        "image_series": ("int", "which image of the file"),
        "image_remarks": (["str"], "what else one should know of the file"),
        "plan": ("plan", "what was done"),
        "recipe": ("recipe", "of the labels"),
        "device": ("str", "the same as in the plan"),
        "versions": ({"*": "str"}, "of bmz, Python and the libraries"),
        "findings": (["finding"], "of the check"),
        "request": ("request", "the words of the call that decide the result"),
        "own_code": ("own_code?", "of the model that was run"),
        "backend": ("str", "framework and version"),
        "seam_score?": ("num?", "object edges on tile lines over those half a tile away"),
        "streamed?": ("streamed", "where the image was run in parts"),
        "files": ({"*": "str"}, "kind -> path beside the record"),
        "objects": ("int?", "how many; null without labels"),
        "objects_in": (
            AXES,
            "positions along t and z, at each of which an object was counted anew",
        ),
        "joined_over": (AXES, "positions along t and z over which labels were joined"),
        "timings_s": ({"*": "num"}, "seconds of each stage; stages may overlap in a batch"),
    },
    "checked_image": {
        "image": ("str", "path"),
        "series": ("int?", "where the file holds several"),
        "verdict": ("str?", "`fits`, `adapts` or `mismatch`; null when it could not be told"),
        "warnings": ("int", "how many; with any, an image that fits does so with warnings"),
        "findings": (["finding"], "all of them"),
        "error": ("failure?", "why it could not be told"),
    },
}
