"""Expressions over the fields of a case, such as ``source == 'davis' and candidates >= 4 and not none``.

An expression has names of fields, numbers, texts in quotes, ``True``, ``False``, ``None``, lists, the comparisons
``== != < <= > >= in`` and ``not in``, ``and``, ``or``, ``not`` and parentheses. It is parsed as Python and walked here;
nothing of it is ever executed. A field without a value is ``None``: ordering it, or looking in it, is false.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Case

Value = Any  # a number, a text, a boolean, None, or a tuple of these
CaseTest = Callable[[Case], bool]


def _from_provenance(name: str) -> Callable[[Case], Value]:
    return lambda case: getattr(case.provenance, name) if case.provenance else case.extra.get(name)


def _seconds(case: Case) -> float | None:
    """Time between the first and the last image, when the source says."""
    frames = case.provenance.frames if case.provenance else case.frames
    first, last = frames[0].time, frames[-1].time
    return None if first is None or last is None else abs(last - first)


FIELDS: Final[Mapping[str, Callable[[Case], Value]]] = {
    "id": lambda case: case.id,
    "source": _from_provenance("source"),
    "recipe_source": lambda case: (case.provenance.extra if case.provenance else case.extra).get("recipe_source"),
    "video": _from_provenance("video"),
    "gap": _from_provenance("gap"),
    "seconds": _seconds,
    "look_alikes": _from_provenance("look_alikes"),
    "visible": _from_provenance("visible"),
    "category": lambda case: case.query[0].category,
    "prompt": lambda case: case.prompt,
    "images": lambda case: len(case.frames),
    "candidates": lambda case: len(case.candidates),
    "answer": lambda case: case.answer,
    "none": lambda case: case.answer is None,
    "match_types": lambda case: case.match_types,
    "rationale": lambda case: case.rationale,
    "rationale_by": lambda case: case.rationale_by,
    "review": lambda case: case.review.state,
    "reviewer": lambda case: case.review.by,
}
"""The fields that expressions and balances can name."""

_MAX_CHARACTERS: Final = 2_000
_MAX_DEPTH: Final = 50
_ORDER: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def parse_filter(where: str) -> CaseTest:
    """The test that an expression describes.

    Raises:
        OptionError: it is no such expression.
    """
    if len(where) > _MAX_CHARACTERS:
        raise OptionError("where", f"must have at most {_MAX_CHARACTERS} characters, got {len(where)}")
    try:
        tree = ast.parse(where.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise OptionError(
            "where", f"must be an expression over fields of a case, got {where!r:.80} ({reason})"
        ) from None
    evaluate = _compile(tree.body, 0)
    return lambda case: bool(evaluate(case))


def _compile(node: ast.expr, depth: int) -> Callable[[Case], Value]:
    if depth > _MAX_DEPTH:
        raise OptionError("where", f"must not be nested more than {_MAX_DEPTH} times")
    depth += 1
    if isinstance(node, ast.BoolOp):
        parts = [_compile(value, depth) for value in node.values]
        if isinstance(node.op, ast.And):
            return lambda case: all(part(case) for part in parts)
        return lambda case: any(part(case) for part in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _compile(node.operand, depth)
        return lambda case: not inner(case)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        number = node.operand.value
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return lambda case: -number
    if isinstance(node, ast.Compare):
        return _compile_comparison(node, depth)
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_compile(item, depth) for item in node.elts]
        return lambda case: tuple(item(case) for item in items)
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        value = node.value
        return lambda case: value
    if isinstance(node, ast.Name):
        if node.id not in FIELDS:
            raise OptionError(
                "where", f"must use the fields {', '.join(sorted(FIELDS))}, got {node.id}; a text needs quotes"
            )
        return FIELDS[node.id]
    raise OptionError(
        "where", f"must consist of fields, values, comparisons, and, or, not; {ast.unparse(node)!r:.60} is none of them"
    )


def _compile_comparison(node: ast.Compare, depth: int) -> Callable[[Case], bool]:
    terms = [_compile(term, depth) for term in (node.left, *node.comparators)]
    if any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
        raise OptionError("where", "must compare with == and !=, not with `is`")

    def test(case: Case) -> bool:
        values = [term(case) for term in terms]
        return all(_compare(op, values[k], values[k + 1]) for k, op in enumerate(node.ops))

    return test


def _compare(op: ast.cmpop, left: Value, right: Value) -> bool:
    if isinstance(op, ast.Eq):
        return bool(left == right)
    if isinstance(op, ast.NotEq):
        return bool(left != right)
    try:
        if isinstance(op, ast.In):
            return right is not None and left in right
        if isinstance(op, ast.NotIn):
            return right is None or left not in right
        return left is not None and right is not None and _ORDER[type(op)](left, right)
    except TypeError:
        raise UsageError(f"`where` compares {left!r:.40} with {right!r:.40}, which have no common order") from None
