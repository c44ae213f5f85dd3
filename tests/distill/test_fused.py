"""The fused loss equals the plain one in value and gradient, for every divergence, mask and chunk."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import fused_divergence, get_loss, loss_names, of_generator
from limbeck.errors import ConfigError, TrainingError

NAMES = [name for name in loss_names() if get_loss(name).generator is not None]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "generalized_jsd": [{"beta": 0.0}, {"beta": 0.1, "normalised": True}, {"beta": 1.0}],
    "alpha_divergence": [{"alpha": -0.5}, {"alpha": 1.0}, {"alpha": 2.0}],
}
CASES = [(name, options) for name in NAMES for options in [{}, *OPTIONS.get(name, [])]]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def heads() -> dict[str, Tensor]:
    """Six positions in two sequences, 5 and 7 wide, 11 tokens."""
    return {
        "student": normal(2, 3, 5).requires_grad_(),
        "student_head": (0.7 * normal(11, 5, seed=1)).requires_grad_(),
        "teacher": normal(2, 3, 7, seed=2),
        "teacher_head": 0.7 * normal(11, 7, seed=3),
    }


def gradients(loss: Tensor, heads: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, (heads["student"], heads["student_head"]), retain_graph=True)


def plain(heads: dict[str, Tensor], name: str, **options: Any) -> Tensor:
    logits = [heads[side] @ heads[f"{side}_head"].T for side in ("student", "teacher")]
    return get_loss(name).function(*logits, **options)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("chunk", [1, 4, 6, 50])
def test_equals_the_plain_loss(
    heads: dict[str, Tensor], name: str, options: dict[str, Any], temperature: float, chunk: int
) -> None:
    for mask in (None, torch.tensor([[True, False, True], [False, False, True]])):
        how: dict[str, Any] = {"temperature": temperature, "tau_squared": chunk == 4, "mask": mask, **options}
        expected, found = plain(heads, name, **how), fused_divergence(**heads, divergence=name, chunk=chunk, **how)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        for mine, theirs in zip(gradients(found, heads), gradients(expected, heads), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_cross_entropy_weights_and_count(heads: dict[str, Tensor]) -> None:
    target, weight = torch.arange(6).view(2, 3), torch.linspace(0.5, 2.0, 6, dtype=torch.float64).view(2, 3)
    found = fused_divergence(**heads, target=target, ce_weight=0.3, weight=weight, temperature=2.0, count=9, chunk=4)
    logits = heads["student"] @ heads["student_head"].T
    entropy = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(2, 3)
    expected = (
        weight * (0.7 * plain(heads, "forward_kl", temperature=2.0, reduction="none") + 0.3 * entropy)
    ).sum() / 9
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for mine, theirs in zip(gradients(found, heads), gradients(expected, heads), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-14)


def test_micro_batches_with_their_common_count_equal_one_batch(heads: dict[str, Tensor]) -> None:
    mask = torch.tensor([[True, True, True], [False, False, True]])
    whole = gradients(fused_divergence(**heads, mask=mask), heads)
    parts = [torch.zeros_like(one) for one in whole]
    for row in range(2):
        part = heads | {side: heads[side][row] for side in ("student", "teacher")}
        loss = fused_divergence(**part, mask=mask[row], count=4)
        for total, one in zip(parts, gradients(loss, heads), strict=True):
            total += one
    for mine, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-15)


def test_no_position_no_loss(heads: dict[str, Tensor]) -> None:
    loss = fused_divergence(**heads, mask=torch.zeros(2, 3, dtype=torch.bool))
    assert loss.item() == 0.0
    assert all(torch.equal(one, torch.zeros_like(one)) for one in gradients(loss, heads))


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "generalized_jsd"])
@pytest.mark.parametrize("tokens", [(8, 11), (11, 8)])
def test_vocabularies_of_two_sizes(heads: dict[str, Tensor], name: str, tokens: tuple[int, int]) -> None:
    heads = heads | {
        "student_head": heads["student_head"][: tokens[0]].detach().requires_grad_(),
        "teacher_head": heads["teacher_head"][: tokens[1]],
    }
    with pytest.raises(TrainingError, match=f"the student has {tokens[0]} tokens, the teacher {tokens[1]}"):
        fused_divergence(**heads)
    logits = [(heads[side] @ heads[f"{side}_head"].T) for side in ("student", "teacher")]
    common = [one[..., :8] for one in logits]
    padded = [F.pad(one, (0, 11 - one.shape[-1]), value=-math.inf) for one in logits]
    for vocabulary, sides in (("common", common), ("pad", padded)):
        expected = get_loss(name).function(*sides)
        found = fused_divergence(**heads, divergence=name, vocabulary=vocabulary)  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        if expected.isfinite():
            for mine, theirs in zip(gradients(found, heads), gradients(expected, heads), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"beta": 0.3}, {"beta": 0.5, "normalised": True}, {"beta": 1.0}])
def test_probabilities_that_vanish_on_either_side_or_both(heads: dict[str, Tensor], options: dict[str, Any]) -> None:
    wide = heads | {side: (900 * heads[side]).detach().requires_grad_() for side in ("student_head", "teacher_head")}
    wide["teacher_head"].requires_grad_(False)
    expected, found = (
        plain(wide, "generalized_jsd", **options),
        fused_divergence(**wide, divergence="generalized_jsd", **options),
    )
    assert (wide["student"] @ wide["student_head"].T).log_softmax(-1).min() < -1500
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(gradients(found, wide), gradients(expected, wide), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-9)


def test_autocast_multiplies_in_bfloat16_and_compares_in_float32(heads: dict[str, Tensor]) -> None:
    single = {name: one.detach().float() for name, one in heads.items()}
    single["student_head"].requires_grad_()
    exact = fused_divergence(**single)
    with torch.autocast("cpu", torch.bfloat16):
        found = fused_divergence(**single)
    assert found.dtype == torch.float32
    assert 0 < abs(found.item() / exact.item() - 1) < 0.02


def test_a_generator_of_ones_own_and_gradcheck(heads: dict[str, Tensor]) -> None:
    own = of_generator(lambda u: (u - 1) ** 2 / (u + 1))
    loss = partial(fused_divergence, teacher=heads["teacher"], teacher_head=heads["teacher_head"], divergence=own)
    assert torch.autograd.gradcheck(lambda h, w: loss(h, w), (heads["student"], heads["student_head"]))


def test_it_is_differentiable_once(heads: dict[str, Tensor]) -> None:
    (first, _) = torch.autograd.grad(
        fused_divergence(**heads) * heads["student"].sum(), (heads["student"], heads["student_head"]), create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_bfloat16_in_float32_inside(heads: dict[str, Tensor]) -> None:
    coarse = {name: one.detach().bfloat16() for name, one in heads.items()}
    coarse["student"].requires_grad_()
    coarse["student_head"].requires_grad_()
    found = fused_divergence(**coarse)
    logits = [(coarse[side] @ coarse[f"{side}_head"].T).float() for side in ("student", "teacher")]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, get_loss("forward_kl").function(*logits), rtol=1e-6, atol=0)
    to_hidden, to_head = gradients(found, coarse)
    assert to_hidden.dtype == to_head.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"divergence": "topk_kl"}, ConfigError, "is no f-divergence"),
        ({"divergence": "forward_lk"}, ConfigError, "Did you mean"),
        ({"temperature": 0.0}, ConfigError, "temperature must be positive"),
        ({"ce_weight": 0.5}, ConfigError, "needs the target"),
        ({"ce_weight": 1.5}, ConfigError, "between 0 and 1"),
        ({"mask": torch.ones(3, 2)}, TrainingError, r"the mask \[3, 2\] .* \[2, 3\]"),
        ({"teacher": torch.zeros(2, 4, 7)}, TrainingError, r"teacher \[2, 4\]"),
    ],
)
def test_mistakes_are_named(
    heads: dict[str, Tensor], change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        fused_divergence(**(heads | change))


def test_memory_is_that_of_the_heads() -> None:
    """At V = 32 000 and 256 positions the peak rises by less than a quarter of what full logits take."""
    script = (
        "import pathlib, re, sys, torch\n"
        "from limbeck.distill import fused_divergence, generalized_jsd\n"
        "draw = torch.Generator().manual_seed(0)\n"
        "make = lambda *shape: torch.randn(*shape, generator=draw)\n"
        "h, w = make(256, 64).requires_grad_(), make(32000, 64).requires_grad_()\n"
        "g, v = make(256, 96), make(32000, 96)\n"
        "fused_divergence(h[:2], w[:40], g[:2], v[:40]).backward()\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
        "before = peak()\n"
        "if sys.argv[1] == 'fused':\n"
        "    fused_divergence(h, w, g, v, divergence='generalized_jsd').backward()\n"
        "else:\n"
        "    generalized_jsd(h @ w.T, g @ v.T).backward()\n"
        "print(peak() - before)\n"
    )
    rise = {}
    for way in ("fused", "plain"):
        done = subprocess.run([sys.executable, "-c", script, way], capture_output=True, text=True, check=True)
        rise[way] = int(done.stdout)
    assert 0 < rise["fused"] < 0.25 * rise["plain"]
