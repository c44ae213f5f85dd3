"""Run papers in one pool of processes: one thread each, crashes recorded, finished records kept."""

import json
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

from limbeck.errors import ConfigError, MissingExtraError
from limbeck.files import write_json
from limbeck.papers._paper import Outcome, Paper, get, papers
from limbeck.papers._reproduction import Reproduction

Task = tuple[Paper, int, bool]
Progress = Callable[[int, int, Reproduction | None], None]


@dataclass(frozen=True)
class _Measured:
    """What came back from one seed."""

    value: Any = None
    seconds: float = 0.0
    error: str | None = None
    traceback: str = ""


def _one_thread() -> None:
    """Keep a worker to one core. Runs before it imports anything that computes."""
    for library in ("OMP", "MKL", "OPENBLAS", "VECLIB_MAXIMUM", "NUMEXPR"):
        os.environ[f"{library}_NUM_THREADS"] = "1"


def _measure(paper: Paper, seed: int, quick: bool) -> _Measured:
    """Measure one seed in a worker; an exception becomes a value, with its traceback as text."""
    began = process_time()
    try:
        return _Measured(paper.measure(seed, quick), process_time() - began)
    except Exception as crash:
        error, absent = crash, getattr(crash, "name", None) if isinstance(crash, ModuleNotFoundError) else None
        if paper.extras and absent and not absent.startswith("limbeck"):
            error = MissingExtraError(absent, ",".join(paper.extras))
        return _Measured(None, process_time() - began, f"{type(error).__name__}: {error}", traceback.format_exc())


def _measure_all(tasks: Sequence[Task], workers: int, *, suspects: bool = False) -> Iterator[tuple[Task, _Measured]]:
    """Yield what each task measured, as it finishes.

    A worker that dies breaks its whole pool. The tasks lost with it run again, one after the other, so that the first
    one lost then is the one that kills.
    """
    if not tasks:
        return
    lost = []
    width = 1 if suspects else min(workers, len(tasks))
    pool = ProcessPoolExecutor(width, get_context("spawn"), _one_thread)
    try:
        futures = {pool.submit(_measure, *task): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                lost.append(futures[future])
    finally:
        pool.shutdown(cancel_futures=True)
    lost.sort(key=tasks.index)
    if lost and width == 1:
        yield lost.pop(0), _Measured(error="the worker process died (out of memory, or killed)")
    yield from _measure_all(lost, workers, suspects=width > 1)


def _conclude(paper: Paper, seeds: tuple[int, ...], quick: bool, measured: Sequence[_Measured]) -> Reproduction:
    """Return the record of a paper; a crash in any seed, or here, is its error."""
    seconds = sum(one.seconds for one in measured)
    crash = next((one for one in measured if one.error), None)
    if crash is None:
        try:
            record = paper.report(paper.conclude([one.value for one in measured]), seeds, quick, seconds)
            json.dumps(record.to_dict(), allow_nan=False)
            return record
        except Exception as error:
            crash = _Measured(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    return paper.report(Outcome((), details={"traceback": crash.traceback}), seeds, quick, seconds, crash.error)


def _read(path: Path, seeds: tuple[int, ...]) -> Reproduction | None:
    """Return a finished record of the same seeds, if there is one."""
    if not path.exists():
        return None
    record = Reproduction.from_dict(json.loads(path.read_text()))
    return record if record.error is None and record.seeds == seeds else None


@contextmanager
def _shown(progress: Progress | bool) -> Iterator[Progress]:
    """Give a function that tells how far the tasks are: the caller's, a bar on standard error, or none."""
    if callable(progress):
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = ("reproducing", BarColumn(), MofNCompleteColumn(), "experiments", TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not (progress and console.is_terminal)) as bar:
        task = bar.add_task("")

        def tell(done: int, total: int, record: Reproduction | None) -> None:
            bar.update(task, completed=done, total=total)
            if record:
                bar.console.print(f"{record.slug}: {record.answer}", highlight=False)

        yield tell


def reproduce(
    slugs: Iterable[str | Paper] | None = None, *, quick: bool = False, seeds: Sequence[int] | None = None,
    workers: int = 2, out: Path | str | None = None, again: bool = False, progress: Progress | bool = False,
) -> list[Reproduction]:  # fmt: skip
    """Run the experiments of papers and return one record each, in the order asked for.

    Every seed of every paper is one task of a pool of fresh processes with one thread each (a script that calls this
    needs the usual `if __name__ == "__main__"`). A paper that crashes gets a record with `error`; the others go on.

    Args:
        slugs: which papers, by slug (or a `Paper` of your own); None for all.
        quick: cut every experiment down to seconds.
        seeds: seeds to run; None for each paper's own number, from 0.
        workers: processes.
        out: folder of the records (`SLUG.json`, of quick runs `SLUG.quick.json`). A finished record of the same seeds
            found there is returned and not run again.
        again: run even those.
        progress: True shows a bar on a terminal; a function is called as `progress(done, total, record)` after every
            task, with the record when its paper is complete.

    Raises:
        ConfigError: an unknown slug, or no seed, or no worker.
    """
    wanted = [one if isinstance(one, Paper) else get(one) for one in (papers() if slugs is None else slugs)]
    if workers < 1 or (seeds is not None and not seeds):
        raise ConfigError(f"at least one worker and one seed are needed; given {workers} workers, seeds {seeds}.")
    chosen = {paper.slug: (paper, paper.choose_seeds(quick, seeds)) for paper in wanted}
    paths = {slug: Path(out) / f"{slug}{'.quick' if quick else ''}.json" for slug in chosen} if out else {}
    kept = {} if again else {slug: _read(path, chosen[slug][1]) for slug, path in paths.items()}
    records = {slug: record for slug, record in kept.items() if record}
    tasks = [(paper, seed, quick) for slug, (paper, own) in chosen.items() if slug not in records for seed in own]
    measured: dict[str, dict[int, _Measured]] = {slug: {} for slug in chosen}
    with _shown(progress) as tell:
        for done, ((paper, seed, _), one) in enumerate(_measure_all(tasks, workers), 1):
            slug, own = paper.slug, chosen[paper.slug][1]
            measured[slug][seed] = one
            if len(measured[slug]) == len(own):
                records[slug] = _conclude(paper, own, quick, [measured[slug][seed] for seed in own])
                if slug in paths:
                    write_json(paths[slug], records[slug].to_dict())
            tell(done, len(tasks), records.get(slug))
    return [records[paper.slug] for paper in wanted]
