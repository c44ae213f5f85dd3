"""What is trained, as plain data: a job travels to a spawned process and imports torch only where it runs.

Jobs are idempotent (finished budgets return at once) and resume after a kill at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from limbeck.lm.methods import Method
    from limbeck.lm.teaching import Divergence

RATE_TIMES_WIDTH = 0.256
Vocabulary = Literal["error", "common", "pad", "align"]
Cached = Literal["", "hidden", "topk"]
Watch = Literal["", "warn", "stop"]
Precision = Literal["fp32", "bf16"]
Evaluations = Mapping[int, Mapping[str, float]]  # values by step


@dataclass(frozen=True)
class Regime:
    """How a language model is trained; the defaults are the measured optimum for tiny models.

    Args:
        batch: windows a step.
        context: predicted tokens a window.
        learning_rate: peak; None means 0.256 / hidden size, the optimum over widths 16 to 128.
        warmup: steps of linear warm-up; long ones move short runs off the law.
        decay: share of the steps in which the rate falls linearly to 0.
        weight_decay: on matrices only.
        clip: largest gradient norm.
        accumulate: micro-batches a step.
        precision: of the multiplications, "fp32" or "bf16"; weights and losses stay in float32.
        lora: rank of low-rank changes that are trained instead of the weights, and merged at the end; 0 for none.
        recompute: compute activations again in the backward pass instead of keeping them.
        evaluate_every: steps between evaluations; the model of the best one is kept. 0 evaluates once, at the end.
        patience: evaluations without a new best after which the training ends; 0 never ends early.
    """

    batch: int = 8
    context: int = 128
    learning_rate: float | None = None
    warmup: int = 50
    decay: float = 0.2
    weight_decay: float = 0.1
    clip: float = 1.0
    accumulate: int = 1
    precision: Precision = "fp32"
    lora: int = 0
    recompute: bool = False
    evaluate_every: int = 0
    patience: int = 0

    @property
    def step_tokens(self) -> int:
        """Tokens predicted in one step."""
        return self.batch * self.context

    def steps(self, tokens: int) -> int:
        """Steps that a token budget buys, at least one.

        Example:
            >>> Regime().steps(250_000)
            244
        """
        return max(1, round(tokens / self.step_tokens))

    def exact(self, tokens: int) -> int:
        """Tokens that a budget comes to in whole steps."""
        return self.steps(tokens) * self.step_tokens

    def describe(self) -> str:
        """One phrase that tells two recipes apart in a run table."""
        rate = f"{RATE_TIMES_WIDTH}/width" if self.learning_rate is None else f"{self.learning_rate:g}"
        return (
            f"adamw lr={rate} warmup={self.warmup} decay={self.decay:g} batch={self.batch}x{self.context} "
            f"weight_decay={self.weight_decay:g} clip={self.clip:g}"
            + ("" if self.precision == "fp32" else f" {self.precision}")
            + (f" lora={self.lora}" if self.lora else "")
        )


@dataclass(frozen=True)
class PretrainJob:
    """One size and seed, for several token budgets on one trunk.

    Args:
        run: name in the run table; the budgets of one job are one run, a cluster to every resampling method.
        corpus: folder that `Corpus.save` wrote.
        out: folder of this job alone.
        width, layers, heads: of `tiny_llama`.
        budgets: tokens.
        seed: of initial weights and order.
        tokenizer: `byte`, or `bpe:1024`.
        regime: batch, schedule, optimiser.
    """

    run: str
    corpus: Path
    out: Path
    width: int
    budgets: tuple[int, ...]
    seed: int = 0
    layers: int = 2
    heads: int | None = None
    tokenizer: str = "byte"
    regime: Regime = field(default_factory=Regime)

    def __call__(self, progress: bool = False) -> list[dict[str, Any]]:
        """Run it here: see `limbeck.lm.pretraining`."""
        from limbeck.lm.pretraining import pretrain

        return pretrain(self, progress)


@dataclass(frozen=True)
class FreshStudent:
    """A student to be made: a tiny Llama with the teacher's tokenizer.

    Args:
        width, layers, heads: of `tiny_llama`.
    """

    width: int
    layers: int = 2
    heads: int | None = None


@dataclass(frozen=True)
class DistilJob:
    """Teachers and one student, for several token budgets on one trunk.

    Args:
        run: name in the run table.
        data: folder that `Corpus.save` wrote, or JSON lines of prompts.
        out: folder of this job alone.
        teacher: model folder with its tokenizer; or folders by domain; None is the student as it starts.
        student: model folder with its tokenizer, or a size to be made.
        budgets: tokens; of prompts batch times context for every step.
        seed: of initial weights (of a fresh student), order and samples.
        method: its choices; None reads the data and compares with the teacher.
        divergence: what is minimised; None leaves it to the method.
        ce_weight: share of the next-token loss.
        vocabulary: what to do where the vocabularies differ: `common` and `pad` of `Teaching`, or `align` for another
            tokenizer.
        watch: for teacher hacking at every evaluation: `warn`, or `stop` the training; `oracle` is the truth as a model
            folder, where there is one; else the teacher alone is watched.
        cache: keep what the teacher says about the data and read it again: `hidden` states, or `topk` of 128 tokens.
        regime: batch, schedule, optimiser.
        text: folder that `Corpus.save` wrote, whose next tokens are learned beside with `text_weight`.
        teacher_name: column `teacher` of the run records; by default the name of the teacher's folder.
        teacher_loss: validation loss of the teacher in nats per byte if it is known; None measures it.
        checkpoint_every: steps between rolling checkpoints.
        threads: CPU threads; one is fastest for tiny models.
    """

    run: str
    data: Path
    out: Path
    teacher: Path | Mapping[str, Path] | None
    student: Path | FreshStudent
    budgets: tuple[int, ...]
    seed: int = 0
    method: Method | None = None
    divergence: Divergence | None = None
    ce_weight: float = 0.0
    vocabulary: Vocabulary = "error"
    cache: Cached = ""
    watch: Watch = ""
    oracle: Path | None = None
    regime: Regime = field(default_factory=Regime)
    text: Path | None = None
    text_weight: float = 1.0
    teacher_name: str = ""
    teacher_loss: float | None = None
    checkpoint_every: int = 500
    threads: int = 1

    @property
    def teachers(self) -> dict[str, Path]:
        """Teacher folders by domain; of one teacher the domain has no name."""
        if self.teacher is None:
            return {}
        return dict(self.teacher) if isinstance(self.teacher, Mapping) else {"": self.teacher}

    def __call__(self, progress: bool = False) -> list[dict[str, Any]]:
        """Run it here: see `limbeck.lm.distil`."""
        from limbeck.lm.distillation import distil

        return distil(self, progress)
