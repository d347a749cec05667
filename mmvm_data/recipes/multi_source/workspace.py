"""The folder beside a benchmark in which a recipe is carried out, and the step in which the benchmark appears.

.OUT.recipe/request.json     what decides the result
.OUT.recipe/source-00/       the build of a source, with its own journal
.OUT.recipe/result/          the benchmark, complete
.OUT.recipe/publish          says that result is to replace OUT; from then on each command completes that
.OUT.recipe/replaced/        the former result, until it is deleted
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.formats.bench import CASES, FOLDER, TSV
from mmvm_data.formats.build_files import BUILD, REJECTS, REPORT
from mmvm_data.formats.set_files import DERIVED, ORIGINS
from mmvm_data.io.files import atomic_write, fsync_path, remove_tree
from mmvm_data.io.folder_lock import LOCK_FILE, lock_folder
from mmvm_data.io.json_files import read_json_object
from mmvm_data.pipeline.options import BuildOptions

CARD: Final = "README.md"
_REQUEST, _RESULT, _PUBLISH, _REPLACED = "request.json", "result", "publish", "replaced"
RESULT_FILES: Final = (FOLDER, TSV, CASES, REJECTS, BUILD, DERIVED, ORIGINS, CARD, REPORT, LOCK_FILE)
_LATE_KEYS: Final = ("splits", "review")
"""Keys of a recipe that may change before an unfinished one is continued."""
_MAX_LISTED = 3


def workspace_folder(out: Path) -> Path:
    """Where a recipe is carried out: a hidden folder beside its benchmark."""
    return out.parent / f".{out.name}.recipe"


class Workspace:
    """The folder in which a recipe is carried out; see ``open_workspace``.

    Attributes:
        out: folder of the benchmark.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        self._folder = folder
        self.out = out

    @property
    def result(self) -> Path:
        """Where the benchmark is to be written; it must appear there in one step."""
        return self._folder / _RESULT

    def stage(self, number: int) -> Path:
        """The folder of the build of a source."""
        return self._folder / f"source-{number:02d}"

    def publish(self) -> None:
        """Move the result to its place, and delete everything else."""
        check_replaceable(self.out)
        with atomic_write(self._folder / _PUBLISH) as marker:
            marker.write("")
        fsync_path(self._folder)
        _complete(self._folder, self.out)


@contextmanager
def open_workspace(out: Path, request: dict[str, Any], options: BuildOptions) -> Iterator[Workspace | None]:
    """Hold the lock of the workspace of a new or an unfinished recipe; None when it was finished before.

    Args:
        out: folder of the benchmark.
        request: what decides the result.
        options: ``existing`` says what to do with what is there.

    Raises:
        UsageError: there is something that is not to be replaced, or another recipe, or another process is at it.
        OutputError: the folder cannot be written.
    """
    folder = workspace_folder(out)
    try:
        if not folder.exists() and _is_finished(out, request, options):  # a refusal leaves nothing behind
            yield None
            return
        folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(folder, "mmvm-data build", wait_seconds=0):
            workspace = _prepare(folder, out, request, options)
            yield workspace
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise OutputError(error.filename or out, error) from error


def _prepare(folder: Path, out: Path, request: dict[str, Any], options: BuildOptions) -> Workspace | None:
    """Complete what a killed command was about to do, and make the folder that of the request."""
    if (folder / _PUBLISH).exists():
        check_replaceable(out)
        _complete(folder, out)
    if (folder / _REQUEST).is_file():
        if options.existing == "refuse":
            raise UsageError(
                f"{out}: holds an unfinished build; `existing='resume'` continues it, "
                "`existing='overwrite'` starts again"
            )
        if options.existing == "resume":
            earlier = _with_late_keys(read_json_object(folder / _REQUEST), request)
            changed = _find_changed_quotas(earlier, request)
            if changed and not options.accept_changes:
                raise UsageError(
                    f"{out}: the sources have changed since the build was started: other numbers of cases are wanted "
                    f"of {', '.join(name for _, name in changed)}; `accept_changes=True` builds these again, "
                    "`existing='overwrite'` all"
                )
            _check_same(folder / _REQUEST, earlier, request if not changed else _with_quotas(request, earlier), out)
            for number, _ in changed:
                shutil.rmtree(folder / f"source-{number:02d}", ignore_errors=True)
    elif _is_finished(out, request, options):
        _clear(folder)
        return None
    if options.existing == "overwrite":
        check_replaceable(out)
        _clear(folder)
    elif (folder / _RESULT).exists():
        shutil.rmtree(folder / _RESULT)
    with atomic_write(folder / _REQUEST) as handle:
        handle.write(json.dumps(request, indent=1) + "\n")
    return Workspace(folder, out)


def _complete(folder: Path, out: Path) -> None:
    """Do what the marker says; each step may have been done before."""
    result, replaced = folder / _RESULT, folder / _REPLACED
    if result.exists():
        if out.exists():
            if any(out.iterdir()):
                os.rename(out, replaced)
            else:
                out.rmdir()
        os.rename(result, out)
        fsync_path(out.parent)
    _clear(folder, last=_PUBLISH)


def _clear(folder: Path, last: str = _REQUEST) -> None:
    """Delete what is in the folder, but for its lock; one file at the end, since it says what the rest is."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == last):
        if path.name == LOCK_FILE:
            continue
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink()


def _is_finished(out: Path, request: dict[str, Any], options: BuildOptions) -> bool:
    """Whether the benchmark was finished before.

    Raises:
        UsageError: there is something else, or it is not to be touched.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; `out` must be a folder")
    if not out.exists() or not any(out.iterdir()):
        return False
    if options.existing == "overwrite":
        check_replaceable(out)
        return False
    if not (out / BUILD).is_file():
        raise UsageError(f"{out}: is not empty and holds no finished recipe; choose another `out`")
    if options.existing == "refuse":
        raise UsageError(f"{out}: holds a finished build; `existing='overwrite'` replaces it, another `out` keeps both")
    _check_same(out / BUILD, read_json_object(out / BUILD).get("request"), request, out)
    return True


def check_replaceable(out: Path) -> None:
    """Check that all there is at ``out`` was written by a build.

    Raises:
        UsageError: something else is there.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out}: is a file; `out` must be a folder")
    foreign = sorted(path.name for path in out.iterdir() if path.name not in RESULT_FILES)
    if not foreign and (not any(out.iterdir()) or (out / BUILD).is_file()):
        return
    splits = _read_splits(out)
    foreign = [name for name in foreign if name not in splits]
    for split in splits:
        if (out / split).is_dir():
            foreign += sorted(f"{split}/{p.name}" for p in (out / split).iterdir() if p.name not in RESULT_FILES)
    if foreign or not (out / BUILD).is_file():
        listed = ", ".join(foreign[:_MAX_LISTED]) + (", …" if len(foreign) > _MAX_LISTED else "")
        raise UsageError(f"{out}: holds what is no part of a build ({listed}); move it, or choose another `out`")


def _read_splits(out: Path) -> list[str]:
    """Names of the splits of a finished recipe."""
    if not (out / BUILD).is_file():
        return []
    try:
        splits = read_json_object(out / BUILD)["request"]["recipe"]["splits"]
    except (InputError, KeyError, TypeError):
        return []
    return [name for name in splits if isinstance(name, str)] if isinstance(splits, dict) else []


def _with_late_keys(earlier: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """An earlier request with those keys of the recipe of a new one that decide nothing until all sources are built."""
    recipe = earlier.get("recipe")
    if not isinstance(recipe, dict):
        return earlier
    return earlier | {"recipe": recipe | {key: request["recipe"][key] for key in _LATE_KEYS if key in recipe}}


def _find_changed_quotas(earlier: dict[str, Any], request: dict[str, Any]) -> list[tuple[int, str]]:
    """Numbers and names of the sources of one recipe that are to give other numbers of cases than before."""
    before, now = _sources_of(earlier), _sources_of(request)
    if [source | {"wanted": None} for source in before] != [source | {"wanted": None} for source in now]:
        return []
    pairs = zip(before, now, strict=True)
    return [(k, str(b.get("name"))) for k, (a, b) in enumerate(pairs) if a.get("wanted") != b.get("wanted")]


def _with_quotas(request: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """A request with the numbers of cases of an earlier one."""
    return request | {"recipe": request["recipe"] | {"sources": _sources_of(earlier)}}


def _sources_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    recipe = request.get("recipe")
    sources = recipe.get("sources") if isinstance(recipe, dict) else None
    return [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []


def _iter_changes(before: Any, now: Any, name: str) -> Iterator[str]:
    """Keys of what differs between two values of JSON, such as ``sources.0.quota``."""
    if isinstance(before, dict) and isinstance(now, dict):
        items = {key: (before.get(key), now.get(key)) for key in before.keys() | now.keys()}
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        items = dict(enumerate(zip(before, now, strict=True)))
    else:
        if before != now:
            yield name
        return
    for key, (old, new) in items.items():
        yield from _iter_changes(old, new, f"{name}.{key}" if name else str(key))


def _check_same(file: Path, earlier: Any, request: dict[str, Any], out: Path) -> None:
    if not isinstance(earlier, dict):
        raise InputError(file, f"expected an object, found {type(earlier).__name__}", "request")
    changed: list[str] = []
    for key, value in request.items():
        before = earlier.get(key)
        changed += _iter_changes(before, value, "" if isinstance(value, dict) else key)
    if changed:
        listed = ", ".join(sorted(changed)[:_MAX_LISTED]) + (", …" if len(changed) > _MAX_LISTED else "")
        raise UsageError(
            f"{out}: was built from another recipe ({listed}); repeat it, or `existing='overwrite'` starts again"
        )
