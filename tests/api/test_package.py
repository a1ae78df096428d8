"""The public names of the package: complete, quick to import, and hidden by no module."""

import subprocess
import sys
from importlib.metadata import version
from inspect import isfunction
from pathlib import Path

import pytest

import lyricgen
from tests.conftest import SMALL


def test_the_names_are_complete() -> None:
    assert set(lyricgen.__all__) <= set(dir(lyricgen))
    assert all(getattr(lyricgen, name) for name in lyricgen.__all__)
    assert lyricgen.__version__ == version("lyricgen")
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        lyricgen.fits  # noqa: B018
    assert issubclass(lyricgen.Sweep, lyricgen.Runs)


def test_no_function_has_the_name_of_a_module() -> None:
    folder = Path(lyricgen.__file__).parent
    modules = {path.stem for path in folder.rglob("*.py")} | {
        path.name for path in folder.rglob("*") if path.is_dir()
    }
    functions = {name for name in lyricgen.__all__ if isfunction(getattr(lyricgen, name))}
    assert {"fit", "load", "find_runs"} <= functions
    assert functions & modules == set()


CALLS = """
import importlib, pkgutil
import lyricgen
for module in pkgutil.walk_packages(lyricgen.__path__, "lyricgen."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
settings = {settings}
run = lyricgen.fit(*settings)
more = lyricgen.resume(run.path, "trainer.max_epochs=3")
sweep = lyricgen.fit_sweep({{"seed": [1, 2]}}, *settings)
assert run.figures["test/loss"] == sweep[0].figures["test/loss"]
assert [one.path for one in lyricgen.find_runs(sweep.path)] == [one.path for one in sweep]
model = lyricgen.load()
assert model.generate(seed=3) == lyricgen.load(sweep.path).generate(seed=3)
assert lyricgen.load([run.path, sweep[1].path]).network.description
print("done", more.summary.epochs)
"""


@pytest.mark.slow
def test_every_function_works_after_every_module_is_imported(tmp_path: Path) -> None:
    program = CALLS.format(settings=["data=dino", *SMALL])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("done 3\n"), done.stderr


QUICK = """
import sys
import lyricgen
heavy = ("torch", "hydra", "pandas", "matplotlib", "pydantic", "importlib.metadata")
print([name for name in heavy if name in sys.modules])
lyricgen.Run, lyricgen.find_runs
print([name for name in ("torch", "hydra") if name in sys.modules])
"""


def test_the_import_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUICK],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["[]", "[]"]


SECONDS = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


@pytest.mark.slow
def test_the_import_costs_at_most_twice_that_of_the_metadata() -> None:
    times: dict[str, list[float]] = {"lyricgen": [], "importlib.metadata": []}
    for _ in range(9):
        for name, of_module in times.items():
            program = [sys.executable, "-c", SECONDS.format(name)]
            done = subprocess.run(program, capture_output=True, text=True, check=True)
            of_module.append(float(done.stdout))
    quickest = {name: min(of_module) for name, of_module in times.items()}
    assert quickest["lyricgen"] <= 2 * quickest["importlib.metadata"], quickest
