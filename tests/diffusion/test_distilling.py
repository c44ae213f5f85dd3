"""Distilling from beginning to end: it works, resumes bit for bit, and stops while something good is there."""

import json
import os
import signal
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from small_distillation import CLASSES, LAW, MEAN, SOURCE, STD, moments, network, small
from torch import nn

from killing import killed_at
from limbeck.diffusion.denoisers import Translated, guided
from limbeck.diffusion.game import Matching, make_pairs
from limbeck.diffusion.gdd import freeze_trunk
from limbeck.diffusion.matching import Levels, fake_loss
from limbeck.diffusion.schedules import DDPM
from limbeck.diffusion.sources import Exact
from limbeck.diffusion.students import one_network
from limbeck.diffusion.training import Regime, distill, updates_at
from limbeck.diffusion.watch import Watch
from limbeck.distill import read_checkpoint
from limbeck.errors import ConfigError, TrainingError


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("levels", "critic"), [((2.5,), False), ((2.5, 0.6), False), ((2.5,), True)])
def test_a_student_that_knew_nothing_of_the_teacher_gets_its_law(levels, critic: bool) -> None:
    """From mean 0 and std 0.04; errors of 0.1 and a third are 20 standard errors of 4000 pictures."""
    done = small(levels=levels, critic=critic, updates=60)
    mean, std = moments(done.student)
    assert (mean - torch.tensor(MEAN)).abs().max() < 0.1
    assert ((std / STD).log().abs() < 0.5).all()
    assert done.trainable == 1 and done.fake is not None and done.student.steps == len(levels)


def test_what_is_recorded_and_judged(tmp_path: Path) -> None:
    done = small(
        tmp_path, judge=lambda student: {"spread": float(moments(student, 100)[1].mean())}, judge_at=[1, 6, 12, 99]
    )
    assert list(done.judged) == [1, 6, 12]
    rows = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    judged = {row["step_updates"]: row["spread"] for row in rows if "spread" in row}
    assert judged == {updates: values["spread"] for updates, values in done.judged.items()}
    assert {"train/student/gap", "train/student/cos", "train/student/std", "train/fake/loss"} <= set(rows[-1])
    assert rows[-1]["step"] == 36 and rows[-1]["samples"] == 36 * 32
    assert done.to_dict()["steps"] == 1 and "12 updates: spread" in done.summary()
    assert updates_at(10) == [2, 5, 8, 10] and updates_at(2) == [1, 2]


def test_a_share_of_the_student_is_trained() -> None:
    before = network()
    done = small(student=one_network(before, [2.5]), freeze=lambda expert: ["network.maps.0.weight"])
    kept, moved = (getattr(done.student.experts[0].network, name) for name in ("maps", "out"))
    assert torch.equal(kept[0].weight, before.network.maps[0].weight)
    assert not torch.equal(moved.weight, before.network.out.weight)
    assert done.trainable == pytest.approx(1 - 16 * 16 / sum(one.numel() for one in before.parameters()))
    assert f"{100 * done.trainable:.1f} % of the parameters" in done.summary()
    names = [name for name, _ in before.named_parameters()]
    with pytest.raises(ConfigError, match="every parameter of the student is frozen"):
        small(freeze=lambda expert: names)


# ---- stops ---------------------------------------------------------------------------------------


def long(out: Path, die_at: int = 0) -> None:
    """A student of two steps, a fake score, a critic with R1, pairs; optionally it dies while it is judged."""

    def judge(student: nn.Module) -> dict[str, float]:
        judge.calls += 1  # type: ignore[attr-defined]
        if judge.calls == die_at:  # type: ignore[attr-defined]
            raise RuntimeError("power cut")
        torch.rand(7)  # measuring may draw random numbers
        return {"spread": float(moments(student, 64)[1].mean())}  # type: ignore[arg-type]

    judge.calls = 0  # type: ignore[attr-defined]
    pairs = make_pairs(LAW, SOURCE, 40)
    known = {"judge": judge, "judge_at": [4, 11, 20], "pairs": pairs, "push": Matching(Levels(low=0.02, high=0.98))}
    small(out, levels=(2.5, 0.6), critic=True, updates=20, **known)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    long(out := tmp_path_factory.mktemp("uninterrupted") / "run")
    return out


def assert_same(out: Path, reference: Path) -> None:
    ours, theirs = (read_checkpoint(folder / "checkpoints" / "step-00000060") for folder in (out, reference))
    torch.testing.assert_close(ours.tensors, theirs.tensors, rtol=0, atol=0)
    assert set(ours.tensors["players"]) == {"student", "fake", "critic"}
    assert ours.state["evaluations"] == theirs.state["evaluations"] and len(theirs.state["evaluations"]) == 3
    assert (out / "runs.jsonl").read_bytes() == (reference / "runs.jsonl").read_bytes()


def test_resumes_bit_for_bit_after_failures_between_checkpoints(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for die_at, kept in ((2, 25), (1, 25), (2, 50)):  # at updates 11, 11 and 20: steps 31, 31 and 58
        with pytest.raises(RuntimeError, match="power cut"):
            long(out, die_at)
        assert max((out / "checkpoints").glob("step-*")).name == f"step-{kept:08d}"
    long(out)
    assert_same(out, uninterrupted)


def test_resumes_bit_for_bit_after_sigkill(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed_at("checkpoints/step-*25", out, long, out)
    assert not (out / "checkpoints" / "step-00000060").exists()
    long(out)
    assert_same(out, uninterrupted)


def test_ctrl_c_saves(uninterrupted: Path, tmp_path: Path) -> None:
    def interrupt(student: nn.Module) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return {"spread": float(moments(student, 64)[1].mean())}  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt, match=r"saved in .*step-00000010"):
        small(tmp_path, judge=interrupt, judge_at=[4])
    done = small(tmp_path, judge=interrupt, judge_at=[4])
    assert torch.equal(moments(done.student)[0], moments(small().student)[0])


def test_a_finished_distillation_is_loaded(tmp_path: Path) -> None:
    done = small(tmp_path)
    again = small(tmp_path, judge=lambda student: pytest.fail("not again"))
    for ours, theirs in zip(again.student.parameters(), done.student.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(again.fake.parameters(), done.fake.parameters(), strict=True):  # type: ignore[union-attr]
        assert torch.equal(ours, theirs)
    assert again.values == done.values


def unweighted(answer, there):
    return (answer - there.target).square().mean()


def test_a_part_with_a_function_of_one_s_own_goes_on_after_a_stop(tmp_path: Path) -> None:
    def push() -> Matching:
        return Matching(lambda u, above, below: Levels()(u, above, below))  # made anew, as in another process

    first, again = (small(tmp_path, updates=3, push=one) for one in [push(), push()])  # two places in memory
    assert first.values == again.values


def test_a_student_of_other_guidance_does_not_pass_for_this_one(tmp_path: Path) -> None:
    def train(guidance: float) -> None:
        student, fake = one_network(network(0, 2), [2.5]), network(0, 2)
        distill(student, guided(CLASSES.law, guidance, 2), CLASSES, regime=Regime(updates=2, batch=8), fake=fake,
                out=tmp_path, progress=False)  # fmt: skip

    train(2.0)
    train(2.0)
    with pytest.raises(TrainingError, match="belongs to another configuration"):
        train(3.0)


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_a_student_of_another_teacher_does_not_pass_for_this_one(guidance, tmp_path: Path) -> None:
    def train(teacher):
        asked = teacher if guidance is None else guided(teacher, guidance, 2)
        student, fake = one_network(network(0, 2), [2.5]), network(0, 2)
        distill(student, asked, CLASSES, regime=Regime(updates=2, batch=8), fake=fake, out=tmp_path, progress=False)

    train(network(1, 2))
    train(network(1, 2))
    with pytest.raises(TrainingError, match="belongs to another configuration"):
        train(network(2, 2))


@pytest.mark.parametrize(
    "other",
    [{"seed": 4}, {"push": Matching(floor=0.1)}, {"fake_levels": Levels(sigma_max=5.0)}, {"critic": True},
     {"levels": (2.0,)}, {"denoising": unweighted}, {"source": "other"}, {"turns": 2, "updates": 18},
     {"freeze": freeze_trunk}],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_another_training_does_not_go_on_in_the_same_folder(other, tmp_path: Path) -> None:
    small(tmp_path, updates=3)
    if "source" in other:
        with pytest.raises(TrainingError, match="belongs to another configuration"):
            regime = Regime(updates=3, batch=32, turns=3, lr=3e-3, fake_lr=5e-3, average=0.9)
            distill(one_network(network(), [2.5]), LAW, Exact(deepcopy(LAW).double(), only=(0,)), regime=regime,
                    fake=network(), seed=3, out=tmp_path, progress=False)  # fmt: skip
        return
    with pytest.raises(TrainingError, match="belongs to another configuration"):
        small(tmp_path, **{"updates": 3} | other)


def test_a_push_and_a_loss_that_are_functions_resume_too(tmp_path: Path) -> None:
    """Their addresses in memory are no part of what a checkpoint must agree with."""

    def made():
        push = Matching()
        return lambda scene: push(scene)

    first, again = (small(tmp_path, push=made(), denoising=lambda *seen: fake_loss(*seen)) for _ in "ab")
    assert again.values == first.values


# ---- alarms --------------------------------------------------------------------------------------


def test_pictures_that_run_away_stop_the_run_and_leave_the_good_checkpoint(tmp_path: Path) -> None:
    def away(scene):
        return (-scene.x * 1e3 if scene.step >= 40 else 0 * scene.x), {}

    with pytest.raises(TrainingError, match=r"have run away: their spread .* The last good checkpoint stays"):
        small(tmp_path, updates=200, turns=2, lr=0.3, push=away)
    (*_, last) = sorted((tmp_path / "checkpoints").glob("step-*"))
    state = read_checkpoint(last).tensors["players"]["student"]["module"]
    assert 40 <= read_checkpoint(last).step <= 100
    assert all(bool(one.isfinite().all()) for one in state.values())
    assert state["watch.strikes"] < 10


def test_pictures_that_collapse_stop_the_run() -> None:
    def alive_then_inwards(scene):
        wanted = STD * scene.draws.normal("z", 32, 1, 2)[:, 0]
        return scene.x - (wanted if scene.step < 60 else torch.tensor(MEAN)), {}

    with pytest.raises(TrainingError, match="have collapsed"):
        small(updates=300, lr=1e-2, turns=1, push=alive_then_inwards)
    small(updates=150, lr=1e-2, turns=1, push=alive_then_inwards, watch=False)


def test_a_spread_that_was_never_there_is_no_collapse() -> None:
    watch = Watch()
    for _ in range(50):
        watch.look(torch.tensor(0.01), 1.0)
    assert watch.strikes == 0
    for _ in range(2):  # a good update wipes out nine bad ones
        watch.look(torch.tensor(0.6), 1.0)
        for _ in range(9):
            watch.look(torch.tensor(0.01), 1.0)
    with pytest.raises(TrainingError, match="collapsed"):
        watch.look(torch.tensor(0.01), 1.0)


class Fails(nn.Module):
    """A teacher whose answers are NaN from a call on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def forward(self, x, sigma, cond=None):
        self.left -= 1
        return LAW(x, sigma) * (1.0 if self.left >= 0 else torch.nan)


def test_nan_names_the_step_and_leaves_the_good_checkpoint(tmp_path: Path) -> None:
    teacher = Fails(20)
    with pytest.raises(TrainingError, match=r'player "student": the loss is nan at step 60 of 90.*step-00000050'):
        small(tmp_path, updates=30, real=lambda step: teacher)
    with pytest.raises(TrainingError, match=r'player "fake": the loss is nan at step 0'):
        small(denoising=lambda answer, there: answer.mean() * torch.nan)


def test_noise_outside_the_schedule_of_a_network_is_named() -> None:
    teacher = Translated(lambda x, t, cond: 0 * x, DDPM(), "eps")
    with pytest.raises(ConfigError, match=r"reaches noise levels from 0\.01\S* to 15\S*, got 0\.00"):
        distill(one_network(network(), [2.5]), teacher, SOURCE, regime=Regime(updates=1, batch=256), fake=network(),
                push=Matching(Levels()), progress=False)  # fmt: skip
    student = one_network(Translated(nn.Identity(), DDPM(), "eps"), [500.0])
    with pytest.raises(ConfigError, match="got 500 to 500"):
        student(torch.zeros(2, 1, 2))
