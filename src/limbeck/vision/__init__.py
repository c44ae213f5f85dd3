"""Classifiers: any network learns from any teacher on pictures or arrays.

`read_data` brings examples, `distill` trains a student by a method (`kd`, `dkd`, `pld`, ...), `evaluate` says what it
is worth beside its teacher. A teacher is a network, an ONNX file, an array of answers, or several of them.
"""

# fmt: off
# isort: off
from limbeck.distill.examples import Labelled, labelled, of_dataset, read_data, save_data
from limbeck.distill.regime import Regime
from limbeck.vision.augmentation import Augmentation
from limbeck.vision.evaluation import Comparison, Judgement, best_temperature, evaluate, flat, judge
from limbeck.vision.file_types import magika, read_files
from limbeck.vision.generations import Generation, Generations, distill_generations, distill_lineage, probabilities
from limbeck.vision.methods import Method, Ramp, method_of
from limbeck.vision.networks import Histogram, Network, Normalised, Saved, load_network, save_network
from limbeck.vision.recipe import (
    ClassifierRecipe, ClassifierResult, evaluate_folder, read_classifier_recipe, run_recipe,
)
from limbeck.vision.teachers import (
    Answers, Batch, Chosen, Kept, Module, Onnx, Several, Teacher, answers, log_probabilities, teacher_of,
)
from limbeck.vision.training import Distilled, distill

__all__ = [
    "Answers", "Augmentation", "Batch", "Chosen", "ClassifierRecipe", "ClassifierResult", "Comparison", "Distilled",
    "Generation", "Generations", "Histogram", "Judgement", "Kept", "Labelled", "Method", "Module", "Network",
    "Normalised", "Onnx", "Ramp", "Regime", "Saved", "Several", "Teacher", "answers", "best_temperature", "distill",
    "distill_generations", "distill_lineage", "evaluate", "evaluate_folder", "flat", "judge", "labelled",
    "load_network", "log_probabilities", "magika", "method_of", "of_dataset", "probabilities",
    "read_classifier_recipe", "read_data", "read_files", "run_recipe", "save_data", "save_network", "teacher_of",
]
