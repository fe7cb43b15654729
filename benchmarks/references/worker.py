"""Runs in the environment of the reference tools: their own code on the maps that are sent.

``python worker.py ENVIRONMENT WORK SENT.npz BACK.npz OPTIONS``, OPTIONS in JSON. It knows nothing
of bmz. A work takes one array and the options and gives one array; `WORKS` lists them.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import json
import sys
import time
import types
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

ENVIRONMENT = Path(sys.argv[1])

Array = np.ndarray

LEAST_DISTANCE = 1e-3
"""Of rays, px: stardist raises what its network gives to this."""


def star_targets(labels: Array, *, rays: int) -> Array:
    """Return probability and distances as stardist trains them, (1 + rays, (z,) y, x)."""
    from stardist.geometry import star_dist, star_dist3D
    from stardist.rays3d import Rays_GoldenSpiral
    from stardist.utils import edt_prob

    if labels.ndim == 2:
        distances = star_dist(labels, rays)
    else:
        distances = star_dist3D(labels, Rays_GoldenSpiral(rays))
    probability = edt_prob(labels)
    return np.concatenate([probability[None], np.moveaxis(distances, -1, 0)]).astype(np.float32)


def flow_targets(labels: Array) -> Array:
    """Return 5 times the unit flows of Cellpose and a logit, (axes + 1, (z,) y, x)."""
    import torch
    from cellpose import dynamics

    flows = dynamics.masks_to_flows(labels, device=torch.device("cpu"))
    logit = np.where(labels > 0, 6, -6)[None]
    return np.concatenate([5 * flows, logit]).astype(np.float32)


def stardist(maps: Array, *, grid: int, prob: float, nms: float) -> Array:
    """Label a plane."""
    from stardist.geometry import polygons_to_label
    from stardist.nms import non_maximum_suppression

    shape = tuple(n * grid for n in maps.shape[1:])
    points, scores, distances = non_maximum_suppression(
        _distances(maps), maps[0], grid=(grid, grid),
        prob_thresh=prob, nms_thresh=nms, verbose=False,
    )  # fmt: skip
    return polygons_to_label(distances, points, shape, prob=scores)


def stardist_stack(maps: Array, *, grid: list[int], prob: float, nms: float) -> Array:
    """Label a stack."""
    from stardist.geometry import polyhedron_to_label
    from stardist.nms import non_maximum_suppression_3d
    from stardist.rays3d import Rays_GoldenSpiral

    rays = Rays_GoldenSpiral(len(maps) - 1)
    shape = tuple(n * step for n, step in zip(maps.shape[1:], grid, strict=True))
    points, scores, distances = non_maximum_suppression_3d(
        _distances(maps), maps[0], rays, grid=tuple(grid),
        prob_thresh=prob, nms_thresh=nms, verbose=False,
    )  # fmt: skip
    return polyhedron_to_label(distances, points, rays, shape, prob=scores, verbose=False)


def _distances(maps: Array) -> Array:
    # as stardist hands the output of its network on
    return np.maximum(np.ascontiguousarray(np.moveaxis(maps[1:], 0, -1)), LEAST_DISTANCE)


def cellpose3(maps: Array) -> Array:
    """Label by the dynamics of Cellpose 3."""
    import torch
    from cellpose import dynamics

    torch.set_num_threads(1)
    return dynamics.resize_and_compute_masks(
        maps[:-1], maps[-1], niter=200, cellprob_threshold=0.0, flow_threshold=0.4, min_size=15,
        do_3D=maps.ndim == 4, device=torch.device("cpu"),
    )  # fmt: skip


def cellpose4(maps: Array) -> Array:
    """Label by the dynamics of Cellpose 4."""
    if "cellpose" not in sys.modules:
        sys.path.insert(0, str(ENVIRONMENT / "cellpose4"))
        # imported for the network, and not used by the dynamics
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules[name] = MagicMock()
    return cellpose3(maps)


def biapy(maps: Array, *, channels: list[str], seeds: list[str]) -> Array:
    """Label by the watershed of BiaPy, with what its configuration chooses for these channels."""
    watershed = _post_processing().watershed_by_channels
    return watershed(
        np.moveaxis(maps, 0, -1), channels, seeds, ["auto"] * len(seeds), "F", ["F"], ["auto"],
        verbose=False,
    )  # fmt: skip


def biapy_affinities(maps: Array) -> Array:
    """Label a stack by fragments and agglomeration, with the defaults of BiaPy."""
    _post_processing()
    module = _module_of("biapy", "data/post_processing/affinity_agglomeration.py")
    offsets = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    return module.watershed_and_agglomerate_affinities(
        np.moveaxis(maps, 0, -1), offsets, verbose=False
    )


def _post_processing() -> types.ModuleType:
    # two functions of a module whose imports need all of BiaPy
    name = "biapy.data.post_processing.post_processing"
    for package in ("biapy", "biapy.data", "biapy.data.post_processing"):
        sys.modules.setdefault(package, types.ModuleType(package))
    return _functions_of(
        name, _site("biapy") / "data/post_processing/post_processing.py",
        {"_otsu_auto_threshold", "_minmax01", "_sobel_along_axis", "watershed_by_channels"},
    )  # fmt: skip


def _functions_of(name: str, source: Path, wanted: set[str]) -> types.ModuleType:
    # some functions, also of a class, of a module whose imports need all of its package
    known = ("numpy", "scipy", "skimage", "typing", "tqdm", "cv2", "math", "warnings")
    if name not in sys.modules:
        tree = ast.parse(source.read_text())
        bodies = [tree.body, *(n.body for n in tree.body if isinstance(n, ast.ClassDef))]
        tree.body = [
            node
            for node in (node for body in bodies for node in body)
            if (isinstance(node, ast.FunctionDef) and node.name in wanted)
            or (isinstance(node, ast.Import) and node.names[0].name in known)
            or (isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in known)
        ]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                node.decorator_list = []
        sys.modules[name] = types.ModuleType(name)
        exec(compile(tree, source, "exec"), sys.modules[name].__dict__)  # noqa: S102  (functions of a reference)
    return sys.modules[name]


def mutex_watershed(maps: Array, *, offsets: list[list[int]]) -> Array:
    """Label by elf; 1 means apart."""
    from elf.segmentation.mutex_watershed import mutex_watershed as solved

    return solved(maps.copy(), [list(offset) for offset in offsets], [1] * len(offsets[0]))


def torch_em(maps: Array, *, min_size: int) -> Array:
    """Label foreground and boundary by components and a watershed."""
    module = _module_of("torch_em", "util/segmentation.py")
    return module.watershed_from_components(maps[1], maps[0], min_size=min_size)


def plantseg(maps: Array) -> Array:
    """Label a boundary by PlantSeg's steps and defaults: superpixels, GASP, sizes, all of elf."""
    from elf.segmentation import GaspFromAffinities
    from elf.segmentation.watershed import apply_size_filter, distance_transform_watershed

    boundary = maps[0]
    pixels, _ = distance_transform_watershed(
        boundary, threshold=0.5, sigma_seeds=1.0, sigma_weights=2.0, min_size=100, alpha=1.0
    )
    stack = boundary.ndim == 3
    affinities = 1 - np.stack([boundary if stack else boundary[None]] * 3)
    joined, _ = GaspFromAffinities(
        [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
        superpixel_generator=lambda *_, **__: pixels if stack else pixels[None],
        run_GASP_kwargs={"linkage_criteria": "average", "use_efficient_implementations": False},
        beta_bias=0.5,
    )(affinities)
    joined = joined if stack else joined[0]
    return apply_size_filter(joined.astype("uint32"), boundary, 100)[0]


def plantseg_multicut(maps: Array) -> Array:
    """Label a boundary by PlantSeg's steps with the multicut, all of elf."""
    from elf.segmentation.features import (
        compute_boundary_mean_and_length,
        compute_rag,
        project_node_labels_to_pixels,
    )
    from elf.segmentation.multicut import (
        multicut_kernighan_lin,
        transform_probabilities_to_costs,
    )
    from elf.segmentation.watershed import apply_size_filter, distance_transform_watershed

    boundary = maps[0]
    pixels, _ = distance_transform_watershed(
        boundary, threshold=0.5, sigma_seeds=1.0, sigma_weights=2.0, min_size=100, alpha=1.0
    )
    pixels = pixels - 1  # a graph of regions begins with 0
    if not pixels.any():
        return np.ones(boundary.shape, np.uint32)
    graph = compute_rag(pixels.astype("uint32"))
    mean, length = compute_boundary_mean_and_length(graph, pixels.astype("uint32"), boundary).T[:2]
    costs = transform_probabilities_to_costs(mean.copy(), beta=0.5, edge_sizes=length)
    nodes = multicut_kernighan_lin(graph, costs)
    joined = project_node_labels_to_pixels(graph, pixels.astype("uint32"), nodes)
    return apply_size_filter(joined.astype("uint32") + 1, boundary, 100)[0]


def deepcell(maps: Array, *, maxima_threshold: float) -> Array:
    """Label inner distance and interior with the numbers of Mesmer."""
    (package,) = (ENVIRONMENT / "deepcell").glob("*/deepcell_toolbox")
    if "deepcell_toolbox" not in sys.modules:
        # the package itself imports what has to be compiled
        sys.modules["deepcell_toolbox"] = types.ModuleType("deepcell_toolbox")
        sys.modules["deepcell_toolbox"].__path__ = [str(package)]
    from deepcell_toolbox.deep_watershed import deep_watershed

    labels = deep_watershed(
        [maps[0][None, ..., None], maps[1][None, ..., None]], radius=2, interior_threshold=0.2,
        maxima_threshold=maxima_threshold, interior_smooth=2, small_objects_threshold=15,
        fill_holes_threshold=15,
    )  # fmt: skip
    return labels[0, ..., 0]


def hovernet(maps: Array) -> Array:
    """Label foreground and places by the steps of HoVer-Net."""
    source = _site("tiatoolbox") / "models/architecture/hovernet.py"
    steps = _functions_of("hovernet_steps", source, {"_proc_np_hv"})
    return steps._proc_np_hv(maps[0][..., None], np.moveaxis(maps[1:], 0, -1))  # noqa: SLF001


def empanada(maps: Array) -> Array:
    """Label foreground, centres and offsets by the steps of MitoNet."""
    import torch

    steps = _module_of("empanada", "inference/postprocess.py")
    foreground, heat, offsets = (torch.from_numpy(m)[None] for m in (maps[:1], maps[1:2], maps[2:]))
    labels, _ = steps.get_instance_segmentation((foreground > 0.5).long(), heat, offsets, [1])
    return labels[0].numpy()


def spotiflow(maps: Array, *, threshold: float, radius: int) -> Array:
    """Find peaks as Spotiflow does, by its own loops, and draw discs by scikit-image."""
    from skimage.segmentation import expand_labels

    for name, place in (("spotiflow", "."), ("spotiflow.utils", "utils")):
        if name not in sys.modules:
            # the packages import what trains networks
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(_site("spotiflow") / place)]
    sys.modules.setdefault("spotiflow.utils.utils", MagicMock())
    from spotiflow.utils.peaks import prob_to_points

    at = prob_to_points(maps[0], prob_thresh=threshold, min_distance=1, exclude_border=False)
    numbers = np.zeros(maps.shape[1:], np.int32)
    numbers[tuple(at.T)] = np.arange(1, len(at) + 1)
    return expand_labels(numbers, radius)


OMNIPOSE_LEFT_OUT = (
    "torchvision", "mgen", "networkit", "aicsimageio", "dask", "dask_image", "torch_optimizer",
    "matplotlib", "cmap", "colour", "peakdetect", "numexpr", "opt_einsum", "ipywidgets", "mahotas",
    "imageio", "cv2", "imagecodecs", "natsort", "tqdm", "torchvf", "networkx",
)  # fmt: skip
"""What omnipose imports for networks, pictures and files, and the steps to masks do not call."""


class _LeftOut:
    """Gives a stand-in for every module of some packages."""

    @classmethod
    def find_spec(cls, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        wanted = name.partition(".")[0] in OMNIPOSE_LEFT_OUT
        return importlib.machinery.ModuleSpec(name, cls, is_package=True) if wanted else None

    @staticmethod
    def create_module(spec: importlib.machinery.ModuleSpec) -> MagicMock:
        module = MagicMock()
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    @staticmethod
    def exec_module(_: object) -> None:
        """Run nothing."""


def _omnipose() -> types.ModuleType:
    if _LeftOut not in sys.meta_path:
        sys.meta_path.insert(0, _LeftOut)
    from omnipose import core

    return core


def omnipose_targets(labels: Array) -> Array:
    """Return flows, distance and boundary of a plane as Omnipose trains them, (4, y, x)."""
    import torch

    core = _omnipose()
    _, _, edge, distance, flow = core.masks_to_flows(
        labels.astype(np.int32), use_gpu=False, device=torch.device("cpu")
    )
    inside = labels > 0
    rest = np.stack([np.where(inside, distance, -5), np.where(np.asarray(edge) > 0, 5, -5)])
    return np.concatenate([5 * np.asarray(flow), rest]).astype(np.float32)


def omnipose(maps: Array) -> Array:
    """Label a plane by the steps of Omnipose, with its defaults."""
    import torch

    torch.set_num_threads(1)
    masks, *_ = _omnipose().compute_masks(
        maps[:2].copy(), maps[2].copy(), bd=maps[3].copy(), nclasses=3, min_size=15,
        device=torch.device("cpu"),
    )  # fmt: skip
    return masks


def _site(package: str) -> Path:
    return Path(importlib.util.find_spec("numpy").origin).parents[1] / package


def _module_of(package: str, path: str) -> types.ModuleType:
    # one module without its package, whose imports need all of it
    name = f"{package}.{path}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _site(package) / path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


WORKS = {
    work.__name__: work
    for work in (
        star_targets, flow_targets, stardist, stardist_stack, cellpose3, cellpose4, biapy,
        biapy_affinities, mutex_watershed, torch_em, plantseg, plantseg_multicut, deepcell,
        hovernet, empanada, spotiflow, omnipose_targets, omnipose,
    )
}  # fmt: skip
"""What can be asked for."""


def main() -> None:
    """Do one work with every array that was sent; the first one twice, for what is compiled."""
    _, _, work, sent, back, options = sys.argv
    warnings.simplefilter("ignore")
    do, keywords = WORKS[work], json.loads(options)
    made, seconds = {}, []
    with np.load(sent) as arrays:
        do(arrays["0"], **keywords)
        for number in range(len(arrays.files)):
            values = arrays[str(number)]
            start = time.process_time()
            made[f"made{number}"] = do(values, **keywords)
            seconds.append(time.process_time() - start)
    np.savez(back, seconds=seconds, **made)


if __name__ == "__main__":
    main()
