"""Published weights as a model of ours: a DiT's pipeline, in a folder as diffusers saves it. Its files are read here; diffusers itself is its autoencoder's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.backbones import PlainDiTConfig
from genrep.codecs import make_codec
from genrep.model import GenRep
from genrep.model_config import ModelConfig
from genrep.schedules import LinearBetas
from genrep.storage import load_tensors, read_json

INDEX, NETWORK, SCHEDULER, CODEC = "model_index.json", "transformer", "scheduler", "vae"
WEIGHTS = "diffusion_pytorch_model.safetensors"
AS_PUBLISHED: Mapping[str, Any] = {
    "norm_type": "ada_norm_zero",
    "activation_fn": "gelu-approximate",
    "norm_elementwise_affine": False,
    "attention_bias": True,
}
"""What a DiT's configuration says in diffusers, or leaves out."""
BETAS: Mapping[str, Any] = {"beta_schedule": "linear", "prediction_type": "epsilon", "trained_betas": None, "num_train_timesteps": 1000}
"""The same of its scheduler's."""
KINDS = ("DiTTransformer2DModel", "Transformer2DModel")

EMBEDDING = "transformer_blocks.0.norm1.emb."
"""What t and y are to a block, there of each; published weights have the same in all."""
ENDS = ("weight", "bias")
CLASSES = "class_embedder.embedding_table.weight"

OUTSIDE = {
    "pos_embed.proj": "stem.embed",
    f"{EMBEDDING}timestep_embedder.linear_1": "time.0",
    f"{EMBEDDING}timestep_embedder.linear_2": "time.2",
    "proj_out_1": "final_modulation",
}
"""Layers outside the blocks, by their names there, and here."""
INSIDE = {"norm1.linear": "modulation", "attn1.to_out.0": "proj", "ff.net.0.proj": "fc1", "ff.net.2": "fc2"}
"""The same of a block; queries, keys and values are one layer here."""


def published_model(folder: Path, *, seed: int = 0) -> GenRep:
    """A class-conditional model of latents, without heads; training gives it some (`genrep train --init`).

    What published weights have nothing for (the modulator, the stem beside the tokens) is drawn at random, and changes nothing of what is made.

    Args:
        folder: of a pipeline: a transformer, its scheduler, and the autoencoder of its latents, all as safetensors.
    Raises:
        ValueError: it is none, or of another kind, or its weights do not fit what it says of them.
    """
    config = _configuration(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GenRep(config)
    path = folder / NETWORK / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{path.parent} has no {WEIGHTS}; other formats may run code, and are not read. diffusers' `save_pretrained` writes this one.")
    found, ours = _renamed(load_tensors(path), model, path), model.denoiser.trunk.state_dict()
    for name, tensor in found.items():
        if tensor.shape != ours[name].shape:
            raise ValueError(f"{path} does not fit its config.json: `{name}` is {list(tensor.shape)} there and {list(ours[name].shape)} here.")
    model.denoiser.trunk.load_state_dict(ours | found)
    return model.eval()


def _configuration(folder: Path) -> ModelConfig:
    network, scheduler = (_read(folder / part / name) for part, name in ((NETWORK, "config.json"), (SCHEDULER, "scheduler_config.json")))
    if network.get("_class_name") not in KINDS:
        raise ValueError(f"{folder / NETWORK} holds a {network.get('_class_name')}; expected the transformer of a DiT ({KINDS[0]}).")
    for values, expected, part in ((network, AS_PUBLISHED, NETWORK), (scheduler, BETAS, SCHEDULER)):
        for name, value in expected.items():
            if values.get(name, value) != value:
                raise ValueError(f"`{name}` in {folder / part} is {values[name]!r}; only {value!r} can be read, which published DiTs have.")
    size, patch, heads, depth = (_whole(network, *each) for each in (("sample_size", 32), ("patch_size", 2), ("num_attention_heads", 16), ("num_layers", 28)))
    codec, num = make_codec("autoencoder", str(folder / CODEC)), _whole(network, "num_embeds_ada_norm", 1000)
    trunk = PlainDiTConfig(
        width=heads * _whole(network, "attention_head_dim", 72),
        depth=depth,
        num_heads=heads,
        taps=tuple(sorted({max(1, round(depth * part)) for part in (1 / 4, 1 / 2, 3 / 4)})),
        patch=patch,
        places=size // patch,
    )
    return ModelConfig(
        class_names=_names(_read(folder / INDEX).get("id2label"), num),
        image_size=(size * codec.stride, size * codec.stride),
        codec="autoencoder",
        autoencoder=str(folder / CODEC),
        trunk=trunk,
        schedule=LinearBetas(first=_beta(scheduler, "beta_start", 1e-4), last=_beta(scheduler, "beta_end", 0.02)),
        prediction="eps",
        tasks=(),
    )


def _names(given: Any, num: int) -> tuple[str, ...]:
    """Of classes, short and each its own; where a pipeline does not say, their numbers."""
    said = given if isinstance(given, dict) else {}
    short = [str(said.get(str(i), f"class {i}")).split(",")[0].strip() for i in range(num)]
    often = Counter(short)
    return tuple(name if often[name] == 1 else f"{name} {i}" for i, name in enumerate(short))


def _renamed(theirs: Mapping[str, Tensor], model: GenRep, path: Path) -> dict[str, Tensor]:
    """Their tensors, by the names of ours.

    Raises:
        ValueError: one is missing.
    """
    depth, table = model.config.trunk.depth, f"{EMBEDDING}{CLASSES}"
    try:
        found = {f"{ours}.{end}": theirs[f"{name}.{end}"] for name, ours in OUTSIDE.items() for end in ENDS}
        found |= {f"read_out.{end}": _read_out(theirs[f"proj_out_2.{end}"], model) for end in ENDS}
        found |= {"embedding.classes": theirs[table][:-1], "embedding.null": theirs[table][-1]}
        for i in range(depth):
            found |= _block(theirs, i)
            for name in (name for name in theirs if name.startswith(EMBEDDING)):
                if not torch.equal(theirs[name], theirs[name.replace(".0.", f".{i}.", 1)]):
                    raise ValueError(f"{path}: what t and y are to blocks 0 and {i} differs, where published weights have one for all; it cannot be read.")
    except KeyError as error:
        raise ValueError(f"{path} has no tensor {error}, which a DiT of {depth} blocks has.") from None
    return found


def _block(theirs: Mapping[str, Tensor], i: int) -> dict[str, Tensor]:
    there, here = f"transformer_blocks.{i}.", f"blocks.{i}."
    found = {f"{here}{ours}.{end}": theirs[f"{there}{name}.{end}"] for name, ours in INSIDE.items() for end in ENDS}
    return found | {f"{here}qkv.{end}": torch.cat([theirs[f"{there}attn1.to_{each}.{end}"] for each in "qkv"]) for end in ENDS}


def _read_out(rows: Float[Tensor, "r ..."], model: GenRep) -> Float[Tensor, "s ..."]:
    """There the channels of a place stand together, those of a variance behind those of the noise; here the places of a channel do."""
    return rows.unflatten(0, (model.denoiser.trunk.stride**2, -1))[:, : model.codec.channels].transpose(0, 1).flatten(0, 1)


def _read(path: Path) -> dict[str, Any]:
    """The json object in one of the pipeline's files.

    Raises:
        ValueError: there is no such file, or no json object in it.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: expected the folder of a DiT's pipeline ({INDEX}, {NETWORK}/, {SCHEDULER}/, {CODEC}/), as diffusers saves one.")
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no json object.")
    return found


def _whole(values: Mapping[str, Any], name: str, default: int) -> int:
    value = values.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` of the published model must be a whole number from 1; found {value!r}.")
    return value


def _beta(values: Mapping[str, Any], name: str, default: float) -> float:
    value = values.get(name, default)
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise ValueError(f"`{name}` of the published model's scheduler must be a number; found {value!r}.")
    return float(value)
