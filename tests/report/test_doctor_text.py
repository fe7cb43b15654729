"""What the doctor says of means to shut code in."""

from __future__ import annotations

import json

import pytest

from bmz.report.doctor_text import DoctorView, doctor_json, doctor_rows


def view(**confinement: str) -> DoctorView:
    versions = {"bmz": "1", "python": "3.11"}
    return DoctorView(versions, "Linux", 2, None, "cache", 0, (), (), confinement)


@pytest.mark.parametrize(
    ("confinement", "told"),
    [
        ({"files": "", "calls": ""}, "of models that you trust runs shut in"),
        (
            {"files": "no Landlock", "calls": ""},
            "of models cannot be shut in here (no Landlock); only --trust=unconfined runs it",
        ),
        (
            {"files": "it has neither", "calls": "it has neither"},
            "of models cannot be shut in here (it has neither); only --trust=unconfined runs it",
        ),
    ],
)
def test_the_doctor_says_whether_code_can_be_shut_in(
    confinement: dict[str, str], told: str
) -> None:
    found = view(**confinement)

    assert dict(doctor_rows(found))["own code"] == told
    assert json.loads(doctor_json(found))["confinement"] == confinement
