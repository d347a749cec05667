"""The recipe of a benchmark: a YAML or JSON file that names its sources, quotas, splits and targets."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, field, fields
from math import isclose
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from mmvm_data.builders import SOURCES
from mmvm_data.builders.source import AUTO
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.case_facts import DIFFICULTIES
from mmvm_data.core.config_values import parse_config, suggest_name
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError, options
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.io import remote
from mmvm_data.io.files import real_path
from mmvm_data.io.json_files import read_json_file
from mmvm_data.io.yaml_files import read_yaml_file
from mmvm_data.recipes.multi_source.workspace import RESULT_FILES

Quota = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] | None,
    Field(description="a number of cases, such as 500, or a share of `total` above 0 and up to 1.0"),
]
Targets = Literal["equal"] | dict[str, Annotated[float, Field(ge=0, le=1)]]
OptionalTargets = Annotated[
    Targets | None, Field(description="'equal', or a mapping with the share of each value, in [0, 1]")
]
_ELSEWHERE = {"seed": "the recipe's `seed`", "frame_rate": "the source's `frame_rate`"}
PLAIN_WORDS = {"max_gap": 0, "candidates": "all"}
"""What the command line says where an option is None."""
_RESERVED = (*RESULT_FILES, "figures", "revisions", "annotation")
"""Names that a benchmark has beside its splits, or in each of them."""
MAX_POOL_FACTOR = 100
CANDIDATE_RANGES = {"1-4": 4, "5-8": 8, "9-12": 12, "13-37": 37}
"""Names of ranges of numbers of candidates -> the largest number."""


@options
class SourceEntry:
    """One source of a recipe.

    Attributes:
        name: of the source in this recipe; each case has it in ``provenance.extra.recipe_source``.
        reader: a key of ``mmvm_data.builders.SOURCES``.
        root: folder, file or URL; relative to the recipe's folder.
        quota: number of cases (an integer), or share of ``total`` (with a decimal point); None: see ``Recipe.total``.
        sampling: fields of ``SamplingOptions`` that differ from the recipe's ``sampling``.
        proposals: folder of masks that are candidates too, relative to the recipe's folder.
        frame_rate: frames a second, where the source does not say it.
    """

    _: KW_ONLY
    name: Annotated[str, Field(min_length=1, max_length=100)]
    reader: str
    root: Annotated[str, Field(min_length=1)]
    quota: Quota = None
    sampling: dict[str, Any] = field(default_factory=dict)
    proposals: Annotated[str, Field(min_length=1)] | None = None
    frame_rate: Annotated[float, Field(gt=0)] | None = None


@options
class ResistOptions:
    """Choosing cases that blind baselines answer no better than chance.

    Attributes:
        pool_factor: cases that are built for one that is kept.
    """

    _: KW_ONLY
    pool_factor: Annotated[int, Field(ge=2, le=MAX_POOL_FACTOR)] = 3


@options
class BalanceOptions:
    """How often values are to occur: ``equal``, or the share of each value.

    Attributes:
        source: shares of the sources, by their names in the recipe; in place of quotas.
        candidates: numbers of candidates, in the ranges 1-4, 5-8, 9-12 and 13-37.
        answer: letters of the right option, each as often as the options of the cases allow: ``equal`` only.
        difficulty: ``easy``, ``medium``, ``hard``: 0, 1 to 2, 3 or more candidates of the query's category.
        match_types: ``CL``, ``SP``, … that `mmvm-data cues` would propose without the source: the share of each among
            all proposals of the chosen cases.
        none: share of cases with the answer "none of the above".
        pool_factor: cases that are built for one that is kept, where ``resist`` does not say it.
    """

    _: KW_ONLY
    source: OptionalTargets = None
    candidates: OptionalTargets = None
    answer: Literal["equal"] | None = None
    difficulty: OptionalTargets = None
    match_types: OptionalTargets = None
    none: Annotated[float, Field(ge=0, le=1)] | None = None
    pool_factor: Annotated[int, Field(ge=2, le=MAX_POOL_FACTOR)] = 3

    @property
    def chooses_cases(self) -> bool:
        """Whether a target needs more cases to choose from."""
        targets = (self.candidates, self.answer, self.difficulty, self.match_types, self.none)
        return any(target is not None for target in targets)

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        match_types = [abbreviation for abbreviation, _ in MATCH_TYPES.values()]
        for name, known in (
            ("candidates", list(CANDIDATE_RANGES)),
            ("difficulty", list(DIFFICULTIES)),
            ("match_types", match_types),
        ):
            target = getattr(self, name)
            if not isinstance(target, dict):
                continue
            for value in target:
                if value not in known:
                    raise ValueError(f"{name} must have shares of {', '.join(known)}, got {value!r:.40}")
            if not isclose(total := sum(target.values()), 1, abs_tol=1e-6):
                raise ValueError(f"{name} must have shares that sum to 1, got {total:g}")
        return self


@options
class ReviewOptions:
    """Who is to check the cases.

    Attributes:
        overlap: number of people who check each case.
        annotators: their names or e-mail addresses.
    """

    _: KW_ONLY
    overlap: Annotated[int, Field(ge=1)] = 1
    annotators: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @model_validator(mode="after")
    def _check_annotators(self) -> Self:
        if len(set(self.annotators)) < len(self.annotators):
            raise ValueError("annotators must be distinct")
        if self.annotators and self.overlap > len(self.annotators):
            raise ValueError(f"overlap must be at most {len(self.annotators)}, the number of annotators")
        return self


@options
class Recipe:
    """How a benchmark is made of several sources.

    Attributes:
        sources: at least one.
        total: number of cases; None: the sum of the quotas, or all that the sources give. Without quotas, each source
            gives in proportion to what it has.
        seed: decides, with the names in the sources, everything that is drawn.
        sampling: fields of ``SamplingOptions`` for all sources.
        splits: name of each split -> its share of the cases; None: one folder without splits. Videos that share
            pictures are in one split.
        balance: targets of how often values occur.
        resist: choose cases that blind baselines do not solve; None: do not.
        review: who is to check the cases; recorded in build.json.
        quality: JPEG quality of drawn images.
    """

    _: KW_ONLY
    sources: Annotated[tuple[SourceEntry, ...], Field(min_length=1)]
    total: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0
    sampling: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, Annotated[float, Field(gt=0, le=1)]] | None = None
    balance: BalanceOptions | None = None
    resist: ResistOptions | None = None
    review: ReviewOptions | None = None
    quality: Annotated[int, Field(ge=1, le=100)] = 95

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_readers(self.sources)
        _check_names(self.sources)
        _check_quotas(self.sources, self.total)
        _check_splits(self.splits)
        if self.balance is not None:
            _check_source_targets(self)
        return self

    @property
    def pool_factor(self) -> int:
        """Cases that are built for one that is kept; 1 where all are."""
        if self.resist is not None:
            return self.resist.pool_factor
        return self.balance.pool_factor if self.balance is not None and self.balance.chooses_cases else 1

    def sampling_of(self, number: int) -> SamplingOptions:
        """The sampling options of a source.

        Raises:
            OptionError: a value is not valid, an option is unknown, or belongs elsewhere.
        """
        source = self.sources[number]
        own = _sampling_values(self.sampling, "sampling")
        own |= _sampling_values(source.sampling, f"sources.{number}.sampling")
        if self.pool_factor > 1 and own.get("variants"):
            raise OptionError(f"sources.{number}.sampling.variants", "must not be used with `resist` or `balance`")
        try:
            return SamplingOptions(seed=self.seed, frame_rate=source.frame_rate, **own)
        except OptionError as error:
            name = error.argument.partition(".")[0]
            is_own = not name or name in source.sampling
            where = f"sources.{number}.sampling" if is_own else "sampling"
            raise OptionError(f"{where}.{error.argument}" if name else where, error.reason) from None

    def to_json(self) -> dict[str, Any]:
        """JSON values that make the same recipe, with the values of all options."""
        record = asdict(self)
        record["sources"] = list(record["sources"])
        for number, source in enumerate(record["sources"]):
            sampling = asdict(self.sampling_of(number))
            source["sampling"] = {name: value for name, value in sampling.items() if name not in _ELSEWHERE}
        del record["sampling"]
        if self.review is not None:
            record["review"]["annotators"] = list(self.review.annotators)
        return record


def read_recipe(path: Path) -> Recipe:
    """Read a recipe: JSON where the name ends with ``.json``, else YAML. Nothing in it is executed.

    Raises:
        InputError: it cannot be read, or a value is not valid; the message names file, field and what is expected.
    """
    content = read_json_file(path, has_unique_keys=True) if path.suffix == ".json" else read_yaml_file(path)
    if not isinstance(content, dict):
        raise InputError(path, f"expected a mapping with the key sources, found {type(content).__name__}")
    not_text = [key for key in content if not isinstance(key, str)]
    if not_text:
        raise InputError(path, f"expected names as keys, found {not_text[0]!r:.80}")
    recipe = parse_config(content, Recipe, path)
    try:
        for number in range(len(recipe.sources)):
            recipe.sampling_of(number)
        check_roots(recipe, path.parent)
    except OptionError as error:
        raise InputError(path, error.reason, error.argument or None) from None
    return recipe


def locate(path: str, folder: Path) -> Path | str:
    """A path of a recipe as seen from here: a URL as it is, another one relative to the recipe's folder."""
    return path if remote.is_url(path) else folder / path


def check_roots(recipe: Recipe, folder: Path) -> None:
    """Check that no source is named twice.

    Raises:
        OptionError: two sources have one root and one kind of reader.
    """
    seen: dict[tuple[object, str], str] = {}
    for number, source in enumerate(recipe.sources):
        root = locate(source.root, folder)
        key = (SOURCES[source.reader].open, root if isinstance(root, str) else str(real_path(root)))
        if key in seen:
            raise OptionError(f"sources.{number}.root", f"is that of source {seen[key]!r} too: {source.root}")
        seen[key] = source.name


def is_count(quota: int | float | None) -> bool:
    """Whether a quota is a number of cases."""
    return isinstance(quota, int)


def _sampling_values(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = [f.name for f in fields(SamplingOptions) if f.name not in _ELSEWHERE]
    for name in values:
        if name in _ELSEWHERE:
            raise OptionError(f"{where}.{name}", f"is {_ELSEWHERE[name]}")
        if name not in known:
            raise OptionError(f"{where}.{name}", f"is an unknown option{suggest_name(str(name), known)}")
    return {
        name: None if name in PLAIN_WORDS and value == PLAIN_WORDS[name] and value is not False else value
        for name, value in values.items()
    }


def _check_readers(sources: Sequence[SourceEntry]) -> None:
    for number, source in enumerate(sources):
        if source.reader not in SOURCES:
            hint = suggest_name(source.reader, list(SOURCES))
            if source.reader == AUTO:
                hint = f"; `mmvm-data sources --root {shlex.quote(source.root)}` says which one fits"
            raise ValueError(
                f"sources.{number}.reader must be one of `mmvm-data sources`, got {source.reader!r:.80}{hint}"
            )


def _check_names(sources: Sequence[SourceEntry]) -> None:
    seen: set[str] = set()
    for number, source in enumerate(sources):
        if source.name in seen:
            raise ValueError(f"sources.{number}.name must differ from those of other sources, got {source.name!r}")
        seen.add(source.name)


def _check_quotas(sources: Sequence[SourceEntry], total: int | None) -> None:
    quotas = [source.quota for source in sources]
    if all(quota is None for quota in quotas):
        return
    for number, quota in enumerate(quotas):
        if quota is None:
            raise ValueError(f"sources.{number}.quota is missing: all sources have one, or none has")
    counts = sum(quota for quota in quotas if isinstance(quota, int))
    shares = [quota for quota in quotas if isinstance(quota, float)]
    if not shares:
        if total is not None and total != counts:
            raise ValueError(f"total must be the sum of the quotas, {counts}, got {total}")
        return
    if total is None:
        raise ValueError("total is missing: quotas that are shares are shares of it")
    expected = 1 - counts / total
    if not isclose(sum(shares), expected, abs_tol=1e-6):
        rest = f" less the {pluralize(counts, 'case')} of other sources" if counts else ""
        raise ValueError(f"sources: quotas that are shares must sum to {expected:g}{rest}, got {sum(shares):g}")


def _check_splits(splits: Mapping[str, float] | None) -> None:
    if splits is None:
        return
    if not splits:
        raise ValueError("splits must name at least one split, such as train: 0.8")
    if not isclose(total := sum(splits.values()), 1, abs_tol=1e-6):
        raise ValueError(f"splits must have shares that sum to 1, got {total:g}")
    seen: dict[str, str] = {name.casefold(): name for name in _RESERVED}
    for name in splits:
        is_folder = name.isprintable() and not set(name) & set("/\\") and not name.startswith(".") and name.strip()
        if not is_folder or len(name.encode()) > 100:
            raise ValueError(f"splits must have names for folders, such as train, got {name!r:.100}")
        if name.casefold() in seen:  # not all file systems tell upper and lower case apart
            raise ValueError(f"splits must not have a folder {name!r} beside {seen[name.casefold()]!r}")
        seen[name.casefold()] = name


def _check_source_targets(recipe: Recipe) -> None:
    assert recipe.balance is not None
    target = recipe.balance.source
    if target is None:
        return
    if recipe.sources[0].quota is not None:
        raise ValueError("balance.source must not be used with quotas, which say the same")
    if isinstance(target, dict):
        names = {source.name for source in recipe.sources}
        unknown = sorted(target.keys() ^ names)
        if unknown:
            raise ValueError(f"balance.source must have a share for each source and no other, not so {unknown[0]!r}")
        if not isclose(total := sum(target.values()), 1, abs_tol=1e-6):
            raise ValueError(f"balance.source must have shares that sum to 1, got {total:g}")


def require_local(out: Path | str) -> Path:
    """The output folder of a recipe.

    Raises:
        UsageError: it is a URL.
    """
    if not isinstance(out, Path):
        raise UsageError("a recipe needs an `out` folder on this machine")
    return out
