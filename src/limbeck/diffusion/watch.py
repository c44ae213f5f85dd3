"""The alarm: pictures that collapse or run away stop a run while its last good state is there."""

import torch
from torch import Tensor, nn

from limbeck.errors import TrainingError

PATIENCE = 10
RUNAWAY, COLLAPSED, ALIVE = 3.0, 0.1, 0.5


class Watch(nn.Module):
    """Counts student updates in a row whose pictures have a spread that no data have; its state is part of checkpoints.

    An update counts if the spread from picture to picture is above three times that of the data, or, once it has been
    above half, below a tenth; ten in a row raise.

    Example:
        >>> watch = Watch()
        >>> for _ in range(9):
        ...     watch.look(torch.tensor(4.0), 1.0)
        >>> watch.look(torch.tensor(1.0), 1.0)  # well again
        >>> int(watch.strikes)
        0
    """

    strikes: Tensor
    peak: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("strikes", torch.zeros((), dtype=torch.long))
        self.register_buffer("peak", torch.zeros(()))

    @torch.no_grad()
    def look(self, std: Tensor, expected: float) -> None:
        """Count an update.

        Args:
            std: root of the mean variance of a value from picture to picture; pictures that are all one have 0.
            expected: of the data's values, noise of a phase included.

        Raises:
            TrainingError: ten bad ones in a row.
        """
        ratio = std / expected
        self.peak.copy_(torch.maximum(self.peak, ratio))
        bad = (ratio > RUNAWAY) | ((ratio < COLLAPSED) & (self.peak > ALIVE))
        self.strikes.copy_(torch.where(bad, self.strikes + 1, torch.zeros_like(self.strikes)))
        if self.strikes >= PATIENCE:
            what = "run away" if ratio > RUNAWAY else "collapsed"
            raise TrainingError(
                f"the student's pictures have {what}: their spread is {float(ratio):.2g} times that of the data for "
                f"{PATIENCE} updates. The last good checkpoint stays. Lower the student's learning rate, raise turns "
                "or fake_lr, or lower the guidance"
            )
