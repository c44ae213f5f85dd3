"""Two recipes on two data sets by two benchmarks: the runs behind two papers, read from the folder `LIMBECK_DATA`."""

import math

import polars as pl

from limbeck.laws import binned_frontier
from limbeck.papers._data import needed_table

TABLE = "laion_clip_mammut/best_by_model_and_samples.csv"
CASES = [
    (data, benchmark)
    for data in ("datacomp_1b", "relaion2b-en")
    for benchmark in ("imagenet1k/acc1", "mscoco_captions/image_retrieval_recall@5")
]


def frontiers(case: int, largest: float = math.inf) -> tuple[str, dict[str, pl.DataFrame]]:
    """Return the name of a case, and the frontiers of CLIP and MaMMUT up to a compute: flops (GFLOP) and error.

    Raises:
        RunsError: the table is not there.
    """
    data, benchmark = CASES[case % len(CASES)]
    dataset, metric = benchmark.split("/")
    rows = (
        pl.read_csv(needed_table(TABLE))
        .filter(pretrain_dataset=data, eval=dataset, metric=metric, lr_scheduler="cosine")
        .select("family", flops=pl.col("gflops_total"), error=1 - pl.col("value"))
        .filter(pl.col("flops") <= largest)
    )
    found = {}
    for family in ("clip", "mammut"):
        runs = rows.filter(family=family).drop("family")
        found[family] = runs.filter(binned_frontier(runs["flops"].to_numpy(), runs["error"].to_numpy())).sort("flops")
    return f"{data}, {dataset}", found
