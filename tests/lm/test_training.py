from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.errors import ConfigError, TrainingError
from limbeck.lm import (
    DistilJob,
    Divergence,
    FreshStudent,
    PretrainJob,
    Regime,
    budget_folder,
    distil,
    evaluation_windows,
    finished,
    load_corpus,
    load_model,
    load_tokenizer,
    model_folder,
    pretrain,
    save_model,
    text_loss,
    tiny_llama,
    tokenize,
    trained_tokenizer,
)
from limbeck.runs import read_runs

SMALL = Regime(batch=4, context=32, warmup=5)  # 128 tokens a step


def a_job(corpus: Path, out: Path, **changes: Any) -> PretrainJob:
    job = PretrainJob("d16", corpus, out, width=16, budgets=(2_560, 5_120, 10_240), seed=1, regime=SMALL)
    return replace(job, **changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def trained(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainJob:
    job = a_job(corpus_folder, tmp_path_factory.mktemp("pretrained") / "d16")
    pretrain(job)
    return job


def test_records_are_a_run_table(trained: PretrainJob) -> None:
    rows = pretrain(trained)
    assert [row["tokens"] for row in rows] == [2_560, 5_120, 10_240]
    assert all(row["params"] == 6_736 and row["flops"] == 6 * 6_736 * row["tokens"] for row in rows)
    assert rows[0]["loss"] > rows[1]["loss"] > rows[2]["loss"] > 1
    assert {row["tokenizer"] for row in rows} == {"byte"} and {row["seed"] for row in rows} == {1}
    assert all(row["loss"] == row["loss_per_token"] for row in rows)
    table = read_runs(trained.out / "runs.jsonl")
    assert len(table) == 3
    assert len(set(table.clusters())) == 1


def test_recorded_loss_is_that_of_the_saved_model(trained: PretrainJob) -> None:
    row = pretrain(trained)[-1]
    folder = model_folder(trained.out, 10_240)
    model = AutoModelForCausalLM.from_pretrained(folder)
    text = tokenize(load_corpus(trained.corpus), AutoTokenizer.from_pretrained(folder))
    assert text_loss(model, evaluation_windows(text.validation, 32)) == pytest.approx(row["loss"], rel=1e-6)


def test_a_branch_is_the_run_that_its_budget_alone_gives(trained: PretrainJob, tmp_path: Path) -> None:
    alone = replace(trained, out=tmp_path / "alone", budgets=(5_120,))
    (row,) = pretrain(alone)
    assert row["loss"] == pretrain(trained)[1]["loss"]
    assert same(model_folder(alone.out, 5_120), model_folder(trained.out, 5_120))
    log = [json.loads(line) for line in (budget_folder(trained.out, 5_120) / "log.jsonl").read_text().splitlines()]
    assert all(entry["step"] > 32 for entry in log)  # the branch itself only decayed, from step 32 of 40


def test_a_longer_budget_goes_on_from_the_trunk(corpus_folder: Path, trained: PretrainJob, tmp_path: Path) -> None:
    job = a_job(corpus_folder, tmp_path / "job", budgets=(2_560, 5_120))
    pretrain(job)
    rows = pretrain(replace(job, budgets=(5_120, 10_240)))
    assert [row["loss"] for row in rows] == [row["loss"] for row in pretrain(trained)[1:]]
    assert same(model_folder(job.out, 10_240), model_folder(trained.out, 10_240))
    log = (budget_folder(job.out, 10_240) / "log.jsonl").read_text().splitlines()
    assert json.loads(log[0])["step"] > 32


def test_a_finished_job_returns_at_once_and_another_is_refused(trained: PretrainJob) -> None:
    before = (trained.out / "runs.jsonl").stat().st_mtime_ns
    began = time.perf_counter()
    pretrain(trained)
    assert time.perf_counter() - began < 0.5  # reads two small files
    assert (trained.out / "runs.jsonl").stat().st_mtime_ns == before
    with pytest.raises(TrainingError, match=r"holds another training[\s\S]*seed: 1 there, 2 now"):
        pretrain(replace(trained, seed=2))
    with pytest.raises(ConfigError, match="not a saved corpus"):
        pretrain(replace(trained, corpus=trained.out))


def test_seeds_change_the_run(trained: PretrainJob, tmp_path: Path) -> None:
    other = pretrain(replace(trained, out=tmp_path / "other", budgets=(2_560,), seed=2))
    assert other[0]["loss"] != pretrain(trained)[0]["loss"]


def test_killed_anywhere_the_same_job_gives_the_same_bits(trained: PretrainJob, tmp_path: Path) -> None:
    """A worker is killed with SIGKILL once in the trunk and once when the first record is there."""
    job = replace(trained, out=tmp_path / "killed")
    assert pickle.loads(pickle.dumps(job)) == job
    context = multiprocessing.get_context("fork")
    signs = [
        lambda: any(budget_folder(job.out, 10_240).glob("milestone-*")),
        lambda: len(finished(job.out)) >= 1,
    ]
    for sign in signs:
        worker = context.Process(target=pretrain, args=(job,))
        worker.start()
        deadline = time.monotonic() + 120
        while not sign() and worker.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)
        if worker.is_alive() and worker.pid is not None:
            os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert sign()
    with (job.out / "runs.jsonl").open("a") as file:
        file.write('{"run": "d16", "st')  # what a kill leaves of a line
    rows, expected = pretrain(job), pretrain(trained)
    without_time = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    assert without_time == [{key: value for key, value in row.items() if key != "seconds"} for row in expected]
    for budget in job.budgets:
        assert same(model_folder(job.out, budget), model_folder(trained.out, budget))
        assert not list(budget_folder(job.out, budget).glob("step-*"))


def test_nan_stops_with_the_step_named(corpus_folder: Path, tmp_path: Path) -> None:
    job = a_job(corpus_folder, tmp_path / "nan", regime=replace(SMALL, learning_rate=1e30, warmup=0))
    with pytest.raises(TrainingError, match="step"):
        pretrain(job)
    assert finished(job.out) == {}


def test_bpe_reports_nats_per_byte(corpus_folder: Path, tmp_path: Path) -> None:
    (row,) = pretrain(a_job(corpus_folder, tmp_path / "bpe", tokenizer="bpe:300", budgets=(2_560,)))
    folder = model_folder(tmp_path / "bpe", 2_560)
    text = tokenize(load_corpus(corpus_folder), load_tokenizer(folder))
    assert text.bytes_per_token > 1.5
    assert row["loss"] == pytest.approx(row["loss_per_token"] / text.bytes_per_token)
    assert load_model(folder).config.vocab_size == 300 and row["tokenizer"] == "bpe:300"


def a_distillation(trained: PretrainJob, out: Path, **changes: Any) -> DistilJob:
    job = DistilJob(
        "student",
        trained.corpus,
        out,
        model_folder(trained.out, 10_240),
        FreshStudent(16),
        budgets=(2_560, 5_120),
        seed=5,
        regime=SMALL,
    )
    return replace(job, **changes)


def test_a_student_learns_from_the_teacher_alone(trained: PretrainJob, tmp_path: Path) -> None:
    job = a_distillation(trained, tmp_path / "distil")
    rows = distil(job)
    teacher = pretrain(trained)[-1]
    assert rows[0]["teacher_loss"] == pytest.approx(teacher["loss"], rel=1e-6)
    assert rows[0]["teacher_params"] == 6_736 and rows[0]["teacher"] == "model"
    assert rows[1]["loss"] < rows[0]["loss"] < 5.4
    assert "distil forward_kl temperature=1" in rows[0]["recipe"]
    log = [json.loads(line) for line in (budget_folder(job.out, 5_120) / "log.jsonl").read_text().splitlines()]
    assert log[-1]["train/student/loss"] == log[-1]["train/student/divergence"] > 0
    ids = torch.tensor([load_tokenizer(model_folder(job.out, 5_120))("The")["input_ids"]])
    assert (
        AutoModelForCausalLM.from_pretrained(model_folder(job.out, 5_120)).generate(ids, max_new_tokens=3).shape[1] <= 6
    )
    assert distil(job) == rows
    with pytest.raises(TrainingError, match="divergence: forward_kl"):
        distil(replace(job, divergence=Divergence("reverse_kl")))


def test_a_student_that_is_the_teacher_stays_where_it_is(trained: PretrainJob, tmp_path: Path) -> None:
    teacher = model_folder(trained.out, 10_240)
    regime = replace(SMALL, weight_decay=0.0, learning_rate=1e-4)
    (row,) = distil(a_distillation(trained, tmp_path / "same", student=teacher, budgets=(1_280,), regime=regime))
    assert row["loss"] == pytest.approx(row["teacher_loss"], rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"divergence": Divergence("reverse_kl", temperature=2.0)},
        {"divergence": Divergence("generalized_jsd", beta=0.3), "ce_weight": 0.5},
    ],
)
def test_other_divergences_teach_too(trained: PretrainJob, tmp_path: Path, changes: dict[str, Any]) -> None:
    (row,) = distil(a_distillation(trained, tmp_path / "other", budgets=(5_120,), **changes))
    assert row["loss"] < 4.5  # untrained: 5.6


def test_distillation_refuses_what_cannot_be_compared(trained: PretrainJob, tmp_path: Path) -> None:
    other = trained_tokenizer(load_corpus(trained.corpus).train, 300)
    foreign = save_model(tiny_llama(16, vocabulary=300), other, tmp_path / "foreign")
    with pytest.raises(ConfigError, match=r"tokenizers of teacher and student differ[\s\S]*id 0: "):
        distil(a_distillation(trained, tmp_path / "a", student=foreign))
    with pytest.raises(ConfigError, match="context 64 is longer than the teacher can read: use context: 32 or less"):
        distil(a_distillation(trained, tmp_path / "b", regime=replace(SMALL, context=64)))
    tokenizer = load_tokenizer(model_folder(trained.out, 10_240))
    wide = save_model(tiny_llama(16, vocabulary=320), tokenizer, tmp_path / "wide")
    with pytest.raises(TrainingError, match=r"vocabulary: common   compare on the shared 256"):
        distil(a_distillation(trained, tmp_path / "c", student=wide))
    (row,) = distil(a_distillation(trained, tmp_path / "d", student=wide, vocabulary="common", budgets=(2_560,)))
    assert row["loss"] < 6
