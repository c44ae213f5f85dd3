"""Training a graph classifier on graphs or on forests of a distilled set, from labels or beside a teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from limbeck.distill import Regime, Trainer, cross_entropy, with_labels
from limbeck.distill.processes import processes
from limbeck.errors import ConfigError
from limbeck.fitting.plain import Plain
from limbeck.graphs.data import Graph, digest
from limbeck.graphs.networks import batch_of, logits_of
from limbeck.runs import RunRecorder


@dataclass(frozen=True)
class Judgement(Plain):
    """What a graph classifier is worth.

    Args:
        auc: area under the curve of true against false positives, mean over the classes; None where one is absent.
        accuracy: share of right answers.
        loss: mean negative log-likelihood, nats.
        graphs: how many were judged.
    """

    auc: float | None
    accuracy: float
    loss: float
    graphs: int

    def summary(self) -> str:
        """One line."""
        auc = "" if self.auc is None else f"AUC {self.auc:.3f}, "
        return f"{auc}{100 * self.accuracy:.1f} % right, loss {self.loss:.3f} nats on {self.graphs} graphs"


def judge(logits: Tensor, labels: ArrayLike) -> Judgement:
    """Judge logits [N, C] by the true classes [N].

    Example:
        >>> judge(torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), [0, 0, 1, 1]).summary()
        'AUC 0.875, 75.0 % right, loss 0.470 nats on 4 graphs'
    """
    from scipy.stats import rankdata  # here, so that reading does not wait for it

    said, true = logits.double().log_softmax(-1), torch.as_tensor(labels)
    areas = []
    for k in range(said.shape[1]):
        own = (true == k).numpy()
        n, ranks = int(own.sum()), rankdata(said[:, k].numpy())
        pairs = n * (len(own) - n)
        areas.append((ranks[own].sum() - n * (n + 1) / 2) / pairs if pairs else np.nan)
    return Judgement(
        auc=None if np.isnan(areas).any() else float(np.mean(areas)),
        accuracy=float((said.argmax(-1) == true).double().mean()),
        loss=float(nn.functional.nll_loss(said, true)),
        graphs=len(true),
    )


@dataclass(frozen=True)
class Trained:
    """A network that was trained.

    Args:
        network: as it was at its best.
        best_step: when that was, by AUC and then loss on the graphs to choose by; the last step without any.
        steps, seconds: of the training.
        evaluations: on those graphs, by step.
    """

    network: nn.Module = field(repr=False)
    best_step: int
    steps: int
    seconds: float
    evaluations: Mapping[int, Mapping[str, float]] = field(repr=False)


def train(
    network: nn.Module,
    graphs: Sequence[Graph],
    *,
    choose: Sequence[Graph] = (),
    teacher: nn.Module | None = None,
    loss: str = "forward_kl",
    temperature: float = 4.0,
    ce_weight: float = 0.1,
    regime: Regime | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    columns: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Trained:
    """Train a graph classifier; `sum_i w_i loss_i / sum_i w_i` over a batch, w the weights of the graphs.

    Args:
        network: any that maps a batch to logits; trained in place.
        graphs: what it learns from, see `balanced` and `Summary.graphs`.
        choose: graphs by whose AUC the best of all evaluations is kept.
        teacher: another network whose logits on the same graphs are learnt too; None for labels alone.
        loss, temperature, ce_weight: `ce_weight CE + (1 - ce_weight) temperature² D`, D by its name in
            `limbeck.distill`.
        regime: steps, batch (all graphs if it is as large), optimiser, evaluations.
        seed: of the order and of dropout.
        out: folder of records and checkpoints; the same call goes on after a stop.
        columns: more columns of the run records.
        progress: one line on a terminal.

    Raises:
        ConfigError: no graphs, several processes, an unknown loss.
        TrainingError: a loss that is not finite; `out` holds another training.

    Example:
        >>> from limbeck.graphs import Network, undirected
        >>> graphs = [undirected([label] * 3, [(0, 1, 0)], label) for label in (0, 1)]
        >>> network = Network(hidden=4).build(nodes=2, bonds=1, classes=2, seed=0)
        >>> _ = train(network, graphs, regime=Regime(steps=60))
        >>> judge(logits_of(network, graphs), [0, 1]).auc
        1.0
    """
    regime, count = regime or Regime(steps=100, evaluate_every=1), len(graphs)
    if not graphs or processes().num_processes > 1:
        raise ConfigError("training needs graphs, in one process: start without torchrun")
    formula: Callable[..., Tensor] = cross_entropy
    if teacher is not None:
        mixed = with_labels(loss, ce_weight, 1 - ce_weight)
        formula = partial(mixed, temperature=temperature, tau_squared=True)
    taught = torch.zeros(count, 0) if teacher is None else logits_of(teacher, graphs)
    size = min(regime.batch, count)
    whole = batch_of(graphs) if size == count else None

    def batch(step: int) -> Tensor:
        epoch, place = divmod(step, count // size)
        order = np.random.default_rng([seed, epoch]).permutation(count)[place * size : (place + 1) * size]
        return torch.from_numpy(np.sort(order))

    def costs(player: str, rows: Tensor, step: int) -> dict[str, Tensor]:
        seen = batch_of([graphs[int(row)] for row in rows]) if whole is None else whole
        said, weight = network(seen), seen.weight
        values = formula(said, said if teacher is None else taught[rows], seen.y, reduction="none")
        return {"loss": (weight * values).sum() / weight.sum()}

    best = deepcopy(network).requires_grad_(False)  # within the player, so that a checkpoint holds it

    def measure(step: int) -> dict[str, float]:
        found = judge(logits_of(network, choose), [one.label for one in choose])
        values = {"auc": found.accuracy if found.auc is None else found.auc, "loss": found.loss}
        if all(_rank(values) > _rank(one) for one in trainer.evaluations.values()):
            best.load_state_dict(network.state_dict())
        return values

    settings = {"loss": [loss, temperature, ce_weight, hashlib.sha256(taught.numpy().tobytes()).hexdigest()[:16]]}
    identity = settings | {"regime": asdict(regime), "graphs": digest(graphs), "choose": digest(choose), "seed": seed}
    known = {"run": Path(out or ".").name, "family": "graphs", "seed": seed, **(columns or {})}
    known["params"] = sum(one.numel() for one in network.parameters())
    trainer = Trainer(
        [regime.player(nn.ModuleDict({"network": network, "best": best}))], costs, batch, steps=regime.steps,
        out=None if out is None else Path(out) / "checkpoints", config=identity, progress=progress,
        recorder=None if out is None else partial(RunRecorder, Path(out) / "runs.jsonl", **known),
        columns=lambda step: {"samples": step * size}, evaluate=measure if choose else None,
        evaluate_at=regime.evaluate_at, checkpoint_every=max(100, regime.steps // 10) if out is not None else None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        result = trainer.run()
    step = result.steps
    if choose:
        network.load_state_dict(best.state_dict())
        step = max(result.evaluations, key=lambda one: _rank(result.evaluations[one]))
    return Trained(network.eval(), step, result.steps, result.seconds, result.evaluations)


def _rank(values: Mapping[str, float]) -> tuple[float, float]:
    """Best last."""
    return values["auc"], -values["loss"]
