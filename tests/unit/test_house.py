"""The rules of the house: who imports whom, who prints, what never appears, how long things get, and that the docs name real things."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "genrep"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in FILES]

FOUNDATIONS = ("types", "registry", "randomness", "devices", "processes", "layers", "schedules", "parametrization", "boxes", "storage")
SWAP_FOLDERS = ("backbones", "codecs", "metrics", "tasks", "modulators", "posteriors", "aligners", "samplers", "datasets")
ASSEMBLY = (
    "model_config",
    "denoiser",
    "drawing",
    "generative",
    "model",
    "model_folder",
    "published",
    "exported",
    "synthesis",
    "augmentation",
    "lessons",
    "objective",
    "losses",
)
LAYERS = (*FOUNDATIONS, *SWAP_FOLDERS, "overrides", *ASSEMBLY, "config", "training", "evaluation", "recipes", "cli")
"""Imports point from the end of this list to its beginning."""
LATE = {("model", "model_folder")}
"""Except these, made inside functions: a model writes and reads its own folder."""

OF_PROCESSES = {"processes.py", "training/exchange.py", "evaluation/scaling_bench.py"}
"""Nothing else knows of process groups."""

FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "yaml"}
FORBIDDEN_CALLS = {"exec", "eval", "compile", "__import__"}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 50
MAX_HELP_S = 0.5


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, wherever in it: both `a.b` and `a.b.c` for `from a.b import c`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Imported modules of the package, as paths below it: ("samplers", "base")."""
    for name in imports(path):
        if name in MODULES and name != "genrep":
            yield tuple(name.split(".")[1:])


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parts(folder: str) -> set[str]:
    """Files of a swap folder that hold registered parts."""
    init = tree(PACKAGE / folder / "__init__.py")
    homes = {alias.name: node.module for node in ast.walk(init) if isinstance(node, ast.ImportFrom) for alias in node.names}
    registered = {
        name.id for node in ast.walk(init) if isinstance(node, ast.Dict) for value in node.values for name in ast.walk(value) if isinstance(name, ast.Name)
    }
    return {f"{homes[name]}.{name}".split(".")[2] for name in registered if name in homes}


def layered_files() -> list[Path]:
    return [path for path in FILES if path.parent != PACKAGE or not path.name.startswith("__")]


@pytest.mark.parametrize("path", layered_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_upwards(path: Path) -> None:
    layer = layer_of(path)
    assert layer in LAYERS, f"{layer} has no place in the house"
    below = {name for name, *_ in own_imports(path) if LAYERS.index(name) > LAYERS.index(layer) and (layer, name) not in LATE}
    assert not below, f"{path.relative_to(ROOT)} imports {below} from further down the list"


@pytest.mark.parametrize("folder", SWAP_FOLDERS)
def test_parts_of_a_swap_folder_never_import_each_other(folder: str) -> None:
    assert (PACKAGE / folder / "base.py").is_file()
    for path in (PACKAGE / folder).glob("*.py"):
        if path.name != "__init__.py":
            inside = {rest[0] for name, *rest in own_imports(path) if name == folder and rest}
            assert not inside & parts(folder), f"{path.relative_to(ROOT)} imports the part {inside & parts(folder)}"


@pytest.mark.parametrize("name", ASSEMBLY)
def test_the_assembly_knows_parts_by_their_registry_only(name: str) -> None:
    for folder, *rest in own_imports(PACKAGE / f"{name}.py"):
        assert folder not in SWAP_FOLDERS or not rest or rest[0] not in parts(folder), f"{name}.py imports {folder}/{rest[0]}.py"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_a_file_may_do(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    called = {node.func.id for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    dotted = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)} | set(imports(path))
    assert not roots & FORBIDDEN_MODULES
    assert not called & FORBIDDEN_CALLS
    assert "torch.load" not in dotted or path == PACKAGE / "evaluation" / "imagenet.py", "checkpoints are safetensors"
    assert "print" not in called or layer_of(path) == "cli", "only cli prints"
    assert "torch.distributed" not in dotted or path.relative_to(PACKAGE).as_posix() in OF_PROCESSES
    assert "diffusers" not in roots or "diffusers" in path.stem, "only adapter files import diffusers"


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda p: str(p.relative_to(ROOT)))
def test_budgets(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, f"{node.name} is too long"


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    if name == "genrep.__main__":
        return
    assert doctest.testmod(importlib.import_module(name)).failed == 0


# The docs name real things.

REFERENCE = re.compile(r"`([\w/]+\.py)::([\w.]+)`")


def defined(path: Path) -> set[str]:
    """Top-level names of a file, and `Class.member`."""
    found = set()
    for node in tree(path).body:
        if isinstance(node, ast.ClassDef):
            members = [m for m in node.body if isinstance(m, ast.FunctionDef | ast.AnnAssign)]
            found |= {f"{node.name}.{m.name if isinstance(m, ast.FunctionDef) else ast.unparse(m.target)}" for m in members}
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return found


@pytest.mark.parametrize("document", ["docs/method.md", "docs/parts.md", "docs/extending.md", "README.md"])
def test_documents_name_what_exists(document: str) -> None:
    for file, name in REFERENCE.findall((ROOT / document).read_text(encoding="utf-8")):
        assert (PACKAGE / file).is_file(), f"{document} names {file}, which does not exist"
        assert name in defined(PACKAGE / file), f"{document} names {file}::{name}, which does not exist"


def test_every_equation_of_the_paper_has_a_home() -> None:
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    rows = {int(number): line for line in text.splitlines() if (match := re.match(r"\| \((\d+)\)", line)) for number in [match[1]]}
    assert sorted(rows) == list(range(1, 17))
    assert all(REFERENCE.search(line) for line in rows.values())


def test_every_part_has_a_row() -> None:
    rows = [line for line in (ROOT / "docs" / "parts.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for folder in SWAP_FOLDERS:
        module = importlib.import_module(f"genrep.{folder}")
        registry = getattr(module, folder.upper(), {})
        for name in registry:
            assert any(line.startswith(f"| `{name}` | `{folder}/") for line in rows), f"docs/parts.md has no row for {folder}: {name}"


# Help is instant.


@pytest.mark.parametrize(
    "verb", ["", "demo", "train", "eval", "predict", "generate", "recipes", "config", "data", "bench", "calibrate", "pack", "serve", "export"]
)
def test_help_comes_without_torch(verb: str) -> None:
    code = f"import sys; from genrep.cli.main import main; main({[verb, '--help'] if verb else ['--help']}); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "recipes:" in done.stdout or verb in ("eval", "predict", "generate", "recipes", "data", "bench", "calibrate", "pack", "serve", "export")


def test_help_is_fast() -> None:
    def help_s() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "genrep", "--help"], capture_output=True, cwd=ROOT, check=True)
        return time.perf_counter() - start

    assert min(help_s() for _ in range(3)) < MAX_HELP_S
