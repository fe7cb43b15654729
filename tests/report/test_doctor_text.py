"""What the doctor says of means to shut code in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bmz.report.computer_text import doctor_json, doctor_rows
from bmz.results.models import DoctorView, FormatView


def view(**confinement: str) -> DoctorView:
    versions = {"bmz": "1", "python": "3.11"}
    return DoctorView(versions, "Linux", 2, None, "cache", 0, (), (), confinement)


@pytest.mark.parametrize(
    ("confinement", "told"),
    [
        ({"files": "", "calls": ""}, "of models that you trust runs in a sandbox"),
        (
            {"files": "no Landlock", "calls": ""},
            (
                "of models cannot be sandboxed here (no Landlock); it runs only with "
                "--trust=unconfined"
            ),
        ),
        (
            {"files": "it has neither", "calls": "it has neither"},
            (
                "of models cannot be sandboxed here (it has neither); it runs only with "
                "--trust=unconfined"
            ),
        ),
    ],
)
def test_the_doctor_says_whether_code_can_be_shut_in(
    confinement: dict[str, str], told: str
) -> None:
    found = view(**confinement)

    assert dict(doctor_rows(found))["own code"] == told
    assert json.loads(doctor_json(found))["confinement"] == confinement


@pytest.mark.parametrize(
    ("cpus", "memory", "told"),
    [
        (1, 2**30, "1 processor core available, 1.0 GiB of memory"),
        (16, 137_170_000_000, "16 processor cores available, 127.7 GiB of memory"),
        (2, None, "2 processor cores available, unknown of memory"),
    ],
)
def test_cores_and_memory_are_counted(cpus: int, memory: int | None, told: str) -> None:
    found = replace(view(), cpus=cpus, memory_bytes=memory, cache_bytes=1_250_000)

    rows = dict(doctor_rows(found))

    assert rows["computer"] == told
    assert rows["cache"] == "cache (1.2 MB)"


@pytest.mark.parametrize(
    ("changes", "rows", "runs"),
    [
        ({}, [("onnx", "onnxruntime 1.20 on cpu, cuda:0")], True),
        ({"devices": ()}, [], False),
        ({"trouble": "it does not import"}, [("onnx", "it does not import")], False),
        (
            {"version": None, "devices": ()},
            [("onnx", "no onnxruntime"), ("", "to install it: pip install x")],
            False,
        ),
    ],
    ids=["runs", "no device", "broken", "missing"],
)
def test_a_format_runs_only_with_a_device_and_without_trouble(
    changes: dict[str, Any], rows: list[tuple[str, str]], runs: bool
) -> None:
    onnx = FormatView("onnx", "onnxruntime", "1.20", ("cpu", "cuda:0"), "", "pip install x")
    missing = FormatView("keras_v3", "keras", None, (), "", "pip install y")
    found = replace(view(), formats=(replace(onnx, **changes), missing))

    assert doctor_rows(found)[4 : 4 + len(rows)] == rows
    assert found.runs_something == runs
