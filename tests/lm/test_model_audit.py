"""Models that are compared on their predictions and on what they write."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.lm import Batch, byte_tokenizer, compare_texts, evaluate, fidelity, save_model, tiny_llama


class Table(nn.Module):
    """The next token depends on the one before it."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(logits)

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


def test_fidelity_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.2, 0.5, 0.3])
    teacher, student = (Table(one.log().repeat(3, 1)) for one in (p, q))
    batches = [Batch.of(torch.tensor([[0, 0, 1], [1, 2, 0]])), Batch.of(torch.tensor([[2, 2, 2]]))]
    found = fidelity(student, teacher, batches)
    at = {name: one.value for name, one in found.means.items()}
    labels = [0, 1, 2, 0, 2, 2]
    assert at["loss"] == pytest.approx(-q.log()[labels].mean().item(), rel=1e-5)
    assert at["teacher_loss"] == pytest.approx(-p.log()[labels].mean().item(), rel=1e-5)
    assert at["forward_kl"] == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)
    assert at["reverse_kl"] == pytest.approx((q * (q / p).log()).sum().item(), rel=1e-5)
    assert at["total_variation"] == pytest.approx(0.3) and at["same_favourite"] == 0
    assert found.calibration_error == pytest.approx(abs(1 / 6 - 0.5))  # label 1 once in six
    assert found.teacher_calibration_error == pytest.approx(abs(2 / 6 - 0.5))
    same = fidelity(teacher, teacher, batches)
    assert same.means["forward_kl"].value == 0 and same.means["same_favourite"].value == 1


def test_more_tokens_than_the_other_are_left_out() -> None:
    wide, narrow = Table(torch.zeros(4, 4)), Table(torch.zeros(4, 3))
    found = fidelity(wide, narrow, [Batch.of(torch.tensor([[0, 1, 2]]))])
    assert found.means["loss"].value == pytest.approx(np.log(3)) and found.means["forward_kl"].value == 0


def test_texts_are_compared_by_task() -> None:
    truth = [str(k) for k in range(40)]
    student = [f"so it is\n#### {k}" if k % 2 else "#### none" for k in range(40)]
    teacher = [f"thus\n#### {k}" if k % 4 else "#### none" for k in range(40)]
    baseline = ["#### none"] * 40
    tasks = ["sums"] * 20 + ["odds"] * 20
    texts = {"student": student, "teacher": teacher, "truth": truth, "baseline": baseline}
    found = compare_texts(texts, tasks)
    assert list(found) == ["sums", "odds"] and found["sums"].prompts == 20
    one = found["sums"]
    assert one.gain.gain.value == 0.5 and one.gain.headroom == 0.5 and one.agreement.same.value == 0.75
    assert one.p == pytest.approx(min(1, 2 * one.gain.p)) and one.gain.p == pytest.approx(2 / 2**10)
    assert one.closer is not None and one.closer.value == 0.5
    words = one.summary("baseline")
    assert "50.0% right: +50.0 points on the baseline" in words and "50% of what was wrong" in words
    assert words.endswith("accuracy up, agreement up (+50.0 points)")
    alone = compare_texts({name: texts[name] for name in ("student", "teacher", "truth")}, tasks)["odds"]
    assert (
        alone.closer is None
        and alone.gain.gain.value == pytest.approx(-0.25)
        and "on the teacher" in alone.summary("teacher")
    )


def folder(path: Path, seed: int) -> Path:
    return save_model(tiny_llama(16, layers=1, context=24, seed=seed), byte_tokenizer(), path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")
    return folder(root / "student", 1), folder(root / "teacher", 2)


def test_a_model_is_like_itself(models: tuple[Path, Path], tmp_path: Path) -> None:
    data = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"{k}+{k}=", "completion": str(2 * k), "task": "sums"} for k in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluate(models[0], models[0], data)
    assert found.fidelity is not None and found.fidelity.means["forward_kl"].value == 0
    assert found.tasks["sums"].agreement.same.value == 1 and found.tasks["sums"].gain.gain.value == 0
    other = evaluate(*models, data, baseline=models[0], limit=8)
    assert other.over == "baseline" and other.tasks["sums"].prompts == 8
    assert other.fidelity is not None and other.fidelity.means["forward_kl"].lower > 0
    assert json.loads(json.dumps(other.to_dict()))["tasks"]["sums"]["closer"]["value"] == 0
    assert other.plot().data[0].name == "both right"


def test_plain_text_is_read_in_windows(models: tuple[Path, Path], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 20)
    found = evaluate(*models, text, limit=10)
    assert found.tasks == {} and found.fidelity is not None
    loss = found.fidelity.means["loss"]
    assert loss.lower < loss.value < loss.upper
    text.write_text("short")
    with pytest.raises(ConfigError, match="5 tokens do not fill one window of 25"):
        evaluate(*models, text)


def test_prompts_without_answers_cannot_be_checked(models: tuple[Path, Path], tmp_path: Path) -> None:
    data = tmp_path / "p.jsonl"
    data.write_text('{"prompt": "1+1=", "completion": "2"}\n{"prompt": "1+2="}\n')
    with pytest.raises(ConfigError, match="1 of 2 prompts have no completion"):
        evaluate(*models, data)
