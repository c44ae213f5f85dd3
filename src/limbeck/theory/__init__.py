"""Theory: closed forms and toy models that say why the laws hold and where they stop.

Each file is one subject: a formula that can be evaluated, the experiment in miniature that shows it, and what it means
for a decision. NumPy throughout; a model that has to be trained imports torch only when it is.
"""

# fmt: off
# isort: off
from limbeck.theory.example_scores import (
    dichotomous_difficulty, el2n, forgetting, influence, memorization, out_of_fold, prototype_distance, prune,
)
from limbeck.theory.four_regimes import random_feature_loss, resolution, simulate_random_features
from limbeck.theory.head_audit import HeadAudit, HeadAudits, audit_heads
from limbeck.theory.kernel_self_distillation import (
    KernelRidge, Mixing, SelfDistillation, kernel_ridge, linear, optimal_alpha, rbf, self_distill,
)
from limbeck.theory.lineage import Lineage, recursive_distill
from limbeck.theory.operator_axioms import Validity, validate_operator
from limbeck.theory.overlaps import Overlaps, overlaps, welch_bound
from limbeck.theory.perceptron_pruning import (
    Frontier, PrunedPerceptron, max_margin, pruned_perceptron, pruning_frontier,
)
from limbeck.theory.recursive_operators import (
    aggregate, anchor, bounds, choose_lambda, generations_to, kl, plateau, soften, soften_uniform,
)
from limbeck.theory.regimes import Regime, Regimes, classify_regime, regimes
from limbeck.theory.spectra import Exponents, intrinsic_dimension, power_spectrum, predict_exponents, spectrum_exponent
from limbeck.theory.superposition import (
    ToyModels, ToySweep, fit_width_law, frequencies, learning_rate, strong_exponent, tail_loss, train_toy,
)

__all__ = [
    "Exponents", "Frontier", "HeadAudit", "HeadAudits", "KernelRidge", "Lineage", "Mixing", "Overlaps",
    "PrunedPerceptron", "Regime", "Regimes", "SelfDistillation", "ToyModels", "ToySweep", "Validity", "aggregate",
    "anchor", "audit_heads", "bounds", "choose_lambda", "classify_regime", "dichotomous_difficulty", "el2n",
    "fit_width_law", "forgetting", "frequencies", "generations_to", "influence", "intrinsic_dimension",
    "kernel_ridge", "kl", "learning_rate", "linear", "max_margin", "memorization", "optimal_alpha", "out_of_fold",
    "overlaps", "plateau", "power_spectrum", "predict_exponents", "prototype_distance", "prune",
    "pruned_perceptron", "pruning_frontier", "random_feature_loss", "rbf", "recursive_distill", "regimes",
    "resolution", "self_distill", "simulate_random_features", "soften", "soften_uniform", "spectrum_exponent",
    "strong_exponent", "tail_loss", "train_toy", "validate_operator", "welch_bound",
]
