"""A contract is read as it was written, and nothing in it is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.check.contract import Contract, Range
from bmz.report.contract_text import ContractUnreadable, contract_toml, read_contract

FULL = Contract(
    "starter/nuclei", "a" * 64,
    {"axes": "yx", "channels": [1, 0], "pixel_um": {"y": 0.5, "x": 0.5}, "scale": "auto",
     "kind": "em,neurites"},
    "yx", "uint8", 2, {"y": 0.5, "x": 0.5}, Range(10.0, 99.5), Range(3, 9), Range(7.5, 20.0),
    "electron", "neurites",
)  # fmt: skip


def written(text: str, folder: Path) -> Path:
    (folder / "lab.toml").write_text(text, encoding="utf-8")
    return folder / "lab.toml"


@pytest.mark.parametrize("contract", [FULL, Contract("m", "b" * 64)], ids=["full", "bare"])
def test_a_contract_is_read_as_it_was_written(contract: Contract, tmp_path: Path) -> None:
    assert read_contract(written(contract_toml(contract), tmp_path)) == contract


@given(name=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_any_name_of_a_model_is_kept(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = written(contract_toml(Contract(name, "a" * 64)), tmp_path_factory.mktemp("c"))

    assert read_contract(path).model == name


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("bmz.contract/1", "bmz.contract/2", "schema"),
        ("[objects]", "[object]", "no part 'object'"),
        ("dtype", "dtyp", "no 'dtyp'"),
        ("count = [3, 9]", "count = [9, 3]", "lower one first"),
        ("count = [3, 9]", 'count = "many"', "is not a possible value"),
        ("count = [3, 9]", "count = [3]", "two numbers"),
        ('sha256 = "', 'hash = "', "no 'hash'"),
        ("[model]", "[model", "line"),
    ],
)
def test_what_is_not_a_contract_is_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    path = written(contract_toml(FULL).replace(old, new), tmp_path)

    with pytest.raises(ContractUnreadable, match=words):
        read_contract(path)


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("image", 'pixel_um = { y = 0.5, x = "0.5 um" }'),
        ("image", "pixel_um = { y = true }"),
        ("image", "channels = true"),
        ("image", "signal = [false, true]"),
        ("image", "signal = [nan, 1.0]"),
        ("words", "channels = [0, true]"),
        ("words", 'scale = "twice"'),
        ("words", "scale = [2.0]"),
        ("words", 'kind = "fluo"'),
        ("image", 'family = "em"'),
        ("image", 'structure = "axons"'),
    ],
)
def test_a_value_with_which_nothing_could_be_compared_is_refused(
    part: str, line: str, tmp_path: Path
) -> None:
    text = f"{contract_toml(Contract('m', 'a'))}[{part}]\n{line}\n"

    with pytest.raises(ContractUnreadable) as caught:
        read_contract(written(text, tmp_path))

    assert f"{part}.{line.split(maxsplit=1)[0]}" in caught.value.message
    assert caught.value.code == "contract.unreadable"
    assert "--lock lab.toml" in caught.value.hint


def test_lines_that_a_hand_may_write_are_read_as_they_are_meant(tmp_path: Path) -> None:
    text = contract_toml(Contract("m", "a")) + (
        "[image]\npixel_um = { y = 1 }\nsignal = [5, 5]\n"
        "[objects]\ncount = [1, inf]\n"
        "[words]\nscale = 2\n"
    )

    found = read_contract(written(text, tmp_path))

    assert found == Contract(
        "m", "a", {"scale": 2}, pixel_um={"y": 1},
        signal=Range(5, 5), objects=Range(1, float("inf")),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["a\nb = 1", "a\x7f", "\x1b[31m", 'a"b\\', "\x00", "# a"])
def test_a_name_with_signs_that_steer_cannot_break_the_file(name: str, tmp_path: Path) -> None:
    assert read_contract(written(contract_toml(Contract(name, "a")), tmp_path)).model == name


def test_what_asks_for_nothing_has_no_part() -> None:
    assert [line for line in contract_toml(Contract("m", "a")).splitlines() if "[" in line] == [
        "[model]"
    ]


def test_a_contract_without_its_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractUnreadable, match="a name and a sha256"):
        read_contract(written('schema = "bmz.contract/1"\n', tmp_path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractUnreadable, match=r"absent\.toml"):
        read_contract(tmp_path / "absent.toml")
