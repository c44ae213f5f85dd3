"""The column vocabulary: one name, one meaning, one unit, and the aliases people really use.

A column of a file gets its limbeck name in three steps.

1. Names are compared without regard to case, with every run of blanks and punctuation read as one underscore:
   `val/loss`, `Val Loss` and `val_loss` are the same. One-letter aliases (`N`, `D`, `C`, `L`) are the exception: their
   case counts.
2. A count may carry its scale in the name: `tokens_B`, `Model Size (B)` and `FLOPs (1E21)` are multiplied by 1e9, 1e9
   and 1e21.
3. What is not in the vocabulary keeps its own name and is left alone.
"""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Column:
    """One name of the vocabulary.

    Args:
        name: the canonical name.
        unit: unit of its values ("" for text and plain numbers).
        meaning: what it is, in a few words.
        aliases: other names for it (see the module's rules on case).
        kind: `count` (may carry its scale in its name), `number`, `flag` (0/1) or `text`.
        essential: every row of a table that has this column must hold it; other columns may have empty cells until a
            law asks for them.
        positive: a law needs values above zero here.
        maximum: largest value that makes sense.
    """

    name: str
    unit: str
    meaning: str
    aliases: tuple[str, ...] = ()
    kind: Literal["count", "number", "flag", "text"] = "number"
    essential: bool = False
    positive: bool = True
    maximum: float = math.inf


def _column(name: str, unit: str, meaning: str, aliases: str = "", **options: Any) -> Column:
    return Column(name, unit, meaning, tuple(aliases.split()), **options)


_count = partial(_column, kind="count")
_text = partial(_column, unit="", kind="text", positive=False)

# fmt: off
VOCABULARY: tuple[Column, ...] = (
    _text("run", meaning="which training; its checkpoints share the name", aliases="run_id run_name name"),
    _count("step", "steps", "optimiser steps of this checkpoint", "_step global_step iteration iter", positive=False),
    _count("params", "parameters", "model size; non-embedding unless the file says otherwise", "N n_params "
           "num_params param_count n_parameters num_parameters parameters model_size model_params student_params",
           essential=True),
    _count("params_non_embedding", "parameters", "model size without embeddings", "non_embedding_params "
           "n_params_no_embed n_params_non_embedding params_no_embed params_no_embedding"),
    _count("params_total", "parameters", "model size with embeddings", "total_params n_params_total "
           "params_with_embeddings total_parameters"),
    _count("encoder_params", "parameters", "size of the encoder, embeddings excluded", "n_enc n_encoder"),
    _count("decoder_params", "parameters", "size of the decoder, embeddings excluded", "n_dec n_decoder"),
    _count("tokens", "tokens", "training tokens seen", "D n_tokens num_tokens train_tokens training_tokens "
           "tokens_seen total_tokens student_tokens num_input_tokens_seen pretraining_data_size", essential=True),
    _count("samples", "samples", "training samples seen, where there are no tokens", "n_samples num_samples "
           "samples_seen examples_seen seen_examples", essential=True),
    _count("flops", "FLOP", "training compute", "C flop n_flops train_flop train_flops training_flop "
           "training_flops total_flops total_flos compute training_compute", essential=True),
    _column("loss", "nats/token", "loss on held-out data (of the student, in a distillation)", "L eval_loss "
            "val_loss loss_val loss_eval loss_validation loss_test valid_loss validation_loss test_loss dev_loss "
            "heldout_loss final_loss loss_nats cross_entropy ce_loss val_ce eval_ce test_ce nll val_nll "
            "student_loss", essential=True),
    _column("train_loss", "nats/token", "loss on training data", "training_loss loss_train"),
    _column("teacher_loss", "nats/token", "loss of the teacher on the same held-out data", "teacher_val_loss "
            "teacher_eval_loss loss_teacher"),
    _count("teacher_params", "parameters", "size of the teacher (0: none)", "n_params_teacher teacher_n_params"),
    _count("teacher_tokens", "tokens", "tokens the teacher was trained on", "n_tokens_teacher teacher_n_tokens"),
    _column("bits", "bits", "bits per weight", "n_bits weight_bits precision_bits bits_per_weight"),
    _column("activation_bits", "bits", "bits per activation in training", "act_bits"),
    _column("kv_bits", "bits", "bits per attention key and value in training"),
    _column("post_bits", "bits", "bits per weight after quantising the trained model", "ptq_bits"),
    _count("total_bits", "bits", "bits of all weights, overheads included", "model_bits"),
    _count("batch_tokens", "tokens", "tokens in one optimiser step", "tokens_per_step tokens_per_batch "
           "batch_size_tokens"),
    _column("lr", "", "learning rate at this step", "learning_rate", positive=False),
    _column("seconds", "s", "wall time spent", "_runtime wall_seconds elapsed_seconds train_seconds wall_time_s"),
    _column("error", "", "fraction of wrong answers, 0 to 1", "error_rate top1_error err", maximum=1.0),
    _column("accuracy", "", "fraction of right answers, 0 to 1", positive=False, maximum=1.0),
    _column("accuracy_percent", "%", "right answers, 0 to 100", "accuracy_pct acc_percent", maximum=100.0),
    _column("score", "points", "score of a task, 0 to 100", "bleu sacrebleu bleu_score chrf rouge rouge_l task_score",
            positive=False, maximum=100.0),
    _column("pass_rate", "", "probability that one draw solves a task, 0 to 1", "pass_at_1 pass@1", maximum=1.0),
    _count("draws", "draws", "generations drawn for an instance of a task", "n_draws num_draws attempts"),
    _count("passes", "draws", "how many of them passed", "n_passes num_passes successes", positive=False),
    _text("instance", meaning="which instance of a task", aliases="instance_id task_id problem problem_id"),
    _column("seed", "", "random seed of the run", "random_seed rng_seed", positive=False),
    _text("family", meaning="setup: model family", aliases="model_family"),
    _text("recipe", meaning="setup: how it was trained", aliases="training_recipe setup hparams"),
    _text("tokenizer", meaning="setup: tokenizer", aliases="tokeniser tokenizer_name"),
    _text("dataset", meaning="setup: training data",
          aliases="data_set train_set train_dataset training_set training_data corpus pretrain_dataset"),
    _column("outlier", "", "1: left out by its authors", "is_outlier", kind="flag", positive=False),
)
# fmt: on
COLUMNS: dict[str, Column] = {column.name: column for column in VOCABULARY}
SETUP: tuple[str, ...] = ("family", "recipe", "tokenizer", "dataset")
"""The fingerprint of a setup: runs that differ here lie on different curves."""


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name).strip("_").lower()


_EXACT = {alias: column for column in VOCABULARY for alias in column.aliases if len(alias) == 1}
_ALIASES = {_key(a): column for column in VOCABULARY for a in (column.name, *column.aliases) if len(a) > 1}


@cache
def recognise(name: str) -> tuple[str, float] | None:
    """Return the canonical name of a column and the factor that brings it to the vocabulary's unit, or None.

    Example:
        >>> recognise("val/loss"), recognise("D"), recognise("d"), recognise("FLOPs (1E21)")
        (('loss', 1.0), ('tokens', 1.0), None, ('flops', 1e+21))
    """
    name = name.strip()
    if name in _EXACT:
        return _EXACT[name].name, 1.0
    key = _key(name)
    if key in _ALIASES:
        return _ALIASES[key].name, 1.0
    scaled = re.fullmatch(r"(\w+)_(k|m|b|t|1e\d+)", key)
    column = _ALIASES.get(scaled[1]) if scaled else None
    if scaled and column and column.kind == "count":
        return column.name, SCALES.get(scaled[2]) or float(scaled[2])
    return None


def vocabulary_table(width: int = 100) -> str:
    """Return the vocabulary as a text table for `--help` and the documentation, with the rules on case and scale."""
    head = max(len(column.name) for column in VOCABULARY) + 2
    lines = []
    for column in VOCABULARY:
        unit = f" [{column.unit}]" if column.unit else ""
        also = f"; also: {', '.join(column.aliases)}" if column.aliases else ""
        text = textwrap.wrap(column.meaning + unit + also, width - head, break_long_words=False)
        lines += [f"{column.name if i == 0 else '':<{head}}{part}" for i, part in enumerate(text)]
    rules = (
        "Case and punctuation do not count (val/loss, Val Loss and val_loss are one name), except in one-letter names. "
        "A count may carry its scale: tokens_B, Model Size (M), FLOPs (1E21)."
    )
    return "\n".join([*lines, "", *textwrap.wrap(rules, width)])
