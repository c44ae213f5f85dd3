import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_graphs import molecules
from torch import nn

from limbeck.distill import Regime, cross_entropy, forward_kl
from limbeck.errors import ConfigError, TrainingError
from limbeck.graphs import Network, balanced, batch_of, condense, judge, logits_of, train

DATA = molecules()


def fresh(seed: int = 0, **sizes: object) -> nn.Module:
    return Network(**({"hidden": 8} | sizes)).build(3, 2, 2, seed)  # type: ignore[arg-type]


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in model.parameters()])


def test_a_distilled_set_teaches_what_the_graphs_would() -> None:
    learn, test = DATA.split(0, 0.5)
    found = condense(learn, theta=0.3)
    model = fresh()
    done = train(model, found.graphs(), regime=Regime(steps=80))
    assert judge(logits_of(model, test.graphs), test.labels.tolist()).auc == 1.0
    assert done.steps == done.best_step == 80 and done.evaluations == {}


def test_one_step_descends_on_the_weighted_loss() -> None:
    graphs = [one._replace(weight=float(k + 1)) for k, one in enumerate(DATA.graphs[:6])]
    teacher = fresh(seed=1)
    batch = batch_of(graphs)
    w = batch.weight / batch.weight.sum()
    for given, expected in (
        ({}, lambda z: (w * cross_entropy(z, z, batch.y, reduction="none")).sum()),
        (
            {"teacher": teacher, "temperature": 2.0, "ce_weight": 0.25},
            lambda z: (
                w
                * (
                    0.25 * cross_entropy(z, z, batch.y, reduction="none")
                    + 0.75 * 4 * forward_kl(z, logits_of(teacher, graphs), temperature=2.0, reduction="none")
                )
            ).sum(),
        ),
    ):
        model, other = fresh(), fresh()
        train(model, graphs, regime=Regime(1, learning_rate=0.1, optimizer="sgd", schedule="constant"), **given)
        loss = expected(other(batch))
        slopes = torch.autograd.grad(loss, list(other.parameters()))
        by_hand = torch.cat([(p - 0.1 * g).detach().flatten() for p, g in zip(other.parameters(), slopes, strict=True)])
        torch.testing.assert_close(weights(model), by_hand, rtol=1e-5, atol=1e-6)


def test_the_best_evaluation_is_kept() -> None:
    learn, choose = DATA.split(0, 0.5)
    choose = replace(choose, graphs=tuple(one._replace(label=1 - one.label) for one in choose.graphs))  # gets worse
    graphs, at = balanced(learn.graphs), {"choose": choose.graphs}
    done = train(fresh(), graphs, **at, regime=Regime(40, learning_rate=0.05, evaluate_every=1))
    ranks = {step: (one["auc"], -one["loss"]) for step, one in done.evaluations.items()}
    assert len(ranks) == 40 and done.best_step < 20 and ranks[done.best_step] == max(ranks.values())
    found = judge(logits_of(done.network, choose.graphs), choose.labels.tolist())
    assert (found.auc, -found.loss) == pytest.approx(ranks[done.best_step], abs=1e-6)


def test_batches_read_every_graph_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    real = batch_of

    def watched(graphs):
        seen.extend(one.weight for one in graphs)
        return real(graphs)

    monkeypatch.setattr("limbeck.graphs.training.batch_of", watched)
    graphs = [one._replace(weight=float(k + 1)) for k, one in enumerate(DATA.graphs[:12])]
    train(fresh(), graphs, regime=Regime(steps=6, batch=4))
    assert sorted(seen[:12]) == sorted(seen[12:]) == [float(k + 1) for k in range(12)] and seen[:12] != seen[12:]


def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn, choose = DATA.split(0, 0.5)
    how = {"choose": choose.graphs, "teacher": fresh(seed=3), "seed": 4}
    how["regime"] = Regime(220, batch=8, learning_rate=1e-3, evaluate_every=20)

    def run(out: Path) -> tuple[torch.Tensor, list[dict[str, float]], int]:
        model = fresh(dropout=0.3)
        done = train(model, balanced(learn.graphs), out=out, **how)
        return (
            weights(model),
            [json.loads(one) for one in (out / "runs.jsonl").read_text().splitlines()],
            done.best_step,
        )

    whole = run(tmp_path / "a")
    step, calls = "limbeck.graphs.training._rank", []
    real = __import__("limbeck.graphs.training", fromlist=["_rank"])._rank

    def falls_over(values):
        calls.append(values)
        if len(calls) > 30:
            raise RuntimeError("the machine went away")
        return real(values)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="went away"):
        patch.setattr(step, falls_over)
        run(tmp_path / "b")
    assert list((tmp_path / "b" / "checkpoints").glob("step-*"))
    again = run(tmp_path / "b")
    assert torch.equal(again[0], whole[0]) and again[2] == whole[2]
    assert [{**one, "run": ""} for one in again[1]] == [{**one, "run": ""} for one in whole[1]]
    assert {"samples", "auc", "loss", "params", "seed"} <= set(whole[1][-1])
    with pytest.raises(TrainingError, match="another configuration"):
        train(fresh(dropout=0.3), balanced(learn.graphs)[1:], out=tmp_path / "a", **how)


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="needs graphs"):
        train(fresh(), [])
    with pytest.raises(ConfigError, match=r"Did you mean .forward_kl."):
        train(fresh(), DATA.graphs, teacher=fresh(), loss="forward_lk")
