"""Off-policy distillation of a causal language model on text.

The student reads the data set, the teacher says its next-token distribution at every position in the same step (no
cache: 2 M tokens of 256 logits are already a gigabyte), and `train_text` does the rest, as for pretraining.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError
from limbeck.lm.corpus import load_corpus
from limbeck.lm.evaluation import text_loss
from limbeck.lm.folders import claim, corpus_hash, records
from limbeck.lm.jobs import DistilJob, FreshStudent
from limbeck.lm.models import context_length, folder_digest, load_model, non_embedding_params, tiny_llama
from limbeck.lm.teaching import Divergence, Teaching, require_vocabulary
from limbeck.lm.tokenizers import load_tokenizer, separator_token, tokenize
from limbeck.lm.training import setup_columns, threads, train_text
from limbeck.lm.windows import evaluation_windows


def distil(job: DistilJob, progress: bool = False) -> list[dict[str, Any]]:
    """Run a job; return its run records, shortest budget first, with `teacher_loss` and `teacher_params`.

    Args:
        job: what to distil.
        progress: one line on a terminal.

    Raises:
        ConfigError: a folder is not what it should be; the tokenizers differ; the context is too long for a model.
        TrainingError: vocabularies that cannot be compared as chosen; `job.out` holds another training; a loss is not
            finite.
    """
    claim(job.out, _identity(job))
    if rows := records(job.out, [job.regime.steps(budget) for budget in job.budgets]):
        return rows
    corpus = load_corpus(job.corpus)
    teacher, tokenizer = load_model(job.teacher), load_tokenizer(job.teacher)
    make_student = student_maker(job.student, teacher, tokenizer, seed=job.seed)
    teaching = Teaching(teacher.eval(), job.divergence or Divergence(), job.ce_weight, job.vocabulary)
    with threads(job.threads):
        text = tokenize(corpus, tokenizer)
        held_out = evaluation_windows(text.validation, job.regime.context)
        student = make_student()
        for name, model in (("teacher", teacher), ("student", student)):
            if job.regime.context > (longest := context_length(model.config)):
                raise ConfigError(
                    f"context {job.regime.context} is longer than the {name} can read: use context: {longest} or less"
                )
        require_vocabulary(teaching, student, held_out, text.largest)
        loss = job.teacher_loss
        if loss is None:
            loss = text_loss(teacher, held_out) / text.bytes_per_token
        family = f"{student.config.model_type}-{student.config.num_hidden_layers}-layers"
        columns = setup_columns(job.run, job.seed, family, job.regime, tokenizer, corpus)
        columns |= {
            "recipe": f"{teaching.describe()} {job.regime.describe()}",
            "teacher": job.teacher_name or Path(job.teacher).name,
            "teacher_loss": loss,
            "teacher_params": non_embedding_params(teacher),
        }
        return train_text(
            make_student,
            text,
            tokenizer,
            job.budgets,
            job.out,
            regime=job.regime,
            seed=job.seed,
            signal=teaching,
            columns=columns,
            checkpoint_every=job.checkpoint_every,
            progress=progress,
        )


def _identity(job: DistilJob) -> dict[str, Any]:
    """Everything that changes the result of a job, except its length; models and text by their content."""
    return {
        "run": job.run,
        "text": corpus_hash(job.corpus),
        "teacher": folder_digest(job.teacher),
        "student": asdict(job.student) if isinstance(job.student, FreshStudent) else folder_digest(job.student),
        "seed": job.seed,
        "divergence": (job.divergence or Divergence()).describe(),
        "ce_weight": job.ce_weight,
        "vocabulary": job.vocabulary,
        "regime": asdict(job.regime),
    }


def student_maker(student: Path | FreshStudent, teacher: Any, tokenizer: Any, *, seed: int) -> Callable[[], Any]:
    """A function that gives the untrained student, the same at every call.

    Args:
        student: a model folder, or a size.
        teacher: its vocabulary size and context are those of a fresh student.
        tokenizer: the teacher's, which the student's must agree with.
        seed: of a fresh student's initial weights.

    Raises:
        ConfigError: not a model folder; another tokenizer than the teacher's.
    """
    if not isinstance(student, FreshStudent):
        require_same_tokenizer(tokenizer, load_tokenizer(student))
        return lambda: load_model(student)
    return lambda: tiny_llama(
        student.width,
        layers=student.layers,
        heads=student.heads,
        vocabulary=teacher.config.vocab_size,
        context=context_length(teacher.config),
        end=separator_token(tokenizer),
        seed=seed,
    )


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
