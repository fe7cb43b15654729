"""Modules of JavaScript that become one script."""

from __future__ import annotations

from graphlib import CycleError
from importlib.resources import files

import pytest

from bmz.report.comparison_page import MODULES
from bmz.report.scripts import ModuleRefused, joined


def test_a_module_comes_after_those_that_it_imports() -> None:
    script = joined(
        {
            "page.js": 'import { twice, Box } from "./a-b.js";\ntwice(new Box());\n',
            "a-b.js": "// about it\nexport const twice = (x) => 2 * x;\nexport class Box {}\n",
        }
    )

    assert script == (
        "const $a_b = (() => {\nconst twice = (x) => 2 * x;\nclass Box {}\n"
        "return { twice, Box };\n})();\n"
        "const $page = (() => {\nconst { twice, Box } = $a_b;\ntwice(new Box());\n"
        "return {  };\n})();\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        'import "./other.js";\n',
        'import all from "./other.js";\n',
        "export default 1;\n",
        'export { one } from "./other.js";\n',
    ],
)
def test_an_import_or_export_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ModuleRefused, match="cannot join"):
        joined({"a.js": text, "other.js": ""})


def test_a_module_that_is_not_there_is_named_and_a_circle_is_refused() -> None:
    with pytest.raises(ModuleRefused, match=r"no module b\.js"):
        joined({"a.js": 'import { b } from "./b.js";\n'})
    with pytest.raises(CycleError):
        joined(
            {
                "a.js": 'import { b } from "./b.js";\n',
                "b.js": 'import { a } from "./a.js";\nexport const b = 1;\n',
            }
        )


def test_the_page_of_a_comparison_has_each_of_its_modules_and_those_of_the_viewer() -> None:
    report = files("bmz.report")
    there = {
        file.name: file.read_text(encoding="utf-8")
        for folder in ("assets", "viewer")
        for file in (report / folder).iterdir()
        if file.name.endswith(".js")
    }

    assert set(MODULES) == set(there)
    assert "</script" not in joined(there)
