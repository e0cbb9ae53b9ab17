"""List the recipes: what each trains, on which hardware, in how much time."""

from __future__ import annotations

import argparse

TAKES_OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`recipes` takes nothing."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from genrep.cli.catalogue import RECIPE_NOTES, table

    del args
    print(table([("recipe", "what", "hardware", "time"), *((name, *note) for name, note in RECIPE_NOTES.items())]))
    print("\n`genrep config RECIPE` prints every field, `genrep train RECIPE --out RUN` trains it.")
    return 0
