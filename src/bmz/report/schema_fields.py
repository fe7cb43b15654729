"""The fields of every JSON document: name, type and meaning."""

from __future__ import annotations

from collections.abc import Mapping

from bmz.report.schema_parts import PARTS, Fields

_LISTED: Fields = {
    "of": ("int", "models of the zoo"),
    "listed_at": ("str", "when the list was read"),
    "stale": ("bool", "the list is old, and a new one could not be had"),
}


_TOLD: tuple[tuple[str, str, Fields], ...] = (
    (
        "bmz.search/1",
        "`bmz search`",
        {"models": (["found_model"], "the most relevant first"), **_LISTED},
    ),
    (
        "bmz.show/1",
        "`bmz show`",
        {
            "id": ("str", ""),
            "name": ("str", ""),
            "version": ("str", "in the zoo"),
            "task": ("str?", ""),
            "dims": ("str?", ""),
            "description": ("str", ""),
            "sha256": ("str", "of the manifest"),
            "format_version": ("str", ""),
            "folder": ("str", "where its files lie"),
            "license": ("str", ""),
            "authors": (["str"], ""),
            "cite": (["cited"], ""),
            "tags": (["str"], ""),
            "inputs": (["tensor"], ""),
            "outputs": (["tensor"], ""),
            "pixel_um": ({"*": "num"}, "declared, or curated"),
            "facts": ({"*": "any"}, "curated, each with its source"),
            "recipe": ("shown_recipe", "of the labels, or why there is none"),
            "weights": (["weights_here"], ""),
            "runs_code": (["str"], "what of it is code"),
            "remarks": (["str"], "of the parser"),
            "defects": (["str"], "that are known"),
            "reports": (["tool_report", "?"], "of other tools; null where they could not be had"),
        },
    ),
    ("bmz.fetch/1", "`bmz fetch`", {"models": (["fetched_model"], "in the order of the call")}),
    ("bmz.cache/1", "`bmz cache list`", {"packages": (["cached_package"], "")}),
    ("bmz.cache-verify/1", "`bmz cache verify`", {"files": (["verified_file"], "")}),
    (
        "bmz.cache-remove/1",
        "`bmz cache remove`",
        {
            "packages": (["cached_package"], "that are gone"),
            "bytes": ("int", "that are free now"),
        },
    ),
    (
        "bmz.cache-archive/1",
        "`bmz cache export` and `import`",
        {
            "archive": ("str", "path"),
            "packages": (["str"], ""),
            "files": ("int", ""),
            "bytes": ("int", ""),
        },
    ),
    (
        "bmz.check/1",
        "`bmz check`",
        {
            "model": ("str", ""),
            "model_sha256": ("str", "of the manifest"),
            "images": (["checked_image"], "in the order of the call"),
        },
    ),
    (
        "bmz.fit/1",
        "`bmz fit`",
        {
            "image": ("str", "path"),
            "models": (["ranked_model"], "the best first"),
            **_LISTED,
        },
    ),
    (
        "bmz.plan/1",
        "`bmz run --plan`",
        {
            "model": ("str", ""),
            "plans": (["image_plan"], ""),
            "failed": (["failed_image"], ""),
        },
    ),
    (
        "bmz.run/1",
        "`bmz run` of one image, and the run record `NAME.run.json`",
        {k: v for k, v in PARTS["run"].items() if k != "schema"},
    ),
    (
        "bmz.runs/1",
        "`bmz run` of several images",
        {
            "runs": (["run"], "of images that are done"),
            "failed": (["failed_image"], ""),
        },
    ),
    (
        "bmz.score/1",
        "`bmz score`",
        {
            "predicted": ("str", "path"),
            "truth": ("str", "path"),
            "scores": (["matching"], "of all objects together"),
            "image_mean": (["matching"], "mean over images"),
            "pairs": (["scored_pair"], "image by image"),
        },
    ),
    (
        "bmz.test/2",
        "`bmz test`",
        {
            "models": (["tested_model"], "in the order of the call"),
            "changes?": (["check_change"], "with --baseline: what is another than before"),
        },
    ),
    (
        "bmz.compare/1",
        "`bmz compare`",
        {
            "command": ("str", "that repeats it"),
            "versions": ({"*": "str"}, ""),
            "models": (["compared_model"], ""),
            "images": (["compared_image"], ""),
        },
    ),
    (
        "bmz.doctor/1",
        "`bmz doctor`",
        {
            "versions": ({"*": "str"}, ""),
            "system": ("str", ""),
            "cpus": ("int", "to use"),
            "memory_bytes": ("int?", "null where it is not known"),
            "cache": ("str", "its folder"),
            "cache_bytes": ("int", ""),
            "formats": (["framework"], "of weights"),
            "starters": (["str"], "models that are bundled"),
            "confinement": ({"*": "str"}, "how code of models is shut in here"),
        },
    ),
    ("bmz.trust/1", "`bmz trust list`", {"trusted": (["trusted"], "")}),
)


DOCUMENTS: Mapping[str, tuple[str, Fields]] = {
    name: (title, {"schema": (name, "what this document is"), **fields})
    for name, title, fields in _TOLD
}
"""Name -> which command prints it, and its fields."""
