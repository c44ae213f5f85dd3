"""Several one-step students, each for its own classes: the latency of one, the capacity of all.

Split the classes (`partition`), make a start for smaller students (`match_teacher`), train them one by one
(`distill_students`); their `Bundle` sends each picture to its student. `compare_students` sets them beside one student
of the same training, and of as many times that as there are students.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from limbeck.diffusion.adversary import Adversary
from limbeck.diffusion.denoisers import Denoiser, Preconditioned
from limbeck.diffusion.game import Pairs
from limbeck.diffusion.sources import Source
from limbeck.diffusion.students import Student, one_network
from limbeck.diffusion.teachers import Pretrained, Pretraining, train_teacher
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.errors import ConfigError
from limbeck.fitting.plain import Plain

Split = Literal["contiguous", "similar", "random"]


def partition(
    classes: int, students: int, how: Split = "contiguous", *, embeddings: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Return the student that owns each class, int64 [classes]; each owns as many, give or take one.

    contiguous: class c belongs to student floor(c K / classes);  random: the same, shuffled;  similar: k-means whose
    clusters have these sizes (every assignment is the cheapest one; best of 8 starts), numbered by their first class.

    Args:
        classes: how many.
        students: K.
        how: contiguous, similar or random.
        embeddings: of the classes, for "similar", [classes, d].
        seed: of "similar" and "random".

    Raises:
        ConfigError: fewer classes than students, no embeddings or as many as other classes.

    Example:
        >>> partition(10, 4).tolist()
        [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
        >>> partition(4, 2, "similar", embeddings=torch.tensor([[0.0], [9.0], [0.1], [9.1]])).tolist()
        [0, 1, 0, 1]

    Source: Song et al., Multi-student Diffusion Distillation for Better One-step Generators (2024), arXiv 2410.23274;
        balanced k-means is ours, plain k-means gave the authors uneven parts.
    """
    if not 1 <= students <= classes:
        raise ConfigError(f"{students} students cannot share {classes} classes: give 1 to {classes}")
    even, random = torch.arange(classes) * students // classes, torch.Generator().manual_seed(seed)
    if how == "contiguous":
        return even
    if how == "random":
        return even[torch.randperm(classes, generator=random)]
    if embeddings is None or len(embeddings) != classes:
        raise ConfigError(f"similar classes are found by embeddings [{classes}, d]; give embeddings")
    x = embeddings.detach().double()
    _, owner = min((_clustered(x, even, random) for _ in range(8)), key=lambda found: found[0])
    first = torch.stack([(owner == k).nonzero()[0, 0] for k in range(students)])
    return first.argsort().argsort()[owner]


def _clustered(x: Tensor, even: Tensor, random: torch.Generator) -> tuple[float, Tensor]:
    """Squared distances to the centres, and the owners, of k-means with fixed sizes from one random start."""
    owner, found = even[torch.randperm(len(x), generator=random)], None
    while found is None or not found.equal(owner):
        owner = owner if found is None else found
        centres = torch.stack([x[owner == k].mean(0) for k in range(int(even[-1]) + 1)])
        cost = (x[:, None] - centres).square().sum(2)
        found = even[linear_sum_assignment(cost[:, even].numpy())[1]]
    return float(cost.gather(1, owner[:, None]).sum()), owner


class Bundle(nn.Module):
    """Students behind a router: each picture is made by the student that owns its class.

    Args:
        students: of as many steps each.
        owner: student of each class, int64 [classes]; -1 where none is here. It is saved with the weights.

    Raises:
        ConfigError: an owner that is not there, students of different steps.

    Example:
        >>> from limbeck.diffusion.networks import Sizes
        >>> two = [one_network(Sizes(8, 1).build([2], 4, seed=k), [2.5]) for k in range(2)]
        >>> bundle = Bundle(two, partition(4, 2))
        >>> bundle(torch.zeros(3, 1, 2), torch.tensor([3, 0, 2])).shape
        torch.Size([3, 2])
    """

    owner: Tensor

    def __init__(self, students: Sequence[Student], owner: Sequence[int] | Tensor) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)
        self.register_buffer("owner", torch.as_tensor(owner, dtype=torch.int64).clone())
        if int(self.owner.max()) >= len(students) or len({one.steps for one in students}) != 1:
            raise ConfigError(
                f"{len(students)} students of equal steps must hold all owners, got {self.owner.tolist()}"
            )

    @property
    def steps(self) -> int:
        """Network calls of one picture."""
        return self.students[0].steps  # type: ignore[return-value]

    def forward(self, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return pictures in the order of their classes; each student is called at most once.

        Args:
            noise: unit noise of every step, [B, steps, ...].
            cond: class of each, [B].

        Raises:
            ConfigError: a class that no student here has learned.
        """
        known = (self.owner >= 0).nonzero()[:, 0]
        if cond is None or not torch.isin(cond, known).all():
            told = "no class" if cond is None else sorted(set(cond.tolist()) - set(known.tolist()))
            raise ConfigError(f"these students make the classes {known.tolist()}, and were asked for {told}")
        owner = self.owner[cond]
        parts = [(self.students[k], (owner == k).nonzero()[:, 0]) for k in owner.unique().tolist()]
        made = torch.cat([student(noise[rows], cond[rows]) for student, rows in parts])
        return made[torch.cat([rows for _, rows in parts]).argsort()]

    def only(self, k: int) -> "Bundle":
        """Return a bundle of student k alone, which refuses the classes of the others."""
        return Bundle([self.students[k]], torch.where(self.owner == k, 0, -1))  # type: ignore[list-item]


def match_teacher(
    denoiser: Preconditioned, teacher: Denoiser, source: Source, how: Pretraining | None = None, **more: Any
) -> Pretrained:
    """Teach a smaller network what the teacher says about noisy real data: the start of small students (TSM).

        L = mean (1 / sigma^2 + 1 / d^2) (D(x0 + sigma eps, sigma, cond) - D_teacher(x0 + sigma eps, sigma, cond))^2

    Args:
        denoiser: trained in place; what is returned is its moving average.
        teacher: frozen; it must know "no class" unless `how.label_dropout` is 0.
        source: real data, of all classes.
        how: regime.
        more: see `train_teacher`.

    Source: Song et al., Multi-student Diffusion Distillation (2024), arXiv 2410.23274; one start for all students is
        reconstructed.
    """
    return train_teacher(denoiser, source, how, target=teacher, **{"label": "matching the teacher"} | more)


@dataclass(frozen=True)
class Students:
    """What the distillation of several students gave.

    Args:
        bundle: router and averaged students.
        runs: of each student: distribution matching, then with an adversary if there was one.
        params: stored parameters of all students; one picture passes through those of one.
        calls: network calls of all trainings, each of one batch: pictures made, fake score, teacher, critic.
    """

    bundle: Bundle
    runs: list[list[Distilled]]
    params: int
    calls: int


def training_calls(regime: Regime, steps: int, pairs: bool, adversary: bool) -> int:
    """Return the network calls of one training by `distill`, each of one batch.

    Every round calls the student (half of its steps on average, the last one included) and the fake score; a student's
    update also teacher and fake score, and the student once for pairs. A joint critic looks at made and real pictures
    every round, and at the student's at its update.
    """
    rounds = regime.updates * regime.turns
    return round(rounds * ((steps + 1) / 2 + 1 + 2 * adversary) + regime.updates * (2 + pairs + adversary))


def distill_students(
    initial: nn.Module,
    teacher: Denoiser,
    source: Source,
    owner: Sequence[int] | Tensor,
    *,
    fake: nn.Module,
    levels: Sequence[float],
    regime: Regime | None = None,
    pairs: Pairs | None = None,
    filter_pairs: bool = False,
    adversary: Callable[[nn.Module], Adversary] | None = None,
    adversarial: Regime | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    **how: Any,
) -> Students:
    """Train one student for each part of the classes: distribution matching, then with an adversary.

    Classes and real pictures are those of the part alone; pairs are all of them, since a filtered set made the
    authors' students collapse. One student for all classes is trained as by `distill`, bit for bit.

    Args:
        initial: network with which every student begins: the teacher's, or what `match_teacher` gave.
        teacher: frozen denoiser, guided if it should be.
        source: real pictures with classes.
        owner: student of each class, see `partition`.
        fake: network with which every fake score begins: the teacher's, also for smaller students.
        levels: noise levels of the students' steps.
        regime: of the matching.
        pairs: to regress on while matching.
        filter_pairs: keep those of the part alone.
        adversary: makes the joint critic of a fake score, for a second training; None leaves that out.
        adversarial: regime of the second training; that of the first by default.
        seed: of the first student; the others have 1000 more each.
        out: folder, in it one for each training; the same call goes on after a stop.
        how: see `distill`.

    Raises:
        ConfigError: owners that do not fit the classes; see `distill`.

    Source: Song et al., Multi-student Diffusion Distillation (2024), arXiv 2410.23274; reconstructed, no code exists.
    """
    regime, owners = regime or Regime(), torch.as_tensor(owner)
    if len(owners) != source.classes or owners.unique().tolist() != list(range(int(owners.max()) + 1)):
        raise ConfigError(f"each of {source.classes} classes needs an owner from 0 on, got {owners.tolist()}")
    students, runs = int(owners.max()) + 1, list[list[Distilled]]()
    for k in range(students):
        own = (owners == k).nonzero()[:, 0]
        data = source if students == 1 else source.of_classes(own.tolist())
        folder = None if out is None else Path(out) / f"student-{k + 1}"
        score, shown, kept = deepcopy(fake), {"label": f"student {k + 1} of {students}"} | how, pairs
        if pairs is not None and filter_pairs and pairs.cond is not None:
            rows = torch.isin(pairs.cond, own)
            kept = replace(pairs, noise=pairs.noise[rows], x=pairs.x[rows], cond=pairs.cond[rows])
        first = distill(
            one_network(initial, levels), teacher, data, regime=regime, fake=score, pairs=kept, seed=seed + 1000 * k,
            out=folder and folder / "matching", config={"filter_pairs": filter_pairs}, **shown,
        )  # fmt: skip
        runs.append([first])
        if adversary is not None:
            second = distill(
                deepcopy(first.student), teacher, data, regime=adversarial or regime, fake=score,
                adversary=replace(adversary(score), joint=True), seed=seed + 1000 * k + 500,
                out=folder and folder / "adversarial", **shown,
            )  # fmt: skip
            runs[-1].append(second)
    bundle = Bundle([run[-1].student for run in runs], owners)
    calls = training_calls(regime, len(levels), pairs is not None, False)
    calls += training_calls(adversarial or regime, len(levels), False, True) if adversary is not None else 0
    return Students(bundle, runs, sum(one.numel() for one in bundle.parameters()), students * calls)


@dataclass(frozen=True)
class FairComparison(Plain):
    """Several students beside one, at equal and at multiplied training.

    Args:
        rows: by name: number of students, updates of each, network calls of all trainings, stored parameters, and what
            the judge said.
    """

    rows: dict[str, dict[str, float]]

    def summary(self) -> str:
        """One line a row."""
        return "\n".join(
            f"{name}: " + ", ".join(f"{key} {value:,.4g}" for key, value in row.items())
            for name, row in self.rows.items()
        )


def compare_students(
    initial: nn.Module,
    teacher: Denoiser,
    source: Source,
    owner: Sequence[int] | Tensor,
    judge: Callable[[Bundle], Mapping[str, float]],
    *,
    regime: Regime | None = None,
    adversarial: Regime | None = None,
    out: Path | str | None = None,
    **how: Any,
) -> FairComparison:
    """Compare K students with one of as many updates as each of them, and with one of K times as many.

    Args:
        initial, teacher, source, owner, regime, adversarial, out, how: see `distill_students`.
        judge: numbers about a bundle, from samples of all classes at their true frequencies.

    Source: the second baseline is what reviewers of arXiv 2410.23274 asked for and the paper does not have.
    """
    students = int(torch.as_tensor(owner).max()) + 1
    regime = regime or Regime()
    trainings = {f"{students} students": (owner, 1), "one student": ([0] * len(owner), 1)}
    trainings[f"one student, {students} times the updates"] = [0] * len(owner), students
    rows = {}
    for name, (owners, times) in trainings.items():
        longer, second = (replace(one, updates=times * one.updates) for one in (regime, adversarial or regime))
        done = distill_students(
            initial, teacher, source, owners, regime=longer, adversarial=second,
            out=None if out is None else Path(out) / name.replace(",", "").replace(" ", "-"), **how,
        )  # fmt: skip
        size: dict[str, float] = {"students": len(done.runs), "updates": longer.updates, "calls": done.calls}
        rows[name] = size | {"params": done.params} | dict(judge(done.bundle))
    return FairComparison(rows)
