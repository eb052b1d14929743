"""All single changes of a module that its tests should notice."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Mutant", "mutants"]

FLIPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}
REMOVABLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.Return, ast.Raise, ast.Delete)
#: Nodes that are skipped: those without behaviour, and f-strings (no positions in 3.11).
SKIPPED = ("annotation", "returns", "decorator_list", "bases")


class Mutant(NamedTuple):
    """One change: its place, and the whole module's new text."""

    line: int
    scope: str
    code: str
    old: str
    new: str
    text: str

    @property
    def key(self) -> str:
        """Return a key that stays the same after edits elsewhere in the module."""
        return f"{self.scope}: {self.code} [{self.old} -> {self.new}]"


def mutants(source: str) -> list[Mutant]:
    """Return all changes of a text, in the order of its lines."""
    offsets = [0]
    for text in source.encode().splitlines(keepends=True):
        offsets.append(offsets[-1] + len(text))
    found = []
    for scope, node, replacement in _changes(ast.parse(source), ""):
        start = offsets[node.lineno - 1] + node.col_offset
        end = offsets[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        data = source.encode()
        old = " ".join(data[start:end].decode().split())
        new = ast.unparse(ast.fix_missing_locations(replacement))
        put = f"({new})" if isinstance(replacement, ast.expr) else new
        text = (data[:start] + put.encode() + data[end:]).decode()
        code = source.splitlines()[node.lineno - 1].partition("  #")[0].strip()
        found.append(Mutant(node.lineno, scope, code, old, new, text))
    return sorted(found)


def _changes(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.expr | ast.stmt, ast.AST]]:
    if isinstance(node, ast.JoinedStr) or _is_for_types(node):
        return
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        scope = f"{scope}.{node.name}".lstrip(".")
    if isinstance(node, (ast.expr, ast.stmt)):
        yield from ((scope, node, change) for change in _of(node, scope))
    if isinstance(node, (ast.If, ast.IfExp, ast.While)) and _is_plain(node.test):
        yield scope, node.test, ast.UnaryOp(ast.Not(), node.test)
    for name, value in ast.iter_fields(node):
        if name in SKIPPED or (name == "keywords" and isinstance(node, ast.ClassDef)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _changes(child, scope)


def _of(node: ast.AST, scope: str) -> Iterator[ast.AST]:
    """Yield the changes of this node alone."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            other = copy.deepcopy(node)
            other.ops[i] = FLIPS[type(operator)]()  # type: ignore[call-overload]
            yield other
    elif isinstance(node, (ast.BoolOp, ast.BinOp, ast.AugAssign)) and type(node.op) in FLIPS:
        other = copy.deepcopy(node)
        other.op = FLIPS[type(node.op)]()  # type: ignore[assignment]
        yield other
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    if isinstance(node, (ast.Break, ast.Continue)):
        yield ast.Pass()
    if scope and isinstance(node, REMOVABLE) and not _is_docstring(node):
        yield ast.Pass()


def _is_plain(test: ast.expr) -> bool:
    """Return True if no other rule changes this node."""
    return not isinstance(test, (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Constant))


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_types(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) in ("__all__", "__slots__")
    return False
