from __future__ import annotations

import pytest

from limbeck.errors import ConfigError
from limbeck.lm import byte_tokenizer, continue_text, save_model, tiny_llama


def test_a_continuation_repeats_and_stays_inside_the_context(tmp_path):
    folder = save_model(tiny_llama(16, context=32, seed=1), byte_tokenizer(), tmp_path / "model")
    first = continue_text(folder, "The limbeck ", seed=3)
    assert first == continue_text(folder, "The limbeck ", seed=3) != continue_text(folder, "The limbeck ", seed=4)
    assert 0 < len(first) <= 20
    assert len(continue_text(folder, "The limbeck ", length=5)) <= 5
    with pytest.raises(ConfigError, match="does not exist"):
        continue_text(tmp_path / "none", "x")
