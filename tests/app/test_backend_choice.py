"""Which framework runs a network on a CPU, and what the first tile of an image has to say."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.app.run import plan_run, run
from bmz.base.arrays import AnyArray
from bmz.base.progress import Event, Note, nobody
from bmz.engine import network_choice as choice_module
from bmz.engine.earlier_runs import replayed
from bmz.engine.labelling import decide_labelling
from bmz.engine.load import load_model
from bmz.engine.network_choice import (
    CHOICES,
    Mistranslated,
    NetworkChoice,
    choice_key,
    decide_precision,
    measure_trials,
)
from bmz.engine.request import PrecisionOption, RunRequest
from bmz.engine.setup import prepare
from bmz.engine.tile_gate import FIRST_IMAGES, MOST_TILES, GatedBackend, TileCase
from bmz.plan.weights_choice import PrecisionChoice, Trial, Way, choose_precision
from bmz.predict import formats
from bmz.predict.backend import CPU, NetworkFailed, NoBackend
from bmz.results.images import ImagePlan
from bmz.testing.backend import FakeBackend
from bmz.testing.package import write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

NATIVE, WHOLE, HALF = Way("float32"), Way("float32", "openvino"), Way("bfloat16", "openvino")


def squares(*, moved: int = 0) -> AnyArray:
    image = np.zeros((1, 1, 64, 64), np.float32)
    for y in range(4, 60, 16):
        image[..., y : y + 10, 4 + moved : 24 + moved] = 1
    return image


def trial(way: Way, took_s: float, f1: float = 1.0) -> Trial:
    return Trial(way.precision, took_s, f1, way.backend)


@pytest.mark.parametrize(
    ("whole", "half", "chosen"),
    [
        ((0.9, 1.0), (0.4, 1.0), HALF),
        ((0.9, 1.0), (0.4, 0.98), WHOLE),
        ((0.9, 1.0), (0.85, 1.0), WHOLE),  # no tenth faster than the faster float32
        ((0.98, 1.0), (0.4, 0.5), NATIVE),
        ((0.5, 0.98), (0.4, 0.5), NATIVE),
        ((1.5, 1.0), (0.95, 1.0), NATIVE),
    ],
)
def test_the_fastest_that_gives_the_same_labels_is_chosen(
    whole: tuple[float, float], half: tuple[float, float], chosen: Way
) -> None:
    choice = choose_precision([trial(NATIVE, 1.0), trial(WHOLE, *whole), trial(HALF, *half)])

    assert Way(choice.name, choice.backend) == chosen
    assert choice.gated == (chosen == HALF)
    assert "float32 by openvino" in choice.why
    assert "bfloat16 by openvino" in choice.why


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetworkChoice:
    folder = write_package(tmp_path / "model").parent
    described = json.loads((folder / "bioimageio.yaml").read_text())
    for tensors in ("inputs", "outputs"):
        np.save(folder / f"test_{tensors}_0.npy", squares())
        described[tensors][0]["test_tensor"].pop("sha256")
    (folder / "bioimageio.yaml").write_text(json.dumps(described))
    model = load_model(str(folder))
    labelling = decide_labelling(model, recipe=None, settings={})
    monkeypatch.setenv("BMZ_BACKEND", "auto")
    return NetworkChoice(model, model.weights[0], CPU, labelling, (tmp_path / "notes",))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Way]:
    """Pretend that OpenVINO is here and computes in bfloat16; list what was opened."""
    seen: list[Way] = []
    clock = iter(range(10**6))

    def open_network(*_: object, precision: str, backend: str, **__: object) -> FakeBackend:
        seen.append(Way(precision, backend))
        return FakeBackend(lambda inputs: [inputs[0] * (0.9 if precision == "bfloat16" else 1)])

    own = formats.FORMATS["onnx"]
    entry = replace(own, module="bmz", weighed=lambda _: ("float32", "bfloat16"))
    monkeypatch.setattr(formats, "OTHERS", {"onnx": {"openvino": entry}})
    monkeypatch.setattr(choice_module, "open_network", open_network)
    monkeypatch.setattr(time, "process_time", lambda: float(next(clock)))
    return seen


def test_on_a_cpu_both_frameworks_are_measured_once_and_it_is_told(
    network: NetworkChoice, opened: list[Way]
) -> None:
    told: list[Event] = []

    before = decide_precision("auto", network, measure=False)
    first = decide_precision("auto", network, listener=told.append)
    again = decide_precision("auto", network)
    whole = decide_precision("float32", network, measure=False)

    assert before.name == "auto"
    assert opened == [NATIVE, WHOLE, HALF]
    assert again == first
    assert first.why.count("F1 1.000") == 2
    assert whole.name == "float32"  # measured with the rest
    assert "bfloat16" not in whole.why
    assert [isinstance(event, Note) and "measured" in event.text for event in told] == [True]


def test_without_labels_float32_is_compared_by_numbers_and_nothing_less_is_taken(
    network: NetworkChoice, opened: list[Way]
) -> None:
    none = decide_labelling(network.model, recipe="none", settings={})

    choice = decide_precision("auto", replace(network, labelling=none))

    assert choice.name == "float32"
    assert "the same numbers" in choice.why
    assert "bfloat16" not in choice.why
    assert not choice.gated
    assert HALF in opened


def test_other_numbers_of_float32_are_not_taken() -> None:
    given = {NATIVE: squares(), WHOLE: squares() + 0.01}

    trials = measure_trials(
        lambda way: FakeBackend(lambda _: [given[way]]), [squares()], [NATIVE, WHOLE], None
    )

    assert [trial.f1 for trial in trials] == [1, 0]
    assert choose_precision(trials).backend == ""
    assert "other numbers" in choose_precision(trials).why


def test_a_framework_that_does_not_import_is_left_out_with_a_word(
    network: NetworkChoice, opened: list[Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> tuple[()]:
        raise NoBackend("onnx", "openvino cannot be imported", "pip install")

    entry = replace(formats.OTHERS["onnx"]["openvino"], weighed=broken)
    monkeypatch.setattr(formats, "OTHERS", {"onnx": {"openvino": entry}})
    told: list[Event] = []

    choice = decide_precision("auto", network, listener=told.append)

    assert (choice.name, choice.backend, opened) == ("float32", "", [])
    assert [event.kind for event in told if isinstance(event, Note)] == ["warning"]


def test_a_word_for_one_framework_leaves_nothing_to_measure_in_float32(
    network: NetworkChoice, opened: list[Way]
) -> None:
    one = replace(network, backend="openvino")

    assert decide_precision("float32", one) == PrecisionChoice("float32", "", "openvino")
    assert opened == []


def gated(low: AnyArray) -> tuple[GatedBackend, list[Way]]:
    """Give a network whose bfloat16 gives `low`, and float32 its input; and what was opened."""
    seen: list[Way] = []

    def opener(way: Way) -> FakeBackend:
        seen.append(way)
        return FakeBackend(lambda inputs: [low if way == HALF else inputs[0]])

    choice = PrecisionChoice("bfloat16", "on the test input", "openvino", gated=True)
    return GatedBackend(opener, choice), seen


def case(network: NetworkChoice, kind: str = "a", told: list[Event] | None = None) -> TileCase:
    return TileCase(network, f"{kind}.tif", f"key of {kind}", (told or []).append)


def in_float32(network: NetworkChoice) -> None:
    """Let float32 be measured already."""
    CHOICES.keep(
        network.notes[-1], choice_key(network, "float32"), PrecisionChoice("float32", "measured")
    )


@pytest.mark.usefixtures("opened")
def test_a_first_tile_that_agrees_is_asked_once_for_a_kind_of_image(
    network: NetworkChoice,
) -> None:
    in_float32(network)
    backend, seen = gated(squares() * 0.9)

    backend.expect(case(network))
    outputs = [backend.run([squares()]) for _ in range(3)]
    again, later = gated(squares())
    again.expect(case(network))
    again.run([squares()])

    assert seen == [HALF, NATIVE]
    assert all(np.array_equal(found[0], squares() * 0.9) for found in outputs)
    assert backend.choice.name == "bfloat16"
    assert backend.choice.why.endswith("on tiles of 'a.tif' F1 1.000")
    assert later == [HALF]
    assert again.choice == backend.choice


@pytest.mark.usefixtures("opened")
def test_a_first_tile_that_differs_is_run_in_float32_with_the_rest_of_its_image(
    network: NetworkChoice,
) -> None:
    in_float32(network)
    told: list[Event] = [Note("before")]
    backend, _ = gated(squares(moved=3))

    backend.expect(case(network, told=told))
    first, second = (backend.run([squares()])[0] for _ in range(2))
    choice = backend.choice
    backend.expect(case(network, "b"))
    other = backend.choice
    backend.expect(case(network))

    assert np.array_equal(first, squares())
    assert np.array_equal(second, squares())
    assert (choice.name, choice.backend, choice.gated) == ("float32", "", False)
    assert "F1 0.000" in choice.why
    assert other.name == "bfloat16"  # images of another kind have a first tile of their own
    assert backend.choice.name == "float32"
    assert isinstance(told[-1], Note)
    assert "float32" in told[-1].text
    assert told[-1].text.endswith("so do all further images like it")


def image_of(network: NetworkChoice, number: int) -> TileCase:
    return TileCase(network, f"{number}.tif", "one key", nobody)


def after(backend: GatedBackend, case: TileCase, tile: AnyArray) -> PrecisionChoice:
    """Return the choice for an image of one tile, once it has run."""
    backend.expect(case)
    backend.run([tile])
    return backend.choice


def half_network(precise: dict[int, bool], ran: list[int]) -> GatedBackend:
    """Return a network whose bfloat16 moves the objects of some images, which hold their number.

    Parameters
    ----------
    precise : number of an image -> whether bfloat16 shows its objects where they are
    ran : receives the number of each image that runs in float32
    """

    def opener(way: Way) -> FakeBackend:
        def answer(inputs: Sequence[AnyArray]) -> list[AnyArray]:
            number = -int(inputs[0][0, 0, 0, 0])
            mask = np.where(inputs[0] == 1, np.float32(1), np.float32(0))
            if way == NATIVE:
                ran.append(number)
                return [mask]
            return [mask if precise.get(number, True) else np.roll(mask, 3, -1)]

        return FakeBackend(answer)

    return GatedBackend(opener, PrecisionChoice("bfloat16", "tested", "openvino", gated=True))


def tile_of(number: int) -> AnyArray:
    """Return a tile with a number in its corner, which is no object."""
    tile = squares()
    tile[0, 0, 0, 0] = -number
    return tile


@pytest.mark.usefixtures("opened")
def test_of_many_images_the_first_are_compared_and_then_fewer_and_fewer(
    network: NetworkChoice,
) -> None:
    in_float32(network)
    ran: list[int] = []
    backend = half_network({}, ran)

    choices = [after(backend, image_of(network, n), tile_of(n)) for n in range(1, 71)]
    backend.close()
    again = half_network({}, ran)
    known = after(again, image_of(network, 3), tile_of(3))
    later = [after(again, image_of(network, n), tile_of(n)) for n in range(71, 130)]

    assert ran == [*range(1, FIRST_IMAGES + 1), 16, 32, 64, 128]
    assert {choice.name for choice in (*choices, known, *later)} == {"bfloat16"}
    assert choices[1].why == "tested; on tiles of '2.tif' F1 1.000"
    assert choices[9].why == "tested; on tiles of images like it F1 1.000 (8 compared)"
    assert known == choices[2]


@pytest.mark.usefixtures("opened")
def test_many_objects_that_differ_on_later_images_end_the_lower_precision(
    network: NetworkChoice,
) -> None:
    in_float32(network)
    ran: list[int] = []
    backend = half_network({5: False, 7: False}, ran)

    choices = [after(backend, image_of(network, n), tile_of(n)) for n in range(1, 11)]
    again = after(half_network({}, ran), image_of(network, 20), tile_of(20))

    assert [choice.name for choice in choices] == ["bfloat16"] * 4 + ["float32"] * 6
    assert again.name == "float32"
    assert "F1" in again.why


@pytest.mark.usefixtures("opened")
def test_one_object_that_differs_puts_only_its_image_into_float32(network: NetworkChoice) -> None:
    in_float32(network)
    told: list[Event] = []

    def opener(way: Way) -> FakeBackend:
        def answer(inputs: Sequence[AnyArray]) -> list[AnyArray]:
            mask = inputs[0].copy()
            if way != NATIVE and mask[0, 0, 63, 63] == 1:  # the second image
                mask[0, 0, :16] = np.roll(mask[0, 0, :16], 3, -1)
            return [mask]

        return FakeBackend(answer)

    choice = PrecisionChoice("bfloat16", "tested", "openvino", gated=True)
    backend = GatedBackend(opener, choice)
    second = squares()
    second[0, 0, 63, 63] = 1
    names = [
        after(backend, TileCase(network, f"{n}.tif", "one key", told.append), tile).name
        for n, tile in enumerate((squares(), second, squares()))
    ]

    assert names == ["bfloat16", "float32", "bfloat16"]
    assert [note.text.partition(",")[0] for note in told if isinstance(note, Note)] == [
        "1.tif: running in float32"
    ]


SMALL = [*range(1, FIRST_IMAGES + 1), 16, 32]
"""Tiles of which a whole one is compared, of 40."""

LARGE = [1, 4, 16]
"""Tiles of which the middle is compared, of 40."""


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("wrong", [None, 4, 16])
@pytest.mark.parametrize(("side", "due"), [(64, SMALL), (1200, LARGE)], ids=["planes", "tiles"])
def test_of_many_tiles_of_an_image_some_later_ones_are_compared(
    network: NetworkChoice, wrong: int | None, side: int, due: list[int]
) -> None:
    in_float32(network)
    compared: list[int] = []
    told: list[Event] = []
    outputs: list[AnyArray] = []

    def opener(way: Way) -> FakeBackend:
        def answer(inputs: Sequence[AnyArray]) -> list[AnyArray]:
            number = len(outputs) + 1
            if way == NATIVE and number not in compared:
                compared.append(number)
            moves = way != NATIVE and wrong is not None and number >= wrong
            return [np.roll(inputs[0], 3, -1) if moves else inputs[0]]

        return FakeBackend(answer)

    tile = squares() if side == squares().shape[-1] else large(568)
    backend = GatedBackend(opener, PrecisionChoice("bfloat16", "tested", "openvino", gated=True))
    backend.expect(TileCase(network, "stack.tif", "one key", told.append))
    for _ in range(40):
        outputs += backend.run([tile])

    assert all(np.array_equal(output, tile) for output in outputs)
    last = 40 if wrong is None else wrong
    rest = [] if wrong is None else list(range(wrong, 41))  # in float32, all of them
    assert compared == [n for n in due if n < last] + rest
    assert backend.choice.name == ("bfloat16" if wrong is None else "float32")
    if wrong is not None:
        assert backend.choice.why.endswith(f", from tile {wrong} on")
        assert isinstance(told[-1], Note)
        assert f"gives different labels on tile {wrong} (F1 0.000)" in told[-1].text


@pytest.mark.usefixtures("opened")
def test_arrays_share_a_name_and_are_compared_one_by_one(network: NetworkChoice) -> None:
    in_float32(network)
    ran: list[int] = []
    backend = half_network({2: False}, ran)
    unnamed = TileCase(network, "", "one key", nobody)

    backend.expect(unnamed)
    for _ in range(2 * FIRST_IMAGES):  # a stack, of which several planes are compared
        backend.run([tile_of(1)])
    names = [after(backend, unnamed, tile_of(number)).name for number in (1, 2)]

    assert names == ["bfloat16", "float32"]


def large(at: int, *, moved: int = 0) -> AnyArray:
    """Give a tile of 1200 px with objects around one place."""
    tile = np.zeros((1, 1, 1200, 1200), np.float32)
    tile[..., at : at + 64, at : at + 64] = squares(moved=moved)
    return tile


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(
    ("at", "moved", "sides"),
    [(600, 0, [384]), (600, 3, [384, 1200]), (0, 0, [384, 1200]), (0, 3, [384, 1200])],
    ids=["the middle agrees", "the middle differs", "the border agrees", "the border differs"],
)
def test_of_a_large_tile_the_middle_is_run_in_float32_and_the_rest_where_that_is_empty(
    network: NetworkChoice, at: int, moved: int, sides: list[int]
) -> None:
    in_float32(network)
    tile, ran = large(at), []

    def opener(way: Way) -> FakeBackend:
        def answer(inputs: Sequence[AnyArray]) -> list[AnyArray]:
            if way == NATIVE:
                ran.append(inputs[0].shape[-1])
                return list(inputs)
            return [np.roll(inputs[0], moved, -1)]

        return FakeBackend(answer)

    backend = GatedBackend(opener, PrecisionChoice("bfloat16", "", "openvino", gated=True))
    backend.expect(case(network))
    (first,) = backend.run([tile])

    assert ran == sides
    assert backend.choice.name == ("float32" if moved else "bfloat16")
    np.testing.assert_array_equal(first, tile)


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(
    ("size", "most"), [((64, 64), FIRST_IMAGES), ((1200, 1200), 2 * MOST_TILES)]
)
def test_tiles_without_an_object_say_nothing_and_are_few(
    network: NetworkChoice, size: tuple[int, int], most: int
) -> None:
    in_float32(network)
    runs: list[Way] = []

    def opener(way: Way) -> FakeBackend:
        def answer(inputs: Sequence[AnyArray]) -> list[AnyArray]:
            runs.append(way)
            return [inputs[0]]

        return FakeBackend(answer)

    choice = PrecisionChoice("bfloat16", "", "openvino", gated=True)
    backend = GatedBackend(opener, choice)

    backend.expect(case(network))
    for _ in range(15):
        backend.run([np.zeros((1, 1, *size), np.float32)])

    assert runs.count(NATIVE) == most
    assert backend.choice == choice


def image_file(folder: Path) -> Path:
    path = folder / "a.tif"
    tifffile.imwrite(path, squares()[0, 0], ome=True, metadata={"axes": "YX"})
    return path


def test_record_and_plan_name_what_ran_and_a_record_is_repeated_with_it(
    tmp_path: Path, network: NetworkChoice
) -> None:
    openvino = pytest.importorskip("bmz.predict.openvino")
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    if "bfloat16" not in openvino.openvino_precisions(CPU):
        pytest.skip("this processor does not compute in bfloat16")
    image = image_file(tmp_path)
    request = RunRequest(str(network.model.folder), (image,), tmp_path / "out")
    setup = prepare(request, measure=False)
    chosen = PrecisionChoice("bfloat16", "for a test", "openvino", gated=True)
    CHOICES.keep(setup.network.notes[-1], choice_key(setup.network, "auto"), chosen)

    (planned,) = plan_run(request)
    (done,) = run(request).done
    other = replace(request, folder=tmp_path / "native", backend="native")
    (native,) = run(other).done

    assert isinstance(planned, ImagePlan)
    assert planned.plan.describe()[0] == "weights onnx on cpu in bfloat16 by openvino, batch 1"
    plan = done.record["plan"]
    assert (plan["precision"], plan["backend"]) == ("bfloat16", "openvino")
    assert plan["precision_why"] == "for a test; on tiles of 'a.tif' F1 1.000"
    assert done.record["backend"].startswith("openvino")
    assert (native.record["plan"]["backend"], native.objects) == ("native", done.objects)
    again = replayed(done.files["record"], replace(request, folder=tmp_path / "again"))
    assert (again.precision, again.backend) == ("bfloat16", "openvino")


def test_a_network_that_fails_in_one_framework_runs_in_the_other(
    network: NetworkChoice, opened: list[Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_network(*_: object, backend: str, **__: object) -> FakeBackend:
        if backend:
            raise NetworkFailed("openvino", "", "an operator is missing")
        return FakeBackend(list)

    monkeypatch.setattr(choice_module, "open_network", open_network)

    choice = decide_precision("auto", network)

    assert (choice.name, choice.backend) == ("float32", "")
    assert choice.why.endswith("nothing else could run")
    assert opened == []


def test_a_framework_of_other_numbers_is_out_in_every_precision_whatever_its_labels() -> None:
    given = {NATIVE: squares(), WHOLE: squares() + 0.01, HALF: squares()}

    trials = measure_trials(
        lambda way: FakeBackend(lambda _: [given[way]]),
        [squares()],
        [NATIVE, WHOLE, HALF],
        lambda outputs: np.asarray(outputs[0][0, 0] > 0.5, np.int32),
    )

    assert [(trial.f1, trial.by_numbers) for trial in trials] == [(1, False), (0, True), (0, True)]
    assert choose_precision(trials).backend == ""


@pytest.fixture
def translating(monkeypatch: pytest.MonkeyPatch, opened: list[Way]) -> list[Way]:
    """Pretend that OpenVINO reads the weights of another framework."""
    entry = replace(
        formats.OTHERS["onnx"]["openvino"],
        translates=True,
        precisions=lambda _: ("float32", "bfloat16"),
    )
    monkeypatch.setattr(formats, "OTHERS", {"onnx": {"openvino": entry}})
    return opened


@pytest.mark.parametrize("word", ["float32", "bfloat16", "auto"])
def test_a_translation_that_does_not_give_the_test_output_is_refused_once_for_all(
    network: NetworkChoice, translating: list[Way], word: PrecisionOption
) -> None:
    one = replace(network, backend="openvino")
    np.save(network.model.folder / "test_outputs_0.npy", squares() * 0.9)

    for _ in range(2):
        with pytest.raises(Mistranslated, match="does not reproduce the test output") as raised:
            decide_precision(word, one)

    assert translating == [WHOLE]
    assert raised.value.hint == "--backend native"


@pytest.mark.parametrize("tensor", ["test_inputs_0.npy", "test_outputs_0.npy"])
def test_a_translation_without_test_tensors_is_refused(
    network: NetworkChoice, translating: list[Way], tensor: str
) -> None:
    (network.model.folder / tensor).unlink()

    with pytest.raises(Mistranslated, match="none to compare with"):
        decide_precision("float32", replace(network, backend="openvino"))

    assert translating == []


def test_a_translation_that_gives_the_test_output_runs(
    network: NetworkChoice, translating: list[Way]
) -> None:
    one = replace(network, backend="openvino")

    choices = [decide_precision("float32", one) for _ in range(2)]

    assert {choice.backend for choice in choices} == {"openvino"}
    assert translating == [WHOLE]
