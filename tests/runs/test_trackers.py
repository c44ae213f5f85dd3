"""Tracker logs as the trackers themselves write them."""

from __future__ import annotations

import csv
import json
import sqlite3

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from limbeck.errors import RunsError
from limbeck.runs import read_runs

SIZES = {"small": 24_000, "big": 48_000}


def loss(params: float, step: int) -> float:
    return 2.0 + 100.0 / params**0.5 + 1.0 / step


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Two runs with a training loss at every step, an evaluation at every second, and hyperparameters."""
    folder = tmp_path_factory.mktemp("events")
    for run, params in SIZES.items():
        with SummaryWriter(str(folder / run)) as writer:
            for step in range(100, 500, 100):
                writer.add_scalar("train/loss", 5.0, step)
                writer.add_scalar("tokens", 1000 * step, step)
                if step % 200 == 0:
                    writer.add_scalar("val/loss", loss(params, step), step)
            writer.add_hparams({"n_params": params, "lr": 1e-3, "optimizer": "adamw"}, {"best": 1.0}, run_name="h")
    return folder


def test_tensorboard_events(events):
    runs = read_runs(events)
    assert sorted(set(runs.frame["run"])) == ["big", "small"]
    assert runs.column("step").tolist() == [200, 400] * 2
    assert runs.column("params").tolist() == [48_000] * 2 + [24_000] * 2
    assert runs.column("tokens").tolist() == [200_000, 400_000] * 2
    expected = [loss(n, s) for n in (48_000, 24_000) for s in (200, 400)]
    assert runs.column("loss") == pytest.approx(expected, rel=1e-6)  # TensorBoard keeps float32
    assert runs.frame["optimizer"].to_list() == ["adamw"] * 4
    assert runs.clusters().tolist() == [0, 0, 1, 1]
    assert runs.column("flops").tolist() == (6 * runs.column("params") * runs.column("tokens")).tolist()


def test_one_run_is_named_after_its_folder(events):
    assert set(read_runs(events / "small").frame["run"]) == {"small"}


def test_tensors_are_scalars_too(tmp_path):
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.util.tensor_util import make_tensor_proto

    with SummaryWriter(str(tmp_path / "keras")) as writer:
        for step in (1, 2):
            value = Summary.Value(tag="val_loss", tensor=make_tensor_proto(torch.tensor(3.0 - step).numpy()))
            writer.file_writer.add_summary(Summary(value=[value]), step)
    assert read_runs(tmp_path).column("loss").tolist() == [2.0, 1.0]


def test_events_without_a_number(tmp_path):
    SummaryWriter(str(tmp_path / "empty")).close()
    with pytest.raises(RunsError, match="holds no logged number yet"):
        read_runs(tmp_path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A database and a file store of MLflow with the same runs."""
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow")
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    for uri in (f"sqlite:///{folder}/mlflow.db", (folder / "files" / "mlruns").as_uri()):
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("ladder")
        for name, params in (*SIZES.items(), ("small", 24_000)):
            with mlflow.start_run(run_name=name):
                mlflow.log_params({"n_params": params, "tokens": 10**9})
                for step in (100, 200):
                    mlflow.log_metric("train/loss", 5.0, step=step)
                    mlflow.log_metric("tokens", 1000 * step, step=step)
                mlflow.log_metric("val/loss", loss(params, 200), step=200)
        with mlflow.start_run(run_name="broken") as run:
            mlflow.log_metric("val/loss", 9.0, step=1)
        mlflow.delete_run(run.info.run_id)
    mlflow.set_tracking_uri(before)
    patch.undo()
    return folder


@pytest.mark.parametrize("place", ["mlflow.db", ".", "files", "files/mlruns"])
def test_mlflow_stores(store, place):
    runs = read_runs(store / place)
    assert sorted(name.split(" ")[0] for name in runs.frame["run"]) == ["big", "small", "small"]
    assert len(set(runs.frame["run"])) == 3  # two runs share their name
    assert set(runs.frame["recipe"]) == {"ladder"}
    assert sorted(runs.column("params")) == [24_000, 24_000, 48_000]
    assert runs.column("tokens").tolist() == [200_000] * 3  # tokens so far, not the planned ones
    assert sorted(runs.column("loss")) == pytest.approx(sorted(loss(n, 200) for n in (24_000, 24_000, 48_000)))


def test_mlflow_experiments_are_setups(store, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes((store / "mlflow.db").read_bytes())
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO experiments (experiment_id, name) VALUES (7, 'other')")
        database.execute("UPDATE runs SET experiment_id = 7 WHERE name = 'big'")
        database.execute("UPDATE metrics SET is_nan = 1, value = 0 WHERE step = 200 AND key = 'val/loss'")
    with pytest.raises(RunsError, match="mixes setups"):
        read_runs(path)
    with pytest.raises(RunsError, match=r"big, step 200 +loss +NaN"):
        read_runs(path, where="recipe=other")


def test_a_database_of_something_else(tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("CREATE TABLE runs (x)")
    with pytest.raises(RunsError, match="is not a store of MLflow"):
        read_runs(tmp_path / "other.db")
    (tmp_path / "text.db").write_text("hello " * 100)
    with pytest.raises(RunsError, match="is not a store of MLflow"):
        read_runs(tmp_path / "text.db")


def test_a_damaged_file_store(store, tmp_path):
    run = tmp_path / "mlruns" / "1" / "abc"
    (run / "metrics").mkdir(parents=True)
    (run.parent / "meta.yaml").write_text("name: ladder\n")
    (run / "meta.yaml").write_text("lifecycle_stage: active\nrun_name: a\n")
    (run / "metrics" / "loss").write_text("1 2.0 3\n1 2.0\n")
    with pytest.raises(RunsError, match=r'loss, row 2: "1 2\.0" is not "time value step"'):
        read_runs(tmp_path)
    (run / "meta.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(RunsError, match="is not what MLflow writes"):
        read_runs(tmp_path)


def history(step: int) -> dict:
    return {"_step": step, "_runtime": 2.0 * step, "_timestamp": 1.7e9, "train/loss": 5.0, "tokens": 1000 * step}


def test_wandb_history_as_jsonl(tmp_path):
    rows = [history(step) | ({"val/loss": loss(24_000, step)} if step == 200 else {}) for step in (100, 200, 300)]
    (tmp_path / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = read_runs(tmp_path / "small.jsonl")
    assert runs.frame["run"].to_list() == ["small"] and runs.column("loss") == pytest.approx([loss(24_000, 200)])
    assert runs.column("seconds").tolist() == [400.0]


def test_wandb_history_as_csv(tmp_path):
    with (tmp_path / "big.csv").open("w") as file:
        writer = csv.DictWriter(file, [*history(1), "val/loss"])
        writer.writeheader()
        writer.writerows([history(100), history(200) | {"val/loss": 3.5}])
    runs = read_runs(tmp_path / "big.csv")
    assert runs.frame["run"].to_list() == ["big"] and runs.column("loss").tolist() == [3.5]
    assert runs.column("step").tolist() == [200.0]


def test_wandb_chart(tmp_path):
    header = ["Step", *(f"{run} - val/loss{end}" for run in ("a - 1", "b") for end in ("", "__MIN", "__MAX"))]
    lines = [header, [100, 4.0, 3.9, 4.1, "", "", ""], [200, 3.5, 3.4, 3.6, 3.0, 2.9, 3.1]]
    with (tmp_path / "chart.csv").open("w") as file:
        csv.writer(file).writerows(lines)
    runs = read_runs(tmp_path / "chart.csv")
    assert runs.frame.select("run", "step", "loss").rows() == [
        ("a - 1", 100, 4.0),
        ("a - 1", 200, 3.5),
        ("b", 200, 3.0),
    ]
