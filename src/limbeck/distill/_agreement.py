"""Whether a checkpoint belongs to a training: a fingerprint of shapes and settings, compared in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from limbeck.distill.checkpoints import Checkpoint
from limbeck.errors import TrainingError


def require_agreement(checkpoint: Checkpoint, fingerprint: Mapping[str, Any], *, branch: bool) -> None:
    """Refuse a checkpoint of another configuration.

    Args:
        checkpoint: what was found.
        fingerprint: shapes and settings of the training that wants it.
        branch: compare only what a branch needs, the tensors and the generators.

    Raises:
        TrainingError: with the settings that differ, or because the checkpoint lies beyond the last step.
    """
    theirs, mine = checkpoint.state["fingerprint"], fingerprint
    if branch:
        theirs, mine = _needed_by_a_branch(theirs), _needed_by_a_branch(mine)
    differences = list(_differences(theirs, mine))
    if differences:
        listed = "\n".join(f"  {difference}" for difference in differences[:8])
        go = "A branch needs the same tensors." if branch else "Use another `out`, or branch with run(start_from=...)."
        raise TrainingError(f"{checkpoint.path} belongs to another configuration. {go}\n{listed}")
    if checkpoint.step > fingerprint["steps"]:
        raise TrainingError(f"{checkpoint.path} is at step {checkpoint.step}, beyond steps={fingerprint['steps']}.")


def _needed_by_a_branch(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    players = {name: player["tensors"] for name, player in fingerprint["players"].items()}
    return {"generators": fingerprint["generators"], "players": players}


def _differences(theirs: Any, mine: Any, path: str = "") -> Iterator[str]:
    """Where two trees of JSON values differ, in words."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        for key in dict.fromkeys([*theirs, *mine]):
            yield from _differences(
                theirs.get(key, "absent"), mine.get(key, "absent"), f"{path}.{key}" if path else key
            )
    elif theirs != mine:
        yield f"{path}: {theirs} in the checkpoint, {mine} now"
