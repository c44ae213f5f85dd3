"""Every method by name, through the recipe: from prompts to a student."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F  # noqa: N812

from killing import killed_at
from limbeck.errors import ConfigError
from limbeck.lm import (
    Batch,
    Example,
    Method,
    OnPolicy,
    Rollouts,
    TransformersSampler,
    answer_loss,
    byte_tokenizer,
    collate,
    distill,
    load_model,
    preview,
    read_examples,
    read_recipe,
    save_model,
    tiny_llama,
    trained_tokenizer,
)
from limbeck.lm.methods import PRESETS
from limbeck.lm.rollouts import Kept
from limbeck.lm.self_play import Duels, SelfPlay
from limbeck.settings import check_settings

RECIPE = """\
teacher: teacher/
student: student/
data: prompts.jsonl
steps: 6
out: out
batch: 4
context: 24
warmup: 2
lr: 1e-3
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, sentences: Callable[[int, int], str]) -> Path:
    """A folder with two teachers, a student, prompts with and without answers, a text and a recipe."""
    folder = tmp_path_factory.mktemp("methods")
    for name, width, seed in (("teacher", 32, 1), ("other", 16, 2), ("student", 16, 3)):
        save_model(tiny_llama(width, context=64, seed=seed), byte_tokenizer(), folder / name)
    rows = [{"prompt": f"{k}+{k}=", "completion": str(2 * k), "domain": "ab"[k % 2]} for k in range(40)]
    for name, keep in (("prompts", ("prompt", "completion")), ("bare", ("prompt",)), ("domains", tuple(rows[0]))):
        lines = [json.dumps({key: row[key] for key in keep}) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    told = [json.dumps(row | {"context": f"answer {row['completion']}. "}) for row in rows]
    (folder / "told.jsonl").write_text("\n".join(told) + "\n")
    (folder / "book.txt").write_text("\n\n".join(sentences(index, 8) for index in range(60)))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def run(shop: Path, name: str, *options: str) -> dict[str, Any]:
    distill(read_recipe(shop / "recipe.yaml", [f"out={name}", *options]), progress=False)
    (row,) = [json.loads(line) for line in (shop / name / "training" / "runs.jsonl").read_text().splitlines()]
    return row | {"log": (shop / name / "training").glob("*/log.jsonl")}


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - {"paced"}))
def test_every_method_trains_and_is_recorded(shop: Path, name: str) -> None:
    options = [f"method={{name: {name}, length: 6}}"]
    options += ["teacher=null"] if name in ("spin", "opsd", "sft") else []
    options += ["data=told.jsonl", "context=48"] if name == "opsd" else []
    row = run(shop, f"by-{name}", *options)
    assert (row["step"], row["samples"], row["params"]) == (6, 24, 6_736)
    assert row["loss"] != row["loss_before"] and 0 < row["teacher_loss"] < 10
    before, after = (load_file(shop / one / "model.safetensors") for one in ("student", f"by-{name}/student"))
    assert any(not torch.equal(before[key], after[key]) for key in before)
    again = run(shop, f"again-{name}", *options)
    assert again["loss"] == row["loss"]


def test_methods_bring_the_student_to_the_teacher_where_there_are_no_answers(shop: Path) -> None:
    how = ["data=bare.jsonl", "steps=120", "student={width: 16}", "lr=1e-2", "evaluate_every=40"]
    for method in ("gkd", "opd"):
        name, options = method, [f"method={{name: {method}, length: 6, share: 1}}"]
        row = run(shop, f"long-{name}", *how, *options)
        assert row["loss"] < row["loss_before"] - 0.15 and row["best_step"] in (40, 80, 120)
        shown = json.loads((shop / f"long-{name}" / "training" / "samples" / "80.json").read_text())
        assert len(shown) == 2 and shown[0]["prompt"] == "0+0="


def test_pass_rates_weigh_problems_in_two_stages(shop: Path) -> None:
    rows = [json.dumps({"prompt": f"{k}?", "completion": "ab"[k % 2]}) for k in range(40)]
    (shop / "easy.jsonl").write_text("\n".join(rows) + "\n")
    run(shop, "learner", "data=easy.jsonl", "method=sft", "teacher=null", "steps=60", "lr=1e-2")
    options = ["data=easy.jsonl", "student=learner/student", "method={name: paced, length: 2}"]
    row = run(shop, "paced", *options)
    rates = [json.loads(path.read_text()) for path in sorted((shop / "paced").glob("training/*/answers/pass-rates-*"))]
    assert [one["step"] for one in rates] == [0, 3] and rates[0]["rollouts"] == 8 and len(rates[0]["passes"]) == 38
    assert 0 < sum(rates[0]["passes"]) < 8 * 38
    assert "forward_kl" in row["recipe"] and "from step 3 distil reverse_kl" in row["recipe"]
    with pytest.raises(ConfigError, match="solves every one always or never"):
        run(shop, "unpaced", "method={name: paced, length: 2}")


def test_a_student_is_watched_for_hacking_its_teacher(shop: Path) -> None:
    """The oracle is the student as it starts: every step towards the teacher leaves it."""
    how = ["method={name: seqkd, length: 6}", "data=bare.jsonl", "steps=40", "lr=1e-2", "evaluate_every=4"]
    run(shop, "unwatched", *how)
    truth = f"oracle={shop / 'student'}"
    warned = run(shop, "warned", *how, "watch=warn", truth)
    stopped = run(shop, "stopped", *how, "watch=stop", truth)
    assert warned["step"] == 40 and 4 < stopped["step"] < 40 == stopped["planned_steps"]
    assert warned["proxy"] > 0 and "over-fitting: golden" in distilled(shop, "warned")["warning"]
    alone = run(shop, "alone", *how, "watch=warn")
    assert "golden" not in alone and alone["proxy"] == warned["proxy"]
    with pytest.raises(ConfigError, match="watch: needs a teacher"):
        run(shop, "blind", "watch=warn")


def distilled(shop: Path, name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((shop / name / "result.json").read_text())
    return result


def test_the_cost_is_said_before_it_is_paid(shop: Path) -> None:
    for method in ("kd", "opd", "seqkd"):
        cost = preview(
            read_recipe(shop / "recipe.yaml", [f"method={{name: {method}, length: 6}}", "steps=1000", "out=cost"])
        )
        assert cost.steps == 1000 and cost.seconds >= 1000 * cost.seconds_per_step > 0
        frozen = {"kd": 25_248, "opd": 25_248, "seqkd": 0}[method]
        assert cost.flops == pytest.approx(1000 * cost.tokens_per_step * (6 * 6_736 + 2 * frozen))
        assert cost.disk_bytes == 4 * (6_736 + 256 * 16) * 7 and cost.memory_bytes > 1e8
        assert "1,000 steps of" in cost.summary() and not (shop / "cost").exists()


def test_a_teacher_with_another_tokenizer_is_aligned(shop: Path) -> None:
    text = "\n".join(json.loads(line)["prompt"] for line in (shop / "prompts.jsonl").read_text().splitlines()) * 9
    wide = trained_tokenizer(text.encode(), 280)
    save_model(tiny_llama(16, vocabulary=280, context=64, seed=5), wide, shop / "wide")
    with pytest.raises(ConfigError, match="tokenizers of teacher and student differ"):
        run(shop, "foreign", "teacher=wide/")
    row = run(shop, "aligned", "teacher=wide/", "vocabulary=align", "steps=20", "lr=1e-2")
    assert row["samples"] == 80 and 0 < row["teacher_loss"] < 10 and row["tokenizer"] == "byte"
    with pytest.raises(ConfigError, match="align compares one teacher token by token"):
        run(shop, "aligned-opd", "teacher=wide/", "vocabulary=align", "method={name: opd, length: 4}")


def test_what_the_teacher_said_can_be_kept(shop: Path) -> None:
    live, hidden = run(shop, "live"), run(shop, "hidden", "cache=hidden")
    assert hidden["loss"] == pytest.approx(live["loss"], rel=1e-5)
    assert (shop / "hidden" / "training" / "cache" / "cache.json").is_file()
    topk = run(shop, "topk", "cache=topk")
    assert topk["loss"] == pytest.approx(live["loss"], rel=0.05) and "tail k=128" in topk["recipe"]
    with pytest.raises(ConfigError, match="it goes with method kd"):
        run(shop, "topk-opd", "cache=topk", "method={name: opd, length: 6}")


def test_prompts_come_from_text_too(shop: Path) -> None:
    row = run(shop, "text", "data=book.txt", "method={name: opd, length: 8}")
    assert row["samples"] == 24 and row["dataset"].startswith("book.txt sha256:")
    with pytest.raises(ConfigError, match="give steps instead of tokens"):
        run(shop, "text-tokens", "data=book.txt", "method=opd", "steps=null", "tokens=1000")
    with pytest.raises(ConfigError, match=r"a prompt of 12 tokens and an answer of 64 .* length: 12"):
        run(shop, "text-long", "data=book.txt", "method=opd")


def test_every_domain_has_its_teacher(shop: Path) -> None:
    both = ["data=domains.jsonl", "teacher={a: teacher/, b: other/}"]
    for method in ("{name: opd, length: 6}", "kd", "{name: seqkd, length: 6}"):
        row = run(shop, f"domains-{len(method)}", *both, f"method={method}")
        assert row["teacher"] == "teacher+other" and row["teacher_params"] == 25_248
    with pytest.raises(ConfigError, match="one teacher can write with the student, there are 2"):
        run(shop, "domains-mixed", *both, "method={name: minillm, length: 6}")
    with pytest.raises(ConfigError, match="needs a teacher, one"):
        run(shop, "domains-watched", *both, "evaluate_every=2", "watch=warn")
    with pytest.raises(ConfigError, match="row 1: no teacher for the domain"):
        run(shop, "domains-bad", "data=domains.jsonl", "teacher={c: teacher/, b: other/}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["method=gdk"], 'no method is called "gdk" Did you mean "gkd"'),
        (["method={name: kd, scale: 2}"], "scale needs an estimator"),
        (["method={name: kd, share: 0.5}"], "are about answers: student"),
        (["method={name: gkd, lenght: 3}"], "lenght"),
        (["method=opd", "ce_weight=0.5"], "method opd has its own loss: remove divergence and ce_weight"),
        (["data=bare.jsonl", "method={name: gkd, length: 6}"], "38 of 38 prompts have no answer to learn from"),
        (["patience=2"], "give evaluate_every"),
        (["divergence=dkd"], "this loss needs the true classes"),
        (["teacher=null", "student={width: 16}"], "the student must be a trained model"),
    ],
)
def test_what_cannot_work_is_said(shop: Path, options: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run(shop, "refused", *options)


def test_early_stop_keeps_the_best_model(shop: Path) -> None:
    row = run(shop, "early", "steps=60", "lr=1", "evaluate_every=5", "patience=2")
    assert row["step"] == row["best_step"] + 10 < 60 == row["planned_steps"]
    held_out = read_examples(shop / "prompts.jsonl", byte_tokenizer(), context=24)[::20]
    kept = float(answer_loss(load_model(shop / "early" / "student").eval(), held_out))
    assert kept == pytest.approx(row["loss_per_token"], rel=1e-5)
    result = distill(
        read_recipe(shop / "recipe.yaml", ["out=early", "steps=60", "lr=1", "evaluate_every=5", "patience=2"])
    )
    assert result.already_finished and f"best after {row['best_step']}" in result.summary()


def test_packing_low_rank_changes_and_bf16(shop: Path) -> None:
    packed = run(shop, "packed", "method={name: kd, pack: true}")
    assert packed["loss"] not in (packed["loss_before"], run(shop, "unpacked")["loss"])
    full, half = run(shop, "fp32"), run(shop, "bf16", "precision=bf16", "recompute=true")
    assert half["loss"] == pytest.approx(full["loss"], rel=0.02) and half["loss"] != full["loss"]
    row = run(shop, "lora", "lora=2", "lr=1e-2")
    merged, before = load_model(shop / "lora" / "student"), load_model(shop / "student")
    assert row["params"] == 6_736 and row["loss"] < row["loss_before"]
    changed = [
        n for (n, a), b in zip(merged.named_parameters(), before.parameters(), strict=True) if not torch.equal(a, b)
    ]
    assert changed and all("proj" in name for name in changed)


@pytest.mark.parametrize("method", ["{name: distillm, length: 6}", "{name: seqkd, length: 6}"])
def test_killed_while_answers_are_written_and_used(shop: Path, method: str) -> None:
    """A worker is killed with SIGKILL when the first answers are there and again in the training."""
    options = [f"method={method}", "steps=40", "checkpoint_every=5"]
    name = method[7:10]
    whole = run(shop, f"whole-{name}", *options)
    folder = shop / f"cut-{name}" / "training"
    for sign in ("*/answers/*.json", "*/step-*"):
        killed_at(sign, folder, run, shop, f"cut-{name}", *options)
    assert run(shop, f"cut-{name}", *options)["loss"] == whole["loss"]
    one, two = (load_file(shop / f"{kind}-{name}" / "student" / "model.safetensors") for kind in ("whole", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_kept_answers_are_read_again_as_they_were(tmp_path: Path) -> None:
    count = iter(range(10_000))
    rollouts = Rollouts([Example((k,)) for k in range(9)], 3, 0, lambda prompts, seed: [[next(count)] for _ in prompts])
    kept = Kept(rollouts, 0.5, 1, tmp_path)
    seen: list[tuple[list[int], ...]] = [tuple(map(tuple, kept(step).tokens.tolist())) for step in range(40)]  # type: ignore[misc]
    fresh = list(dict.fromkeys(seen))
    assert 12 <= len(fresh) <= 28 and next(count) == 3 * len(fresh) and len(list(tmp_path.iterdir())) == len(fresh)


def test_a_blend_draws_from_the_mixture_and_its_cache_changes_nothing() -> None:
    """Against the mixture computed without a cache, token by token, for prompts of different lengths."""
    student, teacher = (tiny_llama(16, vocabulary=8, context=32, seed=seed).eval() for seed in (0, 1))
    with torch.no_grad():
        teacher.get_input_embeddings().weight.mul_(4)  # surer than the student, so that shares can be told apart
    sampler = TransformersSampler(student, 1, 7, teacher=teacher, share=0.3)
    (drawn,) = torch.tensor(sampler([(1, 2, 3)] * 4000, seed=5)).T
    with torch.no_grad():
        own, theirs = (
            model(input_ids=torch.tensor([[1, 2, 3]])).logits[0, -1].softmax(0) for model in (student, teacher)
        )
    mixture = 0.3 * theirs + 0.7 * own
    spread = (mixture * (1 - mixture) / 4000).sqrt()
    assert ((torch.bincount(drawn, minlength=8) / 4000 - mixture).abs() < 4 * spread).all()
    same = TransformersSampler(student, 6, 7, teacher=student, share=0.3)([(1, 2, 3), (4,)], seed=3)
    assert same == TransformersSampler(student, 6, 7)([(1, 2, 3), (4,)], seed=3)


def sides(batch: Batch) -> list[Batch]:
    """The data's answers, and its own."""
    return [batch.rows(torch.tensor(rows)) for rows in ([0, 2], [1, 3])]


def test_tokens_of_the_teacher_count_by_their_importance() -> None:
    teacher, student = (tiny_llama(16, vocabulary=16, seed=seed) for seed in (1, 2))
    batch = collate([Example((1, 2), (3, 4, 0)), Example((5,), (6, 0))])
    with torch.no_grad():
        log_p, log_q = (model(**batch.inputs).logits.log_softmax(-1) for model in (teacher, student))
        each = (log_q.exp() * (log_q - log_p)).sum(-1)[batch.mask]
        p, q = (one.gather(-1, batch.labels[..., None])[..., 0].exp()[batch.mask] for one in (log_p, log_q))
    for mixed in (0.0, 0.4):
        loss = OnPolicy([teacher], mixed=mixed).loss(student, batch)["loss"].item()
        assert loss == pytest.approx((each * q / (mixed * p + (1 - mixed) * q)).mean().item(), rel=1e-5)


def test_self_play_starts_at_log_two_and_moves_towards_the_data() -> None:
    start, student = (tiny_llama(16, vocabulary=16, seed=0) for _ in range(2))
    examples = [Example((1, 2), (3, 4, 0)), Example((5,), (6, 0))]
    source = Duels(examples, 2, 0, lambda prompts, seed: [[9, 9, 9][: len(prompt)] for prompt in prompts])
    batch, signal_ = source(0), SelfPlay(start, weight=0.5)
    assert batch.tokens.shape[0] == 4 and signal_.loss(student, batch)["loss"].item() == pytest.approx(
        0.693147, abs=1e-6
    )
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        signal_.loss(student, batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        moved = [
            -F.cross_entropy(student(input_ids=one.tokens[:, :-1]).logits[one.mask], one.targets)
            for one in sides(batch)
        ]
        before = [
            -F.cross_entropy(start(input_ids=one.tokens[:, :-1]).logits[one.mask], one.targets) for one in sides(batch)
        ]
    assert moved[0] > before[0] + 0.5 and moved[1] < before[1]  # the data's answers rise, its own fall
    after = signal_.loss(student, batch)
    assert after["loss"] < 0.5 and after["accuracy"] == 1


def test_a_teacher_that_is_told_more_reads_its_own_prompt() -> None:
    batch: Batch = collate([Example((1,), (5, 6), told=(7, 8, 1)), Example((2, 3), (4,))])
    assert batch.told is not None and batch.told.tokens.tolist() == [[7, 8, 1, 5, 6], [2, 3, 4, 0, 0]]
    assert batch.targets.tolist() == batch.told.targets.tolist() == [5, 6, 4]


def test_names_fill_in_choices_that_can_be_changed() -> None:
    method = check_settings(Method, {"name": "gkd", "share": 1.0}, source="test")
    assert (method.share, method.divergence["beta"], method.answers) == (1.0, 0.5, "student")
