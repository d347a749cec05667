from __future__ import annotations

import pytest

from mmvm_data.core.errors import InputError
from mmvm_data.io.yaml_files import parse_yaml


def test_numbers_of_yaml_1_2_and_aliases() -> None:
    assert parse_yaml("a: 2e-4\nb: &x {c: [1, 2]}\nd: *x\ne: {<<: *x, f: 3}", "f") == {
        "a": 2e-4,
        "b": {"c": [1, 2]},
        "d": {"c": [1, 2]},
        "e": {"c": [1, 2], "f": 3},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 20_000, "more than 100 levels"),
        ("a: " + "{a: " * 101 + "1" + "}" * 101, "more than 100 levels"),
        ("a: &a [*a]", "contains it: a"),
        ("a: *b", "unknown or contains it: b"),
        ("stage: !!python/object/apply:os.system [echo]", "tags are not supported"),
        ("a: !!timestamp x", "tags are not supported"),
        ("? [1, 2]\n: 3", "as a key"),
        ("a: " + "9" * 5000, "not YAML"),
        ("a: 2001-99-99", "not YAML"),
        ("a: [", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: 1\nb: {c: 1, d: a, c: a}", "line 2: the key 'c' occurs twice"),
        ("a: {b: 1}\nb: a\nc: [{a: 1}, {a: 2}]\na: 3", "line 4: the key 'a' occurs twice"),
    ],
)
def test_what_cannot_be_used_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        parse_yaml(text, "f.yaml")
    assert str(caught.value).startswith("f.yaml: ")
    assert "\n" not in str(caught.value)


def test_aliases_count_as_often_as_they_are_used() -> None:
    text = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    with pytest.raises(InputError, match="more than 100,000 values"):
        parse_yaml(text, "f")
    deep = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} {'[' * 40}*a{n - 1}{']' * 40}\n" for n in range(1, 4))
    with pytest.raises(InputError, match="more than 100 levels"):
        parse_yaml(deep, "f")
