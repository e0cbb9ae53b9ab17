"""Make a model folder to share of a finished, measured run: weights in half precision, and a card with the measured figures."""

from __future__ import annotations

import argparse
from pathlib import Path

TAKES_OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `pack` accepts."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run that was evaluated")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the model folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a model folder that exists")


def run(args: argparse.Namespace) -> int:
    """Read, write, and say how large it is."""
    from genrep.cli.runs import load_model, refuse_existing
    from genrep.storage import read_json

    if args.run.resolve().is_relative_to(args.out.resolve()):
        raise ValueError(f"`--out` {args.out} holds the run {args.run}, which it would replace; name a folder of its own.")
    if (args.run / "model.safetensors").is_file():
        raise ValueError(f"{args.run} is a model folder, not a run; name the run that it was trained in.")
    if args.out.resolve().is_relative_to(args.run.resolve()):
        raise ValueError(f"`--out` {args.out} lies in the run {args.run}, which keeps its own weights; name a folder outside.")
    refuse_existing(args.out, overwrite=args.overwrite)
    model, results = load_model(args.run), args.run / "eval.json"
    if not results.is_file():
        raise FileNotFoundError(f"{args.run} has no eval.json, so its card would have no figures; `genrep eval {args.run}` measures them.")
    model.save_pretrained(args.out, results=read_json(results), recipe=how_made(args.run), half=True)
    size = sum(file.stat().st_size for file in args.out.iterdir()) / 1e6
    print(f"wrote {args.out}: {size:.1f} MB, weights in float16")
    return 0


def how_made(run: Path) -> str:
    """One line: recipe, images seen, seed, and the machine; and the same of the model that it began from."""
    from genrep.storage import read_json

    config, machine = read_json(run / "config.json"), read_json(run / "env.json")
    train, sets = config["train"], ", ".join(dict.fromkeys(Path(name).name for name in config["data"]["sets"]))
    images = f"{train['stage1_images']:,} + {train['stage2_images']:,} images of {sets}"
    line = f"recipe `{config['name']}`: {images}, seed {train['seed']}, on {machine['device']}, {machine['cpus']} cores"
    return f"{line}; begun from {_beginning(Path(train['init']))}" if train["init"] else line


def _beginning(model: Path) -> str:
    """What is known of a model folder: its run beside it, else what its card says."""
    if (model.parent / "env.json").is_file():
        return how_made(model.parent)
    card = model / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    return next((line.removeprefix("Made by ").removesuffix(".") for line in lines if line.startswith("Made by ")), f"the model `{model.name}`")
