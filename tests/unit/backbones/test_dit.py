"""The trunk: a class-free prefix and a suffix that make one pass, and a condition that is a set."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch
from small_models import TRUNK, awake, normal
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.backbones import DiT, DiTConfig
from genrep.backbones.blocks import Manner, attention
from genrep.backbones.dit import position_codes, stride_for
from genrep.backbones.transformer import ClassEmbedding
from genrep.layers import StandardConv2d, time_codes

T = torch.tensor([0.2, 0.9])
Y = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])


def trunk(config: DiTConfig = TRUNK, size: tuple[int, int] = (16, 24)) -> DiT:
    return DiT(config, channels=2, image_size=size, num_classes=3)


def xt() -> Tensor:
    return normal(2, 2, 16, 24)


def test_prefix_then_suffix_is_forward() -> None:
    model = awake(trunk())
    whole, split = model(xt(), T, Y), model.suffix(model.prefix(xt(), T), Y)
    assert torch.equal(whole.tokens, split.tokens) and torch.equal(model.decode(whole), model.decode(split))
    assert all(torch.equal(a, b) for a, b in zip(whole.features.taps, split.features.taps, strict=True))


@pytest.mark.parametrize(("class_blocks", "class_rank", "read_out"), [(2, 0, 6), (0, 0, 6), (0, 5, 2)])
def test_one_prefix_serves_many_conditions(class_blocks: int, class_rank: int, read_out: int) -> None:
    """And where conditions mix maps, one read-out."""
    model, candidates = awake(trunk(replace(TRUNK, class_blocks=class_blocks, class_rank=class_rank))), torch.eye(3).expand(2, -1, -1)
    read: list[int] = []
    model.read_out.register_forward_hook(lambda *found: read.append(len(found[-1])))
    shared = model.answers(model.prefix(xt(), T), candidates)
    assert read == [read_out]
    for k in range(3):
        torch.testing.assert_close(shared[:, k], model.decode(model(xt(), T, candidates[:, k])), rtol=1e-4, atol=1e-5)
    assert (shared[:, 0] - shared[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize(("class_blocks", "class_rank"), [(0, 0), (0, 4), (1, 0), (2, 0), (3, 0)])
def test_only_the_last_blocks_and_the_read_out_know_the_condition(class_blocks: int, class_rank: int) -> None:
    model = awake(trunk(replace(TRUNK, class_blocks=class_blocks, class_rank=class_rank, taps=(1, 2, 3))))
    known, other = (model(xt(), T, y).features for y in (Y, torch.zeros(2, 3)))
    assert [torch.equal(a, b) for a, b in zip(known.taps, other.taps, strict=True)] == [block <= 3 - class_blocks for block in (1, 2, 3)]
    assert all(torch.equal(a, b) for a, b in zip(known.stem, other.stem, strict=True))
    assert len(model.prefix(xt(), T).features.taps) == 3 - class_blocks
    known = model.decode(model(xt(), T, Y))
    assert not torch.equal(known, model.decode(model(xt(), T, None)))
    tables = model.modulations(T, Y)
    torch.testing.assert_close(model.decode(model.modulated(xt(), tables)), known, rtol=1e-4, atol=1e-5)


def test_every_block_knows_the_time() -> None:
    model = awake(trunk(replace(TRUNK, taps=(1, 2, 3))))
    early, late = (model(xt(), torch.full((2,), t), Y).features for t in (0.1, 0.2))
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(early.taps, late.taps, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(early.stem, late.stem, strict=True))


def test_filters_of_the_stem_have_zero_mean_and_a_norm_of_their_own() -> None:
    conv, flat = StandardConv2d(2, 5, 3), torch.full((1, 2, 6, 7), 3.0)
    torch.testing.assert_close(conv(flat)[:, :, 1:-1, 1:-1], conv.bias[None, :, None, None].expand(1, 5, 4, 5), rtol=0, atol=1e-5)
    x = normal(1, 2, 6, 7)
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(7).add_(0.5)
    torch.testing.assert_close(conv(x), before, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        conv.gain.mul_(2)
    torch.testing.assert_close(conv(x) - conv.bias[:, None, None], 2 * (before - conv.bias[:, None, None]), rtol=1e-3, atol=2e-3)


def test_the_light_reaches_the_tokens_all_the_same() -> None:
    dark, light = (trunk().stem(torch.full((1, 2, 16, 24), level))[0] for level in (-0.5, 0.5))
    assert (dark - light)[:, :, 1:-1, 1:-1].abs().amax((0, 2, 3)).min() > 1e-4


def test_predicts_zero_at_initialisation() -> None:
    model = trunk()
    assert torch.equal(model.decode(model(xt(), T, Y)), torch.zeros(2, 2, 16, 24))


def test_rows_do_not_see_each_other() -> None:
    model = awake(trunk())
    torch.testing.assert_close(model.decode(model(xt(), T, Y))[1:], model.decode(model(xt()[1:], T[1:], Y[1:])), rtol=1e-4, atol=1e-5)


def test_features_are_what_the_specification_says() -> None:
    for size in ((16, 24), (64, 64)):
        model = trunk(size=size)
        features = model(normal(1, 2, *size), T[:1], Y[:1]).features
        spec = model.spec
        assert [tuple(tap.shape) for tap in features.taps] == [(1, d, size[0] // spec.tap_stride, size[1] // spec.tap_stride) for d in spec.taps]
        expected = [(1, d, size[0] // stride, size[1] // stride) for d, stride in zip(spec.stem, spec.stem_strides, strict=True)]
        assert [tuple(m.shape) for m in features.stem] == expected


def test_one_class_is_a_set_of_one_and_null_is_not_the_empty_set() -> None:
    embedding = awake(ClassEmbedding(3, 8))
    classes, of_set = embedding.classes, embedding.set
    y = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    of_several = [(classes[0] + classes[2]) / 2**0.5, classes.sum(0) / 3**0.5, classes[1] * 2**0.5]
    expected = torch.stack([classes[1], *(each + of_set for each in of_several), embedding.null])
    torch.testing.assert_close(embedding(y), expected)
    assert embedding.null.abs().min() > 0


def test_semantics_behind_the_classes_are_added() -> None:
    plain, told = awake(ClassEmbedding(3, 8)), ClassEmbedding(3, 8, 5)
    told.load_state_dict(plain.state_dict(), strict=False)
    sem = normal(2, 5)
    torch.testing.assert_close(told(torch.cat([Y, sem], 1)), plain(Y))
    awake(told.semantics)
    torch.testing.assert_close(told(torch.cat([Y, sem], 1)), plain(Y) + sem @ told.semantics.weight.T)
    assert torch.equal(told(torch.cat([Y, torch.zeros(2, 5)], 1)), told(Y))


@pytest.mark.parametrize("normalised", [True, False])
def test_attention_is_the_reference(normalised: bool) -> None:
    projected, query_scale = normal(2, 16, 3 * 4 * 8).double(), 1 + normal(8, seed=1).double()
    query, key, value = (each.unflatten(-1, (4, 8)).transpose(1, 2) for each in projected.chunk(3, -1))
    if normalised:
        query, key = F.layer_norm(query, (8,)), F.layer_norm(key, (8,))
    query, manner = query * query_scale, Manner(4, normalised=normalised)
    expected = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(projected, query_scale, manner), expected)
    with torch.no_grad():
        torch.testing.assert_close(attention(projected, query_scale, manner), expected)


def test_maps_are_channels_last_all_the_way() -> None:
    """From the stem to the pixels, so that no convolution lays them out anew."""
    model, maps = trunk(), list[Tensor]()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.GroupNorm):
            module.register_forward_hook(lambda _, given, found: maps.extend((*given, found)))
    model.decode(model(xt(), T, None))
    maps += model.stem_features(xt()).stem
    assert len(maps) > 10 and all(one.is_contiguous(memory_format=torch.channels_last) for one in maps)


def test_an_image_alone_is_what_it_is_among_others() -> None:
    model = awake(trunk())
    torch.testing.assert_close(model(xt()[:1], T[:1], Y[:1]).tokens, model(xt(), T, Y).tokens[:1], rtol=1e-4, atol=1e-5)


def test_codes_tell_places_and_times_apart() -> None:
    for codes in (position_codes((12, 16), 32), time_codes(torch.linspace(0, 1, 200), 32)):
        distances = torch.cdist(codes, codes).fill_diagonal_(torch.inf)
        assert distances.min() > 0.1


def test_places_have_nothing_in_common() -> None:
    """A direction that all tokens share would outgrow what they tell apart."""
    codes = position_codes((8, 6), 128)
    assert codes.mean(0).abs().max() < 1e-6 and codes.square().mean() == pytest.approx(1.0)
    assert position_codes((1, 1), 32).abs().max() == 0


def test_how_loud_the_stem_speaks_changes_nothing_for_the_blocks() -> None:
    model = awake(trunk())
    tokens, maps = model.stem(xt())
    before = model.prefix(xt(), T).tokens
    with mock.patch.object(model.stem, "forward", lambda xt: (7 * tokens, maps)):
        torch.testing.assert_close(model.prefix(xt(), T).tokens, before, rtol=1e-4, atol=1e-4)


def test_stride_is_the_smallest_that_fits() -> None:
    for side in (28, 32, 64, 96, 128, 256):
        stride = stride_for((side, side), 192)
        assert (side // stride) ** 2 <= 192 and (stride == 4 or (side // (stride // 2)) ** 2 > 192)
    with pytest.raises(ValueError, match=r"`image_size` must be a multiple of 4 .* found \(30, 32\)"):
        stride_for((30, 32), 192)
    with pytest.raises(ValueError, match="multiple of 8"):
        stride_for((100, 96), 192)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 20}, "`width` must be a multiple of 8 and of 4"),
        ({"width": 36, "num_heads": 3}, "`width` must be a multiple of 8 and of 4"),
        ({"stem_width": 12}, "`stem_width` must be a multiple of 8"),
        ({"class_blocks": -1}, "`class_blocks` must be in 0..depth = 3"),
        ({"class_rank": 4}, "`class_rank` must be at least 0, and above it only where `class_blocks` is 0; found 4 and 2"),
        ({"class_blocks": 4}, "`class_blocks` must be in 0..depth = 3"),
        ({"taps": ()}, "`taps` must be increasing"),
        ({"taps": (3, 1)}, "`taps` must be increasing"),
        ({"taps": (1, 4)}, "`taps` must be increasing"),
    ],
)
def test_impossible_sizes_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TRUNK, **fields)
