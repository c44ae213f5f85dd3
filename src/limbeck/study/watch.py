"""Progress of jobs in other processes, read from the records that they write."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from limbeck.lm.folders import budget_folder
from limbeck.lm.jobs import DistilJob, FreshStudent, PretrainJob
from limbeck.study.design import approximate_params, seconds
from limbeck.study.stages import Stages, clock


class Watch:
    """Shows finished jobs, the newest loss and the time left, from the logs of running trainings.

    Args:
        jobs: what runs.
        stages: where to show it.
        noun: what a job is called.
    """

    def __init__(self, jobs: Sequence[PretrainJob | DistilJob], stages: Stages, noun: str) -> None:
        self.jobs, self.stages, self.noun = jobs, stages, noun
        self.began = time.monotonic()
        self.total = sum(self._cost(job, self._tokens(job)) for job in self.jobs)
        self.before = self._done()[0]

    def __call__(self, finished: int) -> None:
        """Update the running stage's line."""
        done, loss = self._done()
        elapsed, fresh = time.monotonic() - self.began, done - self.before
        text = f"{finished}/{len(self.jobs)} {self.noun}"
        if loss is not None:
            text += f" · training loss {loss:.2f}"
        if fresh > 0.02 * self.total and elapsed > 3:
            text += f" · {clock(max(self.total - done, 0.0) * elapsed / fresh)} left"
        self.stages.update(text)

    def _done(self) -> tuple[float, float | None]:
        """Work done so far in the unit of `_cost`, and the newest training loss."""
        done, newest, loss = 0.0, 0.0, None
        for job in self.jobs:
            for budget in job.budgets:
                log = budget_folder(job.out, budget) / "log.jsonl"
                if not (rows := _ends(log)):
                    continue
                done += self._cost(job, float(rows[-1]["tokens"]) - float(rows[0]["tokens"]))
                if (stamp := log.stat().st_mtime) > newest:
                    newest, loss = stamp, rows[-1].get("train/student/loss", loss)
        return done, loss

    @staticmethod
    def _tokens(job: PretrainJob | DistilJob) -> float:
        """Tokens that a trunk with its decay branches comes to."""
        longest, *shorter = sorted(job.budgets, reverse=True)
        return longest + sum(job.regime.decay * budget for budget in shorter)

    @staticmethod
    def _cost(job: PretrainJob | DistilJob, tokens: float) -> float:
        if isinstance(job, PretrainJob):
            return seconds(job.width, approximate_params(job.width), int(tokens))
        width = job.student.width if isinstance(job.student, FreshStudent) else 32
        teacher = int(job.teacher_name.lstrip("d") or 0)
        return seconds(width, approximate_params(width), int(tokens), approximate_params(teacher))


def _ends(log: Path) -> list[dict[str, Any]]:
    """First and last complete record of a log."""
    try:
        lines = log.read_bytes().rpartition(b"\n")[0].splitlines()
    except OSError:
        return []
    rows = []
    for line in lines[:1] + lines[-1:]:
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return [row for row in rows if "tokens" in row]
