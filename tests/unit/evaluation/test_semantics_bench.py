"""Denoising under right, wrong and no semantics, against what the denoiser says when asked in the plain way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rectangles import rectangles
from small_models import small_model

from genrep.cli.main import main
from genrep.evaluation.semantics_bench import semantics_figures
from genrep.parametrization import u_error
from genrep.randomness import SampleGenerator

DATA = rectangles(12, size=16)


@torch.no_grad()
def test_errors_are_those_of_denoising() -> None:
    model = small_model()
    found = {figure.name: figure.value for figure in semantics_figures(model, DATA, times=(0.6,))}
    batch, t = DATA.batch(torch.arange(12)), torch.full((12,), 0.6)
    x0 = model.encode(batch.image)
    xt = model.schedule.noised(x0, t, SampleGenerator(0, batch.index, "semantics").normal(*x0.shape[1:]))
    error = u_error((model.denoise(xt, t, batch.classes).x0_hat - x0).square(), t, model.schedule).mean()
    assert found["t = 0.6: none"] + found["t = 0.6: own - none"] == pytest.approx(float(error), rel=1e-5)
    assert len({round(found[f"t = 0.6: {name} - none"], 7) for name in ("own", "clean", "another's", "drawn")} | {0.0}) == 5
    for name, told in (
        ("clean", model.denoiser.semantics(x0)),
        ("drawn", model.denoiser.modulator.draw(batch.classes, SampleGenerator(0, batch.index, "drawn"))),
    ):
        denoised = model.denoise(xt, t, model.denoiser.condition(batch.classes, told))
        error = u_error((denoised.x0_hat - x0).square(), t, model.schedule).mean()
        assert found["t = 0.6: none"] + found[f"t = 0.6: {name} - none"] == pytest.approx(float(error), rel=1e-5)


def test_semantics_that_are_all_alike_are_seen_to_be() -> None:
    """A linear layer without weights gives every image its bias: whichever image's semantics are given, the error is the same."""
    model = small_model(modulator="semantic")
    torch.nn.init.zeros_(model.denoiser.modulator.embed.weight)
    found = {figure.name: figure.value for figure in semantics_figures(model, DATA, times=(0.6,))}
    assert found["semantics: varies"] == pytest.approx(0, abs=1e-6) and 0 < found["last tap at t = 0: varies"] <= 1
    assert found["t = 0.6: clean - none"] == found["t = 0.6: another's - none"] == pytest.approx(found["t = 0.6: own - none"], rel=1e-4) != 0
    intact = {figure.name: figure.value for figure in semantics_figures(small_model(modulator="semantic"), DATA, times=(0.6,))}
    assert intact["semantics: varies"] > 1e-4 and "t = 0.6: drawn - none" not in intact


@pytest.mark.parametrize("name", ["semantics", "robustness", "sampling"])
def test_a_model_of_other_images_is_not_asked_about_garments(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_model().save_pretrained(tmp_path / "model")
    assert main(["bench", name, str(tmp_path), "--quick"]) == 2
    said = capsys.readouterr().err
    assert f"`genrep bench {name}` asks about garments of 32 x 32 px" in said and "the model knows a, b, c, d at 16 x 16 px" in said
