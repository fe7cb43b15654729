from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bmz.check.codes import CODES
from bmz.check.finding import Finding
from bmz.check.fit import Merits, fit_score, worst_of_code

shares = st.floats(0, 1)
merits = st.builds(Merits, shares, shares, shares, shares, shares)
findings = st.lists(
    st.builds(
        Finding,
        st.sampled_from([*CODES, "other.code"]),
        st.sampled_from(["error", "warning", "note"]),
        st.just("input0"),
        st.just("so it is"),
    )
)


@given(findings, findings, merits, st.booleans())
def test_more_findings_never_raise_the_score(
    some: list[Finding], more: list[Finding], earned: Merits, wished: bool
) -> None:
    fewer = fit_score(some, earned, wished=wished)

    assert fit_score([*some, *more], earned, wished=wished) <= fewer * (1 + 1e-12)
    assert 0.0 <= fewer <= 1.0 + 1e-12


@given(findings, merits, st.sampled_from(list(Merits.__dataclass_fields__)), shares)
def test_a_larger_merit_never_lowers_the_score(
    some: list[Finding], earned: Merits, name: str, share: float
) -> None:
    better = replace(earned, **{name: max(share, getattr(earned, name))})

    for wished in (False, True):
        worse = fit_score(some, earned, wished=wished)
        assert fit_score(some, better, wished=wished) >= worse * (1 - 1e-12)


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
