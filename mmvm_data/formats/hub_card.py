"""The card of a data set: README.md with metadata for the hub, and figures.

The block at the top follows the hub's specification of data set cards (huggingface.co/docs/hub/datasets-cards).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmvm_data.builders import SOURCES
from mmvm_data.cases.statistics import Stats
from mmvm_data.core.case_facts import source_name
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import MATCH_TYPES, Case
from mmvm_data.core.version import __version__
from mmvm_data.io import media

_MAX_FIGURES = 4
_FIGURE_HEIGHT = 360
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass
class CardFacts:
    """Facts for the card, collected case by case.

    Attributes:
        stats: counts.
        ids: ids of the cases.
        figures: for each figure the source, a caption, and the marked images, each a path and the bytes of its file.
        versions: how many cases have which seed and versions.
    """

    stats: Stats = field(default_factory=Stats)
    ids: set[str] = field(default_factory=set)
    figures: list[tuple[str, str, list[tuple[str, bytes]]]] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)

    def add(self, case: Case, marked: list[dict[str, Any]]) -> None:
        """Add a case and its marked images (structs with ``bytes``)."""
        self.stats.add_case(case)
        self.ids.add(case.id)
        if case.provenance:
            versions = ", ".join(f"{k} {v}" for k, v in sorted(case.provenance.versions.items()))
            self.versions[f"seed {case.provenance.seed}; {versions}"] += 1
        sources = {name for name, _, _ in self.figures}
        if len(self.figures) < _MAX_FIGURES and (source_name(case) not in sources or len(sources) == 1):
            self.figures.append(
                (source_name(case), _caption(case), [(image["path"], image["bytes"]) for image in marked])
            )


def write_card(folder: Path, facts: CardFacts, split: str, sizes: list[int], build: dict[str, Any] | None) -> None:
    """Write README.md and figures/.

    Args:
        folder: folder of the data set.
        facts: facts of all cases.
        split: name of the split.
        sizes: size of each Parquet file in bytes.
        build: content of build.json, or None.

    Raises:
        OSError: the folder cannot be written.
    """
    (folder / "figures").mkdir()
    lines = []
    for number, (_, words, images) in enumerate(facts.figures):
        name = f"figures/case{number}.jpg"
        (folder / name).write_bytes(_side_by_side(images))
        lines += [f"![Marked images of a case]({name})", "", f"*{words}*", ""]
    text = "\n".join([*_metadata_lines(facts, split, sizes), *_body_lines(facts, build, lines)])
    (folder / "README.md").write_text(text + "\n", encoding="utf-8")


def _metadata_lines(facts: CardFacts, split: str, sizes: list[int]) -> list[str]:
    count = len(facts.ids)
    size = next((name for limit, name in _SIZES if count < limit), "n>1M")
    return [
        "---",
        "pretty_name: Visual correspondence",
        "license: other",
        "license_name: of-its-sources",
        "task_categories:",
        "- visual-question-answering",
        "- multiple-choice",
        "language:",
        "- en",
        "tags:",
        "- visual-correspondence",
        "- mmvm",
        f"size_categories:\n- {size}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        f"  - split: {split}",
        f"    path: data/{split}-*.parquet",
        "dataset_info:",
        "  splits:",
        f"  - name: {split}",
        f"    num_examples: {count}",
        f"    num_bytes: {sum(sizes)}",
        f"  download_size: {sum(sizes)}",
        "---",
        "",
    ]


def _body_lines(facts: CardFacts, build: dict[str, Any] | None, figures: list[str]) -> list[str]:
    stats = facts.stats
    return [
        "# Visual correspondence",
        "",
        "Which of the numbered objects in the last image is the one that is marked in cyan in the first? Each case has "
        "its images clean and marked, the regions, the question, options, answer, match types and where it comes from.",
        "",
        size_line(stats),
        "",
        *figures,
        *license_lines(stats),
        *histogram_lines(stats),
        "## Columns",
        "",
        "| column | |",
        "|---|---|",
        "| `images`, `marked_images` | clean, and with the query's contour or the candidates' numbers |",
        "| `query`, `candidates` | regions: COCO run lengths (`size`, `rle`) or `box` (x, y, width, height), identity, "
        "category |",
        "| `question`, `choices`, `options` | the text up to the choices; these as lines and as letters with numbers |",
        "| `answer`, `answer_number` | letter; number of the candidate, null for none |",
        "| `match_types` | 1 to 8: what tells the object from the others |",
        "| `source`, `video`, `gap`, `look_alikes`, `visible` | where it comes from; frames between the images; "
        "candidates of the query's category; objects in the last image |",
        "| `rest` | what else the case's record says, as JSON |",
        "",
        "## How it was made",
        "",
        f"With mmvm-data {__version__}. A case is a function of seed, source, video and ordinal.",
        "",
        *(f"- {words}: {pluralize(count, 'case')}" for words, count in facts.versions.most_common(5)),
        *_build_lines(build),
    ]


def _build_lines(build: dict[str, Any] | None) -> list[str]:
    request = (build or {}).get("request")
    if not isinstance(request, dict):
        return []
    shown = {name: value for name, value in request.items() if name not in ("root", "versions")}
    return ["", "Options of the build:", "", "```json", json.dumps(shown, indent=1), "```"]


def size_line(stats: Stats) -> str:
    """How large a set is, in a sentence."""
    size = f"{pluralize(stats.cases, 'case')} from {pluralize(stats.videos, 'video')}"
    return f"{size}; in {stats.none} ({stats.none_share:.1%}) none of the candidates is right."


def license_lines(stats: Stats) -> list[str]:
    """The section of the sources' licences."""
    return [
        "## Sources and licences",
        "",
        "The pictures belong to their sources; their licences hold for them here too.",
        "",
        "| source | cases | videos | licence as published | page |",
        "|---|---|---|---|---|",
        *(_source_line(stats, name) for name in sorted(stats.sources)),
        "",
    ]


def histogram_lines(stats: Stats) -> list[str]:
    """The section of figures."""
    return [
        "## Figures",
        "",
        *_histogram("candidates", stats.candidates, str),
        *_histogram("answer", stats.letters, str),
        *_histogram("match type", stats.match_types, lambda t: " ".join(MATCH_TYPES[t]) if t else "none given"),
        *_histogram("marked by", stats.prompts, str),
        *_histogram("review", stats.reviews, str),
    ]


def _source_line(stats: Stats, name: str) -> str:
    line, spec = stats.sources[name], SOURCES.get(name)
    page = f"[{spec.title}]({spec.page})" if spec and spec.page else spec.title if spec else ""
    return f"| {escape_cell(name)} | {line.cases} | {line.videos} | {spec.license if spec else 'not known'} | {page} |"


def _histogram(title: str, counts: Counter[Any], label: Any) -> list[str]:
    if not counts:
        return []
    most = max(counts.values())
    rows = [
        f"| {escape_cell(label(v))} | {n} | {'█' * max(1, round(20 * n / most))} |" for v, n in sorted(counts.items())
    ]
    return [f"| {title} | cases | |", "|---|---|---|", *rows, ""]


def escape_cell(text: str) -> str:
    """A text as it stands in a cell of a table in Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")


def _caption(case: Case) -> str:
    answer = "none of them" if case.answer is None else f"number {case.answer}"
    return f"{pluralize(len(case.candidates), 'candidate')}, the answer is {case.letter}: {answer}."


def _side_by_side(images: list[tuple[str, bytes]]) -> bytes:
    """Images, each a path and the content of the file, as one JPEG, scaled to one height, white between them."""
    parts = []
    for path, data in images:
        image = media.decode_image(Path(path), data)
        width = max(1, round(image.shape[1] * _FIGURE_HEIGHT / image.shape[0]))
        parts += [cv2.resize(image, (width, _FIGURE_HEIGHT), interpolation=cv2.INTER_AREA)]
        parts += [np.full((_FIGURE_HEIGHT, 8, 3), 255, np.uint8)]
    _, coded = cv2.imencode(".jpg", np.hstack(parts[:-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return coded.tobytes()
