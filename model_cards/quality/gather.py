"""Run networks on images with true masks, also on spoilt ones, and keep the evidence.

``python model_cards/quality/gather.py ../shared KEPT [--more FOLDER] [--network NAME ...]`` runs
the networks and keeps each case as a file in the folder KEPT; what is there is not run again, so
that it goes on where it was stopped, and several can be run beside each other. ``--rows`` runs
nothing and writes ``evidence.csv`` from what is kept: what `bmz.process.mask_evidence` tells of
each mask, and its true F1 at IoU 0.5; and ``pairs.npz``: what masks of different networks have in
common, for images without a fault. About two hours of processor; fixed seeds, in any order.
"""

from __future__ import annotations

import argparse
import csv
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from truths import FAULTS, Truth, spoilt, truths

from bmz.base.errors import BmzError
from bmz.engine.image_header import GivenImage, check_image_header, given_image
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, opened, prepare, with_options
from bmz.engine.trial import Tried, sample_values, tried
from bmz.predict.backend import Backend
from bmz.process.consensus import MaskPairs, f1_between
from bmz.process.mask_evidence import MaskOnImage, evidence_of

HERE = Path(__file__).parent
FACTS = ("network", "source", "image", "fault", "f1")

NETWORKS = {
    "starter/nuclei": "nuclei",
    "starter/nuclei-contour": "nuclei",
    "starter/nuclei-flows": "nuclei",
    "nuclei-broad": "nuclei",
    "stardist-dsb2018": "nuclei",
    "unmicst-nuclei": "nuclei",
    "cellpose-cyto": "cells",
    "cremi-membrane": "neurites",
    "psc-keras-full": "phase",
}
"""Network -> what it is made for."""

EARLIER: Mapping[str, Mapping[str, str]] = {
    "starter/nuclei-contour": {
        "foreground_threshold": "0.6",
        "contour_threshold": "0.05",
        "seed_size": "3",
    }
}
"""Network -> parameters that its package had when the rows were written, and has no longer."""

NEAR = {
    "nuclei": ("nuclei",),
    "cells": ("cells", "bacteria", "membranes", "phase"),
    "neurites": ("neurites", "membranes"),
    "phase": ("phase",),
}
"""What a network is made for -> what true masks may hold for which it is run with faults, too."""

UNCLEAR = {("nuclei", "Kc167"), ("nuclei", "neurocyte")}
"""Networks and sources that do not go together: a stain there shows the nuclei of the cells, of
which a network makes good masks that the true masks of cells call wrong."""

FAULTS_EACH = {"nuclei": 2, "cells": 1, "neurites": 2, "phase": 2}
"""What a network is made for -> faults of each image; that of cells takes ten times as long."""

OTHERS = 2
"""So many images of each source of another structure a network is run on, as they are."""

LARGEST = {"cells": 384}
"""What a network is made for -> px that it is given at the most; else `LARGEST_PX`."""

LARGEST_PX = 512

AUTOMATIC = 0.7
"""Share of the spoilt images that are run at the scale that bmz proposes; others as they are."""


@dataclass(frozen=True, eq=False)
class Case:
    """A network, an image and a fault."""

    network: str
    truth: Truth
    fault: str

    @cached_property
    def rng(self) -> np.random.Generator:
        """Random numbers of its own, whatever was run before."""
        return np.random.default_rng(zlib.crc32(self.name.encode()))

    @property
    def name(self) -> str:
        """The file that it is kept in."""
        words = (self.network, self.truth.source, self.truth.name, self.fault)
        return "+".join(words).replace("/", "-").replace(" ", "-") + ".npz"


def cases(network: str, images: list[Truth]) -> Iterator[Case]:
    """Yield what a network is run on."""
    made = NETWORKS[network]
    others = Counter[str]()
    for truth in images:
        if (made, truth.source) in UNCLEAR:
            continue
        if truth.structure in NEAR[made]:
            yield Case(network, truth, "none")
            rng = np.random.default_rng(zlib.crc32(f"{network} {truth.name}".encode()))
            for fault in rng.choice(FAULTS, FAULTS_EACH[made], replace=False):
                yield Case(network, truth, str(fault))
        elif others[truth.source] < OTHERS:
            others[truth.source] += 1
            yield Case(network, truth, "none")


def run_case(setup: RunSetup, backend: Backend, case: Case) -> Tried:
    """Run a network on an image with a fault.

    Raises
    ------
    BmzError
        The network does not take it.
    """
    rng, wanted = case.rng, setup.model.required_inputs[0].channels or 1
    planes = case.truth.pixels
    if case.fault == "channel":
        # another stain; where there is none, what another channel often is: blur and noise
        planes = (
            planes[-1:] if len(planes) > 1 else spoilt(spoilt(planes, "blurred", rng), "dim", rng)
        )
    planes = spoilt(planes[:wanted], case.fault, rng)
    # a network of two channels is given the second one, where there is one
    numbers = (
        tuple((*range(len(planes)), *[-1] * wanted)[:wanted]) if wanted == 2 else (0,) * wanted
    )
    request = replace(setup.request, axes="cyx", channels=numbers)
    if case.fault == "threshold":
        settings = {**request.settings, **other_threshold(setup, rng)}
        request = replace(request, settings=settings)
    setup, image = with_options(setup, request), given_image(planes, request.axes)
    largest = LARGEST.get(NETWORKS[case.network], LARGEST_PX)
    automatic = case.fault == "none" or rng.random() < AUTOMATIC
    scale = proposed_scale(setup, image) if automatic else 1.0
    scale *= rng.choice([0.3, 0.5, 1.8, 3.0]) if case.fault == "scale" else 1.0
    scale = float(np.clip(scale, 0.1, min(8.0, largest / max(case.truth.mask.shape))))
    return tried(replace(setup, request=replace(setup.request, scale=scale)), image, backend)


def proposed_scale(setup: RunSetup, image: GivenImage) -> float:
    """Give the scale that ``--scale auto`` takes; 1 where it cannot tell."""
    auto = replace(setup.request, scale="auto")
    try:
        header = check_image_header(setup.model, image.info, auto, setup.sample, image.sample)
    except BmzError:
        return 1.0  # neither image nor model tells
    return header.case.scale or 1.0


def other_threshold(setup: RunSetup, rng: np.random.Generator) -> dict[str, str]:
    """Give a setting of the recipe that is far too low or too high; none where it has none."""
    parameters = setup.labelling.shown_parameters
    names = [name for name, value in parameters.items() if "threshold" in name and value]
    if not names:
        return {}
    value = float(parameters[names[0]])
    if names[0] == "cellprob_threshold":
        value += rng.choice([-4.0, 4.0])
    else:
        value = float(np.clip(value * rng.choice([0.2, 2.2]), 0.02, 0.98))
    return {names[0]: str(value)}


def keep(path: Path, case: Case, trial: Tried) -> None:
    """Write what a trial gave into a file."""
    mask = trial.mask
    facts = {
        "network": case.network, "source": case.truth.source, "image": case.truth.name,
        "fault": case.fault, "structure": case.truth.structure, "case": trial.case_values,
    }  # fmt: skip
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            facts=np.array(json.dumps(facts)),
            labels=mask.labels.astype(np.uint16),
            truth=case.truth.mask.astype(np.uint16),
            planes=mask.planes,
            maps=np.clip(mask.maps, -6e4, 6e4).astype(np.float16),
            **{f"copy_{name}": copy.astype(np.uint16) for name, copy in trial.copies.items()},
        )
    part.replace(path)


def run_network(
    network: str, images: list[Truth], shared: Path, kept: Path, *, backwards: bool
) -> None:
    """Run a network on all its cases that are not kept yet."""
    path = network if network.startswith("starter/") else str(shared / "models" / network)
    request = RunRequest(
        path, (), Path(), trust="confined", precision="float32", force=True, device="cpu",
        settings=EARLIER.get(network, {}),
    )  # fmt: skip
    setup = prepare(request)
    with closing(opened(setup)) as backend:
        own = json.dumps(sample_values(setup, backend))
        (kept / f"{network.replace('/', '-')}.json").write_text(own, encoding="utf-8")
        for case in list(cases(network, images))[:: -1 if backwards else 1]:
            if (kept / case.name).exists():
                continue
            try:
                keep(kept / case.name, case, run_case(setup, backend, case))
            except BmzError as why:
                print(f"{case.name}: {why}", flush=True)


@dataclass(frozen=True, eq=False)
class KeptCase:
    """A case, as it was kept.

    Parameters
    ----------
    facts : network, source, image, fault, structure, and what the check told
    copies : change -> labels
    """

    facts: Mapping[str, object]
    mask: MaskOnImage
    truth: np.ndarray
    copies: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> KeptCase:
        """Read what `keep` wrote."""
        with np.load(path) as arrays:
            facts = json.loads(str(arrays["facts"]))
            own = path.parent / f"{facts['network'].replace('/', '-')}.json"
            facts["case"] |= json.loads(own.read_text(encoding="utf-8"))
            copies = {
                name.removeprefix("copy_"): arrays[name]
                for name in arrays.files
                if name.startswith("copy_")
            }
            parts = (arrays["labels"].astype(np.int32), arrays["planes"], arrays["maps"])
            return cls(facts, MaskOnImage(*parts), arrays["truth"], copies)

    @property
    def f1(self) -> float:
        """The true F1 at IoU 0.5."""
        return f1_between(self.mask.labels, self.truth)

    @property
    def row(self) -> dict[str, object]:
        """Its line of ``evidence.csv``."""
        facts = {fact: self.facts[fact] for fact in FACTS[:-1]} | {"f1": f"{self.f1:.4f}"}
        values = evidence_of(self.mask, self.copies, self.facts["case"])
        return facts | {name: _rounded(value) for name, value in values.items()}


def _rounded(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5g}"


def write_rows(kept: Path) -> None:
    """Write the rows of all cases that are kept, and the columns of any of them."""
    every = map(KeptCase.read, sorted(kept.glob("*.npz")))
    # where there is nothing and nothing is found, there is nothing to judge
    told = [case for case in every if case.truth.any() or case.mask.inside.any()]
    rows = [case.row for case in told]
    names = dict.fromkeys((*FACTS, *sorted({name for row in rows for name in row} - set(FACTS))))
    with (HERE / "evidence.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)
    write_pairs(case for case in told if case.facts["fault"] == "none")


def write_pairs(every: Iterable[KeptCase]) -> None:
    """Write what the masks of each image have in common; `read_pairs` reads it."""
    images: dict[tuple[str, str], list[KeptCase]] = {}
    for case in every:
        images.setdefault((str(case.facts["source"]), str(case.facts["image"])), []).append(case)
    pairs = {
        image: MaskPairs.of([case.mask.labels for case in cases])
        for image, cases in images.items()
        if len(cases) > 1
    }
    shared = [one.ravel() for image in pairs for one in pairs[image].shared]
    np.savez_compressed(
        HERE / "pairs.npz",
        images=np.array(["|".join(image) for image in pairs]),
        many=np.array([len(images[image]) for image in pairs], np.int8),
        networks=np.array([case.facts["network"] for image in pairs for case in images[image]]),
        objects=np.concatenate([one.objects for one in pairs.values()]).astype(np.int16),
        shared=np.packbits(np.concatenate(shared)),
        **{
            name: np.concatenate([getattr(one, name).ravel() for one in pairs.values()]).astype(
                np.float16
            )
            for name in _MATRICES
        },
    )


_MATRICES = ("f1", "tight", "dice")


def read_pairs() -> dict[tuple[str, str], tuple[list[str], MaskPairs]]:
    """Read what `write_pairs` wrote: source and image -> networks, and what their masks share."""
    with np.load(HERE / "pairs.npz") as arrays:
        read = {name: arrays[name] for name in arrays.files}
    bits, result = np.unpackbits(read["shared"]).astype(np.bool_), {}
    member = cell = bit = 0
    for image, many in zip(read["images"].tolist(), read["many"].tolist(), strict=True):
        square, objects = slice(cell, cell + many**2), read["objects"][member : member + many]
        matrices = (read[name][square].reshape(many, many).astype(float) for name in _MATRICES)
        ends = bit + np.cumsum(objects.astype(int) * many)
        starts = [bit, *ends[:-1]]
        shared = tuple(bits[a:b].reshape(many, -1) for a, b in zip(starts, ends, strict=True))
        source, _, name = image.partition("|")
        networks = read["networks"][member : member + many].tolist()
        result[source, name] = networks, MaskPairs(*matrices, objects.astype(int), shared)
        member, cell, bit = member + many, cell + many**2, int(ends[-1])
    return result


def main() -> None:
    """Run networks, or write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("kept", type=Path)
    parser.add_argument("--more", type=Path, help="images of other sources; see the card")
    parser.add_argument("--network", choices=NETWORKS, nargs="*", help="only these")
    parser.add_argument("--rows", action="store_true", help="write evidence.csv, and run nothing")
    parser.add_argument("--backwards", action="store_true", help="to run beside another one")
    words = parser.parse_args()
    words.kept.mkdir(parents=True, exist_ok=True)
    if words.rows:
        write_rows(words.kept)
        return
    images = list(truths(words.shared, words.more))
    for network in words.network or NETWORKS:
        run_network(network, images, words.shared, words.kept, backwards=words.backwards)
        print(network, flush=True)


if __name__ == "__main__":
    main()
