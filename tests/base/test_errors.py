"""Every error of bmz has a place in the tree, and crosses to another process as it is."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import bmz
from bmz.base.errors import AnswerIsNo, BmzError, CouldNotTell, WrongUsage, not_none
from bmz.base.files import FolderNotWritable


class NeedsFacts(WrongUsage):
    """An error that is made of facts, as all are."""

    def __init__(self, *, wanted: int, found: int) -> None:
        super().__init__(f"wanted {wanted}, found {found}", hint="count again", code="test.facts")
        self.found = found


def kinds(of: type[BmzError]) -> set[type[BmzError]]:
    return {of}.union(*(kinds(kind) for kind in of.__subclasses__()))


@pytest.mark.parametrize(
    ("kind", "status"), [(BmzError, 70), (AnswerIsNo, 1), (WrongUsage, 2), (CouldNotTell, 3)]
)
def test_the_kind_decides_the_exit_status(kind: type[BmzError], status: int) -> None:
    assert kind("m", hint="h", code="a.b").exit_status == status


def test_every_error_is_of_one_of_three_kinds() -> None:
    left_out = {"bmz.__main__"}
    if find_spec("torch") is None:  # without which nobody imports it
        left_out |= {"bmz.predict.known_networks", "bmz.predict.star_networks"}
    for module in pkgutil.walk_packages(bmz.__path__, "bmz."):
        if module.name not in left_out:
            importlib.import_module(module.name)

    found = {kind for kind in kinds(BmzError) - {BmzError} if kind.__module__.startswith("bmz.")}

    assert len(found) > 80
    for kind in found:
        bases = [base for base in (AnswerIsNo, WrongUsage, CouldNotTell) if issubclass(kind, base)]
        assert len(bases) == 1, kind
        assert kind.exit_status == bases[0].exit_status, kind


@pytest.mark.parametrize("crossing", [pickle.loads, copy.copy, copy.deepcopy])
def test_an_error_crosses_to_another_process_with_all_it_says(crossing: object) -> None:
    error = NeedsFacts(wanted=3, found=2)
    error.add_note("image 7")

    if crossing is pickle.loads:
        back = pickle.loads(pickle.dumps(error))  # noqa: S301  (made a line above)
    else:
        assert callable(crossing)
        back = crossing(error)

    assert type(back) is NeedsFacts
    assert str(back) == str(error) == "wanted 3, found 2 [test.facts]"
    assert (back.message, back.hint, back.code) == (
        "wanted 3, found 2",
        "count again",
        "test.facts",
    )
    assert (back.found, back.exit_status, back.args) == (2, 2, ("wanted 3, found 2",))
    assert back.__notes__ == ["image 7"]


def test_an_error_of_paths_and_causes_crosses_too() -> None:
    error = FolderNotWritable(Path("out"), PermissionError(13, "Permission denied"))

    back = pickle.loads(pickle.dumps(error))  # noqa: S301  (made a line above)

    assert str(back) == str(error)
    assert back.exit_status == 3


def test_what_is_changed_in_a_copy_does_not_reach_the_error() -> None:
    error = NeedsFacts(wanted=3, found=2)

    copy.copy(error).code = "other.code"

    assert error.code == "test.facts"


def test_a_value_that_must_be_there_and_is_not_is_a_fault_of_bmz() -> None:
    assert not_none(0) == 0

    with pytest.raises(TypeError, match="missing"):
        not_none(None)
