"""The distillation of a diffusion model: one loop, whose parts the methods replace.

    source      noise and the student's own steps before the trained one (backward simulation)
    signal      `real`: what the teacher says at a step (guided, or a recorded degradation)
    divergence  `push`: which way a picture should go; an `Adversary`; `Pairs` to regress on
    weight      the window of noise levels of the push
    schedule    `turns`: updates of the fake score for each of the student

One round: the student makes pictures; at its turn it is pushed; then the fake score learns to denoise these pictures,
and a critic to tell them from real ones.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.diffusion.adversary import Adversary
from limbeck.diffusion.averages import Average, ramped
from limbeck.diffusion.denoisers import Denoiser
from limbeck.diffusion.game import Also, Game, Law, Matching, Pairs, Push, Rollout
from limbeck.diffusion.loop import run
from limbeck.diffusion.matching import Levels, Noised, fake_loss
from limbeck.diffusion.sources import Source
from limbeck.diffusion.students import Student
from limbeck.diffusion.watch import Watch
from limbeck.distill import Player, constant, every
from limbeck.distill.players import digest
from limbeck.distill.processes import accelerator as processes
from limbeck.errors import ConfigError


@dataclass(frozen=True)
class Regime:
    """How student and fake score are trained.

    Args:
        updates: of the student.
        batch: pictures of an update.
        lr, fake_lr: learning rates of Adam.
        turns: updates of the fake score for each of the student (TTUR).
        betas: of Adam.
        average: decay of the moving average of the student, ramped.
        weight_decay: decoupled (AdamW).
        warmup: updates over which the learning rates rise.
        clip: largest gradient norm; None does not clip.

    Raises:
        ConfigError: a value that cannot work.
    """

    updates: int = 300
    batch: int = 128
    lr: float = 2e-4
    fake_lr: float = 4e-4
    turns: int = 3
    betas: tuple[float, float] = (0.0, 0.99)
    average: float = 0.99
    weight_decay: float = 0.0
    warmup: int = 0
    clip: float | None = None

    def __post_init__(self) -> None:
        if min(self.updates, self.batch, self.turns) < 1 or min(self.lr, self.fake_lr) <= 0:
            raise ConfigError(f"updates, batch, turns and learning rates must be positive, got {self}")

    def player(self, name: str, module: nn.Module, lr: float, of: Iterable[nn.Parameter], **how: Any) -> Player:
        """Return a player with Adam over some of a module's parameters."""
        parameters = [one for one in of if one.requires_grad]
        if not parameters:
            raise ConfigError(f"every parameter of the {name} is frozen: nothing is left to train")
        betas = how.pop("betas", self.betas)
        optimizer = torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=self.weight_decay)
        return Player(name, module, optimizer, partial(constant, warmup=self.warmup), clip=self.clip, **how)


@dataclass(frozen=True)
class Distilled:
    """What a distillation gave.

    Args:
        student: the moving average of the student, for `generate`.
        fake: the fake score at the end; None if there was none.
        updates: of the student.
        trainable: share of its parameters that were trained.
        seconds: wall time.
        judged: what `judge` said, by updates.
        values: of the last round.
    """

    student: Student
    fake: nn.Module | None
    updates: int
    trainable: float
    seconds: float
    judged: dict[int, dict[str, float]]
    values: dict[str, float]

    def summary(self) -> str:
        """One line a judgement."""
        share = "" if self.trainable == 1 else f", {100 * self.trainable:.1f} % of the parameters trained"
        lines = [f"{self.updates:,} updates of a student of {self.student.steps} steps in {self.seconds:.1f} s{share}"]
        for updates, values in self.judged.items():
            lines.append(f"  {updates:,} updates: " + ", ".join(f"{name} {v:.3g}" for name, v in values.items()))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        names = ("updates", "trainable", "seconds", "judged", "values")
        return {name: getattr(self, name) for name in names} | {"steps": self.student.steps}


def distill(
    student: Student,
    teacher: Denoiser | None,
    source: Source,
    *,
    regime: Regime | None = None,
    push: Push | None = Matching(),  # noqa: B008 (frozen)
    real: Callable[[int], Denoiser] | None = None,
    fake: nn.Module | None = None,
    adversary: Adversary | None = None,
    pairs: Pairs | None = None,
    also: Also | None = None,
    rollout: Rollout | None = None,
    average: Callable[[int], float] | None = None,
    phase: int = 0,
    freeze: Callable[[nn.Module], Iterable[str]] | None = None,
    fake_levels: Law | None = None,
    denoising: Callable[[Tensor, Noised], Tensor] = fake_loss,
    watch: bool = True,
    judge: Callable[[Student], Mapping[str, float]] | None = None,
    judge_at: Collection[int] = (),
    stop_when: Callable[[Mapping[int, Mapping[str, float]]], bool] | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    config: Mapping[str, Any] | None = None,
    columns: Mapping[str, Any] | None = None,
    progress: bool = True,
    label: str = "distilling",
) -> Distilled:
    """Distil a diffusion model into a generator of few steps (DMD2; other methods replace its parts).

    Args:
        student: trained in place; what is returned is its moving average.
        teacher: frozen denoiser, guided if it should be; None where no push asks it.
        source: of classes, shapes and, for an adversary, real pictures.
        regime: how long, how fast.
        push: which way pictures should go; None leaves all to the adversary.
        real: the teacher at a step, where that changes; `teacher` by default.
        fake: the fake score as it begins, trained in place; needed by a push that asks it.
        adversary: a critic and how it plays.
        pairs: of noise and teacher's picture, to regress on.
        also: a further loss of the student (consistency).
        rollout: how the student makes pictures; backward simulation by default.
        average: decay of the student's moving average at an update; `regime.average`, ramped, by default.
        phase: expert of the student that is trained; the others stand still.
        freeze: names of parameters of the student that stay as they are.
        fake_levels: noise levels that the fake score learns; all by default.
        denoising: loss of the fake score, of its answer and the `Noised` pictures that it saw.
        watch: stop a run whose pictures collapse or run away.
        judge: numbers about the averaged student.
        judge_at: after which updates.
        stop_when: asked with all judgements whether they are reason to end early, see `Trainer`.
        seed: of every random choice.
        out: folder of records and checkpoints; the same call goes on after a stop.
        config: settings that a resumed training must agree with.
        columns: more columns of the run records.
        progress: one line on a terminal.
        label: what the line calls the training.

    Raises:
        ConfigError: parts that do not fit.
        TrainingError: a loss that is not finite, a student that collapses; `out` holds another training.

    Source: Yin et al., Improved Distribution Matching Distillation for Fast Image Synthesis (2024), arXiv 2405.14867.
    """
    regime = regime or Regime()
    if processes().num_processes > 1:
        raise ConfigError("diffusion models are distilled in one process: start without torchrun")
    if push is not None and teacher is None and real is None:
        raise ConfigError("this push needs a teacher: give it, or real, the teacher at a step")
    if push is None and adversary is None and pairs is None and also is None:
        raise ConfigError("nothing teaches the student: give a push, an adversary, pairs or a loss of your own (also)")
    student.requires_grad_(False)
    student.experts[phase].requires_grad_(True)
    for name in freeze(student.experts[phase]) if freeze else ():
        student.experts[phase].get_parameter(name).requires_grad_(False)
    averaging = average or partial(ramped, decay=regime.average)
    averaged = Average(student, averaging)
    watching = Watch() if watch else None
    kept = {"student": student, "average": averaged, "watch": watching or nn.Identity()}
    own = also if isinstance(also, nn.Module) else nn.Module()
    modules, learned = nn.ModuleDict(kept | {"also": own}), [*student.parameters(), *own.parameters()]
    turn = every(regime.turns)
    players = [regime.player("student", modules, regime.lr, learned, turn=turn, after=averaged.update)]
    if fake is not None:
        joint = [adversary.critic] if adversary is not None and adversary.joint else []
        both = nn.ModuleList([fake.requires_grad_(True), *joint])
        players.append(regime.player("fake", both, regime.fake_lr, both.parameters()))
    if adversary is not None and not adversary.joint:
        ratio = adversary.r1_every / (adversary.r1_every + 1) if adversary.r1 else 1.0
        lazy = (regime.betas[0] ** ratio if regime.betas[0] else 0.0, regime.betas[1] ** ratio)
        critic, lr = adversary.critic, adversary.lr * ratio
        players.append(regime.player("critic", critic, lr, critic.parameters(), betas=lazy))
    game = Game(
        student=student, real=real or (lambda step: cast(Denoiser, teacher)), fake=fake, source=source, push=push,
        adversary=adversary, pairs=pairs, batch=regime.batch, phase=phase, seed=seed,
        fake_levels=fake_levels or Levels(), denoising=denoising, watch=watching, also=also,
        rollout=rollout, turns=regime.turns,
    )  # fmt: skip
    settings = {"regime": asdict(regime), "phase": phase, "levels": student.levels, "seed": seed}
    parts = (push, denoising, fake_levels, adversary, pairs and (pairs.weight, len(pairs.x)), also, rollout)
    # a function by its name, also inside of a part: where it lies in memory is another place after a stop
    settings["parts"] = [re.sub(" at 0x[0-9a-f]+", "", getattr(part, "__qualname__", repr(part))) for part in parts]
    told = getattr(teacher, "__qualname__", type(teacher).__name__)  # its guidance, if it is guided
    asked = getattr(teacher, "denoiser", teacher)
    settings["teacher"] = [told, digest(asked) if isinstance(asked, nn.Module) else ""]
    settings["frozen"] = [name for name, one in student.experts[phase].named_parameters() if not one.requires_grad]
    rounds, at = regime.updates * regime.turns, [n for n in sorted(set(judge_at)) if 0 < n <= regime.updates]
    params = sum(one.numel() for one in student.experts[0].parameters())
    result = run(
        players,
        game,
        game.scene,
        steps=rounds,
        average=averaged,
        out=out,
        config=settings | {"source": source.describe(), **(config or {})},
        frozen=[teacher] if isinstance(teacher, nn.Module) else [],
        known={"params": params, "seed": seed, **(columns or {})},
        record_every=regime.turns,
        columns=lambda step: {"step_updates": -(-step // regime.turns), "samples": step * regime.batch},
        judge=judge,
        judge_at=[(one - 1) * regime.turns + 1 for one in at],
        stop_when=stop_when,
        checkpoint_every=max(25, rounds // 10),
        progress=progress,
        label=label,
    )
    parameters = list(student.experts[phase].parameters())
    trained = sum(one.numel() for one in parameters if one.requires_grad) / sum(one.numel() for one in parameters)
    judged = {-(-step // regime.turns): values for step, values in result.evaluations.items()}
    updates = -(-result.steps // regime.turns)
    return Distilled(averaged.module, fake, updates, trained, result.seconds, judged, result.values)


def updates_at(updates: int, points: int = 4) -> Sequence[int]:
    """Return so many even places of a training to judge at, the last one included."""
    return sorted({max(1, round(updates * (k + 1) / points)) for k in range(points)})
