"""Write the card of every bundled model, and of every package that tests run, and their index.

``python model_cards/make.py ../shared`` takes some minutes; cards go to ``model_cards/measured``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bmz.app.model_test import make_card
from bmz.report.tested_text import card_text
from bmz.results.models import CardView
from bmz.zoo.locate import starter_names

FOLDER = Path(__file__).parent / "measured"

TOP = """# Measured model cards

Cards that `bmz card` makes for the bundled models and for the packages used in the tests. `make
cards` writes them; each card gives its date and versions. Other cards describe how the bundled
models were trained and scored: [nuclei](../nuclei/README.md),
[nuclei-flows](../nuclei-flows/README.md), [nuclei-contour](../nuclei-contour/README.md).

| model | `bmz test` | formats that reproduce the test output | objects of the test input |
|---|---|---|---|
"""


def main() -> None:
    """Write all of them."""
    shared = Path(sys.argv[1])
    folders = sorted(path for path in (shared / "models").iterdir() if path.is_dir())
    words = [*(f"starter/{name}" for name in starter_names()), *map(str, folders)]
    FOLDER.mkdir(exist_ok=True)
    rows = []
    for word in words:
        card = make_card(word)
        name = Path(word).name
        (FOLDER / f"{name}.md").write_text(card_text(card), encoding="utf-8")
        rows.append(_row(name, card))
        print(rows[-1], flush=True)
    (FOLDER / "README.md").write_text(TOP + "\n".join(rows) + "\n", encoding="utf-8")


def _row(name: str, card: CardView) -> str:
    formats = ", ".join(f"`{speed.format}`" for speed in card.speeds) or "none"
    sizes = card.sizes
    objects = f"{sizes.count}, median {sizes.median_px:.0f} px" if sizes else "no labels"
    return f"| [{card.view.model.id}]({name}.md) | {card.tested.status} | {formats} | {objects} |"


if __name__ == "__main__":
    main()
