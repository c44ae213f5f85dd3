"""What a distillation will cost, from a few of its own steps: before anything is paid for."""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from limbeck.distill.processes import accelerator
from limbeck.distill.regime import cpu_threads
from limbeck.errors import ConfigError
from limbeck.fitting.plain import Plain
from limbeck.lm.distillation import prepare
from limbeck.lm.endpoint import EndpointSettings
from limbeck.lm.models import non_embedding_params, prepared
from limbeck.lm.recipe import DistillRecipe, job_of
from limbeck.lm.slots import joint_loss
from limbeck.lm.training import optimizer
from limbeck.runs.quantities import scientific

PROBED = 2  # steps after a first one that warms up


@dataclass(frozen=True)
class CostPreview(Plain):
    """What a training will cost.

    Args:
        steps: of the training.
        seconds_per_step: of the steps probed the quicker; `seconds` of all, and of what is written before them.
        evaluation_seconds: of one evaluation on what is held out.
        tokens_per_step: read by the student in a probed step, prompts included, the text beside not.
        flops: 6 per parameter of the student and token, 2 per parameter of each teacher that reads it, attention left
            out; answers that are written first are in the seconds alone.
        memory_bytes: the most that this process held.
        disk_bytes: of two checkpoints (weights and two moments) and the student, in float32.
    """

    steps: int
    seconds_per_step: float
    seconds: float
    evaluation_seconds: float
    tokens_per_step: float
    flops: float
    memory_bytes: int
    disk_bytes: int

    def summary(self) -> str:
        """The cost in two lines."""
        minutes = f"{self.seconds:.0f} s" if self.seconds < 120 else f"{self.seconds / 60:.0f} min"
        size = [f"{one / 2**20:,.0f} MiB" for one in (self.memory_bytes, self.disk_bytes)]
        return (
            f"{self.steps:,} steps of {1000 * self.seconds_per_step:.0f} ms: about {minutes} here, and "
            f"{self.evaluation_seconds:.1f} s for every evaluation\n"
            f"  {scientific(self.flops)} FLOP · {size[0]} of memory · {size[1]} on the disk"
        )


def preview(recipe: DistillRecipe) -> CostPreview:
    """Make a few steps of a recipe and say what all of them will cost; nothing of them is kept.

    Args:
        recipe: what would be distilled; a cache of the teacher is left out: every step asks it anew.

    Raises:
        ConfigError, TrainingError: what `distill` would say.
    """
    if isinstance(recipe.teacher, EndpointSettings):
        raise ConfigError("what an endpoint costs nobody here can say: have it write answers first (limbeck answer)")
    with tempfile.TemporaryDirectory() as folder, cpu_threads(recipe.threads):
        job = job_of(recipe.model_copy(update={"out": Path(folder)}))
        ready = prepare(job)
        launch = accelerator(job.regime.precision)
        student = prepared(ready.make_student(), job.regime, job.seed).to(launch.device)
        steps, count = ready.steps, 1 + PROBED
        began = time.perf_counter()
        source = ready.read.source(student, count, Path(folder), dict)
        written = time.perf_counter() - began
        if ready.method.answers in ("teacher", "duel"):  # the source has written the answers of the probed steps alone
            written *= steps / count
        for model in ready.signal.frozen:
            model.to(launch.device).requires_grad_(False)
        update, times, tokens = optimizer(student, job.regime), [], []
        for step in range(count):
            began = time.perf_counter()
            batch = source(step)
            with launch.autocast():
                loss = joint_loss(ready.signal, student.train(), batch, step)["loss"]
            loss.backward()
            update.step()
            update.zero_grad()
            times.append(time.perf_counter() - began)
            tokens.append(int(batch.present.sum()))
        began = time.perf_counter()
        ready.read.evaluate(student.eval())
        evaluation = time.perf_counter() - began
    each, read = min(times[1:]), sum(tokens) / len(tokens)
    params = non_embedding_params(student)
    per_token = 6 * params + 2 * sum(map(non_embedding_params, ready.signal.frozen))
    weights = sum(one.numel() for one in student.parameters())
    return CostPreview(
        steps=steps,
        seconds_per_step=each,
        seconds=written + steps * each,
        evaluation_seconds=evaluation,
        tokens_per_step=read,
        flops=float(steps * read * per_token),
        memory_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        disk_bytes=4 * weights * (2 * 3 + 1),
    )
