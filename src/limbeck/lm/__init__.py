"""Language models: text in, students out.

`distill` runs a recipe: any causal model folder teaches another on your text, and the student loads with
`from_pretrained`. `pretrain` and `distil` serve whole ladders, as resumable jobs with several token budgets on one
trunk. Every training writes run records that the laws can be fitted to, with losses in nats per byte.
"""

from __future__ import annotations

from limbeck.lm.corpus import Corpus, CorpusFacts, Document, build_corpus, embedded_corpus, load_corpus, text_corpus
from limbeck.lm.distillation import DistilJob, FreshStudent, distil
from limbeck.lm.evaluation import continue_text, text_loss
from limbeck.lm.jobs import budget_folder, finished, model_folder
from limbeck.lm.models import load_model, non_embedding_params, save_model, tiny_llama
from limbeck.lm.pretrain import PretrainJob, pretrain
from limbeck.lm.recipe import DistillationResult, DistillRecipe, distill, read_recipe
from limbeck.lm.teaching import Divergence, Teaching
from limbeck.lm.tokenizers import (
    TokenStream,
    byte_tokenizer,
    get_tokenizer,
    load_tokenizer,
    tokenize,
    trained_tokenizer,
)
from limbeck.lm.training import Regime, train_text
from limbeck.lm.windows import Windows, evaluation_windows

__all__ = [
    "Corpus",
    "CorpusFacts",
    "DistilJob",
    "DistillRecipe",
    "DistillationResult",
    "Divergence",
    "Document",
    "FreshStudent",
    "PretrainJob",
    "Regime",
    "Teaching",
    "TokenStream",
    "Windows",
    "budget_folder",
    "build_corpus",
    "byte_tokenizer",
    "continue_text",
    "distil",
    "distill",
    "embedded_corpus",
    "evaluation_windows",
    "finished",
    "get_tokenizer",
    "load_corpus",
    "load_model",
    "load_tokenizer",
    "model_folder",
    "non_embedding_params",
    "pretrain",
    "read_recipe",
    "save_model",
    "text_corpus",
    "text_loss",
    "tiny_llama",
    "tokenize",
    "train_text",
    "trained_tokenizer",
]
