from __future__ import annotations

import json

import pytest

from limbeck.errors import RunsError
from limbeck.runs import RunRecorder, read_runs


def state(tokens: bool = True, evaluated: bool = True) -> dict:
    """A trainer state as Hugging Face writes it: 2 evaluations in 200 steps, 1000 tokens and 6e9 FLOP a step."""
    history = []
    for step in (50, 100, 150, 200):
        history.append(
            {"epoch": step / 100, "learning_rate": 1e-3, "loss": 5 - step / 100, "train_runtime": 1.0, "step": step}
        )
        if step % 100 == 0 and evaluated:
            history.append({"epoch": step / 100, "eval_loss": 5.5 - step / 100, "eval_runtime": 1.0, "step": step})
        if tokens:
            for entry in history:
                entry.setdefault("num_input_tokens_seen", 1000 * entry["step"])
    history.append({"epoch": 2.0, "step": 200, "total_flos": 1.2e12, "train_loss": 4.0, "train_runtime": 9.0})
    return {"global_step": 200, "max_steps": 200, "total_flos": 1.2e12, "log_history": history} | (
        {"num_input_tokens_seen": 200_000} if tokens else {"num_input_tokens_seen": 0}
    )


def save(folder, **options):
    folder.mkdir(parents=True)
    path = folder / "trainer_state.json"
    path.write_text(json.dumps(state(**options)))
    return path


def test_trainer_state(tmp_path):
    runs = read_runs(save(tmp_path / "small"))
    assert runs.frame["run"].to_list() == ["small", "small"]
    assert runs.column("step").tolist() == [100, 200]
    assert runs.column("loss").tolist() == [4.5, 3.5]
    assert runs.column("train_loss").tolist() == [4.0, 3.0]
    assert runs.column("tokens").tolist() == [1e5, 2e5]
    assert runs.column("flops").tolist() == [6e11, 1.2e12]
    assert runs.column("lr").tolist() == [1e-3, 1e-3]
    # 6e9 FLOP a step of 1000 tokens: a million parameters.
    assert runs.column("params").tolist() == [1e6, 1e6]
    assert runs.derived == {"flops": "total of the log · step / last step", "params": "flops / (6 · tokens)"}


def test_trainer_state_without_evaluations(tmp_path):
    runs = read_runs(save(tmp_path / "small", evaluated=False))
    assert runs.column("loss").tolist() == [4.5, 4.0, 3.5, 3.0]
    assert runs.derived["loss"] == "train_loss"


def test_trainer_state_without_tokens(tmp_path):
    runs = read_runs(save(tmp_path / "small", tokens=False))
    assert "tokens" not in runs.columns
    assert runs.column("flops").tolist() == [6e11, 1.2e12]
    with pytest.raises(RunsError, match="has no column tokens"):
        runs.require("tokens", "loss")


def test_evaluations_of_another_name(tmp_path):
    path = save(tmp_path / "small")
    path.write_text(path.read_text().replace("eval_loss", "eval_c4_loss"))
    assert read_runs(path, {"eval_c4_loss": "loss"}).column("loss").tolist() == [4.5, 3.5]
    assert read_runs(path).column("loss").tolist() == [4.5, 4.0, 3.5, 3.0]


def test_a_folder_of_runs(tmp_path):
    save(tmp_path / "a")
    save(tmp_path / "b" / "checkpoint-100")
    save(tmp_path / "b" / "checkpoint-1000")
    (tmp_path / "c").mkdir()
    for name in ("x", "y"):
        with RunRecorder(tmp_path / f"{name}.jsonl", params=2e6) as recorder:
            recorder.write(step=1, tokens=1e6, loss=4.0)
    with RunRecorder(tmp_path / "c" / "log.jsonl", run="gamma", params=2e6) as recorder:
        recorder.write(step=1, tokens=1e6, loss=4.0)
    (tmp_path / "c" / "corpus.jsonl").write_text('{"text": "not a run"}\n')
    runs = read_runs(tmp_path)
    assert sorted(set(runs.frame["run"])) == ["a", "b", "gamma", "x", "y"]
    assert len(runs) == 2 + 2 + 3
    assert "b/checkpoint-1000/trainer_state.json entry 3" in runs.rows.to_list()
    assert "x.jsonl row 1" in runs.rows.to_list()
    assert read_runs(tmp_path / "b").frame["run"].to_list() == ["b", "b"]
    assert read_runs(tmp_path / "b" / "checkpoint-100" / "trainer_state.json").frame["run"].to_list() == ["b", "b"]


def test_records_without_a_name_are_named_after_their_file(tmp_path):
    for place in ("a.jsonl", "b/records.jsonl", "c/one.jsonl", "c/two.jsonl"):
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"step": 1, "params": 1e6, "tokens": 1e6, "loss": 4.0}\n')
    assert read_runs(tmp_path).frame["run"].to_list() == ["a", "b", "c/one", "c/two"]


def test_untrained_models_and_progress_between_evaluations_are_left_out(tmp_path):
    with RunRecorder(tmp_path / "a.jsonl", params=1e6) as recorder:
        for step in range(7):
            measured = {"loss": 5.0 - step / 2} if step % 3 == 0 else {}
            recorder.write(step=step, tokens=1000 * step, train_loss=4.0, **measured)
    runs = read_runs(tmp_path)
    assert runs.column("step").tolist() == [3, 6]
    assert runs.rows.to_list() == ["a.jsonl row 4", "a.jsonl row 7"]


def test_an_evaluation_that_failed_is_listed(tmp_path):
    with RunRecorder(tmp_path / "a.jsonl", params=1e6) as recorder:
        recorder.write(step=1, tokens=1000, loss=4.0)
        recorder.write(step=2, tokens=2000, loss=float("nan"))
    with pytest.raises(RunsError, match=r"row 2  loss  NaN"):
        read_runs(tmp_path / "a.jsonl")


def test_nested_values_are_kept_as_text(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"params": 1e6, "tokens": 1e8, "loss": 3, "config": {"depth": 2}}\n')
    assert read_runs(path).frame["config"].to_list() == ['{"depth": 2}']
