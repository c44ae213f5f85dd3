"""Distilling data sets of graphs: a few frequent computation trees in place of all graphs.

`read_graphs` brings graphs with classes, `condense` makes a distilled set of them without training a network, `train`
trains a graph classifier on it, on real graphs, or beside a larger network that teaches it.
"""

# fmt: off
# isort: off
from limbeck.graphs.data import Graph, GraphData, balanced, to_pyg, undirected
from limbeck.graphs.mining import bit_masks, frequent_sets
from limbeck.graphs.networks import Classifier, Network, Saved, batch_of, load_network, logits_of, save_network
from limbeck.graphs.reading import read_graphs, read_sdf, read_tu, save_graphs
from limbeck.graphs.summary import Pattern, Summary, condense, random_graphs
from limbeck.graphs.training import Judgement, Trained, judge, train
from limbeck.graphs.trees import Tree, Trees, computation_trees

__all__ = [
    "Classifier", "Graph", "GraphData", "Judgement", "Network", "Pattern", "Saved", "Summary", "Trained", "Tree",
    "Trees", "balanced", "batch_of", "bit_masks", "computation_trees", "condense", "frequent_sets", "judge",
    "load_network", "logits_of", "random_graphs", "read_graphs", "read_sdf", "read_tu", "save_graphs", "save_network",
    "to_pyg", "train", "undirected",
]
