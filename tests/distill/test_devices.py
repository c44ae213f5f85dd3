"""Other places to run: in two processes, in mixed precision, on a GPU. Each in processes of its own."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from small_training import inputs, network
from torch import Tensor

from limbeck.distill import Player, Trainer, forward_kl, read_checkpoint
from limbeck.errors import TrainingError


def trainer(out: Path, **options: Any) -> Trainer:
    """Masked distillation in steps of 8 rows, some of which do not count."""
    module, teacher = network(2), network(1)
    player = Player("student", module, torch.optim.AdamW(module.parameters(), lr=0.05), clip=0.5)

    def loss(name: str, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        value = forward_kl(player.module(batch["x"]), teacher(batch["x"]), mask=batch["mask"])
        return {"loss": value, "weight": batch["mask"].sum()}

    def batch(step: int) -> dict[str, Tensor]:
        return {"x": inputs(step), "mask": torch.arange(8) % 7 > step % 3}

    options = {"steps": 6, "out": out, "frozen": [teacher], "progress": False} | options
    return Trainer([player], loss, batch, **options)


def final(out: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = read_checkpoint(out / "step-00000006").tensors["players"]["student"]["module"]
    return weights


def in_processes(forkserver: ForkServerContext, *functions: Callable[[], None]) -> None:
    children = [forkserver.Process(target=function, daemon=True) for function in functions]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0] * len(functions)


def one_of_two(out: Path, rank: int, port: int) -> None:
    settings = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in settings.items()} | {"ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    training = trainer(out, accumulate=2)
    assert training.accelerator.num_processes == 2
    training.run()
    # Not finite in one process only: both stop.
    broken = trainer(out / "broken")
    whole = broken.loss
    broken.loss = lambda *arguments: {key: v * (math.nan if rank else 1) for key, v in whole(*arguments).items()}
    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        broken.run()
    os._exit(0)  # taking gloo's process group down can hang


def test_two_processes_equal_one(forkserver: ForkServerContext, tmp_path: Path) -> None:
    """Each takes half of the batch in two micro-batches; unequal counts of valid rows are weighted over all four."""
    trainer(tmp_path / "one").run()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    in_processes(forkserver, *(partial(one_of_two, tmp_path / "two", rank, port) for rank in range(2)))
    torch.testing.assert_close(final(tmp_path / "two"), final(tmp_path / "one"), rtol=1e-4, atol=1e-6)


def in_bfloat16(out: Path) -> None:
    training = trainer(out, accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
    seen = []
    training.players[0].module[0].register_forward_hook(lambda module, x, y: seen.append(y.dtype))  # type: ignore[index]
    training.run()
    assert set(seen) == {torch.bfloat16}


def test_mixed_precision(forkserver: ForkServerContext, tmp_path: Path) -> None:
    trainer(tmp_path / "single").run()
    in_processes(forkserver, partial(in_bfloat16, tmp_path / "half"))
    ours, theirs = final(tmp_path / "single"), final(tmp_path / "half")
    assert theirs["0.weight"].dtype == torch.float32
    assert 0 < (ours["0.weight"] - theirs["0.weight"]).abs().max() < 0.1  # of 6 steps of 0.05


def on_gpu(out: Path) -> None:
    training = trainer(out, checkpoint_every=2)
    assert training.accelerator.device.type == "cuda"
    training.run()


@pytest.mark.gpu
def test_gpu_learns_like_the_cpu(forkserver: ForkServerContext, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    in_processes(forkserver, partial(on_gpu, tmp_path / "gpu"))
    trainer(tmp_path / "cpu", accelerator=Accelerator(cpu=True)).run()
    torch.testing.assert_close(final(tmp_path / "gpu"), final(tmp_path / "cpu"), rtol=1e-3, atol=1e-4)
