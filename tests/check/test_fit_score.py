from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.check.codes import CODES
from bmz.check.finding import Finding
from bmz.check.fit_score import Content, content_of, fit_score, structures_wanted, worst_of_code
from bmz.check.kind import ImageKind
from bmz.spec.made_for import MadeFor

NUCLEI = ImageKind({"fluorescence": 0.9, "electron": 0.1}, {"nuclei": 0.8, "cells": 0.2})
MEMBRANES = ImageKind({"fluorescence": 0.9, "electron": 0.1}, {"membranes": 0.7, "nuclei": 0.1})
PHOTOGRAPH = ImageKind({"not-microscopy": 0.95}, {"other": 0.9})

FLUORESCENT = MadeFor(("fluorescence",), ("nuclei",))

shares = st.floats(0, 1)
contents = st.builds(Content, shares, shares)
findings = st.lists(
    st.builds(
        Finding,
        st.sampled_from([*CODES, "other.code"]),
        st.sampled_from(["error", "warning", "note"]),
        st.just("input0"),
        st.just("so it is"),
    )
)


@given(findings, findings, contents, shares)
def test_more_findings_never_raise_the_score(
    some: list[Finding], more: list[Finding], content: Content, size: float
) -> None:
    fewer = fit_score(content, size, some)

    assert fit_score(content, size, [*some, *more]) <= fewer * (1 + 1e-12)
    assert 0.0 <= fewer <= 1.0 + 1e-12


@given(findings, contents, shares, shares)
def test_a_likelier_content_and_a_closer_size_never_lower_the_score(
    some: list[Finding], content: Content, size: float, share: float
) -> None:
    score = fit_score(content, size, some)

    likelier = replace(content, family=max(content.family, share))
    assert fit_score(likelier, size, some) >= score * (1 - 1e-12)
    assert fit_score(content, max(size, share), some) >= score * (1 - 1e-12)


@given(findings)
def test_the_worst_findings_come_first_and_each_code_once(some: list[Finding]) -> None:
    worst = worst_of_code(some)

    order = ["error", "warning", "note"]
    severities = [order.index(finding.severity) for finding in worst]
    assert severities == sorted(severities)
    assert {f.code for f in worst} == {f.code for f in some}
    assert len(worst) == len({f.code for f in worst})


def test_no_factor_of_a_code_is_above_1() -> None:
    assert max(known.factor or 0.0 for known in CODES.values()) <= 1.0


def test_what_the_model_is_made_for_outdoes_another_structure_and_that_another_family() -> None:
    right, structure, family = (
        content_of([NUCLEI], MadeFor(modalities, structures))
        for modalities, structures in (
            (("fluorescence",), ("nuclei",)),
            (("fluorescence",), ("bacteria",)),
            (("em",), ("nuclei",)),
        )
    )

    assert right.probability > structure.probability > 0
    assert family.is_another
    assert not right.is_another
    assert not structure.is_another


def test_a_structure_that_looks_like_the_one_wanted_counts_in_part() -> None:
    wanted = [("membranes",), ("cells",), ("mitochondria",)]
    right, near, far = (
        content_of([MEMBRANES], MadeFor(("fluorescence",), structures)).structure
        for structures in wanted
    )

    assert right > near > far


def test_of_two_models_for_a_kind_the_one_for_this_alone_is_worth_more() -> None:
    broad = MadeFor(("light",), ("nuclei", "cells"))

    several, single = (content_of([NUCLEI], made) for made in (broad, FLUORESCENT))

    assert single.probability > several.probability > 0.9 * single.probability


def test_a_model_for_several_modalities_is_for_an_image_that_may_be_of_either() -> None:
    half = ImageKind({"fluorescence": 0.3, "transmitted": 0.3, "electron": 0.4}, {"cells": 0.9})

    several, single = (content_of([half], MadeFor((word,), ("cells",))) for word in ("light", "he"))

    assert not several.is_another
    assert single.is_another


@pytest.mark.parametrize(("share", "is_another"), [(0.44, False), (0.37, True)])
def test_of_a_family_that_is_nearly_as_likely_as_the_likeliest_an_image_may_be(
    share: float, *, is_another: bool
) -> None:
    image = ImageKind({"transmitted": 0.45, "fluorescence": share}, {"cells": 0.9})

    assert content_of([image], MadeFor(("fluorescence",), ("cells",))).is_another == is_another
    assert not content_of([image], MadeFor((), ("cells",))).is_another


@pytest.mark.parametrize("modalities", [(), ("fluorescence",), ("photograph",)], ids=str)
def test_a_photograph_is_what_no_model_is_made_for_as_two_are_not_alike(
    modalities: tuple[str, ...],
) -> None:
    assert content_of([PHOTOGRAPH], MadeFor(modalities, ("leaves",))).is_another


def test_of_a_model_without_facts_and_of_an_image_without_content_nothing_is_said() -> None:
    silent, unseen = content_of([NUCLEI], MadeFor()), content_of([None], MadeFor(("em",)))

    assert not silent.is_another
    assert not unseen.is_another
    assert silent.probability < content_of([NUCLEI], MadeFor(("fluorescence",))).probability


def test_each_channel_of_a_model_is_asked_for_its_own_structure() -> None:
    made = MadeFor(("fluorescence",), ("cells",), channels=("cell membranes", "nuclei"))

    assert structures_wanted(made, 2) == (("membranes",), ("nuclei",))
    ordered = content_of([MEMBRANES, NUCLEI], made)
    assert ordered.structure > content_of([NUCLEI, MEMBRANES], made).structure
    assert content_of([MEMBRANES, None], made).structure > 0.5


def test_what_the_content_says_is_not_counted_twice() -> None:
    said = Finding("content.modality", "warning", "input0", "electron microscopy")

    assert fit_score(Content(0.5, 0.5), 1.0, [said]) == 0.25
