"""Reading a command: flags by argparse, everything else of the form `--a.b value` as overrides."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from genrep.devices import DEVICE
from genrep.registry import nearest


def program() -> str:
    """How this program was started: `genrep`, or a script of the user's own that calls it and may know parts that `genrep` does not.

    >>> program().endswith("__main__.py")
    False
    """
    return f"python {shlex.quote(sys.argv[0])}" if _is_own() else "genrep"


def again() -> list[str]:
    """The command that starts this program once more, so that another process knows the same parts."""
    return [sys.executable, *([sys.argv[0]] if _is_own() else ["-m", "genrep"])]


def _is_own() -> bool:
    script = Path(sys.argv[0])
    return script.suffix == ".py" and script.name != "__main__.py"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, raised as ValueError."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`.")


def split_overrides(argv: Sequence[str], flags: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Arguments for argparse, and overrides by dotted name: every `--name value` or `--name=value` that is no flag.

    Raises:
        ValueError: an override without a value, or given twice.

    >>> split_overrides(["tiny", "--train.lr", "3e-4", "--out=a", "--aligner=weighted_sum"], ["--out"])
    (['tiny', '--out=a'], {'train.lr': '3e-4', 'aligner': 'weighted_sum'})
    """
    kept: list[str] = []
    changes: dict[str, str] = {}
    rest = iter(argv)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or name == "--" or name in flags:
            kept.append(argument)
            continue
        if not equals:
            value = next(rest, "--")
        if not equals and value.startswith("--"):
            raise ValueError(f"`{name}` needs a value: `{name} VALUE`.{nearest(name, flags)}")
        if name[2:] in changes:
            raise ValueError(f"`{name}` is given twice: `{changes[name[2:]]}` and `{value}`. Keep one.")
        changes[name[2:]] = value
    return kept, changes


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where to compute, of verbs that do."""
    parser.add_argument(
        "--device", metavar="DEVICE", help="where to compute: cpu, cuda, cuda:1, mps; default: auto, the first of cuda, mps and cpu that there is"
    )


@contextmanager
def on_device(name: str | None) -> Iterator[None]:
    """Meanwhile this is the device, here and in processes that are started; None: as it was."""
    before = os.environ.get(DEVICE)
    if name:
        os.environ[DEVICE] = name
    try:
        yield
    finally:
        if name and before is None:
            del os.environ[DEVICE]
        elif name and before is not None:
            os.environ[DEVICE] = before


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Every option string of a parser."""
    return list(parser._option_string_actions)


def refuse_overrides(changes: dict[str, str], parser: argparse.ArgumentParser) -> None:
    """For verbs that have no config to override.

    Raises:
        ValueError: there are some; the first is named with the nearest flag.
    """
    for name in changes:
        raise ValueError(f"`{parser.prog}` has no option `--{name}`.{nearest(f'--{name}', flags_of(parser))}")
