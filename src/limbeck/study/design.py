"""What the demo trains: sizes, budgets, seeds and beliefs, all in one place."""

from dataclasses import dataclass, field

from limbeck.fitting import Prior


@dataclass(frozen=True)
class Design:
    """A study of tiny byte-level language models.

    The defaults take about six minutes on two free cores. The optimum of each choice was measured on earlier seeds of
    the same text, so a law fitted here extrapolates with an error of one to two per cent; nothing is tuned to the seed
    of a run.

    Args:
        ladder: widths of the ladder; the law is fitted on these.
        ladder_budgets: tokens of every size, branches of one trunk.
        ladder_seeds: runs per size. Run-to-run noise (about 1 %) is as large as the effects: spend on seeds, not on
            longer runs.
        large: width of the run that is predicted before it is trained; it becomes a teacher afterwards.
        large_budget: its tokens.
        student: width of the student.
        small_teachers: widths of the ladder whose longest runs serve as further teachers.
        short_budgets: tokens of the short distillations from which the long one is predicted.
        long_budget: tokens of the long distillation.
        priors: beliefs about the exponents of the supervised law, (mean, s.d.).
        student_priors: belief about a student's exponent; read off earlier runs of this set-up, not a constant of
            nature.
        residual: standard deviation of one residual that weighs data against priors.
        form_error: relative error of the student's curve in earlier extrapolations by the same factor; widens its
            interval.
        draws: bootstrap draws.
    """

    ladder: tuple[int, ...] = (64, 48, 32, 24)
    ladder_budgets: tuple[int, ...] = (250_000, 500_000, 1_000_000)
    ladder_seeds: int = 3
    large: int = 128
    large_budget: int = 2_000_000
    student: int = 32
    small_teachers: tuple[int, ...] = (64, 48)
    short_budgets: tuple[int, ...] = (125_000, 250_000, 500_000)
    long_budget: int = 2_000_000
    priors: dict[str, Prior] = field(default_factory=lambda: {"alpha": Prior(0.40, 0.12), "beta": Prior(0.55, 0.20)})
    student_priors: dict[str, Prior] = field(default_factory=lambda: {"beta": Prior(0.90, 0.20)})
    residual: float = 0.008
    student_residual: float = 0.01
    form_error: float = 0.011
    draws: int = 1000


FULL = Design()

QUICK = Design(
    ladder=(48, 32, 24), ladder_budgets=(160_000, 320_000), ladder_seeds=2, large=64, large_budget=500_000, student=24,
    small_teachers=(48,), short_budgets=(100_000, 200_000), long_budget=400_000,
)  # fmt: skip
"""About eighty seconds: smaller in every direction, and less sure."""


def seconds(width: int, params: int, tokens: int, teacher_params: int = 0) -> float:
    """Return about how long a training takes on one core, to start the longest first and to tell the time left.

    Args:
        width, params: of the model.
        tokens: budget.
        teacher_params: of the teacher whose forward pass is in the loop; 0 without one.
    """
    teacher = 3e-6 + 4.5e-11 * teacher_params if teacher_params else 0.0
    return tokens * (9e-6 + 1.35e-10 * params + teacher)


def approximate_params(width: int, layers: int = 2) -> int:
    """Non-embedding parameters of a tiny Llama: 4 d² of attention and 3 · 8d/3 · d of MLP a layer."""
    return 12 * layers * width * width
