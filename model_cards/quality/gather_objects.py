"""Run networks on images with true masks, also on spoilt ones, and keep evidence of each object.

``python model_cards/quality/gather_objects.py ../shared`` writes ``objects.npz``: what
`bmz.process.object_evidence` tells of the objects of each mask, and their true IoU. About half an
hour of processor; fixed seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import gather_images as gather  # noqa: E402  (beside this file)
from gather import EARLIER, FACTS, NETWORKS  # noqa: E402  (as above)
from truths import FAULTS  # noqa: E402  (as above)

from bmz.base.errors import BmzError, not_none  # noqa: E402
from bmz.check.values import model_diameter  # noqa: E402
from bmz.engine.label_stack import Labels  # noqa: E402
from bmz.engine.request import RunRequest  # noqa: E402
from bmz.engine.run_quality import plane_evidence, side_of_sample  # noqa: E402
from bmz.engine.setup import opened, prepare  # noqa: E402
from bmz.engine.trial import Tried, case_values  # noqa: E402
from bmz.process.consensus import f1_between  # noqa: E402
from bmz.process.matching import Overlap  # noqa: E402
from bmz.process.object_evidence import (  # noqa: E402
    Expectation,
    ObjectEvidence,
    features_of,
)

NUCLEI = 48
"""Images of DSB 2018."""

OF_MASK = FACTS[:4]

FAULTY = 0.7
"""Share of the images with which a network is also run with a fault."""


@dataclass(frozen=True, eq=False)
class Mask:
    """What a network made of an image.

    Parameters
    ----------
    facts : network, source, image and fault
    evidence : of its objects
    iou : (n,) of each object with the true one that it overlaps most
    f1 : at IoU 0.5
    given : name -> what else is known
    """

    facts: dict[str, str]
    evidence: ObjectEvidence
    iou: np.ndarray
    f1: float
    given: dict[str, float]


def cases(network: str, shared: Path) -> Iterator[tuple[gather.Truth, str]]:
    """Yield images and faults with which a network is run."""
    made = NETWORKS[network]
    rng = np.random.default_rng(sum(map(ord, network)) + 2)
    for truth in gather.truths(shared, NUCLEI):
        if truth.structure in gather.NEAR[made]:
            yield truth, "none"
            if rng.random() < FAULTY:
                yield truth, str(rng.choice(FAULTS))
        elif rng.random() < gather.OTHERS:
            yield truth, "none"


def evidence_of(trial: Tried) -> ObjectEvidence:
    """Measure the objects that a trial without copies gave."""
    labels = Labels.held(np.asarray(trial.result.labels), trial.result.scores)
    planes = trial.mask.planes
    return plane_evidence(labels, lambda box: planes[(slice(0, 4), *box)], trial.result.raw)


def true_ious(labels: np.ndarray, truth: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Give for each number of a mask the IoU with the true object that it overlaps most."""
    overlap = Overlap.of(labels, truth)
    best = np.zeros(len(overlap.predicted_px))
    np.maximum.at(best, overlap.predicted, overlap.iou)
    flat = labels.reshape(-1)
    _, first = np.unique(flat[flat > 0], return_index=True)
    return best[np.argsort(np.argsort(first))] if len(numbers) else best


def masks_of(network: str, shared: Path) -> Iterator[Mask]:
    """Run a network on all its cases."""
    path = network if network.startswith("starter/") else str(shared / "models" / network)
    request = RunRequest(
        path, (), Path(), trust="confined", precision="float32", force=True, device="cpu",
        settings=EARLIER.get(network, {}),
    )  # fmt: skip
    setup = prepare(request)
    rng = np.random.default_rng(sum(map(ord, network)) + 3)
    with closing(opened(setup)) as backend:
        for truth, fault in cases(network, shared):
            part = gather.fullest_part(truth)
            try:
                trial = gather.trial_of(setup, backend, part, fault, rng, {})
            except BmzError as why:
                print(f"{network}, {truth.name}, {fault}: {why}")
                continue
            words = (network, gather.origin(truth), truth.name, fault)
            facts = dict(zip(OF_MASK, words, strict=True))
            near = truth.structure in gather.NEAR[NETWORKS[network]]
            yield _mask(trial, part.mask, {**facts, "near": "yes" if near else "no"})


def _mask(trial: Tried, truth: np.ndarray, facts: dict[str, str]) -> Mask:
    labels, case = np.asarray(not_none(trial.result.labels)), trial.checked.case
    evidence = evidence_of(trial)
    made, scale = model_diameter(case), trial.result.plan.scale
    given = {
        "made_px": np.nan if made is None else made.px / scale,
        "scale": scale,
        "side_of_sample": side_of_sample(case),
        **case_values(trial.checked, scale),
    }
    iou = true_ious(labels, truth, evidence.label)
    return Mask(facts, evidence, iou, f1_between(labels, truth), given)


MOST_OBJECTS = 30
"""Of a mask with more objects so many are kept, by chance."""


def arrays_of(masks: Sequence[Mask]) -> dict[str, np.ndarray]:
    """Give what ``train_objects.py`` reads."""
    rng = np.random.default_rng(0)
    objects, planes, ious, owners = [], [], [], []
    for number, mask in enumerate(masks):
        given = mask.given
        expected = Expectation(given["made_px"], given["scale"], given["side_of_sample"])
        of_objects, of_plane = features_of(mask.evidence, expected)
        kept = np.sort(rng.permutation(len(of_objects))[:MOST_OBJECTS])
        objects.append(of_objects[kept])
        ious.append(mask.iou[kept])
        owners.append(np.full(len(kept), number))
        planes.append(of_plane)
    flags = [name for name in masks[0].given if name.startswith("found_")]
    return {
        "objects": np.concatenate(objects).astype(np.float16),
        "planes": np.stack(planes).astype(np.float32),
        "iou": np.concatenate(ious).astype(np.float16),
        "mask": np.concatenate(owners).astype(np.int32),
        "f1": np.array([mask.f1 for mask in masks], np.float32),
        "flags": np.array([[mask.given[name] for name in flags] for mask in masks], np.float32),
        "flag_names": np.array(" ".join(flags)),
        **{fact: np.array([mask.facts[fact] for mask in masks]) for fact in (*OF_MASK, "near")},
    }


def main() -> None:
    """Gather the masks of all networks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    words = parser.parse_args()
    masks: list[Mask] = []
    for network in NETWORKS:
        masks += masks_of(network, words.shared)
        print(network, len(masks), flush=True)
    np.savez_compressed(HERE / "objects.npz", **arrays_of(masks))


if __name__ == "__main__":
    main()
