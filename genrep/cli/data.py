"""Look after data: fetch what the embedded sets are made of, or check a folder of your own.

genrep data fetch          Fashion-MNIST (30 MB) into the cache, from Debian or its authors' mirror; this asks for the network
genrep data check FOLDER   what a folder holds, and what is wrong with it by file and annotation id;
                           exit code 0: clean, 1: something is wrong, 2: not a data set
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrep.datasets import DataReport

TAKES_OVERRIDES = False
CLEAN, WRONG = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `data` accepts."""
    parser.add_argument("action", metavar="fetch|check", help="what to do")
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="for check: your own data, in any layout that the README names")
    parser.add_argument("--strict", action="store_true", help="for check: remarks, such as crowds that are no objects, count as wrong too")


def run(args: argparse.Namespace) -> int:
    """Fetch or check."""
    from genrep.registry import lookup

    return lookup({"fetch": fetch, "check": check}, args.action, "action of `genrep data`")(args)


def fetch(args: argparse.Namespace) -> int:
    """Bring the embedded data here, unless they are, and say where they lie."""
    from genrep.datasets import cache_folder
    from genrep.datasets.sources import fashion_mnist_files

    if args.folder or args.strict:
        raise ValueError("`genrep data fetch` takes nothing more; `genrep data check FOLDER` looks at a folder.")
    print(f"Fashion-MNIST: four files, 30 MB, from Debian's package or its authors' mirror, to {cache_folder()} unless they are here", flush=True)
    files = fashion_mnist_files(root=None, cache=cache_folder(), allow_network=True, verify=True)
    print("\n".join(f"sha256 is right: {path}" for path in files.values()))
    return CLEAN


def check(args: argparse.Namespace) -> int:
    """Read every picture and annotation of a folder, and print what is there and what is wrong."""
    from genrep.datasets import check_data

    if args.folder is None:
        raise ValueError("`genrep data check` needs the folder to look at: `genrep data check FOLDER`.")
    report = check_data(args.folder)
    print("\n".join(lines_of(report)))
    wrong = [problem for problem in report.problems if problem.is_wrong or args.strict]
    return WRONG if wrong else CLEAN


def lines_of(report: DataReport) -> list[str]:
    """Layout, counts by class and split, then a line for everything found."""
    from genrep.cli.catalogue import table

    classes = list(dict.fromkeys(name for counts in report.num_per_class.values() for name in counts))
    rows = [("", *report.num_images), ("pictures", *(f"{num:,}" for num in report.num_images.values()))]
    rows += [(name, *(f"{counts.get(name, 0):,}" for counts in report.num_per_class.values())) for name in classes]
    num_wrong = sum(problem.is_wrong for problem in report.problems)
    verdict = f"{num_wrong} wrong, {len(report.problems) - num_wrong} remarks" if report.problems else "nothing is wrong"
    return [f"{report.path}: {report.layout}", table(rows), *map(str, report.problems), report.tally, verdict]
