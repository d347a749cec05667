"""Draw the accuracies of an ablation as a picture: chance, blind baselines, the expert alone, and the arms.

python benchmarks/ladder.py benchmarks/results/ablation.json docs/ladder.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

LABELS = {
    "random": "random",
    "first": "first option",
    "largest": "largest object",
    "same_size": "nearest size",
    "nearest_place": "nearest place",
    "nearest_color": "nearest color",
    "similarity": "expert alone (nearest features)",
    "no_tokens": "CoLVA without object tokens",
    "untrained": "CoLVA, untrained adapter",
    "stage1": "CoLVA with stage 1",
    "stage1_longer": "CoLVA with stage 1, more steps",
    "stage1_augmented": "CoLVA with stage 1 and augmentation",
}
BLIND = ("random", "first", "largest", "same_size", "nearest_place", "nearest_color")
COLORS = {"blind": "#9aa5b1", "similarity": "#d98c2b", "arm": "#2f6db3"}
SET_TITLES = {"generated": "other generated videos", "real": "other real images (COCO, MOT17)"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("record", type=Path, help="JSON of ablation.py")
    parser.add_argument("picture", type=Path, help="SVG or PNG to write")
    arguments = parser.parse_args()
    record = json.loads(arguments.record.read_text(encoding="utf-8"))
    draw(record, arguments.picture)


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the picture, with one panel for each set of held-out cases."""
    matplotlib.rcParams |= {"svg.hashsalt": "ladder", "font.size": 10, "svg.fonttype": "path"}
    sets = [name for name in SET_TITLES if name in record]
    figure, panels = plt.subplots(1, len(sets), figsize=(4.0 + 3.2 * len(sets), 4.2), sharey=True, squeeze=False)
    for panel, name in zip(panels[0], sets, strict=True):
        draw_panel(panel, record[name], record["chance"], SET_TITLES[name])
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


def draw_panel(panel: Axes, scores: dict[str, Any], chance: float, title: str) -> None:
    """One bar with its interval of 95 % for each player, over the line of chance."""
    arms = scores["arms"]
    names = [name for name in LABELS if name in arms]
    for row, name in enumerate(reversed(names)):
        kind = "blind" if name in BLIND else "similarity" if name == "similarity" else "arm"
        mean, low, high = (100 * arms[name][key] for key in ("mean", "low", "high"))
        panel.barh(row, mean, color=COLORS[kind], height=0.7)
        panel.plot([low, high], [row, row], color="black", linewidth=1.2)
        panel.text(high + 1.5, row, f"{mean:.1f}", va="center")
    panel.set_yticks(range(len(names)), [LABELS[name] for name in reversed(names)])
    panel.axvline(100 * chance, color="#b03030", linestyle="--", linewidth=1)
    panel.text(100 * chance, len(names) - 0.4, "chance", color="#b03030", ha="center", va="bottom", fontsize=9)
    panel.set_xlim(0, 105)
    panel.set_xlabel(f"accuracy, % of {scores['cases']['held_out']} cases")
    panel.set_title(title, pad=18, fontsize=10)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
