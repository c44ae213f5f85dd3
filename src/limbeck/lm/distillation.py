"""Distillation of a causal language model: any method, on text or on prompts, as a resumable job."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NamedTuple

from limbeck.distill.processes import processes
from limbeck.distill.regime import cpu_threads
from limbeck.errors import ConfigError
from limbeck.files import write_json
from limbeck.lm.conversations import Example, collate
from limbeck.lm.corpus import load_corpus
from limbeck.lm.folders import claim, corpus_hash, records
from limbeck.lm.jobs import DistilJob, FreshStudent
from limbeck.lm.material import Material, material
from limbeck.lm.methods import Cast, Method
from limbeck.lm.models import context_length, folder_digest, load_model, non_embedding_params, read_config, tiny_llama
from limbeck.lm.rollouts import Replay, TransformersSampler
from limbeck.lm.slots import Batch, Beside, Signal, Source
from limbeck.lm.teacher_cache import CachedTeaching, TeacherCache, cache_answers, cache_teacher
from limbeck.lm.teacher_hacking import HackingMonitor, report_of
from limbeck.lm.teaching import Divergence, Teaching, require_vocabulary
from limbeck.lm.tokenizers import load_tokenizer, separator_token, tokenize, tokenizer_name
from limbeck.lm.training import train_student
from limbeck.lm.windows import Windows

WATCHED = 64  # held-out prompts on which the distance to the teacher is measured
SHOWN = 2  # held-out prompts that the student answers at every evaluation


def distil(job: DistilJob, progress: bool = False) -> list[dict[str, Any]]:
    """Run a job; return its run records, shortest budget first, with `teacher_loss` and `teacher_params`.

    Args:
        job: what to distil.
        progress: one line on a terminal.

    Raises:
        ConfigError: a folder or file is not what it should be; the tokenizers differ; the context is too long for a
            model; a method that has no use for an option or for this data.
        TrainingError: vocabularies that cannot be compared as chosen; `job.out` holds another training; a loss is not
            finite.
    """
    with processes().main_process_first():
        claim(job.out, _identity(job))
    if rows := records(job.out, [job.regime.steps(budget) for budget in job.budgets]):
        return rows
    with cpu_threads(job.threads):
        ready = prepare(job)
        method, cast, read, signal = ready.method, ready.cast, ready.read, ready.signal
        student, tokenizer = ready.make_student(), cast.tokenizer
        if job.cache:
            with processes().main_process_first():
                signal = _cached(job, signal, read.source(student, ready.steps, job.out, dict), ready.steps)
        far = not job.teachers and bool(read.heard or job.teacher_name)  # it is known by its answers alone
        unheard, itself = far and not read.heard, "an endpoint" if far else "itself"
        columns = {
            "run": job.run,
            "seed": job.seed,
            "family": f"{student.config.model_type}-{student.config.num_hidden_layers}-layers",
            "recipe": f"{signal.describe()} {f'text={job.text_weight:g} ' if job.text else ''}{job.regime.describe()}",
            "tokenizer": tokenizer_name(tokenizer),
            "dataset": read.dataset,
            "teacher": job.teacher_name or "+".join(folder.name for folder in job.teachers.values()) or itself,
            "teacher_loss": None if unheard else read.teacher_loss() if job.teacher_loss is None else job.teacher_loss,
            "teacher_params": None if far else max(map(non_embedding_params, cast.teachers)),
            "loss_before": read.evaluate(student.eval())["loss"],
        }

        monitor = _monitor(job, ready) if job.watch else None

        def also(model: Any, step: int) -> dict[str, float]:
            """Keep what the student writes to the first held-out prompts; measure whether it hacks its teacher."""
            length = min(method.length, job.regime.context - max(map(len, read.prompts[:SHOWN])))
            sampler = TransformersSampler(model, length, separator_token(tokenizer))
            answers = sampler(read.prompts[:SHOWN], seed=job.seed)
            texts = [tokenizer.batch_decode(some) for some in (read.prompts[:SHOWN], answers)]
            shown = [{"prompt": prompt, "answer": answer} for prompt, answer in zip(*texts, strict=True)]
            if processes().is_main_process:
                write_json(job.out / "samples" / f"{step}.json", shown)
            return monitor.measure(model, step) if monitor else {}

        return train_student(
            ready.make_student,
            read.source,
            read.evaluate,
            tokenizer,
            job.budgets,
            job.out,
            regime=job.regime,
            seed=job.seed,
            signal=signal,
            columns=columns,
            counted_in=read.counted_in,
            also=also if job.regime.evaluate_every else None,
            stop_when=(lambda evaluations: report_of(evaluations).ill) if job.watch == "stop" else None,
            checkpoint_every=job.checkpoint_every,
            progress=progress,
        )


class Prepared(NamedTuple):
    """A distillation that can begin.

    Args:
        method: its choices.
        cast: who takes part.
        make_student: gives the untrained student.
        read: what it reads and is measured on.
        signal: what is said about it.
        steps: of the longest budget.
    """

    method: Method
    cast: Cast
    make_student: Callable[[], Any]
    read: Material
    signal: Signal
    steps: int


def prepare(job: DistilJob) -> Prepared:
    """Load the models and the data of a job, and check that they fit.

    Raises:
        ConfigError, TrainingError: as `distil`.
    """
    method = job.method or Method()
    if method.adaptive and not job.regime.evaluate_every:
        raise ConfigError("adaptive follows the validation loss: give evaluate_every")
    if len(job.budgets) > 1 and method.answers != "data":
        raise ConfigError(f"method {method.name} writes answers: give one budget at a time")
    make_student, tokenizer, teacher_tokenizer = student_of(job)
    teachers, student = [load_model(folder).eval() for folder in job.teachers.values()], make_student()
    for name, model in (*(("teacher", teacher) for teacher in teachers), ("student", student)):
        if job.regime.context > (longest := context_length(model.config)):
            raise ConfigError(
                f"context {job.regime.context} is longer than the {name} can read: use context: {longest} or less"
            )
    start = lambda: make_student().eval()  # noqa: E731
    cast = Cast(tokenizer, teacher_tokenizer, teachers or [start()], start)
    read, steps = material(job, method, cast), job.regime.steps(max(job.budgets))
    if job.text:
        text, alone = tokenize(load_corpus(job.text), tokenizer), read.source
        windows = Windows(text.train, job.regime.context, job.regime.batch, job.seed)
        read = replace(read, source=lambda *how: Beside(alone(*how), windows, job.text_weight))
    signal = method.signal(cast, steps, job.divergence, job.ce_weight, job.vocabulary)
    if read.heard and isinstance(signal, Teaching):
        if processes().is_main_process:
            cache_answers(read.heard, job.out / "cache")
        processes().wait_for_everyone()
        signal = CachedTeaching(TeacherCache(job.out / "cache"), signal.divergence, signal.ce_weight)
    for teacher in teachers if job.vocabulary != "align" else []:
        compared = signal if isinstance(signal, Teaching) else Teaching(teacher)
        require_vocabulary(compared, teacher, student, read.probe, read.largest)
    return Prepared(method, cast, make_student, read, signal, steps)


def _identity(job: DistilJob) -> dict[str, Any]:
    """Everything that changes the result of a job, except its length; models and data by their content."""
    data = corpus_hash(job.data) if job.data.is_dir() else hashlib.sha256(job.data.read_bytes()).hexdigest()
    method = job.method or Method()
    return {
        "run": job.run,
        "data": data,
        "teacher": {name: folder_digest(folder) for name, folder in job.teachers.items()},
        "student": asdict(job.student) if isinstance(job.student, FreshStudent) else folder_digest(job.student),
        "seed": job.seed,
        **{f"method.{name}": value for name, value in method.model_dump(mode="json").items() if name != "divergence"},
        "divergence": (job.divergence or Divergence(**method.divergence)).describe(),
        "ce_weight": job.ce_weight,
        "method.reference": folder_digest(method.reference) if method.reference else None,
        "text": [corpus_hash(job.text), job.text_weight] if job.text else None,
        "vocabulary": job.vocabulary,
        "cache": job.cache,
        "watch": job.watch,
        "oracle": folder_digest(job.oracle) if job.oracle else None,
        **asdict(job.regime),
    }


def _monitor(job: DistilJob, ready: Prepared) -> HackingMonitor:
    """Watch the distance to the teacher on its fresh answers to held-out prompts, and the truth if there is one."""
    if not job.regime.evaluate_every or len(job.teachers) != 1 or job.vocabulary == "align":
        raise ConfigError("watch: needs a teacher, one, with the student's tokenizer, and evaluate_every")
    prompts, end = ready.read.prompts[:WATCHED], separator_token(ready.cast.tokenizer)
    examples = [Example(prompt) for prompt in prompts]
    room = min(ready.method.length, job.regime.context - max(map(len, prompts)))

    def answered(model: Any) -> list[Batch]:
        written = Replay(examples, 1, job.seed, [TransformersSampler(model, room, end)])
        return [collate(written.examples)]

    teacher, oracle = ready.cast.teachers[0], load_model(job.oracle).eval() if job.oracle else None
    truth = answered(oracle) if oracle is not None else []
    path = job.out / "hacking.json"
    return HackingMonitor(teacher, answered(teacher), oracle=oracle, truth=truth, act="record", path=path)


def _cached(job: DistilJob, signal: Signal, source: Source, steps: int) -> CachedTeaching:
    """The same comparison from what the teacher said about all batches, kept in the job's folder."""
    folders = list(job.teachers.values())
    method = job.method or Method()
    if not isinstance(signal, Teaching) or method.answers != "data" or len(folders) != 1:
        raise ConfigError(f"cache: {job.cache} keeps what one teacher says about the data: it goes with method kd")
    form: Any = job.cache
    cache = cache_teacher(
        folders[0], source, steps, job.out / "cache", form=form, temperature=signal.divergence.temperature
    )
    return CachedTeaching(cache, signal.divergence, job.ce_weight)


def student_of(job: DistilJob) -> tuple[Callable[[], Any], Any, Any]:
    """A function that gives the untrained student, the same at every call; its tokenizer; that of the teachers.

    Raises:
        ConfigError: not a model folder; tokenizers that differ; a fresh student without a teacher.
    """
    folders, fresh = list(job.teachers.values()), isinstance(job.student, FreshStudent)
    if not folders and fresh:
        raise ConfigError("without a teacher the student must be a trained model: a fresh one has nothing to teach")
    first = load_tokenizer(folders[0]) if folders else None
    tokenizer = first if isinstance(job.student, FreshStudent) else load_tokenizer(job.student)
    for folder in folders if job.vocabulary != "align" else []:
        require_same_tokenizer(load_tokenizer(folder), tokenizer)
    if not isinstance(job.student, FreshStudent):
        return partial(load_model, job.student), tokenizer, first or tokenizer
    config = read_config(folders[0])
    make = partial(
        tiny_llama,
        job.student.width,
        layers=job.student.layers,
        heads=job.student.heads,
        vocabulary=config.vocab_size,
        context=context_length(config),
        end=separator_token(tokenizer),
        seed=job.seed,
    )
    return make, tokenizer, tokenizer


def require_same_tokenizer(teacher: Any, student: Any) -> None:
    """Check that two tokenizers give the same meaning to every id that both have.

    Raises:
        ConfigError: the first ids that differ.
    """
    theirs, mine = ({index: token for token, index in one.get_vocab().items()} for one in (teacher, student))
    differing = [index for index in sorted(theirs.keys() & mine.keys()) if theirs[index] != mine[index]]
    if differing or not theirs.keys() & mine.keys():
        first = "".join(
            f"\n  id {i}: {theirs[i]!r} for the teacher, {mine[i]!r} for the student" for i in differing[:3]
        )
        raise ConfigError(
            f"the tokenizers of teacher and student differ ({len(differing)} of {len(mine)} ids): comparing logits "
            f"needs one tokenizer. Take a student with the teacher's, or a fresh one (student: {{width: 32}}).{first}"
        )
