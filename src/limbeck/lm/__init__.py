"""Language models: text in, students out.

`distill` runs a recipe: any causal model folder teaches another on your text, and the student loads with
`from_pretrained`. `pretrain` and `distil` serve whole ladders, as resumable jobs with several token budgets on one
trunk. Every training writes run records that the laws can be fitted to, with losses in nats per byte.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# fmt: off
# isort: off
if TYPE_CHECKING:
    from limbeck.lm.alignment import CrossTokenizer
    from limbeck.lm.audit import Agreement, Gain, Trend, agreement, bleu, clustered_mean, paired_gain, trend
    from limbeck.lm.conversations import AnswerLoss, Conversations, Example, answer_loss, collate, read_examples
    from limbeck.lm.corpus import Corpus, CorpusFacts, Document, build_corpus, embedded_corpus, load_corpus, text_corpus
    from limbeck.lm.cost import CostPreview, preview
    from limbeck.lm.curation import (
        Choice, farthest, fault, hardest, latent_shift, smoke_test, token_entropy, trace_distance, try_questions,
    )
    from limbeck.lm.distillation import distil
    from limbeck.lm.endpoint import Endpoint, write_answers
    from limbeck.lm.estimators import future_returns, sequence_kl
    from limbeck.lm.evaluation import TextLoss, continue_text, text_loss
    from limbeck.lm.folders import budget_folder, finished, model_folder
    from limbeck.lm.jobs import DistilJob, FreshStudent, PretrainJob, Regime
    from limbeck.lm.methods import Method
    from limbeck.lm.model_audit import Audit, Fidelity, TaskAudit, compare_texts, evaluate, fidelity
    from limbeck.lm.models import load_model, non_embedding_params, save_model, tiny_llama
    from limbeck.lm.on_policy import OnPolicy, extrapolate
    from limbeck.lm.pass_rates import (
        PassRates, StagedSignal, StagedSource, Weighted, final_answer, measure_pass_rates, same_final_answer,
        same_tokens,
    )
    from limbeck.lm.pretraining import pretrain
    from limbeck.lm.recipe import DistillationResult, DistillRecipe, distill, read_recipe
    from limbeck.lm.rollouts import Kept, Mixture, Replay, Rollouts, Sampler, TransformersSampler
    from limbeck.lm.self_play import Duels, SelfPlay
    from limbeck.lm.slots import Batch, Beside, NextToken, Signal, Source, joint_loss
    from limbeck.lm.teacher_cache import CachedTeaching, TeacherCache, cache_answers, cache_teacher
    from limbeck.lm.teacher_hacking import Alarm, Distance, HackingMonitor, HackingReport, distance, judge, law_alarm
    from limbeck.lm.teaching import Divergence, Teaching
    from limbeck.lm.tokenizers import (
        TokenStream, byte_tokenizer, get_tokenizer, load_tokenizer, tokenize, trained_tokenizer,
    )
    from limbeck.lm.training import train_student, train_text
    from limbeck.lm.windows import Windows, evaluation_windows

_MODULES = (
    "corpus", "folders", "jobs", "windows", "slots", "estimators", "teaching", "tokenizers", "conversations",
    "rollouts", "on_policy", "pass_rates", "teacher_hacking", "models", "evaluation", "training", "pretraining",
    "distillation", "recipe", "teacher_cache", "methods", "self_play", "alignment", "audit", "model_audit", "curation",
    "endpoint", "cost",
)
"""In the order in which a name is looked for: those that need no torch first."""

__all__ = [
    "Agreement", "Alarm", "AnswerLoss", "Audit", "Batch", "Beside", "CachedTeaching", "Choice", "Conversations",
    "Corpus", "CorpusFacts", "CostPreview", "CrossTokenizer", "Distance", "DistilJob", "DistillRecipe",
    "DistillationResult", "Divergence", "Document", "Duels", "Endpoint", "Example", "Fidelity",
    "FreshStudent", "Gain", "HackingMonitor", "HackingReport", "Kept", "Method", "Mixture", "NextToken", "OnPolicy",
    "PassRates", "PretrainJob", "Regime", "Replay", "Rollouts", "Sampler", "SelfPlay", "Signal", "Source",
    "StagedSignal", "StagedSource", "TaskAudit", "TeacherCache", "Teaching", "TextLoss", "TokenStream",
    "TransformersSampler", "Trend", "Weighted", "Windows", "agreement", "answer_loss", "bleu", "budget_folder",
    "build_corpus", "byte_tokenizer", "cache_answers", "cache_teacher", "clustered_mean", "collate",
    "compare_texts", "continue_text", "distance", "distil", "distill", "embedded_corpus", "evaluate",
    "evaluation_windows", "extrapolate", "farthest", "fault", "fidelity", "final_answer", "finished",
    "future_returns", "get_tokenizer", "hardest", "joint_loss", "judge", "latent_shift", "law_alarm", "load_corpus",
    "load_model", "load_tokenizer", "measure_pass_rates", "model_folder", "non_embedding_params", "paired_gain",
    "pretrain", "preview", "read_examples", "read_recipe", "same_final_answer", "same_tokens", "save_model",
    "sequence_kl", "smoke_test", "text_corpus", "text_loss", "tiny_llama", "token_entropy", "tokenize",
    "trace_distance", "train_student", "train_text", "trained_tokenizer", "trend", "try_questions", "write_answers",
]


def __getattr__(name: str) -> Any:
    """Import what is used when it is used: a job is described without waiting for torch."""
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"limbeck.lm.{module}")
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module 'limbeck.lm' has no attribute {name!r}")
