"""Prompts, answers and samples as batches."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from limbeck.errors import ConfigError, TrainingError
from limbeck.lm import byte_tokenizer, tiny_llama
from limbeck.lm.conversations import Conversations, Example, Packed, answer_loss, collate, read_examples
from limbeck.lm.on_policy import OnPolicy
from limbeck.lm.rollouts import Mixture, Replay, Rollouts, TransformersSampler
from limbeck.lm.slots import Batch, NextToken, counted_logits
from limbeck.lm.teaching import Teaching

PROMPTS = [Example((10 + k, 20 + k, 30 + k)[: 1 + k % 3]) for k in range(7)]
ANSWERED = [Example((1, 2), (3, 4, 0)), Example((5,), (6, 0)), Example((7, 8, 9), (0,))]


def rows(tmp_path: Path, *content: Any) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in content))
    return path


def test_reading_prompts_with_and_without_answers(tmp_path: Path) -> None:
    path = rows(tmp_path, {"prompt": "2+2=", "completion": "4", "domain": "sums"}, {"prompt": "hi", "domain": "talk"})
    read = read_examples(path, byte_tokenizer(), context=16, domains=("talk", "sums"))
    assert read == [Example(tuple(b"2+2="), (*b"4", 0), 1), Example(tuple(b"hi"), (), 0)]


def test_messages_go_through_the_chat_template(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    turns = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]
    path = rows(tmp_path, {"messages": turns}, {"prompt": turns[:1], "completion": turns[1:]})
    with pytest.raises(ConfigError, match="no chat template"):
        read_examples(path, tokenizer, context=64)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    expected = Example(tuple(b"<user>2+2<assistant>"), (*b"4", 0))
    assert read_examples(path, tokenizer, context=64) == [expected, expected]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "row 1: not JSON"),
        ({"text": "a"}, r'row 1: expected \{"prompt"'),
        ({"prompt": ""}, "row 1: the prompt is empty"),
        ({"prompt": "a" * 40}, r"row 1: 40 \+ 0 tokens do not fit the context of 16"),
        ({"prompt": "a", "completion": "b" * 15}, r"row 1: 1 \+ 16 tokens do not fit"),
        ({"prompt": "a", "completion": 7}, "row 1: prompt and completion must be texts"),
        ({"prompt": "a", "domain": "cod"}, 'no teacher for the domain "cod"; there are: math, code'),
        ({"messages": "a"}, "messages must be a list"),
        ("", "holds no row"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, row: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_examples(rows(tmp_path, row), byte_tokenizer(), context=16, domains=("math", "code"))


def test_an_epoch_reads_every_example_once_in_a_new_order() -> None:
    source = Conversations(ANSWERED * 3, batch=2, seed=1)
    assert source.tokens == 3 * 6
    seen = [one for step in range(9) for one in source.at(step)]
    assert sorted(seen[:9], key=repr) == sorted(seen[9:], key=repr) == sorted(ANSWERED * 3, key=repr)
    assert seen[:9] != seen[9:]
    assert all(torch.equal(a, b) for a, b in zip(source(4)[:5], Conversations(ANSWERED * 3, 2, 1)(4)[:5], strict=True))
    with pytest.raises(ConfigError, match="1 of 2 prompts have no answer"):
        Conversations([ANSWERED[0], PROMPTS[0]], 1, 0)


def test_packed_rows_say_what_single_ones_say() -> None:
    """Several examples in a row, padding behind them, for two architectures: the same logits on the same labels."""
    examples = [Example((k, k + 1, k + 2)[: 1 + k % 3], (k + 3, *[k] * (k % 4), 0)) for k in range(1, 12)]
    packed = Packed(examples, batch=3, seed=0, context=16)
    assert len(packed.examples) < 6 and packed.tokens == sum(len(one.answer) for one in examples)
    batch = packed(0)
    assert batch.tokens.shape[1] <= 16 and batch.position is not None
    rows = [one for first in packed.at(0) for one in packed.rows[first]]
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 64, "n_positions": 32}
    for model in (
        tiny_llama(16, vocabulary=64),
        GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).eval(),
    ):
        apart = torch.cat([counted_logits(model, collate([one])) for one in rows])
        torch.testing.assert_close(counted_logits(model, batch), apart, rtol=1e-4, atol=1e-5)
    assert batch.targets.tolist() == [token for one in rows for token in one.answer]
    assert sorted(rows, key=repr) == sorted(set(rows), key=repr)
    with pytest.raises(ConfigError, match="packing needs prompts with answers"):
        Packed([*examples, Example((1,))], 3, 0, 16)


def test_the_loss_is_about_answers_alone() -> None:
    model = tiny_llama(16, vocabulary=64)
    each = [answer_loss(model, [one]).item() * len(one.answer) for one in ANSWERED]
    assert answer_loss(model, ANSWERED, at_once=2).item() == pytest.approx(sum(each) / 6, rel=1e-5)


@pytest.fixture(scope="module")
def sampler() -> TransformersSampler:
    return TransformersSampler(tiny_llama(16, vocabulary=64, context=32), length=6, end=0)


def test_samples_repeat_and_padding_does_not_matter(sampler: TransformersSampler) -> None:
    before = torch.get_rng_state()
    sampler.model.train()
    answers = sampler([one.prompt for one in PROMPTS], seed=5)
    assert torch.equal(torch.get_rng_state(), before) and sampler.model.training
    assert answers == sampler([one.prompt for one in PROMPTS], seed=5)
    assert answers != sampler([one.prompt for one in PROMPTS], seed=6)
    assert all(0 < len(one) <= 6 and 0 not in one[:-1] for one in answers)
    cold = TransformersSampler(sampler.model, 4, 0, temperature=1e-4)  # greedy
    together, alone = cold([(1, 2, 3), (4,)], seed=0), [cold([p], seed=0)[0] for p in ((1, 2, 3), (4,))]
    assert together == alone


def test_rollouts_follow_the_weights_and_nothing_else(sampler: TransformersSampler) -> None:
    kept: list[tuple[int, list[Example], list[list[int]]]] = []
    source = Rollouts(PROMPTS, 3, 0, sampler, watch=lambda *seen: kept.append(seen))
    first, again, later = source(2), source(2), source(3)
    assert all(torch.equal(a, b) for a, b in zip(first[:5], again[:5], strict=True))
    assert first.tokens.shape != later.tokens.shape or not torch.equal(first.tokens, later.tokens)
    assert [step for step, *_ in kept] == [2, 2, 3] and kept[0] == kept[1]
    for k, (example, answer) in enumerate(zip(*kept[0][1:], strict=True)):
        ids = [*example.prompt, *answer]
        assert first.tokens[k][first.present[k]].tolist() == ids
        assert first.tokens[k][first.counted[k]].tolist() == list(answer)
    with torch.no_grad():
        weight = sampler.model.model.layers[0].mlp.down_proj.weight
        weight.mul_(-8)
        changed = source(2)
        weight.div_(-8)
    assert changed.tokens.shape != first.tokens.shape or not torch.equal(changed.tokens, first.tokens)


def test_a_mixture_takes_its_share() -> None:
    one, other = Conversations(ANSWERED[:1], 1, 0), Conversations(ANSWERED[1:2], 1, 0)

    def share(mixture: Mixture, steps: range) -> float:
        return sum(bool(mixture(step).tokens[0, 0] == 1) for step in steps) / len(steps)

    # s.e. 0.02
    assert share(Mixture(one, other, 0.3, seed=0), range(500)) == pytest.approx(0.3, abs=0.08)
    ramp = Mixture(one, other, lambda step: float(step >= 10), seed=0)
    assert share(ramp, range(10)) == 0 and share(ramp, range(10, 20)) == 1


def test_a_replay_repeats_its_pairs_exactly_and_rollouts_never() -> None:
    count = iter(range(1000))
    replay = Replay(PROMPTS, 7, 0, [lambda prompts, seed: [[next(count), 0] for _ in prompts]], each=2)
    pairs = [pair for step in range(6) for pair in replay.identities(step)]  # three epochs of 14 pairs
    assert len(set(pairs)) == 14 and all(pairs.count(pair) == 3 for pair in pairs)
    assert replay.tokens == 28
    batch = replay(0)
    assert isinstance(batch, Batch) and batch.counted.sum() == 14


def test_filling_up() -> None:
    batch = collate(ANSWERED, pad=9)
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 0], [5, 6, 0, 9, 9], [7, 8, 9, 0, 9]]
    assert batch.present.sum() == 5 + 3 + 4 and batch.counted.sum() == 6


@pytest.mark.parametrize("wrong", [{"length": 0}, {"temperature": 0.0}, {"top_p": 0.0}, {"top_k": -1}])
def test_impossible_samplers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        TransformersSampler(None, **({"length": 3, "end": 0} | wrong))


def test_a_teacher_that_writes_reads_what_it_is_told() -> None:
    asked: list[tuple[int, ...]] = []

    def sampler(prompts: Any, seed: int) -> list[list[int]]:
        asked.extend(map(tuple, prompts))
        return [[0] for _ in prompts]

    examples = [Example((1,), told=(9, 1)), Example((2,))]
    for told, expected in ((True, [(9, 1), (2,)]), (False, [(1,), (2,)])):
        asked.clear()
        Replay(examples, 1, 0, [sampler], told=told)
        assert asked == expected


def test_a_broken_model_is_named() -> None:
    model = tiny_llama(16, vocabulary=8)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(math.nan)
    with pytest.raises(TrainingError, match="probabilities that are not finite"):
        TransformersSampler(model, 2, 0)([(1,)], seed=0)


def test_a_batch_in_which_nothing_counts_costs_nothing() -> None:
    student, teacher = tiny_llama(16, vocabulary=8, seed=0), tiny_llama(16, vocabulary=8, seed=1)
    batch = collate([Example((1, 2)), Example((3,))])
    for signal in (Teaching(teacher, ce_weight=0.5), OnPolicy([teacher]), NextToken()):
        parts = signal.loss(student, batch, 0)
        parts["loss"].backward()
        assert parts["loss"] == 0 == parts["weight"]
    assert all(weight.grad is None or not weight.grad.any() for weight in student.parameters())
