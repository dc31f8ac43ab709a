"""The one-way order of the modules, and what each of them may import."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lightning_scaling"

NUMBERS = {"numpy", "scipy"}
TORCH = NUMBERS | {"torch"}
TRAINER = TORCH | {"lightning", "lightning_utilities", "pytorch_lightning", "typing_extensions"}

# A module (or subpackage) imports only from itself and from those above it here. The set names the third-party
# packages it may import; the maths (NUMBERS) must run where torch and Lightning are not installed.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "units": set(),
    "interval": NUMBERS,
    "verdict": set(),
    "laws": NUMBERS,
    "planner": NUMBERS,
    "curve": NUMBERS,
    "batch_size": NUMBERS,
    "schedule": NUMBERS,
    "finished": NUMBERS,
    "describe": NUMBERS,
    "windows": NUMBERS,
    "ledger": NUMBERS,
    "store": NUMBERS,
    "track_record": NUMBERS,
    "fit": NUMBERS,
    "joint": NUMBERS,
    "own_laws": NUMBERS,
    "siblings": NUMBERS,
    "stairs": NUMBERS,
    "forecast": NUMBERS,
    "alarm": NUMBERS,
    "alternatives": NUMBERS,
    "advice": NUMBERS,
    "refits": set(),
    "live": NUMBERS,
    "branch": NUMBERS,
    "outcome": NUMBERS,
    "readings": NUMBERS,
    "logfiles": NUMBERS,
    "named_schedule": NUMBERS,
    "review": NUMBERS,
    "pictures": NUMBERS,
    "report": NUMBERS,
    "logs": NUMBERS,
    "cli": {"rich", "typer"},  # parses and prints; the maths is imported by the command that needs it
    "recording": TORCH,
    "gradients": TORCH,
    "host": TORCH,  # handed a trainer, imports none
    "loop": TORCH,
    "huggingface": TORCH | {"tqdm", "transformers"},
    "_lightning": TRAINER,
    "callback": TRAINER,
    "guest": TRAINER,
    "noise_monitor": TRAINER,
    "autoload": set(),  # asked by every Trainer of the environment, so it imports nothing before it must
    "__main__": set(),
    "__init__": set(),  # the public names: the only one that may know all others
}
ORDER = list(LAYERS)
# Packages that only these modules may import, and only inside functions: optional, or slow to import.
ONLY_INSIDE_FUNCTIONS = {
    "pictures.axes": {"matplotlib"},
    "pictures.colours": {"matplotlib"},
    "pictures.theme": {"matplotlib"},
    "host.figures": {"matplotlib"},
    "logfiles.tensorboard": {"tensorboard"},
    "store.place": {"fsspec"},
}
MATHS = [layer for layer in ORDER if LAYERS[layer] <= NUMBERS and layer != "__init__"]


def module_name(path: Path) -> str:
    """Return the dotted name below the package: "laws", "fit.engine"; a subpackage's __init__ is the subpackage."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str:
    return module.split(".")[0]


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> Iterator[tuple[str, bool, bool]]:
    """Yield (absolute dotted name, inside a function, for type checkers only) of each import of a file."""

    def walk(node: ast.AST, in_function: bool, typing_only: bool) -> Iterator[tuple[str, bool, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, in_function, typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                folder = path.relative_to(ROOT).parts[: -node.level]
                base = ".".join([*folder, *([base] if base else [])])
            # "from lightning_scaling import laws" imports a module; "from lightning_scaling.laws import S_min" a name.
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner.removeprefix("lightning_scaling.") in MODULES else base, in_function, typing_only
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from walk(child, in_function, True)
            for child in node.orelse:
                yield from walk(child, in_function, typing_only)
        else:
            deeper = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                yield from walk(child, deeper, typing_only)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False, False)


def test_every_module_has_its_place() -> None:
    assert {layer_of(module) for module in MODULES} - set(ORDER) == set(), "add the new module to LAYERS"


@pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__"])
def test_imports_point_one_way(module: str) -> None:
    layer = layer_of(module)
    wrong = []
    for name, _, _ in imports(MODULES[module]):
        if name.split(".")[0] != "lightning_scaling":
            continue
        target = layer_of(name.removeprefix("lightning_scaling").removeprefix(".") or "__init__")
        if target != layer and ORDER.index(target) >= ORDER.index(layer):
            wrong.append(name)
    assert wrong == [], f"{module} imports from a layer above its own"


@pytest.mark.parametrize("module", list(MODULES))
def test_third_party_imports_are_those_of_the_layer(module: str) -> None:
    known = LAYERS[layer_of(module)] | sys.stdlib_module_names | {"lightning_scaling"}
    wrong = []
    for name, in_function, typing_only in imports(MODULES[module]):
        package = name.split(".")[0]
        deferred = in_function and package in ONLY_INSIDE_FUNCTIONS.get(module, set())
        if not (package in known or deferred or typing_only):
            wrong.append(name)
    assert wrong == [], f"{module} imports what its layer does without"


def run_python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_maths_runs_without_torch_lightning_and_matplotlib() -> None:
    maths = [f"lightning_scaling.{module}" for module in MODULES if layer_of(module) in MATHS]
    assert "lightning_scaling.laws" in maths
    printed = run_python(
        f"""
        import importlib, sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {{"torch", "lightning", "pytorch_lightning", "matplotlib"}}:
                    raise ModuleNotFoundError(f"No module named {{name!r}} in this test", name=name)

        sys.meta_path.insert(0, Absent())
        try:
            import torch
        except ModuleNotFoundError:
            pass
        else:
            raise SystemExit("torch could be imported, so this test tests nothing")

        import lightning_scaling
        for module in {maths!r}:
            importlib.import_module(module)
        law = lightning_scaling.KaplanNS(alpha_N=0.077, alpha_S=0.76, N_c=6.5e13, S_c=2.1e3)
        print(round(float(law.loss(1e8, 1e4)), 5))
        """
    )
    assert printed == "3.10823"


def test_importing_the_package_loads_nothing_heavy() -> None:
    printed = run_python(
        """
        import sys, lightning_scaling
        heavy = {"numpy", "scipy", "torch", "lightning", "pytorch_lightning", "matplotlib"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert printed == "[]"


@pytest.mark.skipif("forecast" not in MODULES, reason="the module forecast is not there")
@pytest.mark.parametrize(
    "before", ["import lightning_scaling.forecast", "from lightning_scaling.forecast import Forecast", ""]
)
def test_forecast_is_the_function_whatever_was_imported_before(before: str) -> None:
    printed = run_python(
        f"""
        {before}
        import lightning_scaling
        first = lightning_scaling.forecast
        from lightning_scaling import forecast
        import sys
        module = sys.modules["lightning_scaling.forecast"]
        print(forecast is first is module.forecast, callable(forecast), lightning_scaling.Forecast is module.Forecast)
        """
    )
    assert printed == "True True True"
