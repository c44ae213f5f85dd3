"""DisBack: the way from the teacher to the untrained student is recorded, and walked back as a sequence of teachers.

First the teacher learns to denoise the frozen student's pictures, and nodes of this degradation are kept; then the
student is distilled from the most degraded node but one to the teacher itself. The last node is where the fake score
begins.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from limbeck.diffusion.denoisers import Denoiser
from limbeck.diffusion.game import Game, Law
from limbeck.diffusion.matching import Levels, fake_loss, noised
from limbeck.diffusion.sources import Draws, Source
from limbeck.diffusion.students import Student, generate
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.distill import Trainer, freeze
from limbeck.distill.players import digest
from limbeck.errors import ConfigError
from limbeck.files import write_bytes, write_json
from limbeck.runs import RunRecorder

Storage = Literal["full", "delta", "lora"]
"""How a node is kept: all weights; their difference to the teacher in bfloat16, half the size; or of that difference
the first singular values of every matrix."""
Tensors = dict[str, Tensor]
UP, DOWN, INDEX = ".up", ".down", "path.json"


def record_degradation(
    student: Student,
    teacher: nn.Module,
    source: Source,
    out: Path | str,
    *,
    steps: int = 150,
    every: int = 50,
    lr: float = 2e-4,
    batch: int = 128,
    storage: Storage = "full",
    rank: int = 8,
    levels: Levels = Levels(),  # noqa: B008 (frozen)
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Train a copy of the teacher on the frozen student's pictures, and keep nodes of the way.

        L = mean (1 / sigma^2 + 1 / d^2) (D(G(z) + sigma eps, sigma) - G(z))^2

    Keep the path short and its first nodes dense: once the copy has fitted the student, further nodes teach nothing,
    see `path_losses`.

    Args:
        student: as it begins.
        teacher: without guidance.
        source: of classes.
        out: folder of the path; the same call goes on after a stop.
        steps: of the copy; 0 records a path without nodes.
        every: steps between nodes; the last step is always one.
        lr, batch: of Adam.
        storage: of the nodes.
        rank: singular values kept by "lora".
        levels: noise levels that the copy learns; all by default.
        seed: of noise and classes.
        progress: one line on a terminal.

    Returns:
        The folder.

    Raises:
        ConfigError: numbers that cannot work.
        TrainingError: a loss that is not finite; `out` holds another degradation.

    Source: Zhang et al., Distribution Backtracking Builds A Faster Convergence Trajectory for Diffusion Distillation
        (2024), arXiv 2408.15991. Low rank by singular values, after the training, is ours.
    """
    if not (steps >= 0 and min(every, rank, batch) >= 1 and storage in ("full", "delta", "lora")):
        raise ConfigError(f"got {steps=}, {every=}, {rank=}, {batch=}, {storage=}: count from 1; full, delta or lora")
    out, model, theta = Path(out), deepcopy(teacher).requires_grad_(True), teacher.state_dict()
    at = sorted({*range(every, steps + 1, every), *([steps] if steps else [])})

    def keep() -> None:
        if player.updates in at:
            write_bytes(_file(out, player.updates), save(_packed(model.state_dict(), theta, storage, rank)))

    player = Regime().player("degrading", model, lr, model.parameters(), after=keep)
    game = Game(student, lambda step: teacher, model, source, batch, seed, fake_levels=levels)
    about = {"nodes": at, "storage": storage, "teacher": digest(teacher)}
    config = about | {
        "rank": rank,
        "levels": repr(levels),
        "lr": lr,
        "batch": batch,
        "seed": seed,
        "student": digest(student),
    }
    record = partial(RunRecorder, out / "runs.jsonl", run=out.name, family="diffusion", recipe="degradation", seed=seed)
    if steps:
        Trainer(
            [player], lambda name, scene, step: game("fake", scene, step), game.scene, steps=steps,
            out=out / "checkpoints", config=config | {"source": source.describe()}, frozen=[teacher, student],
            recorder=record, record_every=max(1, steps // 100), columns=lambda step: {"samples": step * batch},
            checkpoint_every=every, progress=progress, label="degrading",
        ).run()  # fmt: skip
    return write_json(out / INDEX, about).parent


def _file(folder: Path, step: int) -> Path:
    return folder / f"node-{step:08d}.safetensors"


def _packed(node: Tensors, theta: Tensors, storage: Storage, rank: int) -> Tensors:
    if storage == "full":
        return {name: one.clone().contiguous() for name, one in node.items()}
    packed: Tensors = {}
    for name, delta in ((name, one - theta[name]) for name, one in node.items()):
        if storage == "lora" and delta.ndim > 1 and rank * sum(delta.flatten(1).shape) < delta.numel():
            u, s, v = torch.linalg.svd(delta.flatten(1).double(), full_matrices=False)
            packed[name + UP] = (u[:, :rank] * s[:rank]).to(delta).contiguous()
            packed[name + DOWN] = v[:rank].to(delta).contiguous()
        else:
            packed[name] = delta.to(torch.bfloat16).contiguous()
    return packed


def _whole(packed: Tensors, theta: Tensors, storage: Storage) -> Tensors:
    if storage == "full":
        return packed
    delta = {name: one for name, one in packed.items() if not name.endswith((UP, DOWN))}
    low = [name.removesuffix(UP) for name in packed if name.endswith(UP)]
    delta |= {name: (packed[name + UP] @ packed[name + DOWN]).reshape(theta[name].shape) for name in low}
    return {name: theta[name] + one.to(theta[name]) for name, one in delta.items()}


class Degradation(Sequence[nn.Module]):
    """The nodes of a recorded path, from the one nearest to the teacher to the last; each is read when it is asked for.

    Args:
        folder: of `record_degradation`.
        teacher: from which the path was recorded.

    Raises:
        ConfigError: no finished path, another teacher's; on reading a node: it is missing, its weights are not those
            of such a network, or it equals the teacher.
    """

    def __init__(self, folder: Path | str, teacher: nn.Module) -> None:
        self.folder, self.teacher = Path(folder), teacher
        try:
            self.about = json.loads((self.folder / INDEX).read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{folder} holds no finished path, see record_degradation: {error}") from error
        if (found := digest(teacher)) != self.about["teacher"]:
            raise ConfigError(f"{folder} was recorded from teacher {self.about['teacher']}, this one is {found}")

    def __len__(self) -> int:
        return len(self.about["nodes"])

    def __getitem__(self, index: Any) -> Any:
        path, theta = _file(self.folder, self.about["nodes"][index]), self.teacher.state_dict()
        node = deepcopy(self.teacher)
        try:
            node.load_state_dict(_whole(load(path.read_bytes()), theta, self.about["storage"]))
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise ConfigError(f"{path} is no node of this teacher: {error}") from error
        if all(torch.equal(one, theta[name]) for name, one in node.state_dict().items()):
            raise ConfigError(f"{path} equals the teacher: nothing was degraded, record the path again")
        freeze(node)
        return node


def target_index(iteration: int, interval: int, official: bool = False) -> int:
    """Return which node of the reversed path is the target; 0, the last node, is where the fake score begins.

        1 + max(iteration - 1, 0) // interval, as the authors' README;  official: 1 + iteration // interval, as their
        script

    Both go on beyond the teacher: the caller stops there (the script does not, and asks for a file that is not there).

    Args:
        iteration: from 0.
        interval: iterations on each target.
        official: the script's rule.

    Example:
        >>> [target_index(k, 1000) for k in (0, 1000, 1001)], target_index(1000, 1000, official=True)
        ([1, 1, 2], 2)
    """
    return 1 + (iteration if official else max(iteration - 1, 0)) // interval


@torch.no_grad()
def path_losses(
    path: Sequence[nn.Module],
    student: Student,
    source: Source,
    *,
    levels: Law = Levels(),  # noqa: B008 (frozen)
    count: int = 1024,
    seed: int = 0,
) -> list[list[float]]:
    """Return each node's denoising losses: on data, which should rise, and on the student's pictures, to fall.

    All nodes see the same pictures and noise.

    Args:
        path: nodes, the teacher first.
        student: as it begins.
        source: data.
        levels: of the noise.
        count: pictures of each kind.
        seed: of pictures and noise.
    """
    draws = Draws(seed, 0)
    x, cond = source.draw(draws, count)
    device = next(student.parameters(), x).device
    x, cond = x.to(device), None if cond is None else cond.to(device)
    made = generate(student, draws.normal("z", count, student.steps, *source.shape).to(device), cond)
    sigma, eps = levels(draws.uniform("u", count)).to(x), draws.normal("eps", *x.shape).to(x)
    there = [noised(one, sigma, eps, source.data_std) for one in (x, made)]
    return [[float(fake_loss(node(one.x, one.sigma, cond), one)) for one in there] for node in path]


def backtrack(
    student: Student,
    teacher: nn.Module,
    source: Source,
    path: Path | str | Sequence[nn.Module],
    *,
    interval: int = 20,
    official: bool = False,
    guide: Callable[[nn.Module], Denoiser] = lambda node: node,
    regime: Regime | None = None,
    **how: Any,
) -> Distilled:
    """Distil from the nodes of a path in reverse, and from the teacher at last.

    Args:
        student: as the path was recorded with; trained in place.
        teacher: without guidance.
        source: see `distill`.
        path: folder of `record_degradation`, or the nodes, the teacher not among them; without any it is plain DMD.
        interval: updates of the student on each target.
        official: see `target_index`.
        guide: turns a node, and the teacher, into what is matched: `partial(guided, guidance=..., null=...)`.
        regime: see `distill`.
        how: the rest of what `distill` takes; `fake` takes the place of the last node.

    Warns:
        The first target says of the student's pictures what the last node says: updates on it are lost. All losses are
        listed.

    Example:
        >>> from tempfile import mkdtemp
        >>> from limbeck.diffusion import Exact, Sizes, mixture, one_network
        >>> source, teacher = Exact(mixture("ring8")), Sizes(8, 1).build([2], data_std=0.7)
        >>> student = one_network(teacher, [2.5])
        >>> path = record_degradation(student, teacher, source, mkdtemp(), steps=4, every=2, lr=0.1, progress=False)
        >>> backtrack(student, teacher, source, path, interval=1, regime=Regime(3, 8), progress=False).updates
        3

    Source: Zhang et al., Distribution Backtracking Builds A Faster Convergence Trajectory for Diffusion Distillation
        (2024), arXiv 2408.15991.
    """
    nodes = Degradation(path, teacher) if isinstance(path, Path | str) else path
    regime, last = regime or Regime(), len(nodes)
    losses = path_losses([teacher, *nodes], student, source, levels=how.get("fake_levels") or Levels(), count=256)
    if last > 1 and losses[-2][1] - losses[-1][1] < 0.1 * (losses[0][1] - losses[-1][1]):
        said = ["the first target already equals the student's law: record fewer steps, or with a lower lr. By node:"]
        said += [
            f"  node {k}: loss {data:.3g} on data, {own:.3g} on the student" for k, (data, own) in enumerate(losses)
        ]
        warnings.warn("\n".join(said), stacklevel=2)

    @lru_cache(maxsize=2)
    def target(index: int) -> Denoiser:
        return guide(nodes[last - index - 1] if index < last else teacher)

    def real(step: int) -> Denoiser:
        return target(min(target_index(step // regime.turns, interval, official), last))

    fake = how.pop("fake", None) or deepcopy(nodes[-1] if last else teacher)
    config = {"interval": interval, "official": official, "nodes": last, "fake": digest(fake)}
    config |= {"guide": getattr(target(last), "__qualname__", "")} | how.pop("config", {})
    return distill(student, teacher, source, regime=regime, real=real, fake=fake, config=config, **how)
