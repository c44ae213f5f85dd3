"""The click network of tokens: its blocks, its sizes, its temperature over a training, its constants for serving."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from limbeck.distill import Regime
from limbeck.errors import ConfigError
from limbeck.recsys.batches import batch_of
from limbeck.recsys.clicks import synthetic
from limbeck.recsys.evaluation import scores
from limbeck.recsys.mixers import Fixed
from limbeck.recsys.networks import load_network, save_network, sizes_of
from limbeck.recsys.token_blocks import Change, FeedForward, PerToken, SiameseNorm
from limbeck.recsys.training import train_clicks
from limbeck.recsys.unimixer import MixerNetwork, UniMixer, rounding

LOG = synthetic(users=40, events=25, items=60)
FAMILIES = ("unimixing", "lite", "free", "permutation", "attention", "fm", "none", "fixed")
SMALL = UniMixer(tokens=4, width=8, block=4)


def count(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def dense(network: nn.Module) -> int:
    return count(network) - count(network.tables) - count(network.project)


def trained(sizes: UniMixer, steps: int = 12, **how) -> nn.Module:
    network = sizes.build(LOG.schema, 0)
    regime = Regime(steps, 64, 5e-3, schedule="constant")
    train_clicks(network, LOG, regime=regime, progress=False, **how)
    return network


def test_the_specified_network_has_the_specified_parameters() -> None:
    base = dense(UniMixer(mixing="permutation").build(LOG.schema, 0))
    assert base == 2 * (3 * 8 * 2 * 16**2 + 2 * 16) + 16 + 1 == 24_657
    mixing = {"unimixing": 2560, "lite": 896, "free": 2560, "none": 0, "fixed": 0, "attention": 2 * 3 * 256, "fm": 256}
    for family, more in mixing.items():
        assert dense(UniMixer(mixing=family).build(LOG.schema, 0)) == base + more, family
    siamese = dense(UniMixer(mixing="none", siamese=True).build(LOG.schema, 0))
    assert siamese == base - 4 * 16 + (2 + 5) * 16


def test_every_token_has_a_map_of_its_own() -> None:
    layer = PerToken(3, 4, 5)
    x = torch.randn(2, 3, 4)
    for t in range(3):
        torch.testing.assert_close(layer(x)[:, t], x[:, t] @ layer.weight[t] + layer.bias[t])


@pytest.mark.parametrize("gated", [True, False])
def test_the_feed_forward_part(gated: bool) -> None:
    feed, x = FeedForward(3, 4, 6, gated), torch.randn(2, 3, 4)
    for t in range(3):
        up = x[:, t] @ feed.up.weight[t]
        if gated:
            hidden = nn.functional.silu(x[:, t] @ feed.gate.weight[t]) * up
            expected = hidden @ feed.down.weight[t]
        else:
            expected = nn.functional.gelu(up + feed.up.bias[t]) @ feed.down.weight[t] + feed.down.bias[t]
        torch.testing.assert_close(feed(x)[:, t], expected)
    assert count(feed) == (3 * 3 * 4 * 6 if gated else 2 * 3 * 4 * 6 + 3 * 10)


def test_a_block_adds_and_normalises_twice() -> None:
    block = replace(SMALL, mixing="none").build(LOG.schema, 0).body[0]
    x = torch.randn(2, 4, 8)
    s = nn.functional.rms_norm(2 * x, [8], eps=1e-6)
    torch.testing.assert_close(block(x), nn.functional.rms_norm(block.feed(s) + s, [8], eps=1e-6))
    ranked = replace(SMALL, mixing="permutation", feed="gelu").build(LOG.schema, 0).body[0]
    assert isinstance(ranked.norm, nn.LayerNorm) and ranked(x).mean(-1).abs().max() < 1e-5


@pytest.mark.parametrize("blocks", [1, 3])
def test_siamese_norm_without_blocks_gives_twice_the_norm(blocks: int) -> None:
    sizes, x = replace(SMALL, blocks=blocks), torch.randn(2, 4, 8)
    changes = [Change(*sizes.parts()) for _ in range(blocks)]
    for one in changes:
        nn.init.zeros_(one.feed.down.weight)
    norms = [sizes.norm() for _ in range(2 * blocks + 1)]
    torch.testing.assert_close(SiameseNorm(changes, norms)(x), 2 * sizes.norm()(x), atol=1e-5, rtol=0)


def test_siamese_norm_step_by_step() -> None:
    x, norm, maps = torch.randn(2, 4, 8), nn.RMSNorm(8), [nn.Linear(8, 8), nn.Linear(8, 8)]
    first = maps[0](x + norm(x))
    a, b = norm(x + first), x + first
    second = maps[1](a + norm(b))
    expected = norm(a + second) + norm(b + second)
    torch.testing.assert_close(SiameseNorm(maps, [nn.RMSNorm(8) for _ in range(5)])(x), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("siamese", [False, True])
def test_every_family_is_a_network_whose_parts_all_learn(family: str, siamese: bool) -> None:
    network = replace(SMALL, mixing=family, siamese=siamese, warm=0.5, cold=0.5).build(LOG.schema, 0)
    batch = batch_of(LOG, LOG.train[:64], 3)
    network(batch).square().sum().backward()
    assert network(batch).shape == (64,)
    still = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]
    assert still == []


def test_what_a_network_reads() -> None:
    network = replace(SMALL, length=2).build(LOG.schema, 0).eval()
    batch = batch_of(LOG, LOG.test[:50], 6)
    base = network(batch)
    older, action = batch.history.clone(), batch.candidate.clone()
    older[:, :-2], action[:, -1] = 1, 3
    assert torch.equal(network(batch._replace(history=older, candidate=action)), base)
    for changed in (
        batch._replace(dense=batch.dense + 0.5), batch._replace(profile=batch.profile * 0),
        batch._replace(candidate=batch.candidate * 0), batch._replace(history=batch.history * 0),
    ):  # fmt: skip
        assert (network(changed) - base).abs().max() > 1e-6
    strange = batch._replace(dense=torch.full_like(batch.dense, -7.0))
    assert torch.equal(network(strange), network(batch._replace(dense=batch.dense * 0)))


def test_fields_fill_any_number_of_tokens() -> None:
    for tokens in (1, 3, 5, 16):
        network = UniMixer(tokens=tokens, width=8, block=2).build(LOG.schema, 0)
        assert network(batch_of(LOG, LOG.test[:5], 1)).shape == (5,)
    assert (
        UniMixer(tokens=3, width=8, block=2).build(LOG.schema, 0).segment == 14
    )  # 5 fields of 8 numbers in 3 segments


def test_the_temperature_follows_the_updates_and_is_kept(tmp_path) -> None:
    sizes = replace(SMALL, anneal=10)
    network = sizes.build(LOG.schema, 0)
    seen = []
    for _ in range(3):
        network.train()(batch_of(LOG, LOG.train[:8], 1))
        seen.append(network.mixings()[0].temperature)
    assert seen == pytest.approx([1.0, 0.905, 0.81])
    scores(network, LOG, LOG.test)
    assert int(network.updates) == 3 and network.mixings()[0].temperature == pytest.approx(0.715)
    saved = load_network(save_network(network, sizes, LOG.schema, tmp_path)).network
    assert torch.equal(scores(saved, LOG, LOG.test), scores(network, LOG, LOG.test))
    assert int(trained(sizes).updates) == 12


def test_a_stopped_training_goes_on_bit_for_bit(tmp_path) -> None:
    sizes, regime = replace(SMALL, anneal=12), Regime(12, 64, 5e-3, schedule="constant")
    whole, torn = sizes.build(LOG.schema, 0), sizes.build(LOG.schema, 0)
    train_clicks(whole, LOG, regime=regime, progress=False)
    passes = []

    def stop(module, inputs) -> None:
        passes.append(module.training)
        if sum(passes) == 8:
            os.kill(os.getpid(), signal.SIGINT)

    handle = torn.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        train_clicks(torn, LOG, regime=regime, progress=False, out=tmp_path)
    handle.remove()
    assert int(torn.updates) == 8
    again = sizes.build(LOG.schema, 0)
    train_clicks(again, LOG, regime=regime, progress=False, out=tmp_path)
    for name, one in whole.state_dict().items():
        assert torch.equal(one, again.state_dict()[name]), name


def test_constants_for_serving_say_the_same(tmp_path) -> None:
    network = trained(replace(SMALL, anneal=12))
    fixed = network.fixed()
    torch.testing.assert_close(scores(fixed, LOG, LOG.test), scores(network, LOG, LOG.test), rtol=1e-6, atol=1e-6)
    assert isinstance(fixed, MixerNetwork) and sum(isinstance(one, Fixed) for one in fixed.modules()) == 2
    assert len(network.mixings()) == 2 and fixed.sizes.mixing == "fixed"
    saved = load_network(save_network(fixed, fixed.sizes, LOG.schema, tmp_path)).network
    assert torch.equal(scores(saved, LOG, LOG.test), scores(fixed, LOG, LOG.test))


def test_rounding_says_what_it_costs() -> None:
    ready = trained(replace(SMALL, width=8, block=2, start="permutation"))
    found = rounding(ready, LOG)
    assert found.rounded == found.blocks == 2 and abs(found.change) < 1e-3 and found.residual < 1e-4
    whole = ready.fixed(0.95).body[0].mixing.weights
    assert whole.unique().tolist() == [0.0, 1.0] and (whole.sum(0) == 1).all()
    warm = rounding(trained(replace(SMALL, warm=1.0, cold=1.0)), LOG)
    assert warm.rounded == 0 and warm.change == 0.0
    with pytest.raises(ConfigError, match="no learned factors"):
        rounding(trained(replace(SMALL, mixing="free")), LOG)


def test_a_seed_decides_the_weights() -> None:
    weights = [SMALL.build(LOG.schema, seed).state_dict()["body.0.mixing.between"] for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert sizes_of({"kind": "unimixer", "tokens": 4, "width": 8, "block": 4}) == SMALL


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"block": 7}, "block 7 does not divide 8 x 16"), ({"tokens": 0}, "tokens must be at least 1"),
        ({"mixing": "permutation", "tokens": 3, "block": 2}, "take a multiple"),
        ({"mixing": "lite", "start": "permutation"}, "cannot start at the permutation"),
        ({"cold": 0.0}, "temperatures must be positive"), ({"mixing": "hstu"}, "'unimixing', 'lite'"),
        ({"widht": 3}, 'Did you mean "width"'),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be(wrong, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sizes_of({"kind": "unimixer", **wrong})


def test_a_start_at_the_permutation_needs_blocks_that_fit() -> None:
    with pytest.raises(ConfigError, match="the block divides 2"):
        UniMixer(start="permutation").build(LOG.schema, 0)
