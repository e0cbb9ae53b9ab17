"""The published transformer keeps a trunk's promises, and the stem beside it is the heads' alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import awake, normal

from genrep.backbones import ModulationTable, Pass, PlainDiT, PlainDiTConfig

SMALL = PlainDiTConfig(width=32, depth=3, num_heads=2, stem_width=8, taps=(1, 2), places=4)
T, Y = torch.tensor([0.2, 0.9]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
XT = normal(2, 2, 16, 24)


def trunk(config: PlainDiTConfig = SMALL) -> PlainDiT:
    return awake(PlainDiT(config, channels=2, image_size=(16, 24), num_classes=3))


def test_it_predicts_zero_at_initialisation() -> None:
    model = PlainDiT(SMALL, channels=2, image_size=(16, 24), num_classes=3)
    assert torch.equal(model.decode(model(XT, T, Y)), torch.zeros(2, 2, 16, 24))


def test_one_prefix_serves_many_conditions_and_a_table_knows_them() -> None:
    model, candidates = trunk(), torch.eye(3).expand(2, -1, -1)
    shared = model.answers(model.prefix(XT, T), candidates)
    for k in range(3):
        torch.testing.assert_close(shared[:, k], model.decode(model(XT, T, candidates[:, k])), rtol=1e-4, atol=1e-5)
    assert (shared[:, 0] - shared[:, 1]).abs().max() > 1e-3
    t = torch.full((2,), 0.2)
    looked_up = ModulationTable(model, t[:1].double(), Y)(XT, t, Y)
    torch.testing.assert_close(model.decode(looked_up), model.decode(model(XT, t, Y)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_folded_it_is_unfolded_up_to_the_last_tap() -> None:
    model = trunk().double()
    features = model(XT.double(), torch.zeros(2).double(), None).features
    for folded, plain in zip(model.clean_features(XT.double()).taps, features.taps, strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-12, atol=1e-12)


def test_features_are_what_the_specification_says() -> None:
    for patch, strides in ((2, (1,)), (4, (1, 2))):
        model = trunk(replace(SMALL, patch=patch))
        features = model(XT, T, Y).features
        assert model.spec.stem_strides == strides and model.spec.tap_stride == model.stride == patch
        assert [tuple(tap.shape) for tap in features.taps] == [(2, 32, 16 // patch, 24 // patch)] * 2
        assert [tuple(each.shape) for each in features.stem] == [(2, d, 16 // s, 24 // s) for d, s in zip(model.spec.stem, strides, strict=True)]


def test_tokens_know_nothing_of_the_stem_s_convolutions() -> None:
    model = trunk()
    before = model(XT, T, Y)
    awake(model.stem.first, seed=1)
    after = model(XT, T, Y)
    assert torch.equal(after.tokens, before.tokens) and not torch.equal(after.features.stem[0], before.features.stem[0])


def test_passes_together_are_passes_alone() -> None:
    one, other = trunk(), trunk()
    other.load_state_dict(one.state_dict())
    found = PlainDiT.together([one, other], [Pass(XT, T, Y), Pass(XT[:1], T[:1], None)])
    torch.testing.assert_close(one.decode(found[0]), one.decode(one(XT, T, Y)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1].features.taps[-1], other(XT[:1], T[:1], None).features.taps[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch": 3}, "`patch` must be 2, 4, 8, ...; found 3"),
        ({"patch": 1}, "`patch` must be 2, 4, 8, ...; found 1"),
        ({"places": 0}, "`places` must be at least 1; found 0"),
        ({"taps": (4,)}, "`taps` must be increasing"),
    ],
)
def test_impossible_sizes_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **fields)


def test_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sizes of x0 must be multiples of `patch` = 2; found \(15, 24\)"):
        PlainDiT(SMALL, channels=2, image_size=(15, 24), num_classes=3)
