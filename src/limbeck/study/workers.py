"""Jobs over a few processes: plain data in, plain data out, the longest first, stopped and resumed at any time."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, Self


class Workers:
    """A pool of spawned processes with one compute thread each.

    Two processes with one thread each beat one process with two threads by far on small models, and do not collapse
    when the machine is busy. Workers end by themselves when the parent is killed.

    Args:
        count: processes.
    """

    def __init__(self, count: int = 2) -> None:
        self.count = count
        os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", TOKENIZERS_PARALLELISM="false")
        self._pool = ProcessPoolExecutor(count, get_context("spawn"), _follow_parent, (os.getpid(),))

    def __enter__(self) -> Self:
        return self

    def warm(self, function: Callable[[], Any]) -> None:
        """Start all processes and run a function in each, without waiting: imports then overlap with other work."""
        for _ in range(self.count):
            self._pool.submit(function)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # an error or Ctrl-C: the jobs keep their checkpoints
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def run(
        self, jobs: Sequence[Callable[[], Any]], watch: Callable[[int], None] | None = None, every: float = 0.5
    ) -> list[Any]:
        """Run jobs in the order given and return their results in that order.

        Args:
            jobs: what a spawned process can call: plain data with `__call__`, or a partial of a top-level function.
            watch: called about every `every` seconds with the number of finished jobs, to show progress.
            every: seconds between calls of `watch`.

        Raises:
            Exception: the first error of a job, after the others were stopped.
        """
        futures: list[Future[Any]] = [self._pool.submit(job) for job in jobs]
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=every, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if watch is not None:
                watch(len(futures) - len(pending))
        return [future.result() for future in futures]


def _follow_parent(parent: int) -> None:
    """End this process when its parent is gone."""

    def check() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=check, daemon=True).start()
