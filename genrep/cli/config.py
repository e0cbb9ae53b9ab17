"""Print every field of a recipe, its value after overrides, and what it means."""

from __future__ import annotations

import argparse
import json

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `config` accepts."""
    parser.add_argument(
        "recipe", metavar="RECIPE|FILE|FOLDER", help="a recipe by name, a config file, or a folder of pictures, whose recipe is chosen by looking at it"
    )
    parser.add_argument("--json", action="store_true", help="as json, ready for `genrep train FILE.json`")


def run(args: argparse.Namespace) -> int:
    """Print the config."""
    from genrep.cli.fields import lines_of
    from genrep.cli.runs import resolve_config
    from genrep.overrides import to_dict

    config = resolve_config(args.recipe, args.changes)
    print(json.dumps(to_dict(config), indent=2) if args.json else "\n".join(lines_of(config)))
    return 0
