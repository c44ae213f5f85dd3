"""The block against reference vectors, and what its attention may and may not see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limbeck.errors import ConfigError
from limbeck.recsys import Suan, batch_of, synthetic
from limbeck.recsys.attention import Distance, ProfileAttention, SelfAttention, time_bucket
from limbeck.recsys.suan import Block, Fusion

LOG = synthetic(users=12, events=30, items=40)
LENGTH = 9
PLACES = {
    "attention.query": "Wq", "attention.key": "Wk", "attention.value": "Wv", "attention.out": "Wo",
    "profile.query": "Wq_cross", "profile.key": "Wk_cross", "profile.value": "Wv_cross", "profile.out": "Wo_cross",
    "fusion.squeeze": "Wz", "fusion.first": "W1_align", "fusion.second": "W2_align",
    "feed.gate": "W1_ffn", "feed.up": "W2_ffn", "feed.down": "W3_ffn",
}  # fmt: skip


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


def spread(module: torch.nn.Module, scale: float = 1.0) -> torch.nn.Module:
    """The module in float64 with every weight drawn anew, so that nothing is too small to see."""
    draw = torch.Generator().manual_seed(1)
    module = module.double().eval()
    with torch.no_grad():
        for one in module.parameters():
            one.copy_(
                scale * torch.randn(one.shape, generator=draw, dtype=torch.float64) / max(1, one.shape[-1]) ** 0.5
            )
    return module


def made(**sizes):
    return spread(Suan(**{"blocks": 2, "length": LENGTH, **sizes}).build(LOG.schema, 0))


def states(network, batch):
    """States of the events [B, L, D] and of the offer [B, D] after the last block."""
    kept = {}
    handle = network.blocks[-1].register_forward_hook(lambda module, given, found: kept.update(found=found))
    network(batch)
    handle.remove()
    return kept["found"][0], kept["found"][1][:, 0]


def full():
    """Offers whose histories are full, dense numbers in float64."""
    batch = batch_of(LOG, LOG.test, LENGTH)
    return batch._replace(dense=batch.dense.double())


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections):
    def block(case):
        x, profile, place, buckets, y = map(exact, (case[k] for k in ("x", "profile", "p_table", "t_table", "y")))
        times, valid = torch.tensor(case["timestamps"]), torch.tensor(case["valid"])
        model = Block(case["D"], case["d"], case["heads"], "all").double()
        state = {}
        for path, name in PLACES.items():
            given = case["weights"][name]
            state[f"{path}.weight"] = exact(given["w"]).T
            if "b" in given:
                state[f"{path}.bias"] = exact(given["b"])
        state |= {f"norms.{k}.gain": exact(case["weights"][f"rms{k + 1}"]) for k in range(3)}
        model.load_state_dict(state)
        distance = Distance(case["L"]).double()
        distance.load_state_dict({"place": place, "time": buckets})
        gaps = (times[:, None] - times[:, :, None]).abs()
        assert time_bucket(gaps).tolist() == case["buckets"]
        reach = distance(times[:, :-1], valid[:, :-1], times[:, -1])
        seen, offered = model(x[:, :-1], x[:, -1:], profile, valid[:, :-1], reach)
        torch.testing.assert_close(torch.cat([seen, offered], 1), y, rtol=0, atol=1e-12)

    def cases(given):
        for case in given:
            block(case)

    walk_sections(parity("suan-ctr"), {"cases": cases}, ignore=["reference"])


def test_weights_of_the_fusion_add_to_one_in_every_channel():
    fusion = spread(Fusion(8))
    summary = torch.randn(2, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ones, zeros = torch.ones(2, 3, 8, dtype=torch.float64), torch.zeros(2, 3, 8, dtype=torch.float64)
    alpha, beta = fusion(ones, zeros, summary), fusion(zeros, ones, summary)
    torch.testing.assert_close(alpha + beta, ones, rtol=0, atol=1e-15)
    assert alpha.std() > 0.01
    fusion.second.load_state_dict(fusion.first.state_dict())
    torch.testing.assert_close(fusion(3 * ones, ones, summary), 2 * ones)


def test_one_feature_of_the_user_is_seen_alike_everywhere():
    attention = spread(ProfileAttention(8, 4, 2))
    x = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c = attention(x, torch.randn(2, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(c, c[:, :1].expand_as(c))
    assert not torch.allclose(c[0], c[1])


@pytest.mark.parametrize("window", [0, 3])
def test_no_state_looks_ahead(window):
    network, batch = made(align="causal", window=window, dilation=3), full()
    before, offered = states(network, batch)
    changed = batch.history.clone()
    changed[:, 5, 0] = changed[:, 5, 0] % 20 + 1
    after, other = states(network, batch._replace(history=changed))
    assert torch.equal(before[:, :5], after[:, :5])
    moved = (before - after).abs().amax((0, 2))
    assert (moved[5:] > 1e-6).sum() >= (4 if window == 0 else 3)
    assert (offered - other).abs().max() > 1e-6


@pytest.mark.parametrize(("align", "moves"), [("events", False), ("causal", False), ("all", True)])
def test_an_offer_changes_events_only_in_the_released_scope(align, moves):
    network, batch = made(align=align), full()
    before, _ = states(network, batch)
    after, _ = states(network, batch._replace(candidate=batch.candidate % 8))
    assert torch.equal(before, after) is not moves


@pytest.mark.parametrize("align", ["events", "causal"])
@pytest.mark.parametrize("window", [0, 2])
def test_padding_in_front_changes_nothing(align, window):
    network = made(align=align, window=window, dilation=3)
    batch = full()._replace(history=full().history[:, 3:], history_time=full().history_time[:, 3:])
    short = batch._replace(valid=full().valid[:, 3:])
    pad = torch.nn.functional.pad
    padded = short._replace(
        history=pad(short.history, (0, 0, 3, 0)), history_time=pad(short.history_time, (3, 0)),
        valid=pad(short.valid, (3, 0)),
    )  # fmt: skip
    torch.testing.assert_close(network(padded), network(short), rtol=0, atol=1e-12)


def test_an_empty_history_gives_numbers():
    network, batch = made(align="causal"), full()
    alone = network(batch._replace(history=0 * batch.history, valid=torch.zeros_like(batch.valid)))
    assert alone.isfinite().all()


@pytest.mark.parametrize("sizes", [{}, {"window": 3, "dilation": 3}])
def test_only_differences_in_time_are_seen(sizes):
    network, batch = made(**sizes), full()
    later = batch._replace(time=batch.time + 10**7, history_time=batch.history_time + 10**7)
    assert torch.equal(network(batch), network(later))
    assert not torch.equal(network(batch), network(batch._replace(history_time=batch.history_time - 10**5)))


@pytest.mark.parametrize("sizes", [{"window": LENGTH + 1, "dilation": 50}, {"window": 1, "dilation": 1}])
def test_a_wide_window_or_a_dilation_of_one_is_dense(sizes):
    dense, sparse = made(align="events"), made(align="events", **sizes)
    torch.testing.assert_close(sparse(full()), dense(full()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dense_offer", [False, True])
@pytest.mark.parametrize("align", ["all", "events", "causal"])
def test_gathered_keys_give_what_a_mask_gives(align, dense_offer):
    sparse = made(align=align, window=4, dilation=3, dense_offer=dense_offer)
    masked, batch = made(align=align), full()
    far = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    hidden = ~((far < 4) | (far % 3 == 0))
    hidden_offer = torch.tensor([not (o < 4 or o % 3 == 0) for o in range(LENGTH, 0, -1)]) & (not dense_offer)
    found = masked.distance.forward

    def with_mask(*given):
        reach = found(*given)
        among = reach.among.masked_fill(hidden, -1e9)
        return reach._replace(among=among, offered=reach.offered.masked_fill(hidden_offer, -1e9))

    masked.distance.forward = with_mask
    torch.testing.assert_close(sparse(batch), masked(batch), rtol=0, atol=1e-12)


def test_a_window_of_one_sees_itself_alone():
    distance, attention = spread(Distance(4, 1, 9)), spread(SelfAttention(6, 2))
    draw = torch.Generator().manual_seed(0)
    events, offers = (torch.randn(2, n, 6, dtype=torch.float64, generator=draw) for n in (4, 1))
    times = torch.tensor([[1, 5, 90, 700]] * 2)
    reach = distance(times, torch.ones(2, 4, dtype=torch.bool), times[:, -1])
    for x, found in zip((events, offers), attention(events, offers, reach), strict=True):
        torch.testing.assert_close(found, attention.out(attention.value(x)))


@pytest.mark.parametrize("align", ["events", "causal"])
@pytest.mark.parametrize("sizes", [{}, {"window": 3, "dilation": 3}, {"window": 2, "dilation": 3, "dense_offer": True}])
def test_many_offers_at_once_are_scored_as_one_by_one(align, sizes):
    network = made(align=align, **sizes)
    for batch in (full(), batch_of(LOG, LOG.train[:40], LENGTH)):  # the second has short histories
        batch = batch._replace(dense=batch.dense.double())
        items = LOG.event[:25].clone()
        items[:, -1] = 0
        at_once = network(batch._replace(candidate=items.expand(len(batch.label), -1, -1)))
        singly = torch.stack([network(batch._replace(candidate=one.expand(len(batch.label), -1))) for one in items], 1)
        torch.testing.assert_close(at_once, singly, rtol=0, atol=1e-10)
        assert at_once.std(1).min() > 1e-3


def test_many_offers_are_refused_where_events_depend_on_them():
    batch = full()
    with pytest.raises(ConfigError, match='align "events" or "causal"'):
        made()(batch._replace(candidate=batch.candidate[:, None].expand(-1, 3, -1)))


def test_buckets_of_time():
    given = torch.tensor([0, 1, 86_400, 10**18])
    assert time_bucket(given).tolist() == [0, 0, 37, 128]
    whole = torch.arange(1, 100_000)
    found = time_bucket(whole)
    assert (found.diff() >= 0).all()
    assert torch.equal(found, (whole.double().log() / 0.301).floor().clamp(0, 128).long())


def test_sparse_attention_makes_no_square_of_the_history():
    sparse, dense = (made(length=400, blocks=1, align="events", **s) for s in ({"window": 8, "dilation": 40}, {}))
    shapes = {}
    for name, network in (("sparse", sparse), ("dense", dense)):
        network.distance.register_forward_hook(lambda m, g, found, name=name: shapes.update({name: found.among.shape}))
        network(batch_of(LOG, LOG.test[:1], 400)._replace(dense=torch.zeros(1, 1, dtype=torch.float64)))
    assert list(shapes["dense"]) == [1, 1, 400, 400]
    assert list(shapes["sparse"]) == [1, 1, 400, 18]  # 8, and every 40th


@pytest.mark.parametrize("wrong", [{"width": 0}, {"window": -1}, {"heads": 5}])
def test_sizes_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match=r"heads do not divide|must be positive"):
        replace(Suan(), **wrong).build(LOG.schema, 0)
