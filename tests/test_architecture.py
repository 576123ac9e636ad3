"""The layers point one way, the stages' parts know nothing of each other, and heavy libraries load late."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = {
    "selfdev_core": {"selfdev_core"},
    "tasks": {"tasks", "selfdev_core"},
    "flows": {"flows", "tasks", "selfdev_core"},
}
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "prefect",
    "datasets",
    "matplotlib",
    "safetensors",
    "scipy",
    "numpy",
    "vllm",
)
# A part of the core → the other parts it may import.
PARTS: dict[str, set[str]] = {
    "sandbox": set(),
    "factory": set(),
    "merging": {"sandbox"},
    "evaluation": set(),
    "preference": set(),
}


def _imports(path: Path, top_level: bool = False) -> set[str]:
    """Full names of the modules a file imports; with `top_level`, only those loaded when it is itself imported."""
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif top_level and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
            continue
        nodes += ast.iter_child_nodes(node)
    return found


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_point_one_way(layer: str) -> None:
    ours = set(LAYERS) | {"tests"}
    for path in FILES:
        if path.relative_to(ROOT).parts[0] == layer:
            used = {name.split(".")[0] for name in _imports(path)} & ours
            assert used <= LAYERS[layer], f"{_name(path)} imports {sorted(used - LAYERS[layer])}"


def test_the_core_knows_nothing_of_prefect_nor_of_the_command_line() -> None:
    for path in (ROOT / "selfdev_core").rglob("*.py"):
        used = {name.split(".")[0] for name in _imports(path)}
        assert not used & {"prefect", "typer", "rich", "fastapi"}, _name(path)


@pytest.mark.parametrize("part", PARTS)
def test_the_parts_of_the_core_know_nothing_of_each_other(part: str) -> None:
    others = {f"selfdev_core.{other}" for other in PARTS if other != part}
    allowed = {f"selfdev_core.{other}" for other in PARTS[part]}
    for path in (ROOT / "selfdev_core" / part).rglob("*.py"):
        used = {".".join(name.split(".")[:2]) for name in _imports(path)} & others
        assert used <= allowed, f"{_name(path)} imports {sorted(used - allowed)}"


def test_what_runs_in_the_sandbox_imports_nothing_that_holds_questions_scores_or_settings() -> None:
    seen, waiting = set[str](), ["selfdev_core.sandbox.zygote"]
    while waiting:
        module = waiting.pop()
        path = ROOT / (module.replace(".", "/") + ".py")
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        for name in _imports(path, top_level=True):
            waiting += [name, name.rpartition(".")[0]]
    allowed = {"selfdev_core.sandbox", "selfdev_core.algorithm", "selfdev_core.tensors", "selfdev_core.errors"}
    assert {".".join(name.split(".")[:2]) for name in seen} <= allowed, seen


@pytest.mark.parametrize("part", ["sandbox", "store", "config.py", "records.py", "algorithm", "evaluation", "merging"])
def test_heavy_libraries_load_inside_functions(part: str) -> None:
    root = ROOT / "selfdev_core" / part
    for path in [root] if root.is_file() else root.rglob("*.py"):
        if "human" in path.parts:  # programs under the candidates' contract: never imported
            continue
        heavy = {name.split(".")[0] for name in _imports(path, top_level=True)} & set(HEAVY)
        assert not heavy, f"{_name(path)} imports {sorted(heavy)} at its top level"


def test_the_command_line_loads_no_heavy_library() -> None:
    script = f"import sys, flows.cli; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_prefect_is_not_imported_before_its_server_is_known() -> None:
    script = "import sys, flows.run, flows.server, flows.display; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False"]


def test_programs_are_executed_in_the_sandbox_only() -> None:
    allowed = {"selfdev_core/sandbox/child.py"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert called not in ("exec", "eval") or _name(path) in allowed, _name(path)


def _names_in(path: Path) -> set[str]:
    """What a module defines or imports at its top level."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_benchmarks_and_tests_that_run_seldom_import_only_what_there_is() -> None:
    names: dict[Path, set[str]] = {}
    for path in (*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")):
        for full in _imports(path):
            module, _, name = full.rpartition(".")
            file = ROOT / (module.replace(".", "/") + ".py")
            if module.split(".")[0] not in LAYERS or file.with_suffix("").is_dir():
                continue  # a package: its modules and names are found when the fast tests import it
            assert file.is_file(), f"{_name(path)}: there is no module {module}"
            if file not in names:
                names[file] = _names_in(file)
            assert name in names[file], f"{_name(path)}: {module} has no {name}"


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        if _name(path).startswith("selfdev_core"):
            used = {name.split(".")[0] for name in _imports(path)}
            assert not used & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, _name(path)
            assert "torch.load(" not in path.read_text(encoding="utf-8"), _name(path)


def test_nothing_that_a_task_runs_can_load_questions_that_are_not_in_its_job() -> None:
    seen, waiting = (
        set[str](),
        [_name(path)[:-3].replace("/", ".") for path in FILES if _name(path).startswith("tasks/")],
    )
    while waiting:
        module = waiting.pop()
        paths = [ROOT / (module.replace(".", "/") + ending) for ending in (".py", "/__init__.py")]
        if module in seen or not any(path.is_file() for path in paths):
            continue
        seen.add(module)
        for path in paths:
            for name in _imports(path) if path.is_file() else ():
                waiting += [name, name.rpartition(".")[0]]
    assert {"selfdev_core.stages.evaluate", "selfdev_core.evaluation.questions"} <= seen
    assert not [name for name in seen if name.endswith("evaluation.sources") or "evaluation.benchmarks" in name]


def test_only_the_last_steps_can_open_the_test_split() -> None:
    openers = {
        _name(path)
        for path in FILES
        if not _name(path).startswith("tests/") and any(name.endswith(".open_test_split") for name in _imports(path))
    }
    assert openers == {"selfdev_core/finalists.py", "selfdev_core/transfer.py"}


def test_files_are_small_enough_to_hold_in_the_head() -> None:
    long = {
        _name(path): count for path in FILES if (count := len(path.read_text(encoding="utf-8").splitlines())) >= 350
    }
    assert long == {}


def test_every_module_says_why_it_exists() -> None:
    silent = [
        _name(path) for path in FILES if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
