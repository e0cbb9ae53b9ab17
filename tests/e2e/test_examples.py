"""The examples of docs/extending.md: shown as they are, short, and running."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DOCUMENT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ {4}python (examples/.*)$", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_document_shows_each_example_whole(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"```python\n{text}```" in DOCUMENT
    assert text.count("\n") < 60
    assert sum(command.startswith(f"examples/{path.name} ") and f"python {command}" in text for command in COMMANDS) == 1


@pytest.mark.slow
def test_a_suite_of_ones_own_knows_the_parts_of_ones_own_in_every_run(data_root: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Whose processes are started anew; on the small files."""
    (command,) = (command for command in COMMANDS if " bench " in command)
    script, *arguments = shlex.split(command)
    (tmp_path / "examples").mkdir()
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8").replace('recipe="tiny",', f'recipe="tiny", settings={{"data.root": "{data_root}"}},')
        (tmp_path / "examples" / path.name).write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, script, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "softened - summed" in done.stdout
    folder = tmp_path / "runs/softened-suite"
    used = {run: json.loads((folder / run / "config.json").read_text())["aligner"]["name"] for run in ("softened-0", "softened-1", "summed-0", "summed-1")}
    assert used == {"softened-0": "softened", "softened-1": "softened", "summed-0": "weighted_sum", "summed-1": "weighted_sum"}
    assert all((folder / run / "eval.json").is_file() for run in used)


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in COMMANDS if " train " in command], ids=lambda command: command.split()[0])
def test_each_example_trains(command: str, data_root: Path, environment: dict[str, str], tmp_path: Path) -> None:
    script, *arguments = shlex.split(command)
    call = [sys.executable, "-W", "error", str(ROOT / script), *arguments, "--data.root", str(data_root)]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = tmp_path / arguments[arguments.index("--out") + 1]
    config = json.loads((run / "config.json").read_text())
    used = (config["aligner"]["name"], config["objective"]["posterior"]["name"], *config["model"]["tasks"])
    assert {"softened", "one_level", "counting"} & set(used)
    assert (run / "model" / "model.safetensors").is_file()
    if "counting" in used:
        assert "loss/counting" in (run / "metrics.csv").read_text().splitlines()[0]
