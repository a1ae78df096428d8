"""The numbers that keep the package readable, and the order of its folders."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lyricgen.__main__ import COMMANDS
from tests.conftest import ROOT

SOURCE = ROOT / "src"
PACKAGE = SOURCE / "lyricgen"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8")) for path in FILES}
TESTS = sorted((ROOT / "tests").rglob("*.py"))

ON_DEMAND = "a command's help and its refusals come without torch, tables and plots"
# Files whose functions may import anything.
IMPORTING_INSIDE = {
    **{
        f"lyricgen/{name}.py": ON_DEMAND
        for name in (
            *("__main__", "generate", "evaluate", "export", "report", "list_runs", "dashboard"),
            "sweeps/task",
        )
    },
    "lyricgen/training/worker.py": "a process watches rank 0 before it imports torch",
    "hydra_plugins/lyricgen_plugins.py": "Hydra imports every plugin at each start",
}
# Modules that functions of a file import.
IMPORTED_INSIDE = {
    **dict.fromkeys(
        (
            ("lyricgen/api/models.py", "lyricgen.generation.ensembles"),
            ("lyricgen/api/models.py", "lyricgen.generation.remembering"),
            ("lyricgen/api/models.py", "lyricgen.generation.training_text"),
            ("lyricgen/generation/writer.py", "lyricgen.generation.training_text"),
        ),
        "heavy; few texts need the corpus",
    ),
    ("lyricgen/cli/command_line.py", "lyricgen.cli.named_runs"): "heavy; only --run and --best",
    ("lyricgen/api/run.py", "lyricgen.api.models"): "torch takes seconds; few runs are loaded",
    ("lyricgen/training/loggers/mlflow.py", "mlflow"): "an extra",
    ("lyricgen/training/loggers/wandb.py", "wandb"): "an extra",
    ("lyricgen/cli/typed_texts.py", "lyricgen.data.cached_files"): "only standard input needs it",
    ("lyricgen/evaluation/compressors.py", "pyppmd"): "an extra",
    ("lyricgen/generation/verse.py", "pypinyin"): "an extra that takes seconds",
    ("lyricgen/reporting/page.py", "optuna"): "an extra",
    ("lyricgen/runs/record_files.py", "pydantic"): "heavy; a dashboard reads records without it",
    ("lyricgen/runs/record_files.py", "yaml"): "only a resumed run needs it",
    ("lyricgen/sweeps/job.py", "torch"): "only the process of a job needs it",
    ("lyricgen/sweeps/launch.py", "ray"): "an extra",
    ("lyricgen/sweeps/watch.py", "submitit"): "an extra",
    ("lyricgen/sweeps/grid.py", "lyricgen.training.options"): "heavy; many sweeps need no check",
    ("lyricgen/sweeps/grid.py", "lyricgen.training.older_model"): "heavy; as above",
    ("lyricgen/sweeps/sweep.py", "lyricgen.reporting.sweep_report"): "no job needs its plots",
    ("lyricgen/sweeps/sweep.py", "lyricgen.evaluation.ensembles"): "heavy; most sweeps vary more",
}
# Files that touch private names of a library.
PRIVATE = {
    "lyricgen/cli/hydra_private.py": "Hydra's command line, composition and global state, "
    "argparse's options, logging's handlers",
    "lyricgen/training/lightning_hooks.py": "Lightning's loops and torch's gradient buckets",
}
SMALL = 60  # lines
# Kinds of things that users add: a small file each.
ADDED_BY_USERS = ("models/cells/", "training/callbacks/", "training/loggers/")


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports_of(tree: ast.AST) -> set[str]:
    """Modules that a tree imports; of `from a import b` both a and a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def foreign_private_names(tree: ast.AST) -> set[str]:
    """Private names of other libraries: imports, arguments, and attributes of no class here."""
    nodes = list(ast.walk(tree))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    foreign = {
        name
        for name in imports_of(tree)
        if not name.startswith("lyricgen") and any(part[:1] == "_" for part in name.split("."))
    }
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    of_self = {
        node.attr
        for node in attributes
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    arguments = {node.arg or "" for node in nodes if isinstance(node, ast.keyword)}
    documented = {"_replace", "_make", "_asdict", "_exit", "__future__"}
    return {name for name in foreign if name.partition(".")[0] != "__future__"} | {
        name
        for name in {node.attr for node in attributes} | arguments
        if name.startswith("_")
        and not name.startswith("__")
        and name not in own | of_self | documented
    }


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name
)
def test_scripts_import_what_the_package_has(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lyricgen"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")


def test_no_import_points_upwards_or_in_a_circle() -> None:
    """pyproject.toml has the order of the folders."""
    program = "from importlinter.cli import lint_imports; exit(lint_imports(no_cache=True))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_root_holds_commands_and_foundations_alone() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(modules - {module for module, _ in COMMANDS.values()}) <= 7, sorted(modules)
    for command, _ in COMMANDS.values():
        assert len((PACKAGE / f"{command}.py").read_text("utf-8").splitlines()) <= 250, command


@pytest.mark.parametrize("path", TREES)
def test_files_and_functions_are_short(path: str) -> None:
    assert len((SOURCE / path).read_text("utf-8").splitlines()) <= 350
    long = [
        one.name for one in functions_of(TREES[path]) if (one.end_lineno or 0) - one.lineno >= 50
    ]
    assert long == []


def test_an_import_inside_a_function_has_a_reason() -> None:
    found = {
        path: {
            getattr(node, "module", None) or node.names[0].name
            for function in functions_of(tree)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        for path, tree in TREES.items()
    }
    elsewhere = {
        (path, name)
        for path, names in found.items()
        for name in names
        if path not in IMPORTING_INSIDE
    }
    assert elsewhere == set(IMPORTED_INSIDE)
    assert all(found[path] for path in IMPORTING_INSIDE)


@pytest.mark.parametrize("path", TREES)
def test_private_names_of_libraries_stand_in_modules_that_say_so(path: str) -> None:
    assert bool(foreign_private_names(TREES[path])) == (path in PRIVATE)


def test_one_module_asks_lightning_for_the_end_of_an_epoch() -> None:
    found = {
        path
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "is_last_batch"
    }
    assert found == {"lyricgen/training/lightning_hooks.py"}


def test_a_small_file_has_more_than_one_importer() -> None:
    imports = {path: imports_of(tree) for path, tree in TREES.items()}
    for path in TREES:
        short = len((SOURCE / path).read_text("utf-8").splitlines()) < SMALL
        if not short or path.endswith("__init__.py") or any(one in path for one in ADDED_BY_USERS):
            continue
        importers = [each for each, names in imports.items() if module_of(path) in names]
        assert len(importers) != 1, f"{path} belongs into {importers[0]}"


def test_kinds_of_models_are_told_apart_in_models_alone() -> None:
    folder = "lyricgen/models/"
    kinds = {
        node.name
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if path.startswith(folder) and isinstance(node, ast.ClassDef)
    }
    assert {"HybridModel", "NetworkOptions"} <= kinds
    found = {
        path
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "isinstance"
        and kinds & {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    }
    assert {path for path in found if not path.startswith(folder)} == set()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_imports_another(path: Path) -> None:
    names = imports_of(ast.parse(path.read_text("utf-8")))
    assert [name for name in names if name.rpartition(".")[2].startswith("test_")] == []
    shared = [name.rpartition(".")[2] for name in names if name.startswith("tests.")]
    assert [name for name in shared if name.startswith("_")] == []
