"""What a training gives back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Args:
        steps: steps done, from the very start.
        values: last recorded values (`train/student/loss`, `train/student/lr`, ...).
        evaluations: what `evaluate` returned, by step.
        seconds: wall time of this training, earlier calls that it went on from included.
        resumed_from: step at which this call took over, 0 for a fresh start.
        checkpoint: folder of the last checkpoint, None without `out`.
    """

    steps: int
    values: dict[str, float]
    evaluations: dict[int, dict[str, float]]
    seconds: float
    resumed_from: int
    checkpoint: str | None

    def summary(self) -> str:
        """One line a player and evaluation, for people."""
        resumed = f", from step {self.resumed_from:,}" if self.resumed_from else ""
        lines = [f"{self.steps:,} steps in {self.seconds:.1f} s{resumed}"]
        lines += [f"  {name} {value:.4g}" for name, value in self.values.items() if name.endswith("/loss")]
        lines += [
            f"  step {step:,}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            for step, values in self.evaluations.items()
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)
