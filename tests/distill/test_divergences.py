"""Divergences: common checks over every registered loss, closed-form gradients, limits, reference vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limbeck.distill import forward_kl, generalized_jsd, get_loss, loss_names, of_generator, reverse_kl
from limbeck.errors import ConfigError, TrainingError

# Options under which the common checks run a loss beside its defaults.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "generalized_jsd": [{"beta": beta, "normalised": n} for beta in (0.0, 0.1, 0.9, 1.0) for n in (False, True)],
    "alpha_divergence": [{"alpha": alpha} for alpha in (-0.5, 0.0, 0.3, 1.0, 2.0)],
    "skew_forward_kl": [{"skew": skew} for skew in (0.0, 0.5)],
    "skew_reverse_kl": [{"skew": skew} for skew in (0.0, 0.5)],
    "pld": [{"weights": "position"}, {"top": 2}, {"teacher_temperature": 3.0}],
    "dkd": [{"alpha": 2.0, "beta": 0.5}, {"alpha": 0.0, "beta": 1.0}],
    "dist": [{"gamma": 0.0}],
    "cakld": [{"gamma": gamma} for gamma in (0.0, 0.3, 1.0)],
    "topk_kl": [{"k": k, "variant": variant} for k in (1, 3, 11) for variant in ("forward", "reverse")],
}
CASES = [pytest.param(name, {}, id=name) for name in loss_names()] + [
    pytest.param(name, options, id=f"{name}-{options}") for name, many in OPTIONS.items() for options in many
]
LABELLED = {"cross_entropy", "hard_label", "list_mle", "pld"}  # their minimum is not the teacher
BATCHED = {"batch_similarity", "class_similarity", "dist"}  # a position's value depends on the others
every_loss = pytest.mark.parametrize(("name", "options"), CASES)


def logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 2.0) -> Tensor:
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def labels(student: Tensor) -> Tensor:
    places = student.shape[:-1]
    return torch.arange(math.prod(places)).reshape(places) % student.shape[-1]


def bound(name: str, options: dict[str, Any], **more: Any) -> Callable[..., Tensor]:
    """A loss with its options, and with true classes for those that need them."""
    function = partial(get_loss(name).function, **options, **more)

    def loss(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Any) -> Tensor:
        return function(student, teacher, labels(student) if target is None else target, **how)

    return loss


def gradient(function: Any, student: Tensor, *arguments: Any, **options: Any) -> Tensor:
    student = student.detach().clone().requires_grad_()
    function(student, *arguments, **options).backward()
    assert student.grad is not None
    return student.grad


@every_loss
def test_is_positive_and_zero_at_equality_only(name: str, options: dict[str, Any]) -> None:
    loss = bound(name, options)
    student, teacher = logits(50, 11), logits(50, 11, seed=1)
    assert (loss(student, teacher, reduction="none") > 1e-3).all()
    if name not in LABELLED:
        least = 1e-6 if name == "dist" else 1e-14  # its correlations are divided by 1e-8 more
        assert loss(teacher, teacher, reduction="none").abs().max() < least
        assert gradient(loss, teacher, teacher).abs().max() < least


@every_loss
def test_shifting_logits_changes_nothing_and_gradient_rows_sum_to_zero(name: str, options: dict[str, Any]) -> None:
    loss = bound(name, options)
    student, teacher = logits(3, 5, 11), logits(3, 5, 11, seed=1)
    shifted = loss(student + logits(3, 5, 1, seed=2), teacher - 7.0)
    torch.testing.assert_close(shifted, loss(student, teacher), rtol=1e-12, atol=0)
    assert gradient(loss, student, teacher).sum(-1).abs().max() < 1e-14


@pytest.mark.parametrize(("name", "options"), [c for c in CASES if get_loss(str(c.values[0])).generator is not None])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gradient_is_the_closed_form(name: str, options: dict[str, Any], temperature: float) -> None:
    entry = get_loss(name)
    assert entry.generator is not None
    student, teacher = logits(20, 13), logits(20, 13, seed=1)
    log_q, log_p = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    slope = entry.generator.slope(log_p, log_q, **options)
    closed = (slope - log_q.exp() * slope.sum(-1, keepdim=True)) / temperature
    found = gradient(entry.function, student, teacher, temperature=temperature, reduction="sum", **options)
    torch.testing.assert_close(found, closed, rtol=0, atol=1e-8)


@every_loss
def test_gradcheck_and_detached_teacher(name: str, options: dict[str, Any]) -> None:
    loss = bound(name, options)
    student, teacher = logits(2, 5).requires_grad_(), logits(2, 5, seed=1).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    if name == "todi":  # its switch between the directions is not differentiated
        return
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))


@every_loss
def test_masked_positions_cost_nothing_and_change_nothing(name: str, options: dict[str, Any]) -> None:
    loss = bound(name, options)
    student, teacher = logits(4, 6, 11), logits(4, 6, 11, seed=1)
    mask = torch.arange(24).view(4, 6) % 3 == 0
    values = torch.zeros(4, 6, dtype=torch.float64)
    values[mask] = loss(student[mask], teacher[mask], labels(student)[mask], reduction="none")
    if name not in BATCHED:
        assert torch.equal(values[mask], loss(student, teacher, reduction="none")[mask])
    hidden_student = student.masked_fill(~mask[..., None], math.nan)
    hidden_teacher = teacher.masked_fill(~mask[..., None], math.inf)
    for seen in ((student, teacher), (hidden_student, hidden_teacher)):
        torch.testing.assert_close(loss(*seen, mask=mask), values[mask].mean(), rtol=1e-12, atol=0)
        torch.testing.assert_close(loss(*seen, mask=mask, reduction="sum"), values[mask].sum(), rtol=1e-12, atol=0)
        assert torch.equal(loss(*seen, mask=mask, reduction="none"), values)
        found = gradient(loss, seen[0], seen[1], mask=mask)
        assert torch.equal(found[~mask], torch.zeros(16, 11, dtype=torch.float64))
        assert (found[mask].abs().sum(-1) > 1e-6).all()


@every_loss
def test_all_masked_gives_zero_with_zero_gradient(name: str, options: dict[str, Any]) -> None:
    loss = bound(name, options)
    student, teacher, mask = logits(2, 3, 5), logits(2, 3, 5, seed=1), torch.zeros(2, 3, dtype=torch.bool)
    for reduction in ("mean", "sum"):
        assert loss(student, teacher, mask=mask, reduction=reduction).item() == 0.0
        assert torch.equal(
            gradient(loss, student, teacher, mask=mask, reduction=reduction), torch.zeros(2, 3, 5).double()
        )


@every_loss
def test_precision_inside(name: str, options: dict[str, Any]) -> None:
    loss = bound(name, options)
    student, teacher = logits(8, 300), logits(8, 300, seed=1)
    exact = loss(student, teacher)
    assert exact.dtype == torch.float64
    single = loss(student.float(), teacher)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)
    coarse = student.bfloat16()
    assert loss(coarse, teacher.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(loss(coarse, teacher), loss(coarse.float(), teacher), rtol=0, atol=0)
    assert gradient(loss, coarse, teacher).dtype == torch.bfloat16


BOUNDED_GROWTH = [case for case in CASES if not {case.id} & {"pearson", "neyman"} and "alpha" not in str(case.id)]


@pytest.mark.parametrize(("name", "options"), BOUNDED_GROWTH)
def test_extreme_logits_stay_finite(name: str, options: dict[str, Any]) -> None:
    """In float32, with ±60 and −1e9 on either side, and −inf for tokens that neither side has."""
    loss = bound(name, options, reduction="none")
    teacher = torch.tensor([[60.0, -60.0, 0.0], [0.0, -1e9, 1.0], [1.0, 0.0, -1e9], [0.5, 0.0, -math.inf]])
    student = torch.tensor([[-60.0, 60.0, 0.0], [-1e9, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.5, -math.inf]])
    assert loss(student, teacher).isfinite().all()
    found = gradient(lambda s, t: loss(s, t).sum(), student, teacher)
    assert found.isfinite().all()
    assert (found.sum(-1).abs() <= 1e-6 * (1 + found.abs().sum(-1))).all()


@every_loss
def test_temperature_squared_is_explicit(name: str, options: dict[str, Any]) -> None:
    loss = bound(name, options, temperature=3.0)
    student, teacher = logits(5, 7), logits(5, 7, seed=1)
    plain, scaled = loss(student, teacher), loss(student, teacher, tau_squared=True)
    torch.testing.assert_close(scaled, 9 * plain, rtol=1e-14, atol=0)
    torch.testing.assert_close(plain, bound(name, options)(student / 3, teacher / 3), rtol=1e-12, atol=0)


def test_values_by_hand() -> None:
    teacher, student = torch.tensor([0.75, 0.25]).double().log(), torch.tensor([0.5, 0.5]).double().log()
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = -0.5 * math.log(1.5) - 0.5 * math.log(0.5)
    middle = 0.5 * (0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375)) + 0.5 * (
        0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375)
    )
    assert forward_kl(student, teacher).item() == pytest.approx(forward, rel=1e-14)
    assert reverse_kl(student, teacher).item() == pytest.approx(reverse, rel=1e-14)
    assert generalized_jsd(student, teacher).item() == pytest.approx(middle, rel=1e-14)


def test_generators_by_their_functions_of_the_ratio() -> None:
    """Every row of the survey's table: D = sum q f(p / q)."""
    student, teacher = logits(7, 9), logits(7, 9, seed=1)
    q, u = student.softmax(-1), teacher.softmax(-1) / student.softmax(-1)
    rows: dict[str, tuple[dict[str, float], Any]] = {
        "forward_kl": ({}, u * u.log()),
        "reverse_kl": ({}, -u.log()),
        "generalized_jsd": ({"beta": 0.3}, 0.3 * u * (u / (0.3 * u + 0.7)).log() - 0.7 * (0.3 * u + 0.7).log()),
        "total_variation": ({}, 0.5 * (u - 1).abs()),
        "alpha_divergence": ({"alpha": 0.3}, (u**0.3 - 1 - 0.3 * (u - 1)) / (0.3 * -0.7)),
        "skew_forward_kl": ({"skew": 0.1}, u * (u / (0.1 * u + 0.9)).log()),
        "skew_reverse_kl": ({"skew": 0.1}, -(0.9 * u + 0.1).log()),
        "jeffreys": ({}, (u - 1) * u.log()),
        "cakld": ({"gamma": 0.3}, (0.7 * u - 0.3) * u.log()),
        "squared_hellinger": ({}, (u.sqrt() - 1) ** 2),
        "pearson": ({}, (u - 1) ** 2),
        "neyman": ({}, (u - 1) ** 2 / u),
    }
    assert set(rows) == {name for name in loss_names() if get_loss(name).generator is not None}
    for name, (options, f) in rows.items():
        found = get_loss(name).function(student, teacher, reduction="none", **options)
        torch.testing.assert_close(found, (q * f).sum(-1), rtol=1e-10, atol=1e-13)


def test_limits_and_bounds_of_the_family() -> None:
    student, teacher = logits(40, 9), logits(40, 9, seed=1)
    of = {name: partial(get_loss(name).function, student, teacher, reduction="none") for name in loss_names()}
    forward, reverse = of["forward_kl"](), of["reverse_kl"]()
    torch.testing.assert_close(of["alpha_divergence"](alpha=1 - 1e-6), forward, rtol=1e-4, atol=0)
    torch.testing.assert_close(of["alpha_divergence"](alpha=1e-6), reverse, rtol=1e-4, atol=0)
    torch.testing.assert_close(of["alpha_divergence"](alpha=0.5), 2 * of["squared_hellinger"]())
    torch.testing.assert_close(of["alpha_divergence"](alpha=2.0), 0.5 * of["pearson"]())
    torch.testing.assert_close(of["skew_forward_kl"](skew=0.0), forward)
    torch.testing.assert_close(of["skew_reverse_kl"](skew=0.0), reverse)
    variation = of["total_variation"]()
    assert (variation <= 1).all() and (of["squared_hellinger"]() <= 2).all()
    assert (variation**2 <= torch.minimum(forward, reverse) / 2 + 1e-12).all()  # Pinsker


def test_a_generator_of_ones_own() -> None:
    log_q, log_p = logits(6, 8).log_softmax(-1), logits(6, 8, seed=1).log_softmax(-1)
    own, known = of_generator(lambda u: -u.log()), get_loss("reverse_kl").generator
    assert known is not None
    torch.testing.assert_close(own.value(log_p, log_q), known.value(log_p, log_q))
    difference = own.slope(log_p, log_q) - known.slope(log_p, log_q)
    multiple = difference / log_q.exp()  # a constant more in h changes nothing
    torch.testing.assert_close(multiple, multiple[:, :1].expand_as(multiple))


def test_missing_support_is_infinite() -> None:
    """A teacher token that the student excludes costs infinitely much forward KL; the other way round, reverse KL."""
    one_sided, full = torch.tensor([0.0, -math.inf]), torch.tensor([0.0, 0.0])
    assert forward_kl(one_sided, full).item() == math.inf
    assert reverse_kl(full, one_sided).item() == math.inf
    assert forward_kl(full, one_sided).item() == pytest.approx(math.log(2), rel=1e-6)
    assert reverse_kl(one_sided, full).item() == pytest.approx(math.log(2), rel=1e-6)


def test_jsd_ends_and_limits() -> None:
    student, teacher = logits(6, 9), logits(6, 9, seed=1)
    forward, reverse = forward_kl(student, teacher), reverse_kl(student, teacher)
    for normalised in (False, True):
        assert torch.equal(generalized_jsd(student, teacher, beta=0, normalised=normalised), forward)
        assert torch.equal(generalized_jsd(student, teacher, beta=1, normalised=normalised), reverse)
    near = 1e-4
    assert generalized_jsd(student, teacher, beta=near).item() / near == pytest.approx(forward.item(), rel=1e-2)
    assert generalized_jsd(student, teacher, beta=1 - near).item() / near == pytest.approx(reverse.item(), rel=1e-2)
    assert generalized_jsd(student, teacher, beta=near, normalised=True).item() == pytest.approx(
        forward.item(), rel=1e-2
    )


@given(st.floats(0.01, 0.99), st.integers(0, 1000), st.floats(0.1, 40))
@settings(max_examples=60, deadline=None)
def test_jsd_bounds_and_symmetry(beta: float, seed: int, spread: float) -> None:
    """JSD_beta(p, q) = JSD_(1-beta)(q, p), between 0 and the entropy of (beta, 1 - beta), and at most log 2."""
    student, teacher = logits(4, 8, seed=seed, spread=spread), logits(4, 8, seed=seed + 1, spread=spread)
    value = generalized_jsd(student, teacher, beta=beta, reduction="none")
    mirrored = generalized_jsd(teacher, student, beta=1 - beta, reduction="none")
    torch.testing.assert_close(value, mirrored, rtol=1e-9, atol=1e-14)
    entropy = -beta * math.log(beta) - (1 - beta) * math.log1p(-beta)
    assert value.min() > -1e-14
    assert value.max() <= entropy + 1e-14 <= math.log(2) + 2e-14


def test_high_temperature_compares_centred_logits() -> None:
    """tau² KL has the gradient (z_S − z_T) / V of zero-mean logits as tau grows (Hinton et al., section 2.1)."""
    student, teacher = logits(3, 7), logits(3, 7, seed=1)
    found = gradient(forward_kl, student, teacher, temperature=1e5, tau_squared=True, reduction="sum")
    centred = (student - student.mean(-1, keepdim=True) - teacher + teacher.mean(-1, keepdim=True)) / 7
    torch.testing.assert_close(found, centred, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"teacher": torch.zeros(2, 6)}, TrainingError, r"\[2, 5\].*\[2, 6\].*vocabulary"),
        ({"mask": torch.ones(5)}, TrainingError, r"mask \[5\].*\[2\]"),
        ({"temperature": 0.0}, ConfigError, "temperature must be positive, got 0"),
        ({"reduction": "batchmean"}, ConfigError, 'got "batchmean"'),
        ({"beta": 1.5}, ConfigError, "beta must lie between 0 .* got 1.5"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"student": torch.zeros(2, 5), "teacher": torch.zeros(2, 5)} | change
    with pytest.raises(error, match=words):
        generalized_jsd(**arguments)


# ---- reference vectors ---------------------------------------------------------------------------


exact = partial(torch.tensor, dtype=torch.float64)


def _gkd(section: dict[str, Any]) -> None:
    """Reduction there: batchmean divides by valid tokens with labels, by sequences without, by num_items if given."""
    inputs: dict[str, Any] = {}
    for case in section["cases"]:
        inputs = inputs if case.get("same_inputs_as_previous") else case
        student, teacher = (exact(inputs[f"{side}_logits"]) for side in ("student", "teacher"))
        labels = inputs["labels"]
        mask = None if labels is None else torch.tensor(labels) != -100
        divisor = 1.0
        if case["reduction"] == "batchmean":
            divisor = case["num_items_in_batch"] or (len(student) if mask is None else max(1, mask.sum().item()))

        def loss(s: Tensor, t: Tensor) -> Tensor:
            options = {"beta": case["beta"], "temperature": case["temperature"], "mask": mask}  # noqa: B023
            return generalized_jsd(s, t, reduction="sum", **options) / divisor  # noqa: B023

        assert loss(student, teacher).item() == pytest.approx(case["loss"], rel=1e-10)
        if "grad_student_logits" in case:
            expected = exact(case["grad_student_logits"])
            torch.testing.assert_close(gradient(loss, student, teacher), expected, rtol=2e-8, atol=1e-9)


def _gkd_extreme(section: dict[str, Any]) -> None:
    for case in section["cases"]:
        student, teacher = (exact(case[f"{side}_logits"]) for side in ("student", "teacher"))
        loss = partial(generalized_jsd, beta=case["beta"], reduction="sum")
        assert loss(student, teacher).item() == pytest.approx(case["loss"], rel=1e-10, abs=1e-12), case["name"]
        expected = exact(case["grad"])
        torch.testing.assert_close(gradient(loss, student, teacher), expected, rtol=2e-8, atol=1e-9, msg=case["name"])


@pytest.mark.parity
def test_parity_generalized_jsd(parity: Any, walk_sections: Any) -> None:
    walk_sections(
        parity("on-policy-distillation-survey"),
        {"generalized_jsd": _gkd, "generalized_jsd_extreme": _gkd_extreme},
        ignore=("dtype_note", "minillm_advantage"),  # the latter: tests of the estimators
    )


def _full_vocabulary(section: dict[str, Any]) -> None:
    for case in section["cases"]:
        student, teacher = (exact(case[f"{side}_logp"]) for side in ("student", "teacher"))
        found = generalized_jsd(student, teacher, beta=case["beta"], reduction="none")
        torch.testing.assert_close(found, exact(case["per_token_full_vocab"]), rtol=1e-10, atol=1e-11)


def _dense(section: dict[str, Any]) -> None:
    for case in section["cases"]:
        student, teacher = (exact(case[f"{side}_logits"]) for side in ("student", "teacher"))
        options = {"temperature": case["temperature"], "mask": torch.tensor(case["mask"]), "reduction": "sum"}
        assert forward_kl(student, teacher, **options).item() == pytest.approx(case["kl_dense"], rel=2e-6)
        assert generalized_jsd(student, teacher, **options).item() == pytest.approx(case["jsd_dense"], rel=2e-6)


def _linear_heads(section: dict[str, Any]) -> None:
    for case in section["cases"]:
        hidden, weight, teacher_hidden, teacher_weight = (
            exact(case[name]) for name in ("student_hidden", "student_weight", "teacher_hidden", "teacher_weight")
        )
        hidden.requires_grad_()
        weight.requires_grad_()
        mask = torch.tensor(case["labels"]) != -100
        options = {"beta": case["beta"], "temperature": case["temperature"], "mask": mask}
        loss = generalized_jsd(hidden @ weight.T, teacher_hidden @ teacher_weight.T, **options)
        loss.backward()
        assert loss.item() == pytest.approx(case["loss"], rel=1e-5)
        torch.testing.assert_close(hidden.grad, exact(case["grad_hidden"]), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(weight.grad, exact(case["grad_weight"]), rtol=1e-4, atol=1e-6)


@pytest.mark.parity
def test_parity_dense_divergences_of_other_engines(parity: Any, walk_sections: Any) -> None:
    walk_sections(
        parity("llm-distillation-engines"),
        {"topk_tail_bucket": _full_vocabulary, "distillkit_sparse": _dense, "liger_fused_linear_jsd": _linear_heads},
        # gold_uld: tests of the alignment; the top-k forms of the others: tests of the teacher cache.
        ignore=("dtype_note", "gold_uld"),
    )
