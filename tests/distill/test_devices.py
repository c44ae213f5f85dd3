"""Other places to run: through accelerate, in two processes, in mixed precision."""

from __future__ import annotations

import os
import socket
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import inputs, network
from torch import Tensor

from limbeck.distill import Player, Trainer, forward_kl, read_checkpoint
from limbeck.distill._devices import SingleProcess, choose_accelerator


def trainer(out: Path | None = None, **options: Any) -> tuple[Trainer, list[torch.dtype]]:
    """Masked distillation in steps of 8 rows, some of which do not count."""
    module, teacher = network(2), network(1)
    player = Player("student", module, torch.optim.AdamW(module.parameters(), lr=0.05), clip=0.5)
    dtypes = []

    def loss(name: str, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        logits = player.module(batch["x"])
        dtypes.append(logits.dtype)
        value = forward_kl(logits, teacher(batch["x"]), mask=batch["mask"])
        return {"loss": value, "weight": batch["mask"].sum()}

    def batch(step: int) -> dict[str, Tensor]:
        return {"x": inputs(step), "mask": torch.arange(8) % 7 > step % 3}

    options = {"steps": 6, "out": out, "frozen": [teacher], "progress": False} | options
    return Trainer([player], loss, batch, **options), dtypes


def final(out: Path) -> dict[str, Tensor]:
    tensors = read_checkpoint(out / "step-00000006").tensors
    return {name: tensor for name, tensor in tensors.items() if name.startswith("student/")}


def test_plain_process_on_the_cpu() -> None:
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    assert isinstance(choose_accelerator(), SingleProcess)


def test_accelerate_gives_the_same_bits_on_one_process(tmp_path: Path) -> None:
    from accelerate import Accelerator

    trainer(tmp_path / "plain")[0].run()
    trainer(tmp_path / "accelerate", accelerator=Accelerator(cpu=True))[0].run()
    ours, theirs = final(tmp_path / "plain"), final(tmp_path / "accelerate")
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def one_of_two(out: Path, rank: int, port: int) -> None:
    settings = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in settings.items()} | {"ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    training = trainer(out, accumulate=2)[0]
    assert training.accelerator.num_processes == 2
    training.run()
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(forkserver: ForkServerContext, tmp_path: Path) -> None:
    """Each takes half of the batch in two micro-batches; unequal counts of valid rows are weighted over all four."""
    trainer(tmp_path / "one")[0].run()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [forkserver.Process(target=one_of_two, args=(tmp_path / "two", rank, port)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    ours, theirs = final(tmp_path / "one"), final(tmp_path / "two")
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.gpu
def test_gpu_resumes_and_learns_like_the_cpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    trainer(tmp_path / "gpu", checkpoint_every=2)[0].run()
    from accelerate import Accelerator

    trainer(tmp_path / "cpu", accelerator=Accelerator(cpu=True))[0].run()
    ours, theirs = final(tmp_path / "cpu"), final(tmp_path / "gpu")
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-4, msg=name)
