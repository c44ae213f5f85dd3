"""A text learned beside any method, and a share of own answers that follows the validation loss."""

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
from limbeck.distill import Player, Trainer
from limbeck.errors import ConfigError, TrainingError
from limbeck.lm import (
    Beside,
    Conversations,
    Example,
    NextToken,
    OnPolicy,
    Rollouts,
    Windows,
    byte_tokenizer,
    distill,
    joint_loss,
    preview,
    read_recipe,
    save_model,
    tiny_llama,
)
from limbeck.lm.methods import rises
from limbeck.lm.rollouts import Kept, Mixture

RECIPE = """\
teacher: teacher/
student: student/
data: prompts.jsonl
steps: 6
out: out
batch: 4
context: 24
warmup: 2
lr: 1e-2
"""
EXAMPLES = [Example((1, 2), (3, 4, 0)), Example((5,), (6, 0)), Example((7, 8), (9, 9, 9, 0)), Example((2,), (0,))]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, sentences: Callable[[int, int], str]) -> Path:
    """A folder with a teacher, a student, prompts, two texts and a recipe."""
    folder = tmp_path_factory.mktemp("beside")
    for name, width, seed in (("teacher", 32, 1), ("student", 16, 3)):
        save_model(tiny_llama(width, context=64, seed=seed), byte_tokenizer(), folder / name)
    rows = [json.dumps({"prompt": f"{k}+{k}=", "completion": str(2 * k)}) for k in range(40)]
    (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    for name, first in (("book", 0), ("other", 100)):
        (folder / f"{name}.txt").write_text("\n\n".join(sentences(first + index, 8) for index in range(60)))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def run(shop: Path, name: str, *options: str) -> dict[str, Any]:
    distill(read_recipe(shop / "recipe.yaml", [f"out={name}", *options]), progress=False)
    (row,) = [json.loads(line) for line in (shop / name / "training" / "runs.jsonl").read_text().splitlines()]
    assert isinstance(row, dict)
    return row


def losses(shop: Path, name: str) -> dict[int, float]:
    """Of every evaluation."""
    (path,) = (shop / name).glob("training/*/log.jsonl")
    log = [json.loads(line) for line in path.read_text().splitlines()]
    return {one["step"]: one["loss_per_token"] for one in log if "loss_per_token" in one}


def weights(shop: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(shop / name / "student" / "model.safetensors")


def test_the_text_adds_its_weighted_loss_however_the_batch_is_split() -> None:
    stream = torch.arange(400).remainder(13).int().numpy()
    source = Beside(Conversations(EXAMPLES, 4, 0), Windows(stream, 8, 4, 1), 0.7)
    grads = []
    for parts in (1, 2, 4):
        student = tiny_llama(16, vocabulary=16, seed=1)
        before = [one.clone() for one in student.parameters()]
        player = Player("student", student, torch.optim.SGD(student.parameters(), lr=1.0))
        trainer = Trainer(
            [player], lambda _, batch, step, s=student: joint_loss(NextToken(), s, batch, step), source, steps=1,
            accumulate=parts, progress=False,
        )  # fmt: skip
        values = trainer.run().values
        grads.append([a - b.detach() for a, b in zip(before, student.parameters(), strict=True)])
        batch, fresh = source(0), tiny_llama(16, vocabulary=16, seed=1)
        assert batch.text is not None
        text = batch.text.tokens
        with torch.no_grad():
            own = NextToken().loss(fresh, batch, 0)["loss"].item()
            beside = F.cross_entropy(fresh(input_ids=text[:, :-1]).logits.flatten(0, 1), text[:, 1:].flatten()).item()
        assert values["train/student/loss"] == pytest.approx(own + 0.7 * beside, rel=1e-5)
        assert values["train/student/text"] == pytest.approx(0.7 * beside, rel=1e-5)
    for other in grads[1:]:
        for a, b in zip(grads[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_several_teachers_do_not_read_the_text() -> None:
    teachers = [tiny_llama(16, vocabulary=16, seed=k) for k in (4, 5)]
    examples = [Example(one.prompt, one.answer, k % 2) for k, one in enumerate(EXAMPLES)]
    windows = Windows(torch.arange(99).remainder(13).int().numpy(), 8, 3, 1)
    batch = Beside(Conversations(examples, 4, 0), windows, 1.0)(0)
    assert joint_loss(OnPolicy(teachers), tiny_llama(16, vocabulary=16), batch, 0)["text"] > 1


@pytest.mark.parametrize("method", ["{name: minillm, length: 6}", "kd", "{name: spin, length: 6}"])
def test_a_text_is_learned_beside_a_method(shop: Path, method: str) -> None:
    """Its loss falls below that without it, in a training that is killed and goes on to the bit."""
    options = [f"method={method}", "steps=24", "checkpoint_every=4", "text=book.txt", "text_weight=2"]
    options += ["teacher=null"] if "spin" in method else []
    name = "".join(letter for letter in method if letter.isalpha())
    row = run(shop, f"whole-{name}", *options)
    assert " text=2 adamw" in row["recipe"]
    log = [
        json.loads(one)
        for one in next((shop / f"whole-{name}").glob("training/*/log.jsonl")).read_text().split("\n")[:-1]
    ]
    assert 0 < log[-1]["train/student/text"] < 2 * 5.0
    folder = shop / f"cut-{name}" / "training"
    killed_at("*/step-*", folder, run, shop, f"cut-{name}", *options)
    assert run(shop, f"cut-{name}", *options)["loss"] == row["loss"]
    one, two = weights(shop, f"whole-{name}"), weights(shop, f"cut-{name}")
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_text_and_its_weight_belong_to_the_training(shop: Path) -> None:
    run(shop, "owned", "text=book.txt")
    plain = run(shop, "plain")
    assert weights(shop, "owned").keys() == weights(shop, "plain").keys() and " text=" not in plain["recipe"]
    assert any(not torch.equal(one, weights(shop, "plain")[key]) for key, one in weights(shop, "owned").items())
    for options in (["text=other.txt"], ["text=book.txt", "text_weight=0.5"], []):
        with pytest.raises(TrainingError, match=r"holds another training.*\n  text:"):
            run(shop, "owned", *options)
    with pytest.raises(ConfigError, match="text_weight weighs a text: give text"):
        run(shop, "unweighted", "text_weight=2")
    with pytest.raises(ConfigError, match=r"missing\.txt does not exist"):
        run(shop, "absent", "text=missing.txt")
    assert preview(read_recipe(shop / "recipe.yaml", ["text=book.txt", "out=cost"])).steps == 6


def test_another_reference_is_another_training(shop: Path) -> None:
    save_model(tiny_llama(16, context=64, seed=8), byte_tokenizer(), shop / "reference")
    how = [f"method={{name: g-opd, length: 6, reference: {shop / 'reference'}}}", "steps=2"]
    run(shop, "referred", *how)
    save_model(tiny_llama(16, context=64, seed=9), byte_tokenizer(), shop / "reference")
    with pytest.raises(TrainingError, match=r"holds another training.*\n  method\.reference"):
        run(shop, "referred", *how)


def test_rises_are_counted_from_the_last_one() -> None:
    assert rises([], 0.1) == rises([3.0], 0.0) == rises([3.0, 3.0, 2.0], 0.0) == 0
    assert rises([1.0, 1.05, 1.09, 1.11, 1.15, 1.22], 0.1) == 2 and rises([1.0, 1.5, 1.2, 1.55], 0.1) == 1


def test_the_share_of_own_answers_grows_with_the_validation_loss(shop: Path) -> None:
    """A rate that is far too high makes the loss rise; where answers were written, the loss had risen before."""
    how = ["steps=60", "lr=0.3", "evaluate_every=4", "checkpoint_every=7"]
    method = "method={name: distillm, length: 6, share: 0, adaptive: 0.3, tolerance: 0.02}"
    run(shop, "grown", *how, method)
    seen = losses(shop, "grown")
    written = sorted(int(path.stem) for path in (shop / "grown").glob("training/*/answers/*.json"))
    shares = {step: 0.3 * rises([seen[at] for at in sorted(seen) if at <= step], 0.02) for step in range(60)}
    first = min(step for step, share in shares.items() if share)
    assert first <= min(written) and 0 < len(written) < 60 - first
    run(shop, "still", *how, method.replace("tolerance: 0.02", "tolerance: 99"))
    assert not list((shop / "still").glob("training/*/answers/*")) and losses(shop, "still") != seen
    folder = shop / "stopped" / "training"
    killed_at("*/answers/*", folder, run, shop, "stopped", *how, method)
    run(shop, "stopped", *how, method)
    assert losses(shop, "stopped") == seen


def test_what_an_adaptive_share_needs(shop: Path) -> None:
    with pytest.raises(ConfigError, match="adaptive follows the validation loss: give evaluate_every"):
        run(shop, "blind", "method={name: distillm, length: 6, share: 0, adaptive: 0.1}")
    with pytest.raises(ConfigError, match="share and adaptive are about answers: student"):
        run(shop, "blind", "method={name: kd, adaptive: 0.1}", "evaluate_every=2")


def test_answers_are_kept_in_a_mixture_too(tmp_path: Path) -> None:
    """Steps that read the data wrote nothing that could be read again."""
    rollouts = Rollouts(EXAMPLES, 2, 0, lambda prompts, seed: [[11, seed % 997] for _ in prompts])
    mixture = Mixture(Kept(rollouts, 0.5, 1, tmp_path), Conversations(EXAMPLES, 2, 0), 0.4, 0)
    seen = [mixture(step).tokens.tolist() for step in range(40)]
    assert seen == [mixture(step).tokens.tolist() for step in range(40)]  # with the files of later steps there
    own = [step for step in range(40) if any(11 in row for row in seen[step])]
    written = sorted(int(path.stem) for path in tmp_path.iterdir())
    assert set(written) < set(own) and 4 < len(written) < len(own) < 30 and written[0] == own[0]
