"""A source that has changed between two parts of a build: what differs, and which videos are to be built again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mmvm_data.core.errors import UsageError
from mmvm_data.io.json_files import parse_json
from mmvm_data.pipeline import journal as journals
from mmvm_data.pipeline.journal import Journal, Totals
from mmvm_data.pipeline.kept_videos import KeptVideo, delete_kept, keep_cases, keep_records, load_kept
from mmvm_data.pipeline.source_state import SourceState, find_change

_MAX_LISTED = 20


def reconcile(
    journal: Journal, cases: Path, root: Path, now: SourceState, accept: bool, out: Path | str
) -> dict[str, KeptVideo]:
    """Compare the source with what the journal was started from, and make the journal agree with it.

    Args:
        journal: of the build.
        cases: folder of the finished cases.
        root: of the source.
        now: the source as it is now.
        accept: whether videos that have changed are dropped from the journal. Finished videos that have not, and that
            come after one that has, are kept aside until their turn comes.
        out: the output folder or URL, for the message.

    Returns:
        videos that are kept, by id.

    Raises:
        UsageError: the source has changed, and ``accept`` is false.
        InputError: the journal is broken.
    """
    record = journal.read_source()
    if record is None:
        if journal.totals.units:
            raise UsageError(f"{out}: the build was started by an earlier version; `existing='overwrite'` starts again")
        journal.write_source(now.to_json())
        return {}
    before = SourceState.from_json(record, journal.folder)
    index_change = find_change(before.reads, root)
    if index_change is None and before.rejects != now.rejects:
        index_change = "the list of what cannot be used has changed"
    changed = _find_changed_videos(journal, root)
    added = sorted(set(now.videos) - set(before.videos))
    removed = sorted(set(before.videos) - set(now.videos))
    if not (index_change or changed or added or removed):
        return load_kept(journal.folder, root)
    if not accept:
        lines = [index_change] if index_change else []
        lines += [f"video {video}: {reason}" for video, reason in changed.items() if video not in removed]
        lines += [f"video {video} is new" for video in added]
        lines += [f"video {video} is no longer there" for video in removed]
        if len(lines) > _MAX_LISTED:
            lines[_MAX_LISTED:] = [f"… and {len(lines) - _MAX_LISTED} more"]
        raise UsageError(
            f"{out}: the source has changed since the build was started; `accept_changes=True` builds the changed "
            "videos again, `existing='overwrite'` all of them" + "".join(f"\n  {line}" for line in lines)
        )
    _drop_changed(journal, cases, now, set(changed), index_change is not None)
    journal.write_source(now.to_json())
    return load_kept(journal.folder, root)


def _find_changed_videos(journal: Journal, root: Path) -> dict[str, str]:
    """Return finished videos whose files have changed, with what has."""
    changes = ((record.video, find_change(record.reads, root)) for record in journal.iter_videos())
    return {video: change for video, change in changes if video is not None and change}


def _drop_changed(journal: Journal, cases: Path, now: SourceState, changed: set[str], is_index_changed: bool) -> None:
    """Shorten the journal to the videos before the first that differs; keep the later ones that do not."""
    if is_index_changed:
        # each video may depend on it
        delete_kept(journal.folder)
        journal.rewind(0)
        journal.delete_stray_cases(cases)
        return
    valid = 0
    for position, record in enumerate(journal.iter_videos()):
        unit = position - 1  # the index comes first
        if unit >= 0 and (unit >= len(now.videos) or record.video != now.videos[unit] or record.video in changed):
            break
        valid = position + 1
    partial = keep_records(journal.folder, _iter_kept(journal, valid, changed, set(now.videos)))
    journal.rewind(valid)
    keep_cases(partial, cases)
    journal.delete_stray_cases(cases)


def _iter_kept(journal: Journal, valid: int, changed: set[str], videos: set[str]) -> Iterator[KeptVideo]:
    """Yield the finished videos from a position on that the source still has, unchanged."""
    with (
        open(journal.folder / journals.CASES, "rb") as case_lines,
        open(journal.folder / journals.REJECTS, "rb") as reject_lines,
    ):
        before = Totals()
        for position, record in enumerate(journal.iter_videos()):
            first, end = before.cases, record.totals.cases
            lines = list(islice(case_lines, end - first))
            texts = list(islice(reject_lines, record.totals.rejects - before.rejects))
            before = record.totals
            video = record.video
            if position < valid or video is None or video in changed or video not in videos or not record.is_whole:
                continue
            rejects = [parse_json(text, journal.folder / journals.REJECTS) for text in texts]
            yield KeptVideo(video, lines, rejects, record.reads, range(first, end))
