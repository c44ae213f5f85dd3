from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from limbeck.errors import ConfigError
from limbeck.lm import byte_tokenizer, load_model, non_embedding_params, save_model, text_loss, tiny_llama
from limbeck.lm.models import context_length, folder_digest
from limbeck.lm.windows import evaluation_windows


@pytest.mark.parametrize(
    ("width", "params"), [(16, 6_736), (24, 13_944), (32, 25_248), (48, 55_536), (64, 100_672), (128, 395_904)]
)
def test_sizes_without_embeddings(width: int, params: int) -> None:
    model = tiny_llama(width)
    assert non_embedding_params(model) == params
    assert sum(weight.numel() for weight in model.parameters()) == params + 256 * width  # tied: counted once
    assert model.config.num_attention_heads == (4 if width == 128 else 2)


def test_untied_and_learned_position_matrices_are_not_counted() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=50, n_positions=16))
    total = sum(weight.numel() for weight in model.parameters())
    assert non_embedding_params(model) == total - 50 * 8 - 16 * 8


def test_initial_weights_follow_the_rule() -> None:
    model = tiny_llama(64, seed=3)
    block = model.model.layers[0]
    expected = {
        model.model.embed_tokens: 1 / 8,
        block.self_attn.q_proj: 1 / 8,
        block.self_attn.o_proj: 1 / 8 / 2,  # 1/sqrt(2 layers) = 1/2
        block.mlp.up_proj: 1 / 8,
        block.mlp.down_proj: 1 / math.sqrt(176) / 2,
    }
    for module, spread in expected.items():
        count = module.weight.numel()
        assert module.weight.std().item() == pytest.approx(spread, rel=4 / math.sqrt(2 * count))  # s.e. s/sqrt(2n)
    again = tiny_llama(64, seed=3).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert not torch.equal(tiny_llama(64, seed=4).model.embed_tokens.weight, model.model.embed_tokens.weight)


def test_folder_loads_with_the_library_and_is_whole(tmp_path: Path) -> None:
    model, tokenizer = tiny_llama(16), byte_tokenizer()
    folder = save_model(model, tokenizer, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert (folder / "model.safetensors").is_file()
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)("abc")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(folder)(ids).logits, model(ids).logits)
        assert torch.equal(load_model(folder)(ids).logits, model(ids).logits)
    digest = folder_digest(folder)
    save_model(tiny_llama(16, seed=1), tokenizer, folder)
    assert folder_digest(folder) != digest
    assert context_length(model.config) == 128


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_model(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ConfigError, match="cannot be loaded as a causal language model"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_model(tmp_path)


def test_odd_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="take a multiple of 4"):
        tiny_llama(30)


def test_loss_counts_labels_and_not_padding() -> None:
    model = tiny_llama(16)
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()  # tied: every distribution is uniform
    windows = evaluation_windows(torch.arange(200, dtype=torch.int32).numpy(), context=64)
    assert text_loss(model, windows) == pytest.approx(math.log(256), rel=1e-6)
    one = tiny_llama(16)
    single = [text_loss(one, window[None]) for window in windows]
    sizes = [64, 64, 64, 7]
    assert text_loss(one, windows) == pytest.approx(sum(map(lambda a, b: a * b, single, sizes)) / 199, rel=1e-6)
