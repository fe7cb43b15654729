"""The contents that model descriptions share across a family of adopted checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from bmz.base.values import dataclass
from bmz.predict.checkpoints import Checkpoint
from bmz.spec.manifest import Content
from bmz.spec.model import Citation


@dataclass(frozen=True)
class Family:
    """The contents that the model descriptions of one family share.

    Parameters
    ----------
    title : name of the program
    what : sentence that says what the network finds
    tags : tags of the description
    cite : publications of the method
    preprocessing : function that returns the steps for the given spatial axes
    channels : function that returns the names of the input channels
    output : function that returns the fields of the output, except its axes
    maps : function that returns the names of the output channels
    config : function that returns ``config.bmz`` and other additions
    sees_whole : whether the network averages over the whole image, so that its receptive field
        is unbounded
    gives_labels : whether the network itself returns labels, which no halo keeps right across tiles
    """

    title: str
    what: str
    tags: tuple[str, ...]
    cite: tuple[Citation, ...]
    preprocessing: Callable[[str], list[Content]]
    channels: Callable[[Checkpoint], Sequence[str]]
    output: Callable[[Checkpoint], Content]
    maps: Callable[[Checkpoint], Sequence[str]]
    config: Callable[[Checkpoint], Content] = field(default=lambda _: {})
    sees_whole: bool = False
    gives_labels: bool = False


def _percentiles(low: float, high: float, **more: float) -> Callable[[str], list[Content]]:
    def steps(space: str) -> list[Content]:
        kwargs = {"axes": list(space), "min_percentile": low, "max_percentile": high, **more}
        return [{"id": "scale_range", "kwargs": kwargs}]

    return steps


def _clipped(space: str) -> list[Content]:
    clip = {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}}
    return [*_percentiles(0.01, 99.99)(space), clip]


def _grey_first(checkpoint: Checkpoint) -> Sequence[str]:
    names = ("cytoplasm_or_grey", "nuclei")
    more = [f"channel_{number}" for number in range(len(names), checkpoint.channels)]
    return (*names, *more)[: checkpoint.channels]


def _cellpose_output(_: Checkpoint) -> Content:
    kwargs = {
        "cellprob_threshold": 0.0,
        "flow_threshold": 0.4,
        "do_3D": False,
        "min_size": 15,
        "output_dtype": "uint16",
    }
    step = {"id": "cellpose_flow_dynamics", "kwargs": kwargs}
    return {"data": {"type": "uint16"}, "postprocessing": [step]}


def _stardist_maps(checkpoint: Checkpoint) -> Sequence[str]:
    config = checkpoint.stated["config"]
    count = config.get("n_classes") or 0
    classes = ["background", *(f"class_{n}" for n in range(1, count + 1))] if count else []
    rays = (f"distance_{n:02d}" for n in range(checkpoint.maps - 1 - len(classes)))
    return ["object_probability", *rays, *classes]


def _stardist_config(checkpoint: Checkpoint) -> Content:
    # The layout is that of StarDist's own packages. A declared step returns labels on the grid of
    # the input, so the description would not state the size of the maps, whose grid differs.
    stated = checkpoint.stated
    return {"stardist": {"thresholds": dict(stated["thresholds"]), "config": stated["config"]}}


def _raw_maps(_: Checkpoint) -> Content:
    return {"data": {"type": "float32"}}


def _omnipose_maps(checkpoint: Checkpoint) -> Sequence[str]:
    flows = [f"flow_{axis}" for axis in checkpoint.space]
    return [*flows, "distance", "boundary"][: checkpoint.maps]


def _omnipose_config(_: Checkpoint) -> Content:
    # none of the maps is a probability, so the minimum value is a distance
    return {"bmz": {"recipe": {"name": "flows", "parameters": {"style": "omnipose"}}}}


FAMILIES: Mapping[str, Family] = {
    "cellpose": Family(
        "Cellpose",
        "Cells or nuclei, by flows to their centre; the objects must have the size that the "
        "network expects.",
        ("cellpose", "instance-segmentation", "cells", "2d"),
        (
            Citation(
                "Stringer C. et al., Cellpose: a generalist algorithm for cellular segmentation, "
                "Nature Methods 2021",
                "10.1038/s41592-020-01018-x",
            ),
        ),
        _percentiles(1.0, 99.0),
        _grey_first,
        _cellpose_output,
        lambda _: ("label",),
        sees_whole=True,  # because of the style vector
    ),
    "omnipose": Family(
        "Omnipose",
        "Cells of any shape, by flows along the distance to their edge.",
        ("omnipose", "instance-segmentation", "cells"),
        (
            Citation(
                "Cutler K. J. et al., Omnipose: a high-precision morphology-independent solution "
                "for bacterial cell segmentation, Nature Methods 2022",
                "10.1038/s41592-022-01639-4",
            ),
        ),
        _clipped,
        _grey_first,
        _raw_maps,
        _omnipose_maps,
        _omnipose_config,
        sees_whole=True,
    ),
    "stardist": Family(
        "StarDist",
        "Star-convex objects such as nuclei, by distances to their edge along rays.",
        ("stardist", "instance-segmentation", "nuclei"),
        (
            Citation(
                "Schmidt U. et al., Cell Detection with Star-convex Polygons, MICCAI 2018",
                "10.1007/978-3-030-00934-2_30",
            ),
        ),
        _percentiles(1.0, 99.8),
        lambda checkpoint: [f"channel_{number}" for number in range(checkpoint.channels)],
        _raw_maps,
        _stardist_maps,
        _stardist_config,
    ),
    "instanseg": Family(
        "InstanSeg",
        "Nuclei and cells, by pixel embeddings; the network itself returns labels.",
        ("instanseg", "instance-segmentation", "cells", "nuclei", "2d"),
        (
            Citation(
                "Goldsborough T. et al., InstanSeg: an embedding-based instance segmentation "
                "algorithm optimized for accurate, efficient and portable cell segmentation, 2024",
                "10.48550/arXiv.2408.15954",
            ),
        ),
        _percentiles(0.1, 99.9, eps=1e-6),
        lambda checkpoint: [f"channel_{number}" for number in range(checkpoint.channels)],
        _raw_maps,
        lambda checkpoint: ("nuclei_labels", "cell_labels") if checkpoint.maps > 1 else ("labels",),
        lambda _: {"bmz": {"recipe": {"name": "labels"}}},
        gives_labels=True,
    ),
}
"""Families by the name that ``--as`` takes."""
