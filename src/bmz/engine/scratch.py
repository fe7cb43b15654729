"""What a run in parts keeps on the disk in between, so that it can be gone on with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmz.base.files import is_left_by_dead, unfinished, whole_file
from bmz.base.version import version
from bmz.engine.job import Job, Ready
from bmz.engine.replay import words_of
from bmz.plan.plan import Plan
from bmz.process.blocks import Found


def scratch_key(job: Job, ready: Ready, image_sha256: str) -> str:
    """Give a name for all that decides the result of a run, so that only the same goes on."""
    plan = ready.plan
    words = {
        "bmz": version(),
        "model": job.model.sha256,
        "image": image_sha256,
        "words": words_of(job.request),
        "network": [plan.weights.format, plan.device, plan.precision.name],
    }
    text = json.dumps(words, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def scratch_folder(folder: Path, key: str, *, resume: bool) -> Iterator[Path]:
    """Give a folder for what is only needed in between; removed when the block ends.

    It stays when the program is killed or interrupted, for ``--resume``.

    Parameters
    ----------
    folder : where it is made
    key : of what is run
    resume : go on with the folder of this key that a process left which is no more
    """
    place = folder / f"{unfinished('scratch')}{key}"
    if resume:
        for old in sorted(folder.glob(f".scratch-*-{key}")):
            if is_left_by_dead(old):
                old.rename(place)
                break
    place.mkdir(exist_ok=True)
    try:
        yield place
    except KeyboardInterrupt:
        raise
    except BaseException:
        shutil.rmtree(place)
        raise
    shutil.rmtree(place)


@dataclass(frozen=True)
class PlaneFolder:
    """The part of a scratch folder that belongs to one plane or stack of an image.

    Parameters
    ----------
    path : of the folder
    """

    path: Path

    def maps(self, plan: Plan) -> Path:
        """Give the folder for the tiles of a plan: those of other sizes are another map."""
        sizes = "x".join(map(str, plan.tiling.tile.values()))
        folder = self.path / f"map-{sizes}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def labels(self) -> Path:
        """The array of labels."""
        return self.path / "labels"

    @property
    def resized(self) -> Path:
        """The array of labels on the grid of the image, where the network had another."""
        return self.path / "resized"

    @property
    def raw(self) -> Path:
        """The map of the network, where it is asked for."""
        return self.path / "raw.npy"

    def found(self) -> Found:
        """Give the objects of the blocks that are finished."""
        found = Found()
        while (file := self._block(len(found.first))).exists():
            with np.load(file, allow_pickle=False) as kept:
                found.first.append(kept["first"])
                if "scores" in kept:
                    found.scores.append(kept["scores"])
                found.widest_overlap = int(kept["widest_overlap"])
        return found

    def keep(self, found: Found) -> None:
        """Keep the objects of the last block, whose labels are written."""
        arrays = {"first": found.first[-1], "widest_overlap": np.int64(found.widest_overlap)}
        if found.scores:
            arrays["scores"] = found.scores[-1]
        file = self._block(len(found.first) - 1)
        file.parent.mkdir(exist_ok=True)
        with whole_file(file) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]  # its stubs mix up the keywords

    def layout(self) -> dict[str, list[int]] | None:
        """Give the sizes of a plane that is finished; None for one that is not."""
        try:
            layout: dict[str, list[int]] = json.loads(self._done.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return layout

    def finish(self, layout: dict[str, list[int]]) -> None:
        """Note that all labels are there; the maps are needed no more."""
        with whole_file(self._done) as temporary:
            temporary.write_text(json.dumps(layout), encoding="utf-8")
        for maps in self.path.glob("map-*"):
            shutil.rmtree(maps)

    @property
    def _done(self) -> Path:
        return self.path / "done.json"

    def _block(self, number: int) -> Path:
        return self.path / "blocks" / f"{number:06d}.npz"
