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
    {"axes": "yx", "channels": [1, 0], "pixel_um": {"y": 0.5, "x": 0.5}, "scale": "auto"},
    "yx", "uint8", 2, {"y": 0.5, "x": 0.5}, Range(10.0, 99.5), Range(3, 9), Range(7.5, 20.0),
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
        ("count = [3, 9]", 'count = "many"', "cannot be meant"),
        ("count = [3, 9]", "count = [3]", "two numbers"),
        ('sha256 = "', 'hash = "', "no 'hash'"),
        ("[model]", "[model", "line"),
    ],
)
def test_what_is_not_a_contract_is_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    path = written(contract_toml(FULL).replace(old, new), tmp_path)

    with pytest.raises(ContractUnreadable, match=words):
        read_contract(path)


def test_a_contract_without_its_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractUnreadable, match="a name and a sha256"):
        read_contract(written('schema = "bmz.contract/1"\n', tmp_path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractUnreadable, match=r"absent\.toml"):
        read_contract(tmp_path / "absent.toml")
