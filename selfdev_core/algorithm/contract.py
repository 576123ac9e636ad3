"""The one place that defines what a candidate program is.

A program defines `merge_models(model_dict, device)`. It is called once per merged parameter. `model_dict` maps each
expert's name to its task vector (expert minus seed; float32, all of one shape); the result is one tensor of that shape
and is added to the seed's tensor (Self-Developing, section 3: task vectors relative to the seed). A program whose
function also declares `layer` is given a `Layer`. Inputs must not be changed in place. The order in which parameters come is not
promised.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.algorithm.syntax import parsed

if TYPE_CHECKING:
    from selfdev_core.records import Reason

CONTRACT_VERSION = 1
ENTRY_POINT = "merge_models"
ALLOWED_IMPORTS = frozenset({"torch", "math", "numpy", "typing", "collections", "functools", "itertools", "statistics"})
_DEPTH = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Layer:
    """Where a parameter stands: index of its block (−1 outside the blocks), number of blocks, full parameter name."""

    index: int
    count: int
    name: str


class Refusal(NamedTuple):
    """Why a program is refused before it runs."""

    reason: Reason
    detail: str


def layer_of(name: str, count: int) -> Layer:
    """The `Layer` of a parameter such as `model.layers.2.mlp.up_proj.weight` in a model of `count` blocks."""
    found = _DEPTH.search(name)
    return Layer(int(found.group(1)) if found else -1, count, name)


def check_source(source: str, max_bytes: int = 64 * 1024) -> Refusal | None:
    """What can be said of a program without running it: it parses, defines the entry point, imports what is allowed.

    This is for clear verdicts, not for security: the sandbox holds whatever passes here.
    """
    if len(source.encode("utf-8", "surrogatepass")) > max_bytes:
        return Refusal("syntax-error", f"source is larger than {max_bytes} bytes")
    try:
        tree = parsed(source)
    except SyntaxError as error:
        return Refusal("syntax-error", f"line {error.lineno}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Refusal("syntax-error", f"{type(error).__name__}: {error}")
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["." * node.level + (node.module or "")]
        for module in modules:
            if module.split(".")[0] not in ALLOWED_IMPORTS:
                return Refusal("forbidden-import", f"imports {module!r}; allowed: {', '.join(sorted(ALLOWED_IMPORTS))}")
    entry = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == ENTRY_POINT]
    if not entry:
        return Refusal("contract", f"defines no function {ENTRY_POINT}(model_dict, device)")
    args = entry[-1].args
    positional = [a.arg for a in (*args.posonlyargs, *args.args)]
    required = len(positional) - len(args.defaults)
    takes_layer = "layer" in positional[2:] or "layer" in {a.arg for a in args.kwonlyargs}
    if len(positional) < 2 or required > (3 if takes_layer else 2):
        return Refusal(
            "contract", f"{ENTRY_POINT} takes ({', '.join(positional)}); needs (model_dict, device[, layer])"
        )
    extra = [a.arg for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d is None and a.arg != "layer"]
    if extra:
        return Refusal("contract", f"{ENTRY_POINT} needs keyword argument {extra[0]!r}, which is never given")
    return None
