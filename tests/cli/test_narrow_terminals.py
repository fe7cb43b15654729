"""What each command prints on terminals of 80 and 60 columns, where names are long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.cli import columns, output
from bmz.cli.main import status_of
from bmz.predict import frameworks
from bmz.testing.package import description, small_zoo, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Capture = pytest.CaptureFixture[str]

MODEL = "conscientious-dromedary-of-the-north"
IMAGE = "2026-11-30_plate-07_well-C04_field-2_treated.tif"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a zoo, an image, label masks and a cache that has a model."""
    folder = tmp_path_factory.mktemp("narrow")
    stated = description(halo=4)
    stated["name"] = "A network of many words with a long title that says what it was made for"
    write_package(folder / "zoo" / MODEL, stated)
    write_package(folder / "zoo" / "able-cat", description(halo=4))
    y, x = np.indices((96, 96))
    discs = np.where(np.hypot(y % 32 - 16, x % 32 - 16) < 7, 200, 20).astype(np.uint8)
    tifffile.imwrite(folder / IMAGE, discs)
    labels = (discs > 99).astype(np.uint16) * (1 + y // 32 * 3 + x // 32).astype(np.uint16)
    for name, mask in (("truth", labels), ("masks", np.roll(labels, 3, axis=0))):
        (folder / name).mkdir()
        for number in (1, 2):
            tifffile.imwrite(folder / name / f"{number}-{IMAGE}", mask)
    with pytest.MonkeyPatch.context() as patch, small_zoo(folder / "zoo") as served:
        patch.setenv("BMZ_OFFLINE", "0")
        patch.setenv("BMZ_CACHE_DIR", str(folder / "cache"))
        patch.setenv("BMZ_INDEX_URL", served.index_url)
        patch.setattr(frameworks, "find_spec", lambda name: name == "onnxruntime")
        patch.chdir(folder)
        assert status_of(["fetch", MODEL, "able-cat"]) == 0
        yield folder


COMMANDS: dict[str, Sequence[str]] = {
    "search": ("search",),
    "fit": ("fit", IMAGE),
    "show": ("show", MODEL),
    "show of a starter": ("show", "starter/nuclei"),
    "check": ("check", MODEL, IMAGE),
    "check of many": ("check", MODEL, "truth", IMAGE),
    "explain": ("check", "--explain", "scale.unknown"),
    "cache": ("cache", "list"),
    "test": ("test", MODEL),
    "score": ("score", "masks", "truth"),
    "compare": (
        "compare", IMAGE, "-m", MODEL, "-m", "able-cat", "--sweep", "threshold=0.3,0.5",
        "--recipe", "components", "--no-stability",
    ),
    "compare with truth": ("compare", IMAGE, "-m", "able-cat", "--truth", f"truth/1-{IMAGE}"),
}  # fmt: skip


def printed(words: Sequence[str], room: int, capsys: Capture) -> list[str]:
    """Give what a command prints on both streams, as on terminals of so many columns."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (columns, output):
            patch.setattr(module, "terminal_room", lambda _stream=None: room)
        patch.setenv("COLUMNS", str(room))
        capsys.readouterr()
        status_of([*words])
    told = capsys.readouterr()
    return (told.out + told.err).splitlines()


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("room", [80, 60])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_no_line_is_longer_than_the_terminal_and_no_word_is_lost_or_broken(
    words: Sequence[str], room: int, capsys: Capture
) -> None:
    whole = printed(words, 1000, capsys)

    lines = printed(words, room, capsys)

    assert whole
    copied = [line for line in lines if len(line) > room]
    assert all(is_left_whole(line) for line in copied), copied
    missing = Counter(" ".join(whole).split()) - Counter(" ".join(lines).split())
    # measured anew by each run
    assert [word for word in missing if not word[0].isdigit()] == []


def is_left_whole(line: str) -> bool:
    """Say whether a line holds a command, or ends with a word that fits in no line."""
    return "bmz " in line or "pip " in line or len(line.rsplit(maxsplit=1)[-1]) > 60
