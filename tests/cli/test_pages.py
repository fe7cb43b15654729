"""Pages that are made from the commands are up to date, and the shell completes words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs.commands import commands_page, manual_page

from bmz.cli.main import COMMANDS
from bmz.testing.package import description, small_zoo, write_package

ROOT = Path(__file__).parents[2]
SHARE = ROOT / "share"
SCRIPTS = {
    "bash": SHARE / "bash-completion/completions/bmz",
    "zsh": SHARE / "zsh/site-functions/_bmz",
    "fish": SHARE / "fish/vendor_completions.d/bmz.fish",
}


def test_the_page_of_commands_is_that_of_the_code() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")

    assert page == commands_page()
    assert all(f"\n## bmz {name}\n" in page for name in COMMANDS)


def test_the_manual_page_is_that_of_the_code_and_clean() -> None:
    page = SHARE / "man/man1/bmz.1"

    assert page.read_text(encoding="utf-8") == manual_page()
    groff = shutil.which("groff")
    if groff is not None:
        done = subprocess.run(
            [groff, "-man", "-Tutf8", "-ww", page], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert "--pixel-size" in done.stdout


def bmz(**environment: str) -> str:
    return subprocess.run(
        [Path(sys.executable).parent / "bmz"], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    ).stdout  # fmt: skip


def offered(words: str, number: int, **environment: str) -> list[str]:
    told = bmz(
        _BMZ_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(number), **environment
    )
    return told.splitlines()


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_of_the_shells_are_those_that_click_writes(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("click asks bash for its version")

    assert SCRIPTS[shell].read_text(encoding="utf-8") == bmz(_BMZ_COMPLETE=f"{shell}_source")


def test_commands_options_and_bundled_models_are_offered() -> None:
    assert offered("bmz ch", 1) == ["plain,check"]
    assert "plain,--device" in offered("bmz run --de", 2)
    assert "plain,starter/nuclei-flows" in offered("bmz run star", 2)
    assert "plain,starter/nuclei" in offered("bmz compare a.tif -m star", 4)


def test_parameters_recipes_outputs_and_codes_are_offered() -> None:
    every = offered("bmz run m a.tif -o o --set prob", 7)
    assert "plain,prob_threshold=" in every
    stardist = offered("bmz run m a.tif -o o --recipe stardist --set ''", 9)
    assert "plain,nms_threshold=" in stardist
    assert "plain,remove_border=" in stardist
    assert "plain,flow_threshold=" not in stardist
    assert "plain,flow_threshold=" in offered("bmz compare a.tif -m m --sweep flow", 6)
    assert "plain,stardist" in offered("bmz run m a.tif --recipe star", 5)
    assert offered("bmz run m a.tif --save labels,tab", 5) == ["plain,labels,table"]
    assert "plain,channel.count" in offered("bmz check --explain channel.c", 3)


def test_files_are_offered_where_files_are_meant() -> None:
    assert offered("bmz check starter/nuclei ce", 3) == ["file,ce"]
    assert offered("bmz run ./mod", 2) == ["file,./mod"]


def test_models_of_the_list_that_was_read_are_offered_and_no_server_is_asked(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnx")
    write_package(tmp_path / "zoo" / "able-cat", description(halo=4))
    words = {"BMZ_CACHE_DIR": str(tmp_path / "cache"), "BMZ_OFFLINE": "0"}
    with small_zoo(tmp_path / "zoo") as served:
        words["BMZ_INDEX_URL"] = served.index_url
        before = offered("bmz show ab", 2, **words)
        asked = len(served.log)
        subprocess.run(
            [Path(sys.executable).parent / "bmz", "search"], check=True, capture_output=True,
            env={**os.environ, **words},
        )  # fmt: skip
        after = offered("bmz show ab", 2, **words)

    assert before == ["file,ab"]
    assert asked == 0
    assert after == ["plain,able-cat"]
