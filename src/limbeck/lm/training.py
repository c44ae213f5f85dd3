"""One training for all: next-token prediction, with or without a teacher, for one or several token budgets.

Pretraining is the case without a teacher. Several budgets share one trunk at a constant learning rate: the longest is
trained straight through and leaves a milestone where the decay of each shorter one begins, so that 250 k, 500 k and
1 M tokens cost 1.15 M instead of 1.75 M, and every branch equals bit for bit the run that a budget alone would give.
Finished budgets are run records; asking again for them costs nothing, asking for a longer one goes on from the trunk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from limbeck.distill import Player, Trainer, decay_start, warmup_stable_decay
from limbeck.distill.processes import accelerator, processes
from limbeck.lm.corpus import Corpus
from limbeck.lm.evaluation import TextLoss
from limbeck.lm.folders import RECORDS, budget_folder, finished, records
from limbeck.lm.jobs import RATE_TIMES_WIDTH, Evaluations, Regime
from limbeck.lm.models import merged, non_embedding_params, prepared, save_model
from limbeck.lm.slots import NextToken, Signal, Source, joint_loss
from limbeck.lm.tokenizers import TokenStream, tokenizer_name
from limbeck.lm.windows import Windows, evaluation_windows
from limbeck.runs import RunRecorder

LOG = "log.jsonl"


def train_text(
    make_student: Callable[[], Any],
    text: TokenStream,
    tokenizer: Any,
    budgets: Sequence[int],
    out: Path | str,
    *,
    regime: Regime,
    seed: int,
    **how: Any,
) -> list[dict[str, Any]]:
    """Train a causal language model on a token stream: `train_student` with its windows.

    Args:
        make_student, tokenizer, budgets, out, regime, seed, how: as for `train_student`.
        text: token stream to train and validate on.
    """
    return train_student(
        make_student,
        lambda *_: Windows(text.train, regime.context, regime.batch, seed),
        TextLoss(evaluation_windows(text.validation, regime.context), text.bytes_per_token),
        tokenizer,
        budgets,
        out,
        regime=regime,
        seed=seed,
        **how,
    )


def train_student(
    make_student: Callable[[], Any], make_source: Callable[[Any, int, Path, Callable[[], Evaluations]], Source],
    evaluate: Callable[[Any], Mapping[str, float]], tokenizer: Any, budgets: Sequence[int], out: Path | str, *,
    regime: Regime, seed: int, signal: Signal | None = None, columns: Mapping[str, Any], counted_in: str = "tokens",
    also: Callable[[Any, int], Mapping[str, float]] | None = None,
    stop_when: Callable[[Evaluations], bool] | None = None, checkpoint_every: int = 500, progress: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train a causal language model for each of several token budgets, on one trunk.

    Args:
        make_student: gives the untrained student, the same at every call.
        make_source: `make_source(student, steps, folder, evaluations)` gives the batches of one budget; the folder is
            that budget's, and `evaluations()` what was evaluated so far, by step.
        evaluate: gives the `loss` of a student and whatever else belongs in its run record.
        tokenizer: saved beside every model.
        budgets: tokens; each ends with its own decay, an evaluation, a model folder and a run record.
        out: folder of this training. Holds `runs.jsonl` (one record per finished budget) and a folder per budget with
            `log.jsonl`, checkpoints and the `model`. The same call continues after a kill at any moment.
        regime: batch, schedule, optimiser.
        seed: of dropout.
        signal: what is said about a batch; None predicts the next token.
        columns: constants of every run record (`run`, `seed`, `family`, `recipe`, `tokenizer`, `dataset`, ...).
        counted_in: `tokens`, or `samples` where sequences are of any length.
        also: called as `also(student, step)` at every evaluation: for further values, or to keep samples.
        stop_when: as for `Trainer`, beside the regime's patience.
        checkpoint_every: steps between rolling checkpoints.
        progress: one line on a terminal.

    Returns:
        The records of the budgets asked for, shortest first: `step`, `params` (without embeddings), `tokens` and
        `flops` (6 params tokens) or `samples`, what `evaluate` gave (for the best step, if there were several),
        `epochs`, `seconds` (of the last call), and `columns`; `best_step` and `planned_steps` where they differ.

    Raises:
        TrainingError: a loss is not finite; a checkpoint in `out` belongs to another training.
    """
    out, signal, party = Path(out), signal or NextToken(), processes()
    wanted = {regime.steps(budget): budget for budget in budgets}
    each = regime.step_tokens if counted_in == "tokens" else regime.batch
    starts = [decay_start(steps, decay=regime.decay) for steps in wanted]

    def train(steps: int) -> None:
        """Train one budget from the newest usable milestone and record it."""
        student = prepared(make_student(), regime, seed)
        begin, folder = decay_start(steps, decay=regime.decay), budget_folder(out, wanted[steps])
        with party.main_process_first():
            source = make_source(student, steps, folder, lambda: trainer.evaluations)

        def measure(step: int) -> Mapping[str, float]:
            """Evaluate; keep the model if it is the best so far."""
            values = {**evaluate(player.module), **(also(student, step) if also else {})}
            best = all(values["loss"] < earlier["loss"] for earlier in trainer.evaluations.values())
            if best and party.is_main_process:
                save_model(merged(student), tokenizer, folder / "model")
            return values

        player = Player(
            "student",
            student,
            optimizer(student, regime),
            schedule=partial(warmup_stable_decay, steps=steps, warmup=regime.warmup, decay=regime.decay),
            clip=regime.clip,
        )
        trainer = Trainer(
            [player],
            lambda _, batch, step: joint_loss(signal, player.module, batch, step),
            source,
            steps=steps,
            out=folder,
            config={"seed": seed, **asdict(regime)},
            accumulate=regime.accumulate,
            frozen=signal.frozen,
            recorder=partial(RunRecorder, folder / LOG, run=columns["run"]),
            columns=lambda step: {counted_in: step * each},
            evaluate=measure,
            evaluate_at={steps, *range(regime.evaluate_every or steps, steps, regime.evaluate_every or steps)},
            stop_when=lambda evaluations: (
                _no_better(evaluations, regime.patience) or bool(stop_when and stop_when(evaluations))
            ),
            checkpoint_every=checkpoint_every,
            checkpoint_at=[start for start in starts if 0 < start <= begin],
            progress=progress,
            label=str(columns["run"]),
            accelerator=accelerator(regime.precision),
        )
        with _own_randomness(seed):
            result = trainer.run(start_from=_trunk(out, begin))
        params, amount = non_embedding_params(merged(student)), result.steps * each
        best = min(result.evaluations, key=lambda step: result.evaluations[step]["loss"])
        row: dict[str, Any] = {"step": result.steps, "params": params, counted_in: amount}
        row |= {"flops": 6 * params * amount} if counted_in == "tokens" else {}
        row |= result.evaluations[best] | ({"epochs": amount / source.tokens} if source.tokens else {})
        row |= {"best_step": best} if regime.evaluate_every else {}
        row |= {"planned_steps": steps} if result.steps != steps else {}
        if party.is_main_process:
            with RunRecorder(out / RECORDS, **columns) as recorder:
                recorder.write(**row, seconds=result.seconds)
        party.wait_for_everyone()

    for steps in sorted(wanted, reverse=True):
        if steps not in finished(out):
            train(steps)
        for checkpoint in budget_folder(out, wanted[steps]).glob("step-*") if party.is_main_process else ():
            shutil.rmtree(checkpoint)
    return records(out, list(wanted))


def _no_better(evaluations: Evaluations, patience: int) -> bool:
    """Whether the last `patience` evaluations gave no new best.

    Example:
        >>> _no_better({1: {"loss": 2.0}, 2: {"loss": 1.0}, 3: {"loss": 1.1}, 4: {"loss": 1.0}}, patience=2)
        True
    """
    losses = [evaluations[step]["loss"] for step in sorted(evaluations)]
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])


def setup_columns(run: str, seed: int, family: str, regime: Regime, tokenizer: Any, corpus: Corpus) -> dict[str, Any]:
    """The constants of a run record: which run, and the setup that makes losses comparable."""
    return {
        "run": run,
        "seed": seed,
        "family": family,
        "recipe": regime.describe(),
        "tokenizer": tokenizer_name(tokenizer),
        "dataset": f"{corpus.facts.source} sha256:{corpus.facts.sha256[:16]}",
    }


def _trunk(out: Path, step: int) -> Path | None:
    """The newest milestone of any budget in `out` that is not beyond `step`: until there all learning rates agree."""
    found = [path for path in out.glob("*-tokens/milestone-*") if int(path.name.rpartition("-")[2]) <= step]
    return max(found, key=lambda path: path.name, default=None)


def optimizer(model: Any, regime: Regime) -> torch.optim.Optimizer:
    """AdamW on what is trained, with decay on matrices alone."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": regime.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    rate = regime.learning_rate or RATE_TIMES_WIDTH / model.config.hidden_size
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate, betas=(0.9, 0.95), fused=True)


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Dropout draws from torch's global generator: seed it inside, leave it as it was outside."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
