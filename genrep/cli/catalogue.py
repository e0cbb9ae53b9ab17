"""What `genrep --help` lists, as plain text so that help needs no other import."""

from __future__ import annotations

from collections.abc import Sequence

VERBS = {
    "demo": "train, evaluate and report in one go, in 15 to 45 minutes on 2 cores",
    "train": "train a recipe, a config file or a folder of pictures into a run folder, or continue a stopped run",
    "eval": "measure a finished run on test images and write its report",
    "compare": "finished runs side by side: settings and figures",
    "predict": "classes, boxes and masks of image files",
    "generate": "images of the classes you name",
    "synthesize": "a labelled set of images that the model makes and recognises itself",
    "serve": "a web page of all that: look at pictures, make images, make a labelled set",
    "nll": "how likely image files are, in bits per dimension",
    "recipes": "list the recipes with hardware and time",
    "config": "print every field of a recipe with its meaning",
    "data": "fetch the embedded data, or check a folder of your own",
    "calibrate": "fit anew what a finished run's posterior needs, on validation labels",
    "pack": "make a finished, measured run a model folder to share",
    "export": "write what a model sees as an ONNX file, which runs without genrep",
    "convert": "make a model folder of published weights, a DiT's as diffusers saves them",
    "bench": "set a run's figures beside their targets",
}

RECIPE_NOTES = {
    "demo": ("one garment, and scenes of several", "2 CPU cores", "15 to 45 minutes"),
    "showcase": ("the same, longer, and depth", "2 CPU cores", "70 minutes"),
    "few-labels": ("one garment, a hundredth of the labels: an arm of a suite", "1 CPU core", "6 minutes"),
    "few-labels-long": ("the same, eight times as long: an arm of a suite", "1 CPU core", "40 minutes"),
    "all-labels": ("one garment, all labels: an arm of a suite", "1 CPU core", "12 minutes"),
    "aligners": ("scenes, what passes between the jobs left out: an arm of a suite", "1 CPU core", "6 minutes"),
    "tiny": ("the demo's, too short to learn: to see that everything works", "any", "seconds"),
}
"""What each recipe trains, on which hardware, in how much time."""

RECIPES = {name: ", ".join(note) for name, note in RECIPE_NOTES.items()}

OVERRIDES_HELP = """overrides:
  Any field of a config is set by its dotted name: --train.lr 3e-4 --eval.sampler heun --eval.sampler.num_steps 10
  `none` switches off what can be switched off: --objective.posterior none
  `genrep config RECIPE` lists the fields.
"""


def listing(title: str, entries: dict[str, str]) -> str:
    """Names and their lines in two columns, under a title."""
    width = max(map(len, entries)) + 2
    return "\n".join([f"{title}:", *(f"  {name:<{width}}{line}" for name, line in entries.items()), ""])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first row being their titles.

    >>> print(table([("", "train"), ("cat", "12"), ("dog", "7")]))
         train
    cat  12
    dog  7
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
