"""One HTML file about one run or several: table, bars, confusions, comparison, and the answers that were wrong.

It needs no server and no network. Small pictures are inside; a click opens the image file itself, by its path relative
to the report.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from importlib import resources
from pathlib import Path

from colva.evaluation import runs
from colva.evaluation.reports import charts, gallery
from colva.evaluation.reports.gallery import Runs
from colva.evaluation.reports.texts import between, percent, totals
from colva.evaluation.scoring import published
from colva.evaluation.scoring.compare import Comparison
from colva.evaluation.scoring.metrics import Scored
from mmvm_data.core.errors import OutputError
from mmvm_data.io.files import atomic_write

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
    most: int = gallery.MOST,
) -> None:
    """Write the report of one run, or of several side by side.

    Args:
        scored: (folder, run) each.
        path: the file.
        benches: folder of the run -> its benchmark, for the images; one that is gone shows as "picture missing".
        comparisons: of the runs, see ``compare``.
        most: wrong cases that are shown.

    Raises:
        OutputError: the file cannot be written.
    """
    names = _names(scored, comparisons)
    by = [(title, [run.summary["by"][name] for _, run in scored]) for name, title in _GROUPS.items()]
    sections = [
        _overall(scored, names),
        *(_comparison(c) for c in comparisons),
        f"<div class='side-by-side'>{''.join(charts.groups(title, names, groups) for title, groups in by)}</div>",
        "<div class='side-by-side'>",
        *(_details(name, folder, run) for name, (folder, run) in zip(names, scored, strict=True)),
        "</div>",
    ]
    files = resources.files("colva.evaluation.reports")
    style = resources.files("mmvm_data.viz").joinpath("report.css").read_text(encoding="utf-8")
    page = files.joinpath("report.html").read_text(encoding="utf-8")
    head, tail = page.split("<!--body-->")
    title = f"{' · '.join(names)} on {scored[0][1].summary.get('bench', '')}"
    head = head.replace("/*styles*/", style + files.joinpath("report.css").read_text(encoding="utf-8"))
    head = head.replace("<!--title-->", escape(title)).replace("<!--totals-->", _totals(scored))
    tail = tail.replace("/*scripts*/", files.joinpath("report.js").read_text(encoding="utf-8"))
    try:
        with atomic_write(path) as handle, ThreadPoolExecutor(os.cpu_count()) as pool:
            handle.write(head)
            handle.writelines(sections)
            handle.writelines(gallery.pieces(scored, benches, names, path.parent, pool, most))
            handle.write(tail)
    except OSError as error:
        raise OutputError(path, error) from error


def _names(scored: Runs, comparisons: Sequence[Comparison]) -> list[str]:
    if comparisons:
        return [comparisons[0].first, *(c.second for c in comparisons)]
    return [str(run.summary.get("model", folder.name)) for folder, run in scored]


def _totals(scored: Runs) -> str:
    if len(scored) > 1:
        return f"<div><dt>runs</dt><dd>{len(scored)}</dd></div>"
    summary = scored[0][1].summary
    overall, cases = summary["overall"], summary["cases"]
    facts = {
        "right": f"{percent(overall['value'])} %",
        "95 % interval": between(overall),
        "of cases": str(overall["n"]),
        "unread": str(cases["unread"]),
        "refused": str(cases["refused"]),
        "no reply": str(cases["no_reply"]),
        "chance": f"{percent(summary['chance'])} %",
    }
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())


def _overall(scored: Runs, names: Sequence[str]) -> str:
    rows, classes = [], []
    for number, (name, (_, run)) in enumerate(zip(names, scored, strict=True)):
        overall, cases, bias = run.summary["overall"], run.summary["cases"], run.summary["letters"]["bias"]
        rows.append(
            [
                f"<b>{escape(name)}</b>",
                charts.bar(overall, number),
                percent(overall["value"]),
                escape(between(overall)),
                str(overall["n"]),
                str(cases["unread"]),
                str(cases["refused"]),
                str(cases["no_reply"]),
                "" if bias is None else f"{bias:.2f}",
            ]
        )
        classes.append("")
    first = scored[0][1].summary
    rows.append(["chance", charts.bar({"value": first["chance"]}, 5), percent(first["chance"]), *[""] * 6])
    classes.append("dim")
    for name, score in sorted(published.OVERALL.items(), key=lambda item: -item[1]):
        who = f"{escape(name)} <span class='mark'>published</span>"
        cells = [who, charts.bar({"value": score / 100}, 5), f"{score:.2f}", "", f"{published.CASES:,}", *[""] * 4]
        rows.append(cells)
        classes.append("published")
    heads = ["model", "", "right, %", "95 % interval", "cases", "unread", "refused", "no reply", "letter bias"]
    said = "".join(
        f"<p>{escape(name)}: {escape(totals(run.summary))}.</p>" for name, (_, run) in zip(names, scored, strict=True)
    )
    note = (
        f"Rows marked as published are from {escape(published.SOURCE)}: of all {published.CASES:,} MMVM cases, not of "
        "these, and without intervals. Letter bias is the distance between how often labels are chosen and how often "
        "they are right, from 0 to 1. Unread, refused and missing replies count as wrong. Intervals are of the "
        "bootstrap over cases, and Wilson's where nothing or everything is right."
    )
    parts = [said, charts.table(heads, rows, classes), f"<p class='dim'>{note}</p>", _ablation()]
    return f"<section><h2>Overall</h2>{''.join(parts)}</section>"


def _ablation() -> str:
    rows = [
        [escape(name), charts.bar({"value": score / 100}, 5), f"{score:.2f}"]
        for name, score in published.ABLATION.items()
    ]
    table = charts.table(["CoLVA on the 4B", "", "right, %"], rows)
    return f"<details><summary>Published: what each part of CoLVA adds</summary>{table}</details>"


def _comparison(c: Comparison) -> str:
    rows = []
    for name, row in (("overall", c.overall), *c.types.items()):
        rows.append(
            [
                f"<b>{escape(name)}</b>",
                percent(row.first / row.n if row.n else None),
                percent(row.second / row.n if row.n else None),
                percent(row.value, signed=True),
                escape(between(row._asdict(), signed=True)),
                str(row.test.only_first),
                str(row.test.only_second),
                f"{row.test.mid_p:.3g}",
                f"{row.test.exact:.3g}",
                "" if row.adjusted is None else f"{row.adjusted:.3g}",
                str(row.n),
            ]
        )
    heads = [
        "",
        f"{c.first}, %",
        f"{c.second}, %",
        "difference",
        "95 % interval",
        f"only {c.first}",
        f"only {c.second}",
    ]
    notes = "".join(f"<p class='dim'>{escape(note)}</p>" for note in c.notes)
    return (
        f"<section><h2>{escape(c.second)} against {escape(c.first)}</h2>{notes}"
        f"{charts.table([*heads, 'p (mid-p)', 'p (exact)', 'p, Holm', 'cases'], rows)}"
        "<p class='dim'>McNemar's test on the cases that only one of the two got right; over match types, mid-p is "
        "corrected for their number by Holm's method.</p></section>"
    )


def _details(name: str, folder: Path, run: Scored) -> str:
    summary = run.summary
    parts = [f"<h2>{escape(name)}: labels</h2>", charts.confusion(summary["confusion"])]
    if circular := summary["circular"]:
        rows = [
            ["right in every variant", percent(circular["all_right"]["value"]), between(circular["all_right"])],
            ["the same object in every variant", percent(circular["same"]["value"]), between(circular["same"])],
            ["right, mean over variants", percent(circular["mean"]), ""],
        ]
        parts.append(
            f"<h3>Options moved round, {circular['all_right']['n']} cases, up to {circular['variants']} times</h3>"
        )
        parts.append(charts.table(["", "%", "95 % interval"], rows))
    if reasons := summary["reasons"]:
        said = f"{reasons['asked']} reasons asked, {reasons['empty']} empty"
        if reasons["agree"]["n"]:
            said += f"; {percent(reasons['agree']['value'])} % of {reasons['agree']['n']} judged agree with a person's"
        parts.append(f"<p>{escape(said)}.</p>")
    parts.append(charts.listing("No option could be read from", summary["unread"]))
    parts.append(charts.listing("Refused", summary["refused"]))
    parts.append(charts.listing("No reply", [f"{o.record.id}: {o.fault}" for o in run.outcomes if o.fault]))
    left_out = folder / runs.LEFT_OUT
    if left_out.is_file():
        parts.append(charts.listing("Left out of the benchmark", left_out.read_text(encoding="utf-8").splitlines()))
    return f"<section>{''.join(parts)}</section>"
