"""The identity of a program: a digest of its normalised syntax tree.

Names of locals, comments, docstrings, annotations and layout do not matter, so programs that differ in nothing else
collapse into one algorithm. The normal form is text from `ast.unparse`, which is steadier between Python versions
than `ast.dump`.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from itertools import count

from selfdev_core.algorithm.contract import ENTRY_POINT
from selfdev_core.algorithm.syntax import parsed

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
    tree = _Unannotated().visit(parsed(source))
    _strip(tree)
    return ast.unparse(ast.fix_missing_locations(_Renamer(_new_names(tree)).visit(tree)))


class _Unannotated(ast.NodeTransformer):
    """`x: int = 3` becomes `x = 3`; a bare `x: int` stays, since it makes the name local."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            node.annotation = ast.Constant(0)
            return node
        return ast.Assign(targets=[node.target], value=node.value)


def _strip(tree: ast.AST) -> None:
    """Remove docstrings and the annotations of functions in place."""
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


def _new_names(tree: ast.AST) -> dict[str, str]:
    """Each name that may be renamed, and `v0`, `v1`, … in order of first appearance, clear of the names that stay."""
    order: dict[str, None] = {}
    _Order(order).visit(tree)
    bound = _renamable(tree)
    old = [name for name in order if name in bound]
    stays = order.keys() - bound
    free = (name for name in (f"v{i}" for i in count()) if name not in stays)
    return dict(zip(old, free, strict=False))


def _renamable(tree: ast.AST) -> set[str]:
    """Names bound by the program, less those whose spelling can matter.

    A name that is also a builtin keeps its spelling (it may mean the builtin in another scope); so does one that is
    used as a keyword argument, and every name in a program whose names can be read as text: by `locals`, `eval`, …, as
    attributes of a class, as `**keywords`, or by a match statement.
    """
    bound: set[str] = set()
    fixed = {ENTRY_POINT} | _BUILTINS
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                bound.add(name)
            case ast.Name(id=name) if name in _LOOKS_AT_NAMES:
                return set()
            case ast.ClassDef() | ast.Match() | ast.keyword(arg=None):
                return set()
            case ast.arg(arg=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.alias(name=name, asname=None) if "." in name:
                fixed.add(name.split(".")[0])
            case ast.alias(name=name, asname=asname):
                bound.add(asname or name)
            case ast.keyword(arg=str(name)):
                fixed.add(name)
        # The entry point's own arguments are part of the contract: `layer` is passed only to a program that names it so.
        if isinstance(node, ast.FunctionDef) and node.name == ENTRY_POINT:
            args = node.args
            fixed.update(a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs) if a.arg == "layer")
    return bound - fixed


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
    def __init__(self, new: dict[str, str]) -> None:
        self.new = new

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
