from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from limbeck.errors import ConfigError, TrainingError
from limbeck.lm import DistillationResult, byte_tokenizer, distill, load_model, read_recipe, save_model, tiny_llama
from limbeck.lm.recipe import _warnings, job_of
from limbeck.lm.tokenizers import load_tokenizer

SIMPLE = """\
teacher: teacher/
student: {width: 16}
data: book.txt
tokens: 1280
out: distilled/
context: 32
batch: 4
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, sentences: Callable[[int, int], str]) -> Path:
    """A folder with a teacher, a student, a text and a recipe."""
    folder = tmp_path_factory.mktemp("workshop")
    for name, width in (("teacher", 32), ("student", 16)):
        save_model(tiny_llama(width, context=64, seed=width), byte_tokenizer(), folder / name)
    (folder / "book.txt").write_text("\n\n".join(sentences(index, 8) for index in range(60)))
    rows = [json.dumps({"body": sentences(index, 8)}) for index in range(60)]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    (folder / "recipe.yaml").write_text(SIMPLE)
    return folder


def test_a_recipe_gives_a_student_folder_and_says_what_it_gave(workshop: Path) -> None:
    result = distill(workshop / "recipe.yaml")
    assert (result.tokens, result.steps, result.params, result.teacher_params) == (1280, 10, 6_736, 25_248)
    assert not result.already_finished
    assert result.student_loss < result.student_loss_before
    first, *others = result.summary().splitlines()
    assert first.endswith(f"→ {result.student_loss:.3f} nats/byte, teacher {result.teacher_loss:.3f}") or "%" in first
    assert "1 280 tokens in 10 steps" in others[1] and "below 1 MB" in others[2]
    student = AutoModelForCausalLM.from_pretrained(result.student)
    assert AutoTokenizer.from_pretrained(result.student)("ab")["input_ids"] == [97, 98]
    assert student.config.max_position_embeddings == 64
    saved = json.loads((workshop / "distilled" / "result.json").read_text())
    assert saved == result.to_dict()
    assert DistillationResult.from_dict(saved) == result
    assert saved["student_loss_per_byte"] == pytest.approx(result.student_loss)

    again = distill(workshop / "recipe.yaml")
    assert again.already_finished and "already finished" in again.summary()
    assert again.student_loss == result.student_loss
    with pytest.raises(TrainingError, match=r"holds another training[\s\S]*seed: 0 there, 1 now"):
        distill(read_recipe(workshop / "recipe.yaml", ["seed=1"]))


def test_two_folders_and_json_lines_with_every_option(workshop: Path) -> None:
    options = [
        "student=student/",
        "data=rows.jsonl",
        "field=body",
        "out=second",
        "divergence={name: generalized_jsd, beta: 0.5, temperature: 2}",
        "ce_weight=0.5",
        "lr=1e-2",
        "accumulate=2",
    ]
    result = distill(read_recipe(workshop / "recipe.yaml", options))
    before = load_model(workshop / "student")
    assert result.student_loss < result.student_loss_before
    assert before.config.hidden_size == load_model(result.student).config.hidden_size


def test_any_causal_model_teaches_and_dropout_is_reproducible(workshop: Path) -> None:
    for name, seed in (("gpt2-teacher", 1), ("gpt2-student", 2)):
        torch.manual_seed(seed)
        config = GPT2Config(
            n_embd=16, n_layer=1, n_head=2, vocab_size=256, n_positions=40, bos_token_id=0, eos_token_id=0
        )
        save_model(GPT2LMHeadModel(config), byte_tokenizer(), workshop / name)
    options = ["teacher=gpt2-teacher", "student=gpt2-student", "context=40", "steps=3", "tokens=null", "ce_weight=1"]
    state = torch.get_rng_state()
    results = [distill(read_recipe(workshop / "recipe.yaml", [*options, f"out=gpt2-{i}"])) for i in (1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert results[0].student_loss == results[1].student_loss < results[0].student_loss_before
    assert results[0].params == 12 * 16 * 16 + 13 * 16 + 2 * 16  # one block with its biases, and the last norm


def test_reading_a_text_often_is_said(workshop: Path) -> None:
    job = job_of(read_recipe(workshop / "recipe.yaml", ["out=often"]))
    short = "the text has"
    assert [one.split(":")[0] for one in _warnings(job, {"epochs": 3.9})][1:] == []
    assert list(_warnings(job, {"epochs": 6.1}))[1:] == [
        "the text was read 6 times: beyond 4 readings it teaches less and less",
    ]
    assert short in next(_warnings(job, {})) or "MB" in next(_warnings(job, {}))


def test_interrupted_between_training_and_result(workshop: Path) -> None:
    recipe = read_recipe(workshop / "recipe.yaml", ["out=cut"])
    first = distill(recipe)
    (workshop / "cut" / "result.json").unlink()
    assert distill(recipe) == first


def test_plain_values_serve_as_well_as_a_file(workshop: Path) -> None:
    content = {
        "teacher": str(workshop / "teacher"),
        "student": str(workshop / "student"),
        "data": str(workshop / "book.txt"),
        "out": str(workshop / "plain"),
        "steps": 2,
        "divergence": "reverse_kl",
        "batch": 2,
    }
    assert distill(content).tokens == 2 * 2 * 64  # the context that both models can read
    assert load_tokenizer(workshop / "plain" / "student")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher=nowhere"], "nowhere does not exist"),
        (["teacher=book.txt"], "book.txt does not exist"),
        (["data=none.txt"], "none.txt does not exist"),
        (["context=65"], "context 65 is longer than the teacher can read: use context: 64 or less"),
        (["batch=4000"], "give more text, or a smaller batch or context".capitalize()),
        (["steps=3"], "give either tokens"),
        (["accumulate=3"], "accumulate 3 does not divide batch 4"),
        (["divergence=kl"], 'unknown loss "kl"'),
        (["divergence={beta: 0.5}"], "forward_kl has no beta"),
        (["student={layers: 1}"], "either a folder"),
        (["vocabulary=comon"], 'Did you mean "common"?'),
        (["student={width: 30}"], "take a multiple of 4"),
    ],
)
def test_mistakes_stop_before_any_training(workshop: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        distill(read_recipe(workshop / "recipe.yaml", [*overrides, "out=wrong"]))
    assert message in str(caught.value)
    assert not (workshop / "wrong" / "student").exists()


def test_a_longer_run_goes_on_and_the_shorter_one_comes_back(workshop: Path) -> None:
    def run(steps: int) -> tuple[float, float]:
        result = distill(read_recipe(workshop / "recipe.yaml", ["out=grow", "tokens=null", f"steps={steps}"]))
        return result.student_loss, float(load_model(result.student).model.norm.weight.sum().item())

    short, long = run(4), run(8)
    assert short != long
    assert run(4) == short and run(8) == long


def test_key_with_a_slip_is_named_with_its_line(workshop: Path) -> None:
    (workshop / "slip.yaml").write_text(SIMPLE + "divergence:\n  temprature: 2\n")
    with pytest.raises(ConfigError) as caught:
        distill(workshop / "slip.yaml")
    assert str(caught.value).endswith(
        'slip.yaml, line 9: unknown key "temprature" in divergence. Did you mean "temperature"?'
    )
