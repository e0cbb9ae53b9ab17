"""The command `genrep`: finds the verb, reads its arguments, turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from types import ModuleType

from genrep import __version__
from genrep.cli.arguments import Parser, flags_of, on_device, program, refuse_overrides, split_overrides
from genrep.cli.catalogue import OVERRIDES_HELP, RECIPES, VERBS, listing
from genrep.registry import lookup

DESCRIPTION = "One diffusion model that sees and makes: classes, boxes and masks of images, and images of classes."
USER_ERROR, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 2 a mistake of the user's, 130 interrupted."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(given)
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        if os.environ.get("GENREP_TRACEBACK"):
            raise
        print(f"genrep: error: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("genrep: interrupted; the same command starts again.", file=sys.stderr)
        return INTERRUPTED


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        print(f"genrep {__version__}")
        return 0
    lookup(VERBS, argv[0], "verb")
    verb = importlib.import_module(f"genrep.cli.{argv[0]}")
    args = _arguments(verb, argv)
    if args is None:
        return 0
    with on_device(getattr(args, "device", None)):
        return int(verb.run(args))


def _arguments(verb: ModuleType, argv: list[str]) -> argparse.Namespace | None:
    """The verb's arguments, with `changes` (overrides) and `line` (the whole command); None after its help was printed."""
    epilog = "\n".join([listing("recipes", RECIPES), OVERRIDES_HELP]) if verb.TAKES_OVERRIDES else ""
    parser = Parser(f"genrep {argv[0]}", str(verb.__doc__), epilog)
    verb.add_arguments(parser)
    if {"-h", "--help"} & set(argv[1:]):
        parser.print_help()
        return None
    kept, changes = split_overrides(argv[1:], flags_of(parser))
    if not verb.TAKES_OVERRIDES:
        refuse_overrides(changes, parser)
    return parser.parse_args(kept, argparse.Namespace(changes=changes, line=f"{program()} {shlex.join(argv)}"))


def _overview() -> str:
    usage = "usage: genrep VERB [arguments] [--a.field value ...]\n       genrep VERB --help\n       genrep --version"
    return "\n".join([usage, "", DESCRIPTION, "", listing("verbs", VERBS), listing("recipes", RECIPES), OVERRIDES_HELP.rstrip()])
