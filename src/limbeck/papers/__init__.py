"""Papers: one file each, with what the paper claims and a small honest experiment that tests it through limbeck.

Every public module here holds one `Paper` and is found by being there: `measure` is one seed's experiment, `conclude`
draws the effect from all seeds. `reproduce` runs papers in a pool of processes; whether a claim holds is computed from
the numbers by one rule.
"""

from limbeck.papers._figure import Figure, Series
from limbeck.papers._paper import Numbers, Outcome, Paper, catalogue, get, papers, stacked
from limbeck.papers._reproduce import reproduce
from limbeck.papers._reproduction import Reproduction, counts, table, verdict

__all__ = [
    "Figure", "Numbers", "Outcome", "Paper", "Reproduction", "Series", "catalogue", "counts", "get", "papers",
    "reproduce", "stacked", "table", "verdict",
]  # fmt: skip
