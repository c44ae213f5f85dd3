"""Click models: networks that read a user's history and say how likely a click is, and their distillation.

`read_clicks` brings a log, `Suan(...).build` a network, `train_clicks` trains it alone or beside a teacher, `judge`
says what it is worth. A network reads a `ClickBatch` and gives logits; `rank` scores many items for one user.
"""

# fmt: off
# isort: off
from limbeck.recsys.batches import ClickBatch, batch_of, reading
from limbeck.recsys.clicks import Clicks, Schema, clicks_of, read_clicks, synthetic
from limbeck.recsys.cost import Cost, rank
from limbeck.recsys.evaluation import ClickJudgement, auc, calibrated, group_auc, judge, judge_logits, scores
from limbeck.recsys.ladder import Ladder, Rung, climb
from limbeck.recsys.networks import Embeddings, Sizes, load_network, save_network, share_tables, sizes_of
from limbeck.recsys.recipe import (
    ClickComparison, ClickRecipe, ClickResult, evaluate_folder, read_click_recipe, run_recipe,
)
from limbeck.recsys.sinkhorn import Temperature, sinkhorn
from limbeck.recsys.suan import Suan
from limbeck.recsys.training import Lesson, TrainedClicks, one_epoch, soft_clicks, train_clicks
from limbeck.recsys.unimixer import MixerNetwork, Rounding, UniMixer, rounding

__all__ = [
    "ClickBatch", "ClickComparison", "ClickJudgement", "ClickRecipe", "ClickResult", "Clicks", "Cost", "Embeddings",
    "Ladder", "Lesson", "MixerNetwork", "Rounding", "Rung", "Schema", "Sizes", "Suan", "Temperature", "TrainedClicks",
    "UniMixer", "auc", "batch_of", "calibrated", "clicks_of", "climb", "evaluate_folder", "group_auc", "judge",
    "judge_logits", "load_network", "one_epoch", "rank", "read_click_recipe", "read_clicks", "reading", "rounding",
    "run_recipe", "save_network", "scores", "share_tables", "sinkhorn", "sizes_of", "soft_clicks", "synthetic",
    "train_clicks",
]
