"""What the README shows works: its Python on the tiny model, its commands by verb and flag."""

from __future__ import annotations

import re
import runpy
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from genrep.cli.arguments import Parser, flags_of, split_overrides
from genrep.cli.catalogue import VERBS
from genrep.overrides import override
from genrep.recipes import RECIPES

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for line in re.findall(r"^(?: {4}|.*?`)(genrep [^`\n]*)", README, re.MULTILINE)]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_python_runs_on_the_tiny_model(
    number: int, run: Path, data_root: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder where runs/demo is a tiny run, and with the tiny recipe in place of the others."""
    tiny = override(RECIPES["tiny"](), {"data.root": str(data_root)})
    for name in RECIPES:
        monkeypatch.setitem(RECIPES, name, lambda: tiny)
    monkeypatch.setenv("GENREP_CACHE", environment["GENREP_CACHE"])
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/demo").symlink_to(run)
    Path("snippet.py").write_text(SNIPPETS[number])
    runpy.run_path("snippet.py")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_verbs_flags_and_fields_that_exist(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    assert name in VERBS
    verb = import_module(f"genrep.cli.{name}")
    parser = Parser(f"genrep {name}", "", "")
    verb.add_arguments(parser)
    kept, changes = split_overrides(arguments, flags_of(parser))
    if kept and "..." not in kept[0]:
        parser.parse_args(kept)
    assert verb.TAKES_OVERRIDES or not changes
    override(RECIPES["demo"](), changes)


def test_there_is_something_to_check() -> None:
    assert len(SNIPPETS) >= 2
    assert len(COMMANDS) >= 6
