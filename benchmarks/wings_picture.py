"""Draws docs/images/wings.svg: the wings of the house and who imports whom, read from the code.

    python -m benchmarks.wings_picture

Every arrow points down. Which arrows there may be is held by `lint-imports`; this is how they look.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import grimp
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch

TARGET = Path(__file__).parents[1] / "docs/images/wings.svg"
GROUND = "ground"
FLOORS = (  # from the top
    ("cli",),
    ("demo", "testing"),
    ("integrations",),
    ("planning",),
    ("live",),
    ("answers", "files"),
    ("encoder", "ingestion"),
    ("training", "exact"),
    ("measure", "adapters"),
    ("contract",),
    (GROUND,),
)
PLACES = {
    name: ((place + 1) / (len(floor) + 1), len(FLOORS) - level)
    for level, floor in enumerate(FLOORS)
    for place, name in enumerate(floor)
}


def wing(module: str) -> str:
    if module.startswith("sparsevec_adapters"):
        return "adapters"
    name = module.partition(".")[2].partition(".")[0]
    name = {"__main__": "cli", "tables": "files"}.get(name, name)
    return name if name in PLACES else GROUND


def arrows() -> Counter[tuple[str, str]]:
    """How many imports lead from one wing to another."""
    graph = grimp.build_graph("sparsevec", "sparsevec_adapters")
    pairs = (
        (wing(module), wing(imported))
        for module in graph.modules
        if module != "sparsevec"  # the top loads names lazily
        for imported in graph.find_modules_directly_imported_by(module)
    )
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def main() -> None:
    found = arrows()
    figure, axes = plt.subplots(figsize=(9, 8))
    for (above, below), count in found.items():
        rising = PLACES[above][1] <= PLACES[below][1]
        arrow = FancyArrowPatch(
            PLACES[above],
            PLACES[below],
            arrowstyle="-|>",
            mutation_scale=10,
            shrinkA=22,
            shrinkB=22,
            connectionstyle="arc3,rad=0.08",
            linewidth=min(2.5, 0.4 + count / 20),
            color="#b3261e" if rising else "#8a9a98",
        )
        axes.add_patch(arrow)
    for name, (x, y) in PLACES.items():
        axes.text(
            x, y, name, ha="center", va="center", bbox={"boxstyle": "round,pad=0.5", "fc": "#e6f2f0", "ec": "#0b7a6f"}
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0.5, len(FLOORS) + 0.5)
    axes.axis("off")
    figure.savefig(
        TARGET, bbox_inches="tight", metadata={"Title": "The wings of sparsevec and who imports whom", "Date": None}
    )
    up = sorted(pair for pair in found if PLACES[pair[0]][1] <= PLACES[pair[1]][1])
    print(f"{len(found)} arrows between {len(PLACES)} wings; pointing up or across: {up or 'none'}. {TARGET}")


if __name__ == "__main__":
    main()
