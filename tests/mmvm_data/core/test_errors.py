"""Messages of errors: one line, whatever a broken file contains."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest

from mmvm_data.core.errors import InputError, OutputError, Reject, UsageError, escape_message, escape_unprintable


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError(Path("a/b.json"), "is empty"), "a/b.json: is empty"),
        (InputError("b.json", "is no number", field="line 3"), "b.json: line 3: is no number"),
        (InputError("b\n.json", "is\x1b[2J empty", field="\tkey"), "b\\n.json: \\tkey: is\\x1b[2J empty"),
    ],
)
def test_message_of_an_input_error(error: InputError, message: str) -> None:
    assert str(error) == message
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InputError
    assert (str(again), again.file, again.reason, again.field) == (message, error.file, error.reason, error.field)
    assert isinstance(again.file, str)


def test_line_breaks_stay_where_a_list_item_starts() -> None:
    assert escape_message("expected:\n  one\n  two\nthree\r") == "expected:\n  one\n  two\\nthree\\r"
    assert escape_unprintable("é\n\ud800\u200bx") == "é\\n\\ud800\\u200bx"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "out/a.jpg: cannot write: No space left on device"),
        (OSError("the encoder failed"), "out/a.jpg: cannot write: the encoder failed"),
    ],
)
def test_message_of_an_output_error(error: OSError, message: str) -> None:
    raised = OutputError(Path("out/a.jpg"), error)
    assert isinstance(raised, UsageError)
    assert (str(raised), raised.path, raised.error) == (message, "out/a.jpg", error)
    again = pickle.loads(pickle.dumps(raised))
    assert (type(again), str(again), again.path) == (OutputError, message, "out/a.jpg")


def test_record_of_a_reject() -> None:
    record = Reject("davis", "tennis", -1, "is empty", file="a.png").to_json()
    assert list(record.items()) == [
        ("source", "davis"),
        ("video", "tennis"),
        ("ordinal", -1),
        ("reason", "is empty"),
        ("file", "a.png"),
        ("field", ""),
    ]
    assert sorted([Reject("b", "", 0, "r"), Reject("a", "z", 0, "r"), Reject("a", "y", 3, "r")])[0].video == "y"
