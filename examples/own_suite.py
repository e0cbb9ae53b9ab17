"""A suite of your own: is an aligner of your own better than the plain sum, seed by seed?

python examples/own_suite.py bench evidence runs/softened-suite --suite softened --at-once 2
"""

from __future__ import annotations

import sys

import own_aligner  # noqa: F401  registers it, here and in every run

from genrep.cli.main import main
from genrep.evaluation.suite import Claim, Suite
from genrep.evaluation.suites import SUITES

SUITES["softened"] = Suite(
    recipe="tiny",  # of a few steps, which decide nothing; a claim wants `demo`, and five seeds
    arms={
        "softened": {"aligner": "softened", "aligner.strength": "0.5"},
        "summed": {"aligner": "weighted_sum"},
    },
    claims=(Claim(figure="detection/ap50", arm="softened", against="summed"),),
    shown=("detection/ap50", "segmentation/miou_foreground", "generation/kid"),
    num_seeds=2,
)

if __name__ == "__main__":
    sys.exit(main())
