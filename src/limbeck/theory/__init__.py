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
from limbeck.theory.lineage import Lineage, recursive_distill
from limbeck.theory.operator_axioms import Validity, validate_operator
from limbeck.theory.overlaps import Overlaps, overlaps, welch_bound
from limbeck.theory.perceptron_pruning import (
    Frontier,
    PrunedPerceptron,
    max_margin,
    pruned_perceptron,
    pruning_frontier,
)
from limbeck.theory.recursive_operators import (
    aggregate,
    anchor,
    bounds,
    choose_lambda,
    generations_to,
    kl,
    plateau,
    soften,
    soften_uniform,
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
    "Lineage",
    "Overlaps",
    "PrunedPerceptron",
    "ToyModels",
    "ToySweep",
    "Validity",
    "aggregate",
    "anchor",
    "audit_heads",
    "bounds",
    "choose_lambda",
    "dichotomous_difficulty",
    "el2n",
    "fit_width_law",
    "forgetting",
    "frequencies",
    "generations_to",
    "influence",
    "kl",
    "learning_rate",
    "max_margin",
    "memorization",
    "out_of_fold",
    "overlaps",
    "plateau",
    "prototype_distance",
    "prune",
    "pruned_perceptron",
    "pruning_frontier",
    "recursive_distill",
    "soften",
    "soften_uniform",
    "strong_exponent",
    "tail_loss",
    "train_toy",
    "validate_operator",
    "welch_bound",
]
