"""Who runs the trials of a study: processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from limbeck.errors import MissingExtraError, TrainingError
from limbeck.study.trials import Trial
from limbeck.study.workers import Workers

Told = Callable[[int], None]


def on_this_machine(workers: int = 2, retries: int = 2) -> Callable[[Sequence[Trial], Told], list[dict[str, Any]]]:
    """Return an executor of local processes with one thread each; a process that dies is replaced.

    Args:
        workers: processes.
        retries: how often trials are gone on with after a process died.

    Raises:
        TrainingError: processes go on dying.
    """

    def execute(trials: Sequence[Trial], told: Told) -> list[dict[str, Any]]:
        for _ in range(retries + 1):
            try:
                with Workers(workers) as pool:
                    return pool.run(trials, told)
            except BrokenProcessPool:  # what is complete returns at once, what was under way resumes
                continue
        raise TrainingError(
            f"a process that ran trials died {retries + 1} times (killed, or out of memory): use fewer --workers; "
            "what is finished is kept"
        )

    return execute


def on_ray(address: str, retries: int = 2, cpus: float = 1) -> Callable[[Sequence[Trial], Told], list[dict[str, Any]]]:
    """Return an executor of a Ray cluster, whose machines share the study's folder.

    Args:
        address: of the cluster, `auto`, or `local` for one on this machine.
        retries: how often a trial is started again after its worker died.
        cpus: that a trial asks for.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def execute(trials: Sequence[Trial], told: Told) -> list[dict[str, Any]]:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise MissingExtraError("ray", "cluster") from error
        if not ray.is_initialized():
            ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
        remote = ray.remote(num_cpus=cpus, max_retries=retries)(_call)
        futures = [remote.remote(one) for one in trials]
        pending, rows = list(futures), []
        while pending:
            done, pending = ray.wait(pending, timeout=0.5)
            told(len(futures) - len(pending))
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            except ray.exceptions.WorkerCrashedError as error:
                raise TrainingError(f"a trial's worker died {retries + 1} times; what is finished is kept") from error
        rows = ray.get(futures)
        return list(rows)

    return execute


def _call(trial: Trial) -> dict[str, Any]:
    return trial()
