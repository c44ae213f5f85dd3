from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def results_csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("losses") / "results.csv"
    accuracy = {"CE": (90, 91, 92, 93, 94), "kd": (92, 93.2, 93.8, 95.1, 95.9), "bad": (91, 90, 93, 92, 9)}
    rows = [f"digits,{m},{s},{x},0.3" for m, xs in accuracy.items() for s, x in enumerate(xs)]
    path.write_text("\n".join(["dataset,method,seed,accuracy_percent,test_nll_nats", *rows]) + "\n")
    return path


def test_losses_from_a_table(limbeck, results_csv, tmp_path):
    said = limbeck("compare", "losses", results_csv, "--plot", tmp_path / "l.html")
    assert said.code == 0 and "better" in said.out and "seed 4 (9 %)" in said.out, said.err
    assert (tmp_path / "l.html").is_file()
    record = limbeck("compare", "losses", results_csv, "--json").json()
    (setting,) = record["settings"]
    assert setting["groups"] == [["kd"], ["CE"]] and setting["results"][0]["difference"]["mean"] == pytest.approx(2.0)


def test_a_published_table_is_told_by_its_columns(limbeck, tmp_path):
    path = tmp_path / "published.csv"
    row = "c,vgg13,vgg8,{},{},74.6,70.4,A\n"
    path.write_text(
        "dataset,teacher,student,method,top1,teacher_top1,student_top1,source\n"
        + "".join(row.format(*one) for one in (("KD", 73.0), ("KD+Z", 74.0), ("RKD", 11.3)))
    )
    said = limbeck("compare", "losses", path)
    assert (
        "KD+Z over KD: +1.00" in said.out and "diverged, left out: RKD 11.3 %" in said.out and "not ranked" in said.out
    )


def test_mistakes_about_losses(limbeck, results_csv):
    for arguments, words in (
        ([results_csv, "--baseline", "KDD"], 'no method "KDD"'),
        ([results_csv.parent / "absent.csv"], "does not exist"),
        ([results_csv, "--where", "dataset=mnist"], "no row"),
    ):
        said = limbeck("compare", "losses", *arguments)
        assert said.code == 2 and words in said.err and "Traceback" not in said.err, said
