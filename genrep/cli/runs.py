"""From what a user names (a recipe, a file, a folder) to configs, run folders and models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrep.config import Config
    from genrep.model import GenRep


def resolve_config(name: str, changes: Mapping[str, str]) -> Config:
    """A recipe by name or a config.json by path, with overrides.

    Raises:
        ValueError: unknown recipe or field; the nearest is named.
        FileNotFoundError: no such file.
    """
    from genrep.config import Config
    from genrep.overrides import from_dict, override
    from genrep.recipes import RECIPES
    from genrep.registry import lookup
    from genrep.storage import read_json

    if name.endswith(".json"):
        return override(from_dict(read_json(Path(name)), Config), changes)
    return override(lookup(RECIPES, name, "recipe")(), changes)


def default_run(name: str) -> Path:
    """runs/NAME-YYYY-MM-DD under the current directory; a config file gives the name of its folder or its own."""
    path = Path(name)
    stem = path.stem if path.stem != "config" else path.resolve().parent.name
    return Path("runs") / f"{stem}-{date.today().isoformat()}"


def model_folder(path: Path) -> Path:
    """The model of a run folder, or the folder itself where it is one.

    Raises:
        FileNotFoundError: neither.
    """
    for folder in (path / "model", path):
        if (folder / "model.safetensors").is_file():
            return folder
    if (path / "checkpoints").is_dir():
        raise FileNotFoundError(f"{path} is a run whose training is not finished; `genrep train {path / 'config.json'} --out {path}` continues it.")
    raise FileNotFoundError(f"{path} has no model: expected a finished run or a folder with model.safetensors.")


def load_model(path: Path | None) -> GenRep:
    """The model of a run folder or a model folder; None: the one that comes with the package."""
    from genrep.model import GenRep

    return GenRep.from_pretrained(model_folder(path) if path else None)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Files are not overwritten unasked.

    Raises:
        ValueError: the file exists.
    """
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; name another `--out`, or say `--overwrite`.")
