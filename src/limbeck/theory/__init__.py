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
from limbeck.theory.kernel_self_distillation import (
    KernelRidge,
    Mixing,
    SelfDistillation,
    kernel_ridge,
    linear,
    optimal_alpha,
    rbf,
    self_distill,
)
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
    "KernelRidge",
    "Lineage",
    "Mixing",
    "Overlaps",
    "PrunedPerceptron",
    "SelfDistillation",
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
    "kernel_ridge",
    "kl",
    "learning_rate",
    "linear",
    "max_margin",
    "memorization",
    "optimal_alpha",
    "out_of_fold",
    "overlaps",
    "plateau",
    "prototype_distance",
    "prune",
    "pruned_perceptron",
    "pruning_frontier",
    "rbf",
    "recursive_distill",
    "self_distill",
    "soften",
    "soften_uniform",
    "strong_exponent",
    "tail_loss",
    "train_toy",
    "validate_operator",
    "welch_bound",
]
