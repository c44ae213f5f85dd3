"""Theory: closed forms and toy models that say why the laws hold and where they stop.

Each file is one subject: a formula that can be evaluated, the experiment in miniature that shows it, and what it means
for a decision. NumPy throughout; a model that has to be trained imports torch only when it is.
"""

from limbeck.theory.example_scores import (
    dichotomous_difficulty,
    el2n,
    forgetting,
    influence,
    memorization,
    out_of_fold,
    prototype_distance,
    prune,
)
from limbeck.theory.head_audit import HeadAudit, HeadAudits, audit_heads
from limbeck.theory.overlaps import Overlaps, overlaps, welch_bound
from limbeck.theory.perceptron_pruning import (
    Frontier,
    PrunedPerceptron,
    max_margin,
    pruned_perceptron,
    pruning_frontier,
)
from limbeck.theory.superposition import (
    ToyModels,
    ToySweep,
    fit_width_law,
    frequencies,
    learning_rate,
    strong_exponent,
    tail_loss,
    train_toy,
)

__all__ = [
    "Frontier",
    "HeadAudit",
    "HeadAudits",
    "Overlaps",
    "PrunedPerceptron",
    "ToyModels",
    "ToySweep",
    "audit_heads",
    "dichotomous_difficulty",
    "el2n",
    "fit_width_law",
    "forgetting",
    "frequencies",
    "influence",
    "learning_rate",
    "max_margin",
    "memorization",
    "out_of_fold",
    "overlaps",
    "prototype_distance",
    "prune",
    "pruned_perceptron",
    "pruning_frontier",
    "strong_exponent",
    "tail_loss",
    "train_toy",
    "welch_bound",
]
