"""Language models: tiny Llamas built from a width, any causal model loaded from a folder, and what their size is.

The tiny models are `LlamaForCausalLM` of the transformers library (two layers, tied embeddings, SwiGLU, rotary
positions), so that they save and load with `from_pretrained` and a real model takes their place by its path.
"""

from __future__ import annotations

import copy
import hashlib
import math
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from limbeck.errors import ConfigError

if TYPE_CHECKING:
    from limbeck.lm.jobs import Regime


def tiny_llama(
    width: int,
    *,
    layers: int = 2,
    heads: int | None = None,
    vocabulary: int = 256,
    context: int = 128,
    end: int | None = 0,
    seed: int = 0,
) -> LlamaForCausalLM:
    """A small Llama with initial weights scaled so that one learning-rate rule, 0.256 / width, serves all widths.

    Every matrix is N(0, 1 / width), the embedding included; the attention output is divided by sqrt(2 layers); the MLP
    output is N(0, 1 / mlp_width) / sqrt(2 layers), with mlp_width = 8 width / 3 rounded up to a multiple of 8.

    Args:
        width: hidden size; even multiples of `heads`.
        layers: blocks.
        heads: attention heads; by default one per 32 of width, at least two (sizes of one ladder share the count).
        vocabulary: tokens.
        context: largest number of positions.
        end: id of the token between documents, where generation stops.
        seed: of the initial weights.

    Raises:
        ConfigError: the width cannot be divided into heads of even size.

    Example:
        >>> non_embedding_params(tiny_llama(24))
        13944
    """
    heads = heads or max(2, width // 32)
    if width <= 0 or width % (2 * heads):
        raise ConfigError(
            f"width {width} cannot be divided into {heads} heads of even size: take a multiple of {2 * heads}"
        )
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=8 * math.ceil(width / 3),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=vocabulary,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        use_cache=False,
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    _initialise(model, torch.Generator().manual_seed(seed))
    return model


@torch.no_grad()
def _initialise(model: LlamaForCausalLM, generator: torch.Generator) -> None:
    config = model.config
    residual = 1 / math.sqrt(2 * config.num_hidden_layers)
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            continue
        spread = config.hidden_size**-0.5
        if name.endswith("o_proj.weight"):
            spread *= residual
        elif name.endswith("down_proj.weight"):
            spread = config.intermediate_size**-0.5 * residual
        weight.normal_(0, spread, generator=generator)


def read_config(folder: Path | str) -> Any:
    """The configuration of a local model folder.

    Raises:
        ConfigError: the folder is missing, or is not a model folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"model folder {folder} does not exist")
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} is not a model folder: config.json is missing (save a model there with save_pretrained)"
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}/config.json cannot be read: {_first_line(error)}") from error


def load_model(folder: Path | str) -> Any:
    """A causal language model from a local folder, in float32, on the accelerator if there is one.

    Raises:
        ConfigError: the folder is missing, or is not a causal language model.
    """
    read_config(folder)
    try:
        with _no_bars():
            model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"{folder} cannot be loaded as a causal language model: {_first_line(error)}") from error
    return model.to(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else model


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the library from drawing progress bars inside."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def save_model(model: Any, tokenizer: Any, folder: Path | str) -> Path:
    """Write a complete model folder (safetensors, configuration, tokenizer); it appears whole or not at all."""
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with _no_bars():
        model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def prepared(model: Any, regime: Regime, seed: int) -> Any:
    """A model made ready to be trained: with low-rank changes, and activations computed again, if the regime says so.

    Raises:
        ConfigError: the model has no matrices that peft knows.

    Source: Edward Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2021), arXiv 2106.09685.
    """
    if regime.recompute:
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable()
    if not regime.lora:
        return model
    import peft

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about names that peft still uses
        torch.manual_seed(seed)
        settings = peft.LoraConfig(r=regime.lora, lora_alpha=2 * regime.lora, target_modules="all-linear")
        try:
            return peft.get_peft_model(model, settings)
        except ValueError as error:
            raise ConfigError(f"lora: {_first_line(error)}") from error


def merged(model: Any) -> Any:
    """The model with its low-rank changes, if it has any, added to the weights; a copy then."""
    return copy.deepcopy(model).merge_and_unload() if hasattr(model, "merge_and_unload") else model


def context_length(config: Any) -> int:
    """Largest number of positions of a model, or a very large number where its configuration names no limit."""
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


def folder_digest(folder: Path | str) -> str:
    """A short digest of a model folder: names, sizes and ends of its files (the ends of weight files are weights)."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(folder).glob("*")):
        if path.is_file():
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - 65536))
                digest.update(f"{path.name} {size} ".encode() + file.read())
    return digest.hexdigest()


def non_embedding_params(model: nn.Module) -> int:
    """Number of parameters without embeddings (tokens, learned positions) and output matrix, tied or not."""
    outside = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings()  # type: ignore[operator]
    outside |= {id(weight) for weight in head.parameters()} if head is not None else set()
    return sum(weight.numel() for weight in model.parameters() if id(weight) not in outside)
