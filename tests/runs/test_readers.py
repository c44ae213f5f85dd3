from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from datetime import date

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import RunsError
from limbeck.runs import read_runs

ROWS = [
    {"n_params": 1e6, "train_tokens": 2e8, "val/loss": 4.0},
    {"n_params": 3e6, "train_tokens": 2e8, "val/loss": 3.5},
]


@pytest.fixture
def write(tmp_path):
    def write(text, name="runs.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def message(source, *arguments, **options) -> str:
    with pytest.raises(RunsError) as error:
        read_runs(source, *arguments, **options)
    return str(error.value)


def columns(runs, *names):
    return [runs.column(name).tolist() for name in names]


# Formats


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS).convert_dtypes(),
        pl.DataFrame(ROWS),
        pl.DataFrame(ROWS).lazy(),
        pa.Table.from_pylist(ROWS),
        duckdb.from_arrow(pa.Table.from_pylist(ROWS)),
        ROWS,
        {name: [row[name] for row in ROWS] for name in ROWS[0]},
    ],
    ids=["pandas", "pandas-nullable", "polars", "polars-lazy", "pyarrow", "duckdb", "records", "columns"],
)
def test_any_frame(frame):
    runs = read_runs(frame)
    assert columns(runs, "params", "tokens", "loss") == [[1e6, 3e6], [2e8, 2e8], [4.0, 3.5]]
    assert columns(runs, "flops") == [[1.2e15, 3.6e15]]
    assert runs.derived == {"flops": "6 · params · tokens"}


def test_files_agree(tmp_path):
    frame = pl.DataFrame(ROWS)
    frame.write_csv(tmp_path / "r.csv")
    frame.write_csv(tmp_path / "r.tsv", separator="\t")
    frame.write_parquet(tmp_path / "r.parquet")
    frame.write_ndjson(tmp_path / "r.jsonl")
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress((tmp_path / "r.csv").read_bytes()))
    expected = read_runs(frame).frame
    for path in sorted(tmp_path.iterdir()):
        assert read_runs(path).frame.equals(expected), path
        assert read_runs(str(path)).source == str(path)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.floats(1e3, 1e13), st.floats(1e3, 1e15), st.floats(1e-3, 1e2), st.text(st.characters(codec="utf-8"))
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row[:3],
    )
)
def test_csv_round_trip_is_exact(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "runs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["N", "D", "L", "note"])
        writer.writerows([*row[:3], row[3].replace("\0", "")] for row in rows)
    runs = read_runs(path)
    assert columns(runs, "params", "tokens", "loss") == [[row[i] for row in rows] for i in range(3)]


@pytest.mark.parametrize(
    "text",
    [
        "params;tokens;loss\n1e6;2e8;4\n3e6;2e8;3.5\n",
        "params|tokens|loss\r\n1e6|2e8|4\r\n3e6|2e8|3.5\r\n",
        "\ufeffparams, tokens, loss\n1e6, 2e8, 4\n\n3e6, 2e8, 3.5\n\n",
        '"params","tokens","loss"\n"1e6","2e8","4"\n3e6,2e8,3.5',
    ],
    ids=["semicolon", "bar", "blanks", "quotes"],
)
def test_dialects(write, text):
    assert columns(read_runs(write(text)), "params", "tokens", "loss") == [[1e6, 3e6], [2e8, 2e8], [4.0, 3.5]]


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"", "runs.csv", "is empty"),
        (b"\n \n", "runs.csv", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "runs.csv", "is not UTF-8 text (byte 0)"),
        (b"PK\x03\x04\x00\x00", "runs.csv", "is a binary file"),
        ("params,loss\n1e6,3 \u20ac".encode("utf-16"), "runs.csv", "is not UTF-8 text"),
        (b"params,tokens,loss\n", "runs.csv", "has a header (params, tokens, loss) and no rows"),
        (b"loss,loss\n1,2\n", "runs.csv", 'has the column "loss" 2 times'),
        (b"not gzip", "runs.csv.gz", "cannot be read"),
        (b"params,tokens\n1,2", "runs.parquet", "is not a readable Parquet file"),
        (b"", "runs.parquet", "is not a readable Parquet file"),
        (b"x", "runs.xlsx", 'the ending ".xlsx" is not one of .csv'),
        (b"x", "runs", 'the ending "" is not one of .csv'),
        (b'{"params": 1}\n[1, 2]\n', "runs.jsonl", "row 2: [1, 2] is not a JSON object"),
        (b'{"params": 1}\n{"params"\n{"params": 2}\n', "runs.jsonl", "row 2: not JSON"),
        (b'{"params": 1', "runs.jsonl", "holds no complete row"),
        (b"{}", "runs.json", 'is not a Hugging Face trainer state: it has no list "log_history"'),
        (b"{", "runs.json", "is not JSON"),
        (b'{"log_history": []}', "trainer_state.json", "has logged no step yet"),
    ],
)
def test_garbage(write, content, name, expected):
    path = write(content, name)
    text = message(path)
    assert str(path) in text
    assert expected in text


def test_frames_without_rows_or_shape():
    assert message(pd.DataFrame({"N": []})) == "the data frame has no rows."
    assert "must hold lists of one length" in message({"N": [1, 2], "D": [1]})
    assert "must hold lists of one length" in message({"N": 1e6})
    assert "cannot read runs from a list" in message([])


def test_columns_of_any_type_are_kept(tmp_path):
    frame = pl.DataFrame(
        {
            **{"N": [10**6, 2 * 10**6], "D": [1e8, 2e8], "loss": [pl.Series([3]).cast(pl.Decimal(5, 2))[0]] * 2},
            **{
                "list": [[1, 2], [3]],
                "struct": [{"a": 1}, {"a": 2}],
                "when": [date(2024, 1, 1)] * 2,
                "raw": [b"x", b"y"],
            },
        }
    ).with_columns(family=pl.Series(["opt", "opt"]).cast(pl.Categorical))
    frame.write_parquet(tmp_path / "r.parquet")
    runs = read_runs(tmp_path / "r.parquet")
    assert columns(runs, "params", "loss") == [[1e6, 2e6], [3.0, 3.0]]
    assert runs.frame["when"].to_list() == ["2024-01-01"] * 2
    assert runs.frame["family"].to_list() == ["opt", "opt"]


def test_missing_files_and_folders(tmp_path, write):
    path = write("params,loss\n1,1\n")
    assert 'does not exist. Did you mean "runs.csv"?' in message(path.with_name("run.csv"))
    assert "does not exist." in message(tmp_path / "nowhere" / "runs.csv")
    assert "holds no runs. Expected trainer_state.json" in message(tmp_path)
    assert "cannot read runs from a int" in message(42)


# Names


def test_unknown_columns_keep_their_names(write):
    runs = read_runs(write("N,D,L,损失,arch,id\n1e6,1e8,3,1.5,dense,7\n2e6,1e8,2.9,nan,moe,8\n"))
    assert runs.columns == ["params", "tokens", "loss", "损失", "arch", "id", "flops"]
    assert runs.frame["arch"].to_list() == ["dense", "moe"]
    assert runs.frame["损失"].to_list() == [1.5, None]


@pytest.mark.parametrize(
    "mapping",
    [{"c4": "loss"}, {"loss": "c4"}, ["c4=loss"], "loss=c4", {"c4": "val/loss"}],
)
def test_mapping_in_both_directions(write, mapping):
    path = write("N,D,c4,loss\n1e6,1e8,3,9\n")
    runs = read_runs(path, mapping)
    assert columns(runs, "loss", "loss (in the file)") == [[3.0], [9.0]]


def test_mapping_joins_and_hides(write):
    path = write("size,kind,N,lr,loss\nbig,a,1e6,oops,3\nbig,b,1e6,oops,3\n")
    runs = read_runs(path, {"run": "size+kind", "lr": None})
    assert runs.frame["run"].to_list() == ["big/a", "big/b"]
    assert "lr" not in runs.columns
    assert runs.frame["size"].to_list() == ["big", "big"]


def test_scale_in_the_header(write):
    runs = read_runs(write("Model Size (B),Pretraining Data Size (T),loss\n7.0,2.0,1.8\n1,2,2.1\n"), where="params>=5B")
    assert columns(runs, "params", "tokens") == [[7e9], [2e12]]
    assert runs.derived == {
        "params": "Model Size (B) · 1e9",
        "tokens": "Pretraining Data Size (T) · 1e12",
        "flops": "6 · params · tokens",
    }


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (None, 'the columns "eval_loss" and "val/loss" both mean loss'),
        (None, 'mapping={"val/loss": "loss"} (--map val/loss=loss)'),
        ({"val/los": "loss"}, 'has no column "val/los". Did you mean "val/loss"?'),
        ({"val/loss": "los"}, 'the mapping names the unknown column "los". Did you mean "loss"?'),
        ({"val/loss": "loss", "eval_loss": "loss"}, 'gives "val/loss" and "eval_loss" the same name loss'),
        ("val/loss", 'cannot read the mapping "val/loss"'),
    ],
)
def test_ambiguous_and_wrong_names(write, mapping, expected):
    assert expected in message(write("N,D,eval_loss,val/loss\n1e6,1e8,3,3.1\n"), mapping)


# Bad rows


def test_bad_rows_are_listed_by_row_and_column(write):
    lines = ["params,tokens,loss", *(f"{n}e6,1e9,3.{n}" for n in range(1, 41))]
    lines[16] = '1e7,"1e9 ",3'
    lines[39] = "2e7,1e9,nan"
    lines[40] = "-7,1e9,3"
    path = write("\n".join(lines))
    assert message(path).splitlines() == [
        f"{path}: 3 rows cannot be used (the header is row 1)",
        '  row 17  tokens  "1e9 " is text: write 1e9 without quotes',
        "  row 40  loss    NaN",
        "  row 41  params  -7: must be positive",
        "Nothing was used. Correct them, or drop them with skip_bad=True (--skip-bad).",
    ]
    runs = read_runs(path, skip_bad=True)
    assert len(runs) == 37
    assert [(p.row, p.column) for p in runs.dropped] == [("row 17", "tokens"), ("row 40", "loss"), ("row 41", "params")]
    assert runs.summary().endswith("3 rows dropped")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("abc", '"abc" is text: a number is expected'),
        ('"1,000,000"', '"1,000,000" is text: write numbers without commas, with a point for decimals'),
        ("7B", '"7B" is text: write 7000000000 without quotes'),
        ("1_000", '"1_000" is text: write 1000 without quotes'),
        ("0", "0: must be positive"),
        ("-1", "-1: must be positive"),
        ("inf", "infinite"),
        ("-inf", "infinite"),
        ("1e999", "infinite"),
        ("NaN", "NaN"),
        ("", "missing"),
        ("N/A", "missing"),
    ],
)
@pytest.mark.parametrize("column", ["params", "tokens", "loss"])
def test_every_kind_of_bad_cell(write, column, cell, reason):
    row = {"params": "1e6", "tokens": "1e8", "loss": "3", column: cell}
    path = write(f"params,tokens,loss\n{row['params']},{row['tokens']},{row['loss']}\n5e6,1e8,3\n")
    runs = read_runs(path, skip_bad=True)
    assert [(p.row, p.column, p.reason) for p in runs.dropped] == [("row 2", column, reason)]
    assert columns(runs, "params", "tokens", "loss") == [[5e6], [1e8], [3.0]]


def test_huge_integers_as_text(write):
    runs = read_runs(write(f"params,tokens,loss\n{10**40},1e8,3\n"))
    assert runs.column("params").tolist() == [1e40]


def test_bad_cells_of_a_pandas_frame():
    frame = pd.DataFrame({"N": ["1e6", "2e6x", "3e6"], "D": [1e8, 1e8, None], "loss": [3.0, 3.0, 3.0]})
    assert [(p.row, p.column) for p in read_runs(frame, skip_bad=True).dropped] == [
        ("row 2", "params"),
        ("row 3", "tokens"),
    ]


def test_a_long_list_is_cut(write):
    text = message(write("params,tokens,loss\n" + "-1,1,1\n" * 25))
    assert text.count("must be positive") == 10
    assert "25 rows cannot be used" in text
    assert "  ... and 15 more\n" in text


def test_nothing_left(write):
    assert "No row is left." in message(write("params,tokens,loss\n-1,1e8,3\n"), skip_bad=True)


def test_empty_cells_of_optional_columns_are_no_fault(write):
    runs = read_runs(
        write("params,tokens,loss,teacher_loss,teacher_params,lr\n1e6,1e8,3,,0,NA\n2e6,1e8,2,1.9,1e9,1e-3\n")
    )
    assert runs.frame["teacher_loss"].to_list() == [None, 1.9]
    assert runs.dropped == ()


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("teacher_loss", "abc", '"abc" is text: a number is expected'),
        ("teacher_loss", "-1", "-1: must be positive"),
        ("error", "37.2", "37.2: must be at most 1"),
        ("accuracy_percent", "inf", "missing"),
    ],
)
def test_impossible_cells_of_optional_columns(write, column, cell, reason):
    runs = read_runs(write(f"params,tokens,loss,{column}\n1e6,1e8,3,{cell}\n2e6,1e8,3,0.5\n"), skip_bad=True)
    runs = runs.require(column, skip_bad=True)
    assert [(p.column, p.reason) for p in runs.dropped] == [(column, reason)]


def test_rows_of_another_length_and_line_numbers(write):
    path = write('params,tokens,loss,note\n1e6,1e8,3,"two\nlines"\n\n2e6,1e8\n-3,1e8,3,x\n4e6,1e8,3,y,z\n')
    assert [(p.row, p.reason) for p in read_runs(path, skip_bad=True).dropped] == [
        ("row 5", "2 cells, the header has 4"),
        ("row 7", "5 cells, the header has 4"),
        ("row 6", "-3: must be positive"),
    ]


def test_flags(write):
    runs = read_runs(write("params,tokens,loss,is_outlier\n1e6,1e8,3,True\n2e6,1e8,3,false\n"))
    assert runs.column("outlier").tolist() == [1.0, 0.0]


# Identity


def test_repeated_keys(write):
    path = write("run,step,params,tokens,loss\na,1,1e6,1e8,3\na,2,1e6,2e8,3\nb,1,1e6,1e8,3\na,1,1e6,1e8,2.9\n")
    assert "  row 5  run  repeats row 2 in run a, step 1" in message(path)
    runs = read_runs(path, skip_bad=True)
    assert runs.column("loss").tolist() == [3.0, 3.0, 3.0]


def test_one_model_at_several_precisions_is_one_run(write):
    path = write("run,params,bits,loss\na,1e6,4,3\na,1e6,8,2.9\na,1e6,4,3.1\n")
    assert "  row 4  run  repeats row 2 in run a, bits 4" in message(path)
    runs = read_runs(path, skip_bad=True)
    assert runs.clusters().tolist() == [0, 0]
    assert runs.column("total_bits").tolist() == [4e6, 8e6] and runs.derived["total_bits"] == "params · bits"


def test_identical_rows_repeat_and_replicates_do_not(write):
    assert "row 3  params  repeats row 2 in every column" in message(
        write("params,tokens,loss\n1e6,1e8,3\n1e6,1e8,3\n")
    )
    assert len(read_runs(write("params,tokens,loss\n1e6,1e8,3\n1e6,1e8,3.01\n"))) == 2


def test_checkpoints_without_a_run(write):
    path = write("size,step,params,tokens,loss\ns,1,1e6,1e8,3\ns,2,1e6,2e8,2.9\nm,1,2e6,1e8,2.8\n")
    text = message(path)
    assert "2 rows cannot be used" in text
    assert "  row 3  run  missing: whose checkpoint is this (step 2)?" in text
    assert "--map run=size+schedule" in text
    assert read_runs(path, {"size": "run"}).clusters().tolist() == [0, 0, 1]
    assert len(read_runs(path, {"step": None})) == 3


def test_a_row_that_does_not_name_its_run(write):
    path = write("run,step,params,tokens,loss\na,1,1e6,1e8,3\n,2,1e6,2e8,2.9\n")
    assert "  row 3  run  missing" in message(path)


def test_final_results_with_their_number_of_steps(write):
    assert len(read_runs(write("step,params,tokens,loss\n1000,1e6,1e8,3\n2000,2e6,2e8,2.9\n"))) == 2


# Setups

MIXED = "family,tokenizer,params,tokens,loss\nopt,bpe,1e6,1e8,3\nopt,bpe,2e6,1e8,2.9\ngpt,,1e6,1e8,2.8\n"


def test_setups_are_not_mixed_silently(write):
    text = message(write(MIXED))
    assert "mixes setups" in text
    assert "  family     opt (2 rows), gpt (1 row)" in text
    assert "  tokenizer  bpe (2 rows), " in text
    assert 'where="family=opt" (--where "family=opt")' in text
    assert "mix_setups=True (--mix-setups)" in text


def test_one_setup_is_chosen_or_all_are_taken(write):
    path = write(MIXED)
    assert len(read_runs(path, where={"family": "opt"})) == 2
    assert len(read_runs(path, mix_setups=True)) == 3


def test_where_comes_before_the_checks(write):
    path = write("params,tokens,loss,outlier\n1e6,1e8,3,0\n-1,1e8,x,1\n")
    assert len(read_runs(path, where="outlier=0")) == 1


# Derived columns


@pytest.mark.parametrize(
    ("text", "name", "value", "formula"),
    [
        ("params,tokens\n1e6,2e8", "flops", 1.2e15, "6 · params · tokens"),
        ("params,flops\n1e6,1.2e15", "tokens", 2e8, "flops / (6 · params)"),
        ("tokens,flops\n2e8,1.2e15", "params", 1e6, "flops / (6 · tokens)"),
        ("params,step,batch_tokens\n1e6,100,2e6", "tokens", 2e8, "step · batch_tokens"),
        ("non_embedding_params,tokens\n1e6,2e8", "params", 1e6, "params_non_embedding"),
        ("total_params,tokens\n1e6,2e8", "params", 1e6, "params_total"),
        ("params,tokens,train_loss\n1e6,2e8,3", "loss", 3.0, "train_loss"),
        ("params,accuracy_percent\n1e6,75", "error", 0.25, "1 - accuracy_percent / 100"),
    ],
)
def test_derived(write, text, name, value, formula):
    runs = read_runs(write(text))
    assert runs.column(name).tolist() == [pytest.approx(value, rel=1e-15)]
    assert runs.derived[name] == formula


def test_what_is_given_stays(write):
    runs = read_runs(write("params,tokens,flops,loss,train_loss\n1e6,2e8,7,3,2\n1e6,3e8,,3,2\n"))
    assert columns(runs, "flops", "loss") == [[7.0, 6 * 1e6 * 3e8], [3.0, 3.0]]
    assert runs.derived == {"flops": "6 · params · tokens in 1 of 2 rows"}


def test_samples_are_no_tokens(write):
    runs = read_runs(write("params,samples_seen,flops,loss\n1e6,1e9,1e18,3\n"))
    assert "tokens" not in runs.columns
    assert runs.derived == {}


# Real tables


def test_published_tables(data_folder):
    chinchilla = read_runs(data_folder / "chinchilla-runs" / "runs.csv", where={"outlier": 0})
    assert len(chinchilla) == 240
    assert chinchilla.derived == {}
    assert chinchilla.summary() == "240 runs · 57 M–16 B parameters · 1e18–1e22 FLOP · loss 2.08–3.41 nats/token"
    gadre = data_folder / "overtraining-testbed" / "runs.csv"
    assert "dataset    rpj (35 rows), rw_original (35 rows), c4_original (34 rows)" in message(
        gadre, {"loss_c4_val": "loss"}
    )
    assert len(read_runs(gadre, {"loss_c4_val": "loss"}, where="train_set=c4_original").require("params", "loss")) == 34
    olmo = read_runs(data_folder / "olmo_ladder" / "checkpoints.csv", "c4_ce=loss", skip_bad=True)
    assert (len(olmo), len(olmo.dropped), olmo.clusters().max()) == (3200, 2, 26)
    curves = data_folder / "lr-schedule-curves" / "curves.csv"
    assert "6265 rows cannot be used" in message(curves)
    assert read_runs(curves, "run=model+schedule").clusters().max() == 26


def test_the_room_imports_polars_and_numpy_only():
    heavy = {"torch", "pandas", "pyarrow", "duckdb", "narwhals", "scipy", "transformers", "pydantic"}
    program = f"import sys, limbeck.runs; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_column_of_words_under_the_name_of_a_number_gets_a_way_out():
    """`param_count` says how sizes were counted, not how large they are."""
    table = {
        "param_count": ["kaplan"] * 12,
        "n": [1e6 * 2**k for k in range(12)],
        "loss": [3 - 0.1 * k for k in range(12)],
    }
    with pytest.raises(RunsError, match="If params stands in another column: --map params=COLUMN"):
        read_runs(table)
    assert read_runs(table, mapping={"params": "n"}).column("params")[-1] == 2048e6
