"""Flags go to argparse, the rest is overrides, and mistakes are one line with exit code 2."""

from __future__ import annotations

import pytest

from genrep.cli.arguments import split_overrides
from genrep.cli.catalogue import RECIPES, VERBS
from genrep.cli.main import main


def test_flags_and_overrides_mix_in_any_order() -> None:
    argv = ["--train.lr", "3e-4", "tiny", "--out", "runs/a", "--model.modulator=none", "--aligner", "weighted_sum"]
    kept, changes = split_overrides(argv, ["--out"])
    assert kept == ["tiny", "--out", "runs/a"]
    assert changes == {"train.lr": "3e-4", "model.modulator": "none", "aligner": "weighted_sum"}


def test_negative_and_empty_values() -> None:
    assert split_overrides(["--a.b", "-8", "--c="], [])[1] == {"a.b": "-8", "c": ""}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["trian"],
            "unknown verb `trian`; known: bench, calibrate, compare, config, convert, data, demo, eval, export, generate, nll, pack, predict, recipes, serve, "
            "synthesize, train. Did you mean `train`?",
        ),
        (["train"], "the following arguments are required: RECIPE|FILE|FOLDER; see `genrep train --help`."),
        (["train", "tiny", "--train.lr"], "`--train.lr` needs a value: `--train.lr VALUE`."),
        (["train", "tiny", "--train.lr", "--out", "a"], "`--train.lr` needs a value"),
        (["train", "tiny", "--a.b", "1", "--a.b=2"], "`--a.b` is given twice: `1` and `2`. Keep one."),
        (["generate", "--stesp", "3"], "`genrep generate` has no option `--stesp`. Did you mean `--steps`?"),
        (["generate", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["eval", "no-such-run"], "no-such-run has no model: expected a finished run or a folder with model.safetensors."),
        (["predict", "a.png", "--model", "no-such-run"], "no-such-run has no model"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("genrep: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_help_lists_verbs_and_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in [*VERBS, *RECIPES])


def test_the_help_lists_the_recipes_there_are() -> None:
    from genrep import recipes

    assert sorted(RECIPES) == sorted(recipes.RECIPES)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "genrep 0.1.0\n"
