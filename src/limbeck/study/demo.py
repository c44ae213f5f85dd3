"""`limbeck demo`: the whole circle on real text, each prediction on disk before the run that checks it.

A ladder of small models gives a law; the law predicts a larger run; the larger run becomes a teacher; short
distillations from several teachers predict a long one; the long one is run. Every training is resumable, so the same
command goes on after a stop.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from limbeck.files import write_json, write_text
from limbeck.lm.corpus import Corpus, embedded_corpus, load_corpus, text_corpus
from limbeck.lm.folders import model_folder
from limbeck.lm.jobs import DistilJob, FreshStudent, PretrainJob, Regime
from limbeck.planning import Shortlist, choose_by_short_runs
from limbeck.runs.quantities import si
from limbeck.study.design import FULL, QUICK, Design
from limbeck.study.folder import claim, longest, versions
from limbeck.study.forecast import ForecastBook
from limbeck.study.ladder import Ladder, fit_ladder, forecast_large
from limbeck.study.stages import Stages
from limbeck.study.student import fit_student, forecast_student
from limbeck.study.watch import Watch
from limbeck.study.workers import Workers

Job = PretrainJob | DistilJob


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Args:
        summary: the content of `summary.json`.
        ladder: the fitted ladder.
        shortlist: the ranked teachers.
        out: folder of everything.
    """

    summary: dict[str, Any]
    ladder: Ladder
    shortlist: Shortlist
    out: Path


def demo(
    out: Path, *, text: Path | None = None, tokenizer: str = "byte", seed: int = 0, quick: bool = False,
    design: Design | None = None, workers: int = 2, stages: Stages | None = None,
) -> DemoResult:  # fmt: skip
    """Go round the circle once.

    Args:
        out: folder; the same call continues in it.
        text: the user's own text or JSONL file; Python's documentation by default.
        tokenizer: `byte`, or `bpe:1024`.
        seed: of every training; runs of one study never share seeds.
        quick: the smaller design.
        design: another design.
        workers: processes, one thread each.
        stages: where progress goes.

    Raises:
        ConfigError: `out` holds a demo with other settings.
        TrainingError: a training failed; the rest is kept.
    """
    design = design or (QUICK if quick else FULL)
    stages = stages or Stages(6)
    out.mkdir(parents=True, exist_ok=True)
    settings = {"text": str(text) if text else None, "tokenizer": tokenizer, "seed": seed, "design": repr(design)}
    claim(out / "demo.json", settings)
    book = ForecastBook(out / "prediction.json")
    plan = _Jobs(out, design, tokenizer, seed)

    with Workers(workers) as pool:
        pool.warm(_import_training)
        with stages.stage("corpus"):
            corpus = _corpus(out / "corpus", text)
            facts = corpus.facts
            size = si(facts.train_bytes + facts.validation_bytes, 3)
            documents = facts.train_documents + facts.validation_documents
            stages.done(f"{size} bytes of {facts.source}, {documents} documents")
        with stages.stage("ladder"):
            jobs = plan.ladder()
            results = pool.run(jobs, Watch(jobs, stages, "runs"))
            ladder_rows = [row for rows in results for row in rows]
            stages.done(
                f"{len(jobs)} runs · {len(design.ladder)} sizes × {design.ladder_seeds} seeds × "
                f"{len(design.ladder_budgets)} budgets"
            )
        with stages.stage("law"):
            ladder = fit_ladder(ladder_rows, design, seed)
            ladder.fit.save(out / "fit.json")
            noise = ladder.noise.total
            stages.done(f"{ladder.fit.model.equation} · noise of one run {noise:.1%}".replace("%", " %"))
        with stages.stage("prediction"):
            params = pool.run([partial(_params, design.large)])[0]
            forecast = book.write(forecast_large(ladder, params, Regime().exact(design.large_budget)))
            stages.done(
                f"large run: loss {forecast.predicted:.3f} ({forecast.level:.0%}: {forecast.lower:.3f} – "
                f"{forecast.upper:.3f}), {forecast.extrapolation:.3g}× the compute of the largest".replace("%", " %"),
                f"   written to {book.path}",
            )
        with stages.stage("large run"):
            together: list[Job] = [plan.large(), *plan.short_distillations(design.small_teachers), plan.alone()]
            (*_, large_row), *taught, (*_, alone_row) = pool.run(together, Watch(together, stages, "runs"))
            short = {f"d{width}": rows for width, rows in zip(design.small_teachers, taught, strict=True)}
            ran = {name: large_row[name] for name in ("params", "tokens")}
            first = forecast.outcome(float(large_row["loss"]), unit="nats/byte", **ran)
            stages.done(f"loss {first['measured']:.3f}", "   " + _verdict(first))
        with stages.stage("student"):
            own = plan.short_distillations((design.large,))
            short[f"d{design.large}"] = pool.run(own, Watch(own, stages, "runs"))[0]
            curves = {name: fit_student(rows, ladder.noise, design, seed) for name, rows in short.items()}
            alone = float(alone_row["loss"])
            shortlist = choose_by_short_runs(curves, Regime().exact(design.long_budget), alone=alone)
            second_forecast = book.write(forecast_student(shortlist, curves, short))
            chosen = [second_forecast.basis["teacher"], *(c.name for c in shortlist.candidates)]
            long = plan.long_distillations(list(dict.fromkeys(chosen))[:2])
            long_rows = [rows[-1] for rows in pool.run(long, Watch(long, stages, "runs"))]
            sample = pool.run([partial(_sample, plan.models(chosen[0]), _prompt(corpus), seed)])[0]
            known = {"teacher": chosen[0], "tokens": long_rows[0]["tokens"], "trained_alone": alone}
            second = second_forecast.outcome(float(long_rows[0]["loss"]), unit="nats/byte", **known)
            stages.done(
                f"predicted {second['predicted']:.3f} ({second['lower']:.3f} – {second['upper']:.3f}), measured "
                f"{second['measured']:.3f}; training alone: {alone:.3f}",
                "   " + _verdict(second),
            )
    rows = [*ladder_rows, large_row, alone_row, *(row for runs in short.values() for row in runs), *long_rows]
    write_text(out / "runs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    summary = {
        "predictions": [first, second],
        "baselines": {
            "large run": {"last value of the ladder": forecast.basis["last_value"],
                          "law without priors": forecast.basis["without_priors"]},
            "student": {"trained alone": alone, "short runs": {n: runs[-1]["loss"] for n, runs in short.items()}},
        },
        "teachers": [
            {
                "teacher": one.name, "teacher_loss": one.teacher_loss, "predicted": one.loss.to_dict(),
                "short_runs": [[row["tokens"], row["loss"]] for row in short[one.name]],
                "measured": next((row["loss"] for row in long_rows if row["teacher"] == one.name), None),
            }
            for one in shortlist.candidates
        ],
        "samples": [sample],
        "noise": ladder.noise.to_dict(),
        "corpus": facts.__dict__,
        "seconds": longest(out / "summary.json", stages.seconds),
        "settings": settings,
        "command": _command(out, text, tokenizer, seed, quick),
        "versions": versions(),
    }  # fmt: skip
    write_json(out / "summary.json", summary)
    return DemoResult(summary, ladder, shortlist, out)


@dataclass(frozen=True)
class _Jobs:
    """The trainings of a design as jobs; every run has its own seed and folder."""

    out: Path
    design: Design
    tokenizer: str
    seed: int

    def _own(self, run: str, budgets: Sequence[int], offset: int) -> dict[str, Any]:
        """What every kind of job has."""
        seed = 1000 * self.seed + offset
        return {"run": run, "out": self.out / "runs" / run, "budgets": tuple(budgets), "seed": seed}

    def _pretrain(self, run: str, width: int, budgets: Sequence[int], offset: int) -> PretrainJob:
        own = self._own(run, budgets, offset)
        return PretrainJob(**own, corpus=self.out / "corpus", width=width, tokenizer=self.tokenizer)

    def ladder(self) -> list[PretrainJob]:
        """Sizes × seeds, the longest first."""
        return [
            self._pretrain(f"d{width}-s{repeat}", width, self.design.ladder_budgets, repeat)
            for width in sorted(self.design.ladder, reverse=True)
            for repeat in range(self.design.ladder_seeds)
        ]

    def large(self) -> PretrainJob:
        return self._pretrain(f"large-d{self.design.large}", self.design.large, [self.design.large_budget], 100)

    def alone(self) -> PretrainJob:
        return self._pretrain(f"alone-d{self.design.student}", self.design.student, [self.design.long_budget], 101)

    def _distil(self, teacher: str, length: str, budgets: Sequence[int], offset: int) -> DistilJob:
        own = self._own(f"{length}-from-{teacher}", budgets, offset)
        run, budget = f"{teacher}-s0", max(self.design.ladder_budgets)
        if teacher == f"d{self.design.large}":
            run, budget = f"large-{teacher}", self.design.large_budget
        folder, student = self._model(run, budget), FreshStudent(self.design.student)
        return DistilJob(**own, data=self.out / "corpus", teacher=folder, student=student, teacher_name=teacher)

    def _model(self, run: str, budget: int) -> Path:
        return model_folder(self.out / "runs" / run, budget)

    def models(self, teacher: str) -> dict[str, Path]:
        """Where the large model, the student and the student trained alone are."""
        return {
            "large run": self._model(f"large-d{self.design.large}", self.design.large_budget),
            f"student of {teacher}": self._model(f"long-from-{teacher}", self.design.long_budget),
            "student alone": self._model(f"alone-d{self.design.student}", self.design.long_budget),
        }

    def short_distillations(self, widths: Sequence[int]) -> list[DistilJob]:
        return [self._distil(f"d{width}", "short", self.design.short_budgets, 102) for width in widths]

    def long_distillations(self, teachers: Sequence[str]) -> list[DistilJob]:
        """The long run from the chosen teacher and from the runner-up, with a seed that no short run had."""
        return [self._distil(name, "long", [self.design.long_budget], 103) for name in teachers]


def _import_training() -> None:
    """Load in a worker what its first training needs; this process never imports torch."""
    import limbeck.lm.training  # noqa: F401


def _params(width: int) -> int:
    from limbeck.lm.models import non_embedding_params, tiny_llama

    return non_embedding_params(tiny_llama(width))


def _prompt(corpus: Corpus) -> str:
    return corpus.validation[:400].decode(errors="ignore").replace("\0", "\n").strip()[:40]


def _sample(models: dict[str, Path], prompt: str, seed: int) -> dict[str, Any]:
    """What models make of the same beginning."""
    from limbeck.lm.evaluation import continue_text

    return {"prompt": prompt, "texts": {name: continue_text(path, prompt, seed=seed) for name, path in models.items()}}


def _command(out: Path, text: Path | None, tokenizer: str, seed: int, quick: bool) -> str:
    """What to type to do this again."""
    options = ["--out", str(out), "--seed", str(seed), *(["--text", str(text)] if text else [])]
    options += ["--tokenizer", tokenizer] if tokenizer != "byte" else []
    return shlex.join(["limbeck", "demo", *options, *(["--quick"] if quick else [])])


def _corpus(folder: Path, text: Path | None) -> Corpus:
    if (folder / "corpus.json").is_file():
        return load_corpus(folder)
    corpus = text_corpus(text) if text else embedded_corpus()
    corpus.save(folder)
    return corpus


def _verdict(outcome: dict[str, Any]) -> str:
    where = "inside the band" if outcome["inside"] else "outside the band (at 80 % one in five must miss)"
    return f"{where}, error {outcome['relative_error']:+.1%}".replace("%", " %").replace("80  %", "80 %")
