"""What steps and recipes refuse, before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest

from bmz.base.axes import Step
from bmz.check.contract import ImageFacts, contract_of
from bmz.process.ops import apply_steps
from bmz.process.ops_values import UnknownOp
from bmz.process.recipe import Parameter, ParameterRefused
from bmz.process.recipes import RECIPES
from bmz.process.relabel import ChannelsDiffer


def test_a_tensor_needs_a_letter_for_each_of_its_axes() -> None:
    with pytest.raises(ValueError, match="2 dimensions need as many letters, found 'x'"):
        apply_steps([], np.zeros((2, 3)), "x")


def test_a_channel_that_a_map_has_not_is_refused() -> None:
    with pytest.raises(ChannelsDiffer, match="channel 3"):
        RECIPES["components"].apply(
            np.zeros((2, 4, 4), np.float32),
            (1, 1),
            {"threshold": 0.5, "channel": 3, "diagonal": True},
        )


@pytest.mark.parametrize(
    ("text", "why"),
    [("many", "'many' is not a whole number"), ("-1", "is not"), ("9.5", "is not a whole number")],
)
def test_a_value_of_another_kind_or_out_of_range_is_refused(text: str, why: str) -> None:
    with pytest.raises(ParameterRefused, match=why):
        RECIPES["components"].parameters_from({}, {"channel": text})


def test_a_word_that_is_none_of_the_choices_is_refused() -> None:
    parameter = Parameter(
        "what is flooded", name="surface", default="auto", choices=("auto", "distance")
    )

    with pytest.raises(ParameterRefused, match="'blue' is not one of auto, distance"):
        parameter.within_range(RECIPES["contour"], "blue")
    assert parameter.within_range(RECIPES["contour"], "distance") == "distance"


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("off", False), ("1", True)])
def test_truths_are_said_in_several_words(word: str, value: bool) -> None:
    found = RECIPES["components"].parameters_from({}, {"diagonal": word})

    assert found["diagonal"] is value


def test_steps_that_nobody_knows_are_named() -> None:
    with pytest.raises(UnknownOp, match="no_such_step"):
        apply_steps([Step("no_such_step", {})], np.zeros(3), "x")


def test_a_contract_of_images_that_were_not_run_speaks_of_no_objects() -> None:
    facts = ImageFacts("yx", "uint8", 1, {}, 100.0)

    contract = contract_of("m", "a" * 64, {}, [facts])

    assert contract.objects is None
    assert contract.diameter_px is None
    assert not contract.runs
