"""Records of one stage-2 source as conversations: cases of builds and match files, and plain conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationError

from colva.data.order import keyed_rng
from colva.data.prompt_variants import DEFAULT_VARIANT, RECORD_FORMS, PromptVariant, RecordForm
from colva.data.records import Records
from colva.data.sft import CasePrompt, EmbeddingLookup, build_prompt_conversation, make_case_prompt
from colva.data.video_cases import FIXED_DRAW, Draw, VideoRecords
from colva.processing.chat_templates import Turn
from colva.processing.collator import Conversation, ImageInput, Processor
from colva.processing.tokens import IMAGE, OBJECT, plain_text
from mmvm_data import SOURCES
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.options import options
from mmvm_data.core.types import Case
from mmvm_data.formats import sft
from mmvm_data.formats.conversations import parse_conversation
from mmvm_data.io import media
from mmvm_data.io.files import safe_join

CASE_KINDS: Final = ("match-choice", "match-reasoning", "build")
"""Files whose records are cases."""
FILE_KINDS: Final = (*CASE_KINDS, "llava", "sharegpt4o", "text")
_ROLES: Final[dict[str, Literal["user", "assistant", "system"]]] = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
}


def _check_kind(kind: str) -> str:
    if kind not in FILE_KINDS and kind not in SOURCES:
        known = ", ".join(map(repr, FILE_KINDS))
        raise ValueError(f"must be {known}, or one of `mmvm-data sources`, got {kind!r}")
    return kind


@options
class SftSource:
    """One source of the mixture.

    Attributes:
        kind: `match-choice` or `match-reasoning` (match records; the latter is trained on the reason too, and leaves
            out records without one), `build` (a folder that `mmvm-data build` wrote; reasons are trained on where
            there are any), `llava`, `sharegpt4o` (conversations, with or without images), `text` (without), or videos
            of a source that `mmvm-data sources` lists, whose cases are drawn again in each epoch.
        path: the JSON list or JSON lines file, the folder of a build, or that of the videos.
        root: folder of the images; for a build or videos their own folder.
        weight: how often an epoch uses each record; 0.3 uses three tenths of them, a different choice in each epoch.
        sampling: of videos, how cases are drawn (see `mmvm_data.cases.sampling_options`); the seed is not used.
    """

    _: KW_ONLY
    kind: Annotated[str, AfterValidator(_check_kind)]
    path: Path
    root: Path | None = None
    weight: Annotated[float, Field(gt=0)] = 1.0
    sampling: SamplingOptions = field(default_factory=SamplingOptions)


@dataclass(frozen=True)
class RecordReader:
    """An opened source whose records are read by number.

    Attributes:
        source: what was opened.
        records: the records of its file, or the cases of its videos.
        root: folder of the images, or None.
    """

    source: SftSource
    records: Records | VideoRecords
    root: Path | None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def has_cases(self) -> bool:
        """Whether its records are cases."""
        return self.source.kind in CASE_KINDS or isinstance(self.records, VideoRecords)

    @property
    def group_size(self) -> int:
        """Number of consecutive records that are held out together, because they show the same video."""
        return self.records.sampling.max_cases_per_video if isinstance(self.records, VideoRecords) else 1

    def read_case(self, number: int, draw: Draw = FIXED_DRAW) -> Case:
        """The case in a record; `draw` decides which one a video gives.

        Raises:
            InputError: the record is not a case, or a reviewer rejected it.
        """
        if isinstance(self.records, VideoRecords):
            return self.records.draw_case(number, draw)
        try:
            if self.source.kind == "build":
                case = Case.model_validate_json(self.records.read_bytes(number))
            else:
                case = sft.from_record(self.records.read(number), self.root)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            reason = f"not a case record: {first['msg']} at {'.'.join(map(str, first['loc']))}"
            raise InputError(self.records.file, reason, f"record {number}") from error
        except InputError as error:
            if error.file != "record":
                raise
            field = f"record {number}{f': {error.field}' if error.field else ''}"
            raise InputError(self.records.file, error.reason, field) from error
        if case.review.state == "rejected":
            raise InputError(self.records.file, "a reviewer rejected this case", f"record {number}")
        if self.source.kind == "match-reasoning" and not case.rationale:
            raise InputError(self.records.file, "description is missing", f"record {number}")
        return case

    def make_prompt(
        self,
        number: int,
        variant: PromptVariant = DEFAULT_VARIANT,
        key: Sequence[int | str] | None = None,
        renumber: bool = True,
        recolor: bool = True,
        draw: Draw = FIXED_DRAW,
    ) -> CasePrompt:
        """The prompt of a case; `key` seeds the candidates' numbers and colors, None keeps them."""
        with_reason = self.source.kind != "match-choice"
        rng = None if key is None else keyed_rng(*key)
        return make_case_prompt(self.read_case(number, draw), variant, rng, with_reason, renumber, recolor)

    def make_reject(self, number: int, error: Exception) -> Reject:
        """The entry of `rejects.jsonl` for a record that cannot be used."""
        record = f"record {number}"
        if isinstance(error, InputError):
            field = error.field or ""
            field = field if field.startswith(record) else f"{record}{f': {field}' if field else ''}"
            reason = error.reason if error.file == str(self.records.file) else f"{error.file}: {error.reason}"
            return Reject(self.source.kind, "", number, reason, str(self.records.file), field)
        return Reject(self.source.kind, "", number, str(error), str(self.records.file), record)


def build_record_conversation(
    reader: RecordReader,
    number: int,
    prompt: CasePrompt | None,
    lookup: EmbeddingLookup | None,
    object_tokens: bool,
    style: str,
) -> Conversation:
    """A record as a conversation with its images.

    Args:
        reader: of the record.
        number: of the record.
        prompt: of `RecordReader.make_prompt` where the record is a case, else None.
        lookup, object_tokens, style: see `build_prompt_conversation`.

    Raises:
        InputError: the record cannot be used.
    """
    if prompt is not None:
        assert reader.root is not None
        return build_prompt_conversation(prompt, reader.root, lookup, object_tokens, style)
    turns, paths = _read_turns(reader, number)
    return Conversation(turns, tuple(ImageInput(media.read_image_rgb(path)) for path in paths), f"record {number}")


def measure_record(
    reader: RecordReader, number: int, processor: Processor, object_tokens: bool
) -> tuple[int, RecordForm]:
    """Number of tokens of a record with `DEFAULT_VARIANT`, and its form; of images only the headers are read.

    Raises:
        InputError, ValueError: the record cannot be used.
    """
    if reader.has_cases:
        prompt = reader.make_prompt(number)
        case, root = prompt.case, reader.root
        assert root is not None
        sizes = []
        for frame in case.frames:
            path = safe_join(root, frame.path, frame.path)
            width, height = media.read_image_size(path) if frame.video_frame is None else (frame.width, frame.height)
            if (width, height) != (frame.width, frame.height):
                reason = f"image is {width} x {height}, its masks are {frame.width} x {frame.height}"
                raise InputError(path, reason)
            sizes.append((width, height))
        turns = prompt.build_turns(processor.prompt_style, object_tokens)
        form = f"{case.prompt}{'+why' if len(turns) > 2 else ''}"
    else:
        turns, paths = _read_turns(reader, number)
        sizes, form = [media.read_image_size(path) for path in paths], "conversation"
    image_tokens = [processor.image_processor.count_tokens(width, height) for width, height in sizes]
    num_objects = turns[0].text.count(OBJECT) if form != "conversation" else 0
    encoding = processor.vocabulary.encode(turns, processor.template, image_tokens, num_objects)
    return len(encoding.ids), RECORD_FORMS[RECORD_FORMS.index(form)]


def _read_turns(reader: RecordReader, number: int) -> tuple[tuple[Turn, ...], list[Path]]:
    """The turns and image files of a conversation."""
    assert isinstance(reader.records, Records)
    file, field = reader.records.file, f"record {number}"
    conversation = parse_conversation(file, number, reader.records.read(number))
    turns = [Turn(_ROLES[turn.role], plain_text(turn.text, OBJECT)) for turn in conversation.turns]
    if not any(turn.role == "assistant" for turn in turns):
        raise InputError(file, "no assistant turn, so there is nothing to train on", field)
    if any(turn.role == "assistant" and not turn.text.strip() for turn in turns):
        raise InputError(file, "an assistant turn is empty, so there is nothing to train on", field)
    if conversation.images and reader.source.kind == "text":
        raise InputError(file, "a text source, but the record has an image", field)
    if conversation.images and reader.root is None:
        raise InputError(file, "has an image, but the source has no root", field)
    num_marks = sum(turn.text.count(IMAGE) for turn in turns if turn.role == "user")
    first_user = next((k for k, turn in enumerate(turns) if turn.role == "user"), None)
    if conversation.images and num_marks == 0 and first_user is not None:  # as the published loader does
        prefix = (IMAGE + "\n") * len(conversation.images)
        turns[first_user] = Turn("user", prefix + turns[first_user].text)
    return tuple(turns), [safe_join(reader.root or Path(), name, file, field) for name in conversation.images]
