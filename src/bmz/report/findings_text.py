"""The findings as a page of the reference."""

from __future__ import annotations

from bmz.check.codes import CODES, FindingCode

INTRODUCTION = """# Findings

`bmz check` and `bmz run` say all findings of an image at once. Each has a code that never changes
its meaning. *Errors* stop the image, *warnings* ask you to look before you trust, *notes* tell what
is adapted or unknown. An image that fits gives neither errors nor warnings. With
`bmz check --strict` warnings count as errors; `bmz check --explain CODE` tells what stands here.

This page is made from the code: `python -m bmz.report.findings_text > docs/reference/findings.md`.
"""


def findings_page() -> str:
    """Give the page in Markdown."""
    return INTRODUCTION + "".join(_section(code, page) for code, page in CODES.items())


def _section(code: str, page: FindingCode) -> str:
    rows = (
        f"\n## {code}\n",
        f"*{page.severity}* - {page.cause}\n",
        f"**Cure.** {page.cure}\n",
        f"```\n{page.example}\n```",
    )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(findings_page(), end="")  # noqa: T201  (the one place where a module of this room is a program)
