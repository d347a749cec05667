"""One HTML file about one run or several: table, bars, confusions, comparison, and the answers that were wrong.

It needs no server and no network. Thumbnails are inside; a click opens the image file, by its path relative to the
report.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from colva.evaluation import runs
from colva.evaluation.reports import charts
from colva.evaluation.reports.charts import CHANCE_COLOR, Cell, Content, Table, make_bar, make_table
from colva.evaluation.reports.gallery import MAX_CASES, Runs, make_gallery
from colva.evaluation.reports.texts import between, percent, summary_sentence
from colva.evaluation.scoring import published
from colva.evaluation.scoring.compare import Comparison
from colva.evaluation.scoring.outcomes import ScoredRun
from mmvm_data.core.errors import OutputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import read_text_file
from mmvm_data.io.pages import stream

_GROUPS = {
    "type": "match type",
    "candidates": "candidates",
    "difficulty": "difficulty: candidates up to",
    "source": "source",
}


def write_report(
    scored: Runs,
    path: Path,
    benches: Mapping[Path, Path],
    comparisons: Sequence[Comparison] = (),
    max_cases: int = MAX_CASES,
) -> None:
    """Write the report of one run, or of several side by side.

    Args:
        scored: (folder, run) each.
        path: the file.
        benches: folder of the run -> its benchmark, for the images; one that is gone shows as "picture missing".
        comparisons: of the runs, see ``compare``.
        max_cases: wrong cases that are shown.

    Raises:
        OutputError: the file cannot be written.
    """
    names = _names(scored, comparisons)
    try:
        with atomic_write(path) as handle, ThreadPoolExecutor(os.cpu_count()) as pool:
            page = stream(
                "colva.evaluation.reports/report.html",
                kind="Evaluation",
                title=f"{' · '.join(names)} on {scored[0][1].summary.get('bench', '')}",
                totals=_totals(scored),
                overall=_overall(scored, names),
                comparisons=[_comparison(c) for c in comparisons],
                groups=[
                    charts.make_group_table(title, names, [run.summary["by"][name] for _, run in scored])
                    for name, title in _GROUPS.items()
                ],
                details=[_details(name, folder, run) for name, (folder, run) in zip(names, scored, strict=True)],
                gallery=make_gallery(scored, benches, names, path.parent, pool, max_cases),
                sizes=charts,
            )
            handle.writelines(page)
    except OSError as error:
        raise OutputError(path, error) from error


def _names(scored: Runs, comparisons: Sequence[Comparison]) -> list[str]:
    if comparisons:
        return [comparisons[0].first, *(c.second for c in comparisons)]
    return [str(run.summary.get("model", folder.name)) for folder, run in scored]


def _totals(scored: Runs) -> dict[str, str]:
    if len(scored) > 1:
        return {"runs": str(len(scored))}
    summary = scored[0][1].summary
    overall, cases = summary["overall"], summary["cases"]
    return {
        "right": f"{percent(overall['value'])} %",
        "95 % interval": between(overall),
        "of cases": str(overall["n"]),
        "unread": str(cases["unread"]),
        "refused": str(cases["refused"]),
        "no reply": str(cases["no_reply"]),
        "cut": str(cases["truncated"]),
        "chance": f"{percent(summary['chance'])} %",
    }


def _overall(scored: Runs, names: Sequence[str]) -> dict[str, Any]:
    rows: list[list[Content]] = []
    classes = []
    for number, (name, (_, run)) in enumerate(zip(names, scored, strict=True)):
        overall, cases, bias = run.summary["overall"], run.summary["cases"], run.summary["letters"]["bias"]
        rows.append(
            [
                Cell(name, is_bold=True),
                make_bar(overall, number),
                percent(overall["value"]),
                between(overall),
                str(overall["n"]),
                str(cases["unread"]),
                str(cases["refused"]),
                str(cases["no_reply"]),
                str(cases["truncated"]),
                "" if bias is None else f"{bias:.2f}",
            ]
        )
        classes.append("")
    chance = scored[0][1].summary["chance"]
    rows.append(["chance", make_bar({"value": chance}, CHANCE_COLOR), percent(chance), *[""] * 7])
    classes.append("dim")
    for name, score in sorted(published.OVERALL.items(), key=lambda item: -item[1]):
        bar = make_bar({"value": score / 100}, CHANCE_COLOR)
        rows.append([Cell(name, badge="published"), bar, f"{score:.2f}", "", f"{published.CASES:,}", *[""] * 5])
        classes.append("published")
    heads = ["model", "", "right, %", "95 % interval", "cases", "unread", "refused", "no reply", "cut", "letter bias"]
    return {
        "sentences": [
            f"{name}: {summary_sentence(run.summary)}." for name, (_, run) in zip(names, scored, strict=True)
        ],
        "table": make_table(heads, rows, classes),
        "source": published.SOURCE,
        "published_cases": f"{published.CASES:,}",
        "ablation": _ablation(),
    }


def _ablation() -> Table:
    rows = [
        [name, make_bar({"value": score / 100}, CHANCE_COLOR), f"{score:.2f}"]
        for name, score in published.ABLATION.items()
    ]
    return make_table(["CoLVA on the 4B", "", "right, %"], rows)


def _comparison(c: Comparison) -> dict[str, Any]:
    rows: list[list[Content]] = [
        [
            Cell(name, is_bold=True),
            percent(row.first / row.n if row.n else None),
            percent(row.second / row.n if row.n else None),
            percent(row.value, signed=True),
            between(row._asdict(), signed=True),
            str(row.test.only_first),
            str(row.test.only_second),
            f"{row.test.mid_p:.3g}",
            f"{row.test.exact:.3g}",
            "" if row.adjusted is None else f"{row.adjusted:.3g}",
            str(row.n),
        ]
        for name, row in (("overall", c.overall), *c.types.items())
    ]
    shares = ["", f"{c.first}, %", f"{c.second}, %", "difference", "95 % interval"]
    tests = [f"only {c.first}", f"only {c.second}", "p (mid-p)", "p (exact)", "p, Holm", "cases"]
    return {"first": c.first, "second": c.second, "notes": c.notes, "table": make_table([*shares, *tests], rows)}


def _details(name: str, folder: Path, run: ScoredRun) -> dict[str, Any]:
    summary = run.summary
    left_out = folder / runs.LEFT_OUT
    return {
        "name": name,
        "confusion": charts.make_confusion(summary["confusion"]),
        "circular": _circular(summary["circular"]) if summary["circular"] else None,
        "reasons": _reasons(summary["reasons"]) if summary["reasons"] else None,
        "lists": {
            "No option could be read from": summary["unread"],
            "Refused": summary["refused"],
            "Cut at the limit of tokens": summary.get("truncated", []),
            "No reply": [f"{o.prediction.id}: {o.error}" for o in run.outcomes if o.error],
            "Left out of the benchmark": read_text_file(left_out).splitlines() if left_out.is_file() else [],
        },
    }


def _circular(circular: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        ["right in every variant", percent(circular["all_right"]["value"]), between(circular["all_right"])],
        ["the same object in every variant", percent(circular["same"]["value"]), between(circular["same"])],
        ["right, mean over variants", percent(circular["mean"]), ""],
    ]
    asked = pluralize(circular["all_right"]["n"], "case")
    title = f"Options moved round, {asked}, up to {pluralize(circular['variants'], 'time')}"
    return {"title": title, "table": make_table(["", "%", "95 % interval"], rows)}


def _reasons(reasons: Mapping[str, Any]) -> str:
    text = f"{pluralize(reasons['asked'], 'reason')} asked, {reasons['empty']} empty"
    if reasons["agree"]["n"]:
        text += f"; {percent(reasons['agree']['value'])} % of {reasons['agree']['n']} judged agree with a person's"
    return text
