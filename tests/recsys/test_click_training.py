"""What is learnt, from whom, and what it is worth."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from limbeck.errors import ConfigError, TrainingError
from limbeck.recsys import (
    Clicks,
    Cost,
    Lesson,
    Suan,
    auc,
    batch_of,
    calibrated,
    climb,
    group_auc,
    judge_logits,
    load_network,
    one_epoch,
    rank,
    save_network,
    scores,
    soft_clicks,
    synthetic,
    train_clicks,
)  # fmt: skip

LOG = synthetic(users=60, events=40, items=50)
SMALL, LARGE = Suan(window=3, dilation=3, align="events"), Suan(width=8, length=12)
PLAIN = Suan(blocks=0, length=4)


def trained(teacher=None, seed=0, **how):
    network = SMALL.build(LOG.schema, seed)
    return network, train_clicks(network, LOG, teacher=teacher, seed=seed, progress=False, **how)


def weights(network):
    return torch.cat([one.detach().flatten() for one in network.state_dict().values()])


def test_the_area_is_that_of_its_definition_with_ties():
    draw = np.random.default_rng(0)
    score, label = draw.integers(0, 6, 60), draw.integers(0, 2, 60)
    up, down = score[label == 1][:, None], score[label == 0]
    assert auc(score, label) == pytest.approx(float(((up > down) + 0.5 * (up == down)).mean()), abs=1e-15)
    assert auc(np.ones(60), label) == 0.5
    assert np.isnan(auc([1.0, 2.0], [1, 1]))


def test_the_area_by_user_weighs_users_by_their_events():
    score, label = [1, 2, 3, 3, 1, 2, 9], [1, 0, 1, 0, 0, 1, 1]
    user = [5, 5, 5, 7, 7, 7, 8]  # areas 1/2, 1/2 and none
    assert group_auc(score, label, user) == pytest.approx((3 * 0.5 + 3 * 0.5) / 6)
    assert group_auc([0, 1, 2, 3, 0, 1], [0, 1, 0, 1, 1, 0], [1, 1, 1, 1, 2, 2]) == pytest.approx(4 * 0.75 / 6)
    assert np.isnan(group_auc([1, 2], [1, 1], [0, 1]))


def test_thinned_negatives_are_put_back():
    p = np.array([0.01, 0.3, 0.9])
    assert calibrated(p, 1.0) == pytest.approx(p)
    odds, kept = np.array([0.02, 0.5, 3.0]), 0.1
    seen = odds / kept  # what the thinned log shows
    found = calibrated(seen / (1 + seen), kept)
    assert found / (1 - found) == pytest.approx(odds)
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        calibrated(p, 0.0)


def test_a_judgement_counts_what_it_says():
    log, where = synthetic(users=4, events=10), torch.arange(40)
    z = torch.where(log.label > 0.5, 2.0, -2.0)
    found = judge_logits(z, log, where)
    assert (found.auc, found.gauc, found.examples) == (1.0, 1.0, 40)
    assert found.loss == pytest.approx(np.log1p(np.exp(-2)))
    rate = float(log.label.mean())
    q = 1 / (1 + np.exp(-2))
    assert found.ratio == pytest.approx((rate * q + (1 - rate) * (1 - q)) / rate)
    with pytest.raises(ConfigError, match="need clicks and others"):
        judge_logits(z[log.label > 0.5], log, where[log.label > 0.5])


def test_what_the_teacher_says_pulls_by_its_distance_and_costs_it_nothing():
    draw = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(50, dtype=torch.float64, generator=draw, requires_grad=True) for _ in range(2))
    student.retain_grad(), teacher.retain_grad()
    t, weight = 2.5, 3.0
    (weight * soft_clicks(student, teacher, temperature=t)).backward()
    slope = weight / t * ((student / t).sigmoid() - (teacher / t).sigmoid()) / 50
    torch.testing.assert_close(student.grad, slope.detach())
    assert teacher.grad is None
    assert Lesson(temperature=t).scale == t**2


def test_without_weight_student_and_teacher_learn_as_if_alone():
    alone, found = trained(lesson=None)
    teacher, other = (LARGE.build(LOG.schema, 7) for _ in range(2))
    student, both = trained(teacher, lesson=Lesson(temperature=1.0, weight=0.0))
    assert torch.equal(weights(alone), weights(student))
    assert both.judged == found.judged
    train_clicks(other, LOG, seed=0, progress=False)
    assert torch.equal(weights(other), weights(teacher))
    student, _ = trained(LARGE.build(LOG.schema, 7))
    assert not torch.equal(weights(alone), weights(student))


def test_a_teacher_that_stands_still_stays_as_it_was():
    teacher = LARGE.build(LOG.schema, 7)
    before = weights(teacher)
    student, _ = trained(teacher, lesson=Lesson("kd", weight=100.0))
    assert torch.equal(before, weights(teacher))
    far = [(scores(one, LOG, LOG.test) - scores(teacher, LOG, LOG.test)).std() for one in (student, trained()[0])]
    assert far[0] < far[1]


def test_shared_tables_stay_shared():
    teacher = replace(LARGE, width=4).build(LOG.schema, 7)
    student, _ = trained(teacher, tables_shared=True)
    assert student.event_tables is teacher.event_tables
    with pytest.raises(ConfigError, match="cannot be shared: give both one width"):
        trained(LARGE.build(LOG.schema, 7), tables_shared=True)
    with pytest.raises(ConfigError, match="method online"):
        trained(teacher, lesson=Lesson("kd"), tables_shared=True)


def test_history_is_worth_something_on_the_made_up_log():
    log = synthetic(users=250, events=50)
    how = {"regime": one_epoch(log, 128, 5e-3), "progress": False}
    found = [train_clicks(sizes.build(log.schema, 0), log, **how).judged for sizes in (Suan(), Suan(blocks=0))]
    best = judge_logits(torch.logit(log.truth[log.test]), log, log.test)
    assert found[1].auc + 0.02 < found[0].auc < best.auc
    assert found[0].loss < found[1].loss


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    regime = replace(one_epoch(LOG, 8), steps=103)
    whole, found = trained(PLAIN.build(LOG.schema, 7), regime=regime)
    reading = __import__("limbeck.recsys.training", fromlist=["reading"]).reading

    def breaking(*given):
        batch = reading(*given)

        def stop(step):
            if step == 101:
                raise RuntimeError("power cut")
            return batch(step)

        return stop

    with monkeypatch.context() as broken:
        broken.setattr("limbeck.recsys.training.reading", breaking)
        with pytest.raises(RuntimeError, match="power cut"):
            trained(PLAIN.build(LOG.schema, 7), regime=regime, out=tmp_path)
    network, again = trained(PLAIN.build(LOG.schema, 7), regime=regime, out=tmp_path)
    assert torch.equal(weights(whole), weights(network))
    assert again.judged == found.judged
    rows = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [50, 100, 103]
    assert rows[-1]["samples"] == 103 * 8
    assert rows[-1]["error"] == pytest.approx(1 - found.judged.auc)
    assert rows[-1]["flops"] == pytest.approx(103 * 8 * found.cost.flops_per_sample)
    with pytest.raises(TrainingError, match="another configuration"):
        trained(PLAIN.build(LOG.schema, 7), regime=regime, out=tmp_path, seed=1)


def test_a_folder_gives_the_network_back(tmp_path):
    network, _ = trained()
    save_network(network, SMALL, LOG.schema, tmp_path)
    saved = load_network(tmp_path)
    assert (saved.sizes, saved.schema) == (SMALL, LOG.schema)
    assert torch.equal(scores(saved.network, LOG, LOG.test), scores(network, LOG, LOG.test))


def test_a_request_is_scored_alike_with_and_without_sharing():
    network, _ = trained()
    batch, items = batch_of(LOG, LOG.test[:1], SMALL.length), LOG.event[:30].clone()
    items[:, -1] = 0
    at_once = rank(network, batch, items)
    network.many = False
    torch.testing.assert_close(at_once, rank(network, batch, items), rtol=0, atol=1e-5)


def test_weights_are_counted_with_and_without_tables():
    network = SMALL.build(LOG.schema, 0)
    cost = Cost.of(network, LOG)
    events, users = sum(LOG.schema.event_sizes), sum(LOG.schema.profile_sizes)
    assert cost.params_total - cost.params == 4 * (events + users + 129)
    dense = Cost.of(replace(SMALL, window=0, length=40).build(LOG.schema, 0), LOG)
    sparse = Cost.of(replace(SMALL, length=40, dilation=20).build(LOG.schema, 0), LOG)
    assert sparse.flops_per_sample < dense.flops_per_sample


def test_a_ladder_writes_runs_and_fits_their_law(tmp_path):
    log: Clicks = synthetic(users=40, events=40, items=30)
    grades = {"A": Suan(), "none": Suan(blocks=0)}
    ladder = climb(log, grades, tmp_path, shares=[0.25, 0.5, 1], seeds=2, steps=4, progress=False)
    assert [(rung.grade, rung.events) for rung in ladder.rungs[:3]] == [("A", 320), ("A", 640), ("A", 1280)]
    rows = [json.loads(line) for path in tmp_path.glob("*/runs.jsonl") for line in path.read_text().splitlines()]
    assert len(rows) == 12
    assert {row["step"] for row in rows} == {4}
    law = ladder.laws["A"]
    slope = np.polyfit(np.log(np.repeat([320, 640, 1280], 2)), np.log(1 - np.array(
        [value for rung in ladder.rungs[:3] for value in rung.auc])), 1)[0]  # fmt: skip
    assert law.parameters["alpha"] == pytest.approx(max(-slope, 0), abs=0.05)
    assert "1 - AUC falls as events^-" in ladder.summary()
