"""The identity of a program: a digest of its normalised syntax tree.

Names of locals, comments, docstrings, annotations and layout do not matter, so programs that differ in nothing else
collapse into one algorithm. The normal form is text from `ast.unparse`, which is steadier between Python versions
than `ast.dump`.
"""

from __future__ import annotations

import ast
import builtins
import hashlib

from selfdev_core.algorithm.contract import ENTRY_POINT

MAX_SOURCE_BYTES = 64 * 1024
_BUILTINS = frozenset(dir(builtins))
_LOOKS_AT_NAMES = frozenset({"locals", "globals", "vars", "eval", "exec", "dir", "getattr", "setattr"})


def algorithm_id(source: str) -> str:
    """`a-` and 16 hex digits for a program that parses; `x-` and 16 hex digits of the raw text for one that does not."""
    try:
        text, kind = canonical_source(source), "a"
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        text, kind = source, "x"
    return f"{kind}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def canonical_source(source: str) -> str:
    """The program in normal form.

    Raises: SyntaxError or ValueError (null bytes, over 64 KiB) when the source cannot be parsed.
    """
    if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        raise ValueError(f"source is larger than {MAX_SOURCE_BYTES} bytes")
    tree = ast.parse(source)
    _strip(tree)
    names = _renamable(tree)
    return ast.unparse(ast.fix_missing_locations(_Renamer(names).visit(tree)))


def _strip(tree: ast.AST) -> None:
    """Remove docstrings and annotations in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None


def _renamable(tree: ast.AST) -> list[str]:
    """Names bound by the program, in order of first appearance, less those whose spelling can matter.

    A name that is also a builtin keeps its spelling (it may mean the builtin in another scope); so does one that is
    used as a keyword argument, and every name in a program that looks at names (`locals`, `eval`, …).
    """
    bound: dict[str, None] = {}
    fixed = {ENTRY_POINT} | _BUILTINS
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                bound.setdefault(name)
            case ast.Name(id=name) if name in _LOOKS_AT_NAMES:
                return []
            case ast.arg(arg=name):
                bound.setdefault(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.setdefault(name)
            case ast.ExceptHandler(name=str(name)):
                bound.setdefault(name)
            case ast.alias(name=name, asname=None) if "." in name:
                fixed.add(name.split(".")[0])
            case ast.alias(name=name, asname=asname):
                bound.setdefault(asname or name)
            case ast.keyword(arg=str(name)):
                fixed.add(name)
            case ast.ClassDef() | ast.MatchAs() | ast.MatchStar():
                return []
    order: dict[str, None] = {}
    _Order(order).visit(tree)
    # The entry point's own arguments are part of the contract: `layer` is passed only to a program that names it so.
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == ENTRY_POINT:
            fixed.update(a.arg for a in node.args.args if a.arg == "layer")
    return [name for name in order if name in bound and name not in fixed]


class _Order(ast.NodeVisitor):
    """Collects every name in source order (depth first), unlike `ast.walk`, which is breadth first."""

    def __init__(self, seen: dict[str, None]) -> None:
        self.seen = seen

    def generic_visit(self, node: ast.AST) -> None:
        for field in ("name", "asname", "id", "arg"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                self.seen.setdefault(value)
        super().generic_visit(node)


class _Renamer(ast.NodeTransformer):
    def __init__(self, names: list[str]) -> None:
        self.new = {name: f"v{i}" for i, name in enumerate(names)}

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.new.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self.new.get(node.arg, node.arg)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self.new.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        if node.name:
            node.name = self.new.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> ast.AST:
        node.names = [self.new.get(name, name) for name in node.names]
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        node.names = [self.new.get(name, name) for name in node.names]
        return node

    def visit_alias(self, node: ast.alias) -> ast.AST:
        bound = node.asname or node.name
        if bound in self.new:
            node.asname = self.new[bound]
        return node
