from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax
from transformers import Gemma2Config, Gemma2ForCausalLM

from limbeck.errors import ConfigError, TrainingError
from limbeck.lm import Batch, Divergence, Teaching, evaluation_windows, tiny_llama
from limbeck.lm.slots import counted_logits
from limbeck.lm.states import by_domain, has_plain_head
from limbeck.lm.teaching import require_vocabulary

TEACHER = tiny_llama(16, seed=1).eval()
INPUTS = torch.arange(24).reshape(2, 12)
LABELS = INPUTS + 1
BATCH = Batch.of(torch.cat([INPUTS, LABELS[:, -1:]], 1))
with torch.no_grad():
    LOGITS = TEACHER(**BATCH.inputs).logits
SAID = LOGITS.flatten(0, 1)
WINDOWS = evaluation_windows(torch.arange(65, dtype=torch.int32).numpy(), context=8)[:, 0]


def student_logits(vocabulary: int = 256) -> torch.Tensor:
    return torch.randn(2, 12, vocabulary, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_forward_kl_is_zero_at_the_teacher_and_its_gradient_the_difference() -> None:
    teaching = Teaching(TEACHER)
    assert teaching.loss(TEACHER, BATCH)["loss"].item() == pytest.approx(0, abs=1e-6)
    student = student_logits()
    teaching.compare(student.flatten(0, 1), SAID, BATCH)["loss"].backward()
    expected = (student.softmax(-1) - LOGITS.softmax(-1)).detach() / 24
    torch.testing.assert_close(student.grad, expected)
    assert all(weight.grad is None for weight in TEACHER.parameters())


def test_mix_is_the_weighted_sum_of_its_parts() -> None:
    student = student_logits()
    parts = Teaching(TEACHER, Divergence(temperature=2.0), ce_weight=0.3).compare(student.flatten(0, 1), SAID, BATCH)
    entropy = cross_entropy(student.flatten(0, 1), LABELS.flatten())
    assert parts["cross_entropy"].item() == pytest.approx(entropy.item(), rel=1e-6)
    with torch.no_grad():
        p = log_softmax(TEACHER(input_ids=INPUTS).logits / 2, -1)
    q = log_softmax(student / 2, -1)
    divergence = 4 * (p.exp() * (p - q)).sum(-1).mean()
    assert parts["divergence"].item() == pytest.approx(divergence.item(), rel=1e-5)
    assert parts["loss"].item() == pytest.approx((0.7 * divergence + 0.3 * entropy).item(), rel=1e-5)


def test_masked_positions_count_for_nothing() -> None:
    counted = torch.zeros_like(BATCH.tokens, dtype=torch.bool)
    counted[0, :6] = True
    student = student_logits()
    batch = Batch.of(BATCH.tokens, counted)
    parts = Teaching(TEACHER, ce_weight=0.5).compare(student[batch.mask], LOGITS[batch.mask], batch)
    parts["loss"].backward()
    assert student.grad is not None
    assert student.grad[0, :5].abs().sum() > 0 and student.grad[0, 5:].abs().sum() == 0 == student.grad[1].abs().sum()
    kept = Teaching(TEACHER, ce_weight=0.5).compare(student[0, :5], LOGITS[0, :5], Batch.of(BATCH.tokens[:1, :6]))
    assert parts["weight"] == kept["weight"] == 5
    assert parts["loss"].item() == pytest.approx(kept["loss"].item(), rel=1e-5)


@pytest.mark.parametrize("vocabulary", ["common", "pad"])
@pytest.mark.parametrize("size", [200, 300])
def test_unequal_vocabularies_are_finite(vocabulary: str, size: int) -> None:
    divergence = Divergence("generalized_jsd", beta=0.5)
    student = student_logits(size)
    parts = Teaching(TEACHER, divergence, vocabulary=vocabulary).compare(student.flatten(0, 1), SAID, BATCH)  # type: ignore[arg-type]
    parts["loss"].backward()
    assert 0 < parts["loss"].item() < math.log(2)
    assert student.grad is not None and student.grad.isfinite().all()
    pushed = vocabulary == "pad" and size == 300  # only then do tokens that the teacher lacks lose probability
    assert (student.grad[..., 256:].abs().sum() > 0) == pushed


def test_common_renormalises_the_teacher_on_shared_tokens() -> None:
    student = student_logits(200)
    loss = Teaching(TEACHER, vocabulary="common").compare(student.flatten(0, 1), SAID, BATCH)["loss"]
    with torch.no_grad():
        p = TEACHER(input_ids=INPUTS).logits.softmax(-1)[..., :200]
    p = p / p.sum(-1, keepdim=True)
    assert loss.item() == pytest.approx((p * (p.log() - student.log_softmax(-1))).sum(-1).mean().item(), rel=1e-5)


def test_different_sizes_ask_for_a_choice() -> None:
    student = tiny_llama(16, vocabulary=200)
    with pytest.raises(TrainingError) as caught:
        require_vocabulary(Teaching(TEACHER), TEACHER, student, WINDOWS, 64)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the teacher has 256 tokens, the student 200. Choose what to do with the 56 extra ones:"
    assert lines[1].startswith("  vocabulary: common   compare on the shared 200 (the teacher's mass there: 0.")
    assert lines[2] == "  vocabulary: pad      give the student −∞ on them"
    with pytest.raises(TrainingError, match="forward_kl is infinite where the student has"):
        require_vocabulary(Teaching(TEACHER, vocabulary="pad"), TEACHER, student, WINDOWS, 64)
    with pytest.raises(TrainingError, match="reverse_kl is infinite where the teacher has"):
        reverse = Divergence("generalized_jsd", beta=1.0)
        student = tiny_llama(16, vocabulary=300)
        require_vocabulary(Teaching(TEACHER, reverse, vocabulary="pad"), TEACHER, student, WINDOWS, 64)
    student = tiny_llama(16, vocabulary=200)
    require_vocabulary(Teaching(TEACHER, vocabulary="common"), TEACHER, student, WINDOWS, 64)
    with pytest.raises(TrainingError, match="text holds token 64, but only 50 tokens"):
        require_vocabulary(Teaching(TEACHER, vocabulary="common"), TEACHER, tiny_llama(16, vocabulary=50), WINDOWS, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "forwrd_kl"}, "forward_kl"),
        ({"temperature": 0.0}, "temperature must be positive, got 0"),
        ({"beta": 0.5}, "forward_kl has no beta"),
        ({"name": "generalized_jsd", "beta": 2.0}, "between 0"),
    ],
)
def test_impossible_divergences_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Divergence(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ce_weight"):
        Teaching(TEACHER, ce_weight=1.5)


def test_sequences_count_by_their_weight_and_padding_not_at_all() -> None:
    student, present = student_logits(), torch.ones(2, 13, dtype=torch.bool)
    present[1, 8:] = False
    batch = Batch.of(BATCH.tokens, present=present, weight=torch.tensor([2.0, 0.0]))
    parts = Teaching(TEACHER, ce_weight=0.5).compare(student[batch.mask], LOGITS[batch.mask], batch)
    alone = Teaching(TEACHER, ce_weight=0.5).compare(student[0], LOGITS[0], Batch.of(BATCH.tokens[:1]))
    assert parts["weight"] == 12 + 7
    assert parts["loss"].item() == pytest.approx(2 * 12 / 19 * alone["loss"].item(), rel=1e-5)
    assert "attention_mask" in batch.inputs and "attention_mask" not in BATCH.inputs


@pytest.mark.parametrize("settings", [{}, {"name": "generalized_jsd", "beta": 0.5, "temperature": 2.0}])
@pytest.mark.parametrize("sizes", [(4096, 4096), (4100, 4096)])
def test_large_vocabularies_take_the_fused_way_to_the_same_loss(
    settings: dict[str, float], sizes: tuple[int, int]
) -> None:
    student, teacher = (tiny_llama(16, vocabulary=size, seed=size % 3).double() for size in sizes)
    told = Batch.of(torch.tensor([[9, 9, 1, 2, 3, 4]]), torch.tensor([[0, 0, 0, 1, 1, 1]]) > 0)
    batch = Batch.of(torch.tensor([[1, 2, 3, 4]]), weight=torch.tensor([0.5]), told=told)
    share = 0.25 if sizes[0] == sizes[1] else 0.0
    teaching = Teaching(teacher, Divergence(**settings), share, "common")  # type: ignore[arg-type]
    fused = teaching.loss(student, batch)
    plain = teaching.compare(counted_logits(student, batch), by_domain([teacher], batch), batch)
    assert "divergence" in plain and "divergence" not in fused and fused["weight"] == 3
    gradients = [torch.autograd.grad(way["loss"], student.get_input_embeddings().weight) for way in (fused, plain)]
    assert fused["loss"].item() == pytest.approx(plain["loss"].item(), rel=1e-7)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=5e-8)


def test_heads_that_bend_their_logits_are_not_fused() -> None:
    config = Gemma2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        vocab_size=64, intermediate_size=16,
    )  # fmt: skip
    assert not has_plain_head(Gemma2ForCausalLM(config)) and has_plain_head(tiny_llama(16))
