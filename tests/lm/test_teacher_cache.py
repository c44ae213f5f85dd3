"""Cached teachers: the same loss as the living one, bounds of top-k, kill and resume, damage."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.distill import forward_kl, generalized_jsd, kept_divergence, total_variation
from limbeck.errors import ConfigError, TrainingError
from limbeck.lm import (
    Batch,
    Corpus,
    Divergence,
    Regime,
    Teaching,
    Windows,
    byte_tokenizer,
    save_model,
    tiny_llama,
    tokenize,
    train_text,
)  # fmt: skip
from limbeck.lm.conversations import Conversations, Example, collate
from limbeck.lm.teacher_cache import CachedTeaching, TeacherCache, cache_teacher, identities

EXAMPLES = [
    Example(tuple(range(60, 60 + 2 + k % 3)), tuple(range(90 + k, 93 + k + k % 4)), domain=0) for k in range(12)
]
SOURCE = Conversations(EXAMPLES, batch=4, seed=0)
STUDENT = tiny_llama(16, vocabulary=128, seed=5)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_llama(16, vocabulary=128, seed=1)
    return save_model(model, byte_tokenizer(), tmp_path_factory.mktemp("teacher") / "model")


@pytest.fixture(scope="module")
def hidden(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> TeacherCache:
    return cache_teacher(teacher, SOURCE, 3, tmp_path_factory.mktemp("hidden"), form="hidden")


def gradients(signal: Any, batch: Batch) -> tuple[float, Tensor]:
    STUDENT.zero_grad()
    loss = signal.loss(STUDENT, batch)["loss"]
    loss.backward()
    return loss.item(), torch.cat([weight.grad.flatten() for weight in STUDENT.parameters()])


@pytest.mark.parametrize(
    "divergence", [Divergence(), Divergence("reverse_kl", temperature=2.0), Divergence("generalized_jsd", beta=0.3)]
)
def test_hidden_states_give_the_loss_of_the_living_teacher(hidden: TeacherCache, divergence: Divergence) -> None:
    living = Teaching(tiny_llama(16, vocabulary=128, seed=1).eval(), divergence, ce_weight=0.25)
    cached = CachedTeaching(hidden, divergence, ce_weight=0.25)
    for step in range(3):
        batch = SOURCE(step)._replace(weight=torch.tensor([1.0, 0.5, 2.0, 1.0]))
        there, here = living.loss(STUDENT, batch), cached.loss(STUDENT, batch)
        assert there["weight"] == here["weight"] == batch.mask.sum()
        assert here["loss"].item() == pytest.approx(there["loss"].item(), abs=1e-6)
        torch.testing.assert_close(gradients(cached, batch)[1], gradients(living, batch)[1], rtol=1e-4, atol=1e-6)


def test_a_training_with_the_cache_is_the_training_with_the_teacher(corpus: Corpus, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    text, regime = tokenize(corpus, tokenizer), Regime(batch=4, context=32, warmup=5)
    folder = save_model(tiny_llama(16, seed=1), tokenizer, tmp_path / "teacher")
    windows = Windows(text.train, regime.context, regime.batch, 0)
    cache = cache_teacher(folder, windows, regime.steps(4000), tmp_path / "cache", form="hidden")
    losses = []
    for teaching in (Teaching(tiny_llama(16, seed=1).eval()), CachedTeaching(cache)):
        out = tmp_path / type(teaching).__name__
        how = {"regime": regime, "seed": 0, "signal": teaching, "columns": {"run": "x"}}
        (row,) = train_text(lambda: tiny_llama(16, seed=2), text, tokenizer, [4000], out, **how)
        losses.append(row["loss"])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_half_precision_is_close_and_half_as_large(teacher: Path, hidden: TeacherCache, tmp_path: Path) -> None:
    compact = cache_teacher(teacher, SOURCE, 3, tmp_path, form="hidden", precision="bfloat16")
    exact, found = (CachedTeaching(one).loss(STUDENT, SOURCE(0))["loss"].item() for one in (hidden, compact))
    assert found != exact and found == pytest.approx(exact, rel=0.02)
    size = [one(SOURCE(0))["hidden"].nbytes for one in (hidden, compact)]
    assert size[0] == 2 * size[1] and "bfloat16" in CachedTeaching(compact).describe()


def test_all_tokens_give_the_full_divergence_and_fewer_a_lower_bound(
    teacher: Path, hidden: TeacherCache, tmp_path: Path
) -> None:
    full, batch = CachedTeaching(hidden).loss(STUDENT, SOURCE(0))["loss"].item(), SOURCE(0)
    losses = []
    for k in (1, 8, 64, 128):
        cache = cache_teacher(teacher, SOURCE, 1, tmp_path / str(k), k=k)
        losses.append(CachedTeaching(cache).loss(STUDENT, batch)["loss"].item())
        assert (cache.mass()[0] == 1) == (k == 128) and cache.mass()[1] <= cache.mass()[0]
    assert losses == sorted(losses) and losses[0] < losses[1] < losses[2] < full
    assert losses[3] == pytest.approx(full, rel=1e-6)


def test_samples_are_unbiased_and_reproducible(teacher: Path, hidden: TeacherCache, tmp_path: Path) -> None:
    full, batch = CachedTeaching(hidden).loss(STUDENT, SOURCE(0))["loss"].item(), SOURCE(0)
    cache = partial(cache_teacher, teacher, SOURCE, 1, form="sampled", k=100_000)
    one = cache(tmp_path / "a", seed=0)
    assert one.facts["k"] == 128  # never more than the vocabulary
    same, other = cache(tmp_path / "b", seed=0), cache(tmp_path / "c", seed=1)
    assert torch.equal(one(batch)["tokens"], same(batch)["tokens"])
    assert not torch.equal(one(batch)["tokens"], other(batch)["tokens"])
    found = CachedTeaching(one, kept="sampled").loss(STUDENT, batch)["loss"].item()
    # 18 positions of 128 samples: standard deviation of log(p / q) about 1.4, standard error about 0.03
    assert found == pytest.approx(full, abs=0.15)
    with pytest.raises(ConfigError, match="reverse_kl with kept=sampled"):
        CachedTeaching(one, Divergence("reverse_kl"), kept="sampled")


def test_what_a_cache_cannot_give_is_refused(teacher: Path, hidden: TeacherCache, tmp_path: Path) -> None:
    few = cache_teacher(teacher, SOURCE, 1, tmp_path, k=4, temperature=2.0)
    mean, low = few.mass()
    assert 0 < low < mean < 0.98 and f"mass {mean:.4f} (5 %: {low:.4f})" in few.summary()
    hot = Divergence(temperature=2.0)
    with pytest.raises(ConfigError, match=rf"hold {mean:.4f} of the teacher's mass \(5 % quantile {low:.4f}\)"):
        CachedTeaching(few, hot, kept="renormalised")
    assert CachedTeaching(few, hot, kept="renormalised", forced=True).loss(STUDENT, SOURCE(0))["loss"] > 0
    with pytest.raises(ConfigError, match="the cache is at temperature 2, not 1"):
        CachedTeaching(few)
    with pytest.raises(ConfigError, match="ce_weight must lie between 0 and 1, got 2"):
        CachedTeaching(few, hot, ce_weight=2)
    assert few.supports("reverse_kl") and not few.supports("reverse_kl", on_policy=True)
    assert not few.supports("topk_kl") and not few.supports("reverse_kl", kept="renormalised")
    assert hidden.supports("topk_kl") and not hidden.supports(on_policy=True)
    assert not few.supports(kept="sampled")


def test_sequences_are_found_by_their_tokens(hidden: TeacherCache) -> None:
    wide = collate([*SOURCE.at(0), Example((1, 2), tuple(range(60)))])
    padded = wide.rows(torch.arange(4))
    assert padded.tokens.shape != SOURCE(0).tokens.shape and identities(padded) == identities(SOURCE(0))
    assert torch.equal(hidden(padded)["hidden"], hidden(SOURCE(0))["hidden"])
    with pytest.raises(TrainingError, match=r"1 of 5 sequences are not in .*, the first is row 4"):
        hidden(wide)
    informed = wide.rows(torch.tensor([4] * 4))._replace(told=SOURCE(0))
    assert torch.equal(hidden(informed)["hidden"], hidden(SOURCE(0))["hidden"])
    packed = SOURCE(0)._replace(position=torch.zeros_like(SOURCE(0).tokens))
    with pytest.raises(TrainingError, match="4 of 4 sequences"):
        hidden(packed)
    other = SOURCE(0)._replace(counted=SOURCE(0).present)
    with pytest.raises(TrainingError, match="4 of 4 sequences"):
        hidden(other)


def slow_source(step: int) -> Batch:
    """Kills its process in the middle of the cache."""
    if step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return SOURCE(step)


def test_a_killed_cache_goes_on_to_the_same_bytes(teacher: Path, hidden: TeacherCache, tmp_path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(
        target=cache_teacher, args=(teacher, slow_source, 3, tmp_path), kwargs={"form": "hidden"}
    )
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    first = tmp_path / "step-000000.safetensors"
    assert first.is_file() and not (tmp_path / "step-000002.safetensors").exists()
    with pytest.raises(TrainingError, match="is not complete: call cache_teacher again"):
        TeacherCache(tmp_path)
    before = first.stat().st_mtime_ns
    cache_teacher(teacher, SOURCE, 3, tmp_path, form="hidden")
    assert first.stat().st_mtime_ns == before
    content = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (tmp_path, hidden.folder)]
    assert content[0] == content[1]
    longer = cache_teacher(teacher, SOURCE, 4, tmp_path, form="hidden")
    assert first.stat().st_mtime_ns == before and len(list(longer.folder.glob("step-*"))) == 4


def test_damage_and_other_caches_are_named(teacher: Path, tmp_path: Path) -> None:
    cache_teacher(teacher, SOURCE, 2, tmp_path)
    with pytest.raises(TrainingError, match="holds another cache"):
        cache_teacher(teacher, SOURCE, 2, tmp_path, temperature=2.0)
    with pytest.raises(TrainingError, match=r"step-000000.safetensors holds other sequences"):
        cache_teacher(teacher, Conversations(EXAMPLES, batch=4, seed=1), 2, tmp_path)
    second = tmp_path / "step-000001.safetensors"
    content = second.read_bytes()
    for damaged in (content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], content[:50], b""):
        second.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"step-000001.safetensors is missing or damaged: delete it"):
            TeacherCache(tmp_path)
        with pytest.raises(TrainingError, match=r"step-000001.safetensors is missing or damaged: delete it"):
            cache_teacher(teacher, SOURCE, 2, tmp_path)
    second.unlink()
    with pytest.raises(TrainingError, match=r"step-000001.safetensors is missing"):
        TeacherCache(tmp_path)
    cache_teacher(teacher, SOURCE, 2, tmp_path)
    assert second.read_bytes() == content
    with pytest.raises(ConfigError, match="holds no teacher cache"):
        TeacherCache(tmp_path / "nowhere")
    assert json.loads((tmp_path / "cache.json").read_text())["facts"]["k"] == 128


# ---- kept_divergence -------------------------------------------------------------------------------

exact = partial(torch.tensor, dtype=torch.float64)


def keep(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of tokens, and of all others together."""
    log_p = logits.log_softmax(-1)
    return log_p.gather(-1, tokens), log_p.scatter(-1, tokens, -torch.inf).logsumexp(-1)


def draw(seed: int, *shape: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "options"),
    [("forward_kl", {}), ("reverse_kl", {}), ("generalized_jsd", {"beta": 0.3}), ("total_variation", {})],
)
def test_the_tail_bounds_from_below_and_is_exact_with_all_tokens(name: str, options: dict[str, Any]) -> None:
    student, teacher = draw(0, 20, 11).requires_grad_(), draw(1, 20, 11)
    full = Divergence(name, **options)(student, teacher)
    order = teacher.argsort(-1, descending=True)
    previous = torch.zeros(20, dtype=torch.float64)
    for k in range(1, 12):
        each = kept_divergence(student, order[:, :k], *keep(teacher, order[:, :k]), divergence=name, **options)
        assert (each >= previous - 1e-12).all() and (each <= full + 1e-12).all()
        previous = each
    torch.testing.assert_close(previous, full, rtol=0, atol=1e-10)
    here, there = (torch.autograd.grad(one.sum(), student)[0] for one in (previous, full))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-10)


def test_minimum_of_each_form_and_gradients() -> None:
    teacher, tokens = draw(1, 1, 7), torch.tensor([[2, 5, 0]])
    log_p, tail = keep(teacher, tokens)
    mass = log_p.exp().sum()
    alone = torch.full((1, 7), -1e9, dtype=torch.float64).scatter(1, tokens, log_p)
    each = partial(kept_divergence, tokens=tokens, log_p=log_p, tail=tail)
    torch.testing.assert_close(each(alone, kept="truncated"), (mass * mass.log())[None], rtol=0, atol=1e-10)
    assert each(alone, kept="truncated").item() < 0 < forward_kl(alone, teacher).item()
    assert each(alone, kept="renormalised").item() == pytest.approx(0, abs=1e-12)
    own_tail = teacher.clone()
    own_tail[0, [1, 3]] = own_tail[0, [3, 1]]
    assert each(own_tail).item() == pytest.approx(0, abs=1e-12) and forward_kl(own_tail, teacher) > 0.01
    for kept in ("tail", "renormalised", "truncated", "sampled"):
        free = draw(3, 1, 7).requires_grad_()
        assert torch.autograd.gradcheck(partial(each, kept=kept, temperature=1.5), (free,))
    with pytest.raises(ConfigError, match='got "zero"'):
        each(alone, kept="zero")
    with pytest.raises(ConfigError, match='"sampled" tokens give forward_kl alone, not reverse_kl'):
        each(alone, kept="sampled", divergence="reverse_kl")


def test_samples_have_the_gradient_of_the_forward_kl() -> None:
    student, teacher = draw(0, 1, 5).requires_grad_(), draw(1, 1, 5)
    n = 200_000
    tokens = teacher.softmax(-1).multinomial(n, replacement=True, generator=torch.Generator().manual_seed(0))
    each = kept_divergence(student, tokens, teacher.log_softmax(-1).gather(-1, tokens), tokens[:, 0], kept="sampled")
    # one sample of the gradient is q - onehot: standard error below 0.5 / sqrt(200 000) = 0.0011
    (found,) = torch.autograd.grad(each.sum(), student)
    torch.testing.assert_close(found, (student.softmax(-1) - teacher.softmax(-1)).detach(), rtol=0, atol=0.0045)
    assert each.item() == pytest.approx(forward_kl(student, teacher).item(), abs=0.02)


def _tail_bucket(section: dict[str, Any]) -> None:
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-11)
    for case in section["cases"]:
        student, teacher, tokens = exact(case["student_logp"]), exact(case["teacher_logp"]), case["topk_ids"]
        tokens, how = torch.tensor(tokens), {"divergence": "generalized_jsd", "beta": case["beta"]}
        (near, others), (log_p, tail) = keep(student, tokens), keep(teacher, tokens)
        close(others, exact(case["student_tail"]))
        close(tail, exact(case["teacher_tail"]))
        close(kept_divergence(student, tokens, log_p, tail, **how), exact(case["per_token_with_tail"]))
        both = generalized_jsd(near, log_p, beta=case["beta"], reduction="none")
        close(both, exact(case["per_token_renormalised_no_tail"]))


def _sparse(section: dict[str, Any]) -> None:
    """There a temperature acts on what was kept, the tail as one token: here log-probabilities divided before."""
    for case in section["cases"]:
        student, teacher, tau = exact(case["student_logits"]), exact(case["teacher_logits"]), case["temperature"]
        tokens, mask = torch.tensor(case["topk_ids"]), torch.tensor(case["mask"])
        log_p, tail = (one / tau for one in keep(teacher, tokens))
        for name, loss in (("kl", forward_kl), ("jsd", generalized_jsd), ("tvd", total_variation)):
            for kept, theirs in (("tail", "symmetric_uniform"), ("renormalised", "zero")):
                how = {"kept": kept, "divergence": loss.__name__, "temperature": tau}
                each = kept_divergence(student, tokens, log_p, tail, **how)
                assert each[mask].sum().item() == pytest.approx(case[f"{name}_{theirs}"], rel=2e-6)


@pytest.mark.parity
def test_parity_kept_tokens_of_other_engines(parity: Any, walk_sections: Any) -> None:
    walk_sections(
        parity("llm-distillation-engines"),
        {"topk_tail_bucket": _tail_bucket, "distillkit_sparse": _sparse},
        ignore=("dtype_note", "liger_fused_linear_jsd", "gold_uld"),
    )
