"""Classifiers: any network learns from any teacher on pictures or arrays.

`read_data` brings examples, `distill` trains a student by a method (`kd`, `dkd`, `pld`, ...), `evaluate` says what it
is worth beside its teacher. A teacher is a network, an ONNX file, an array of answers, or several of them.
"""

# fmt: off
# isort: off
from limbeck.vision.augmentation import Augmentation
from limbeck.vision.data import Labelled, labelled, of_dataset, read_data
from limbeck.vision.evaluation import Comparison, Judgement, best_temperature, evaluate, flat, judge
from limbeck.vision.methods import Method, Ramp, method_of
from limbeck.vision.networks import Network, Normalised, load_network, save_network
from limbeck.vision.teachers import (
    Answers, Batch, Chosen, Kept, Module, Onnx, Several, Teacher, answers, log_probabilities, teacher_of,
)
from limbeck.vision.training import Distilled, Regime, distill

__all__ = [
    "Answers", "Augmentation", "Batch", "Chosen", "Comparison", "Distilled", "Judgement", "Kept", "Labelled", "Method",
    "Module", "Network", "Normalised", "Onnx", "Ramp", "Regime", "Several", "Teacher", "answers", "best_temperature",
    "distill", "evaluate", "flat", "judge", "labelled", "load_network", "log_probabilities", "method_of", "of_dataset",
    "read_data", "save_network", "teacher_of",
]
