"""DisBack: the recorded way of degradation, what is wrong with a path, which target when, stops in the middle."""

import json
import warnings
from copy import deepcopy
from functools import partial
from itertools import groupby
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file
from small_distillation import MEAN, SOURCE, STD, moments, network
from torch import Tensor, nn

from killing import killed_at
from limbeck.diffusion.denoisers import guided
from limbeck.diffusion.disback import Degradation, backtrack, path_losses, record_degradation, target_index
from limbeck.diffusion.mixtures import Mixture
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.sources import Exact
from limbeck.diffusion.students import Student, one_network
from limbeck.diffusion.teachers import Pretraining, train_teacher
from limbeck.diffusion.training import Regime, distill
from limbeck.distill import read_checkpoint
from limbeck.errors import ConfigError, TrainingError

REGIME = Regime(updates=12, batch=32, turns=3, lr=3e-3, fake_lr=5e-3, average=0.9)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    how = Pretraining(steps=100, batch=32, lr=2e-2, average=0.8)
    return train_teacher(network(), SOURCE, how, progress=False).denoiser


def fresh() -> Student:
    return one_network(network(), [2.5])


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in module.state_dict().items()}


def same(a: nn.Module, b: nn.Module | dict[str, Tensor]) -> bool:
    theirs = b if isinstance(b, dict) else b.state_dict()
    return all(torch.equal(one, theirs[name]) for name, one in a.state_dict().items())


def record(teacher: nn.Module, out: Path, **changes) -> Path:
    known = {"steps": 60, "every": 20, "lr": 3e-3, "batch": 32, "seed": 1, "progress": False}
    return record_degradation(fresh(), teacher, SOURCE, out, **known | changes)


@pytest.fixture(scope="module")
def path(teacher: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(teacher, tmp_path_factory.mktemp("degradation") / "path")


def walk(teacher: nn.Module, path, out: Path | None = None, **changes):
    known = {"interval": 3, "regime": REGIME, "seed": 3, "progress": False, "out": out}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return backtrack(fresh(), teacher, SOURCE, path, **known | changes)


# ---- vectors -------------------------------------------------------------------------------------


def check_readme(case) -> None:
    indices = [min(target_index(k, case["interval"]), case["N"]) for k in range(case["iters"])]
    changes = [k for k in range(case["iters"]) if k == 0 or indices[k] != indices[k - 1]]
    assert [[k, indices[k]] for k in changes] == case["changes"]


def check_official(case) -> None:
    """The script numbers its files by steps of 100 from `resume_step`, and asks for one more than there is."""
    last = (case["start_target_num"] - case["resume_step"]) // 100 + 1
    indices = [min(target_index(k, case["interval"], official=True), last) for k in range(case["iters"])]
    changes = [k for k in range(case["iters"]) if k == 0 or indices[k] != indices[k - 1]]
    assert [[k, case["start_target_num"] - 100 * indices[k]] for k in changes] == case["switches"]


def check_gaussian(case) -> None:
    x, sigma = torch.tensor([[case["x_t"]]], dtype=torch.float64), torch.tensor([case["sigma"]], dtype=torch.float64)
    target, student = (Mixture([[case[who]["mu"]]], case[who]["s"]) for who in ("target", "student"))
    for law, who in ((target, "target"), (student, "student")):
        assert law(x, sigma).item() == pytest.approx(case[f"D_{who}"], rel=1e-10)
        assert law.score(x, sigma).item() == pytest.approx(case[f"score_{who}"], rel=1e-10)
    by_x0 = (student(x, sigma) - target(x, sigma)).item() / case["sigma"] ** 2
    by_score = (student.score(x, sigma) - target.score(x, sigma)).item()
    assert by_x0 == pytest.approx(case["check_x0_form"], rel=1e-10)
    assert by_score == pytest.approx(case["score_diff"], rel=1e-10) == pytest.approx(by_x0, rel=1e-10)


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections) -> None:
    checks = {
        "readme_switching": lambda cases: [check_readme(case) for case in cases],
        "official_switching": lambda cases: [check_official(case) for case in cases],
        "gaussian": lambda cases: [check_gaussian(case) for case in cases],
    }
    data = parity("disback")
    assert set(checks) < set(data)
    walk_sections(data, checks, ignore=["_about"])


# ---- the path ------------------------------------------------------------------------------------


def test_recording_changes_neither_teacher_nor_student(teacher: nn.Module, tmp_path: Path) -> None:
    student, theta = fresh(), weights(teacher)
    before = weights(student)
    record_degradation(student, teacher, SOURCE, tmp_path, steps=10, every=4, lr=3e-3, batch=8, progress=False)
    assert same(teacher, theta) and same(student, before)
    nodes = Degradation(tmp_path, deepcopy(teacher).train().requires_grad_(True))
    assert nodes.about["nodes"] == [4, 8, 10] and len(nodes) == 3
    last = read_checkpoint(tmp_path / "checkpoints" / "step-00000010").tensors["players"]["degrading"]["module"]
    assert same(nodes[-1], last) and not same(nodes[0], last) and not nodes[-1].training
    assert not any(one.requires_grad for one in nodes[0].parameters())
    rows = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 10 and rows[-1]["samples"] == 80


def test_nodes_forget_the_data_and_learn_the_student(teacher: nn.Module, path: Path) -> None:
    data, own = zip(*path_losses([teacher, *Degradation(path, teacher)], fresh(), SOURCE), strict=True)
    assert list(data) == sorted(data) and data[-1] > 2 * data[0]
    assert list(own) == sorted(own, reverse=True) and own[-1] < own[0] / 2


@pytest.mark.parametrize("storage", ["delta", "lora"])
def test_smaller_nodes_are_almost_the_same(storage, teacher: nn.Module, path: Path, tmp_path: Path) -> None:
    short, full = Degradation(record(teacher, tmp_path, storage=storage, rank=3), teacher), Degradation(path, teacher)
    sizes = [(folder / "node-00000060.safetensors").stat().st_size for folder in (tmp_path, path)]
    assert sizes[0] < 0.75 * sizes[1]
    for name, theta in teacher.state_dict().items():
        exact, kept = full[-1].state_dict()[name] - theta, short[-1].state_dict()[name] - theta
        if storage == "lora" and exact.ndim > 1 and 3 * sum(exact.shape) < exact.numel():
            tail = torch.linalg.svdvals(exact.double())[3:].square().sum().sqrt()  # Eckart, Young: none is nearer
            assert (kept - exact).norm() == pytest.approx(float(tail), rel=1e-3)
        else:
            torch.testing.assert_close(kept, exact, rtol=2**-8, atol=1e-6)
    exact, kept = (path_losses([one[-1]], fresh(), SOURCE)[0][1] for one in (full, short))
    assert kept == pytest.approx(exact, rel=0.3)


def test_a_path_that_is_wrong_says_what_is_wrong(teacher: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no finished path.*No such file.*path\.json"):
        Degradation(tmp_path, teacher)
    nodes = Degradation(record(teacher, tmp_path), teacher)
    file = tmp_path / "node-00000040.safetensors"
    found = load(file.read_bytes())
    save_file({f"real_unet.{name}": one for name, one in found.items()}, file)
    with pytest.raises(ConfigError, match=r"is no node of this teacher:[\s\S]*Missing[\s\S]*real_unet\.network"):
        walk(teacher, tmp_path)
    save_file({name: one.contiguous() for name, one in teacher.state_dict().items()}, file)
    with pytest.raises(ConfigError, match="equals the teacher"):
        walk(teacher, tmp_path)
    file.write_bytes(b"half a file")
    with pytest.raises(ConfigError, match="is no node of this teacher"):
        nodes[1]
    file.unlink()
    with pytest.raises(ConfigError, match=r"is no node of this teacher.*No such file"):
        nodes[1]
    with pytest.raises(ConfigError, match=r"was recorded from teacher \w+, this one is"):
        walk(network(), tmp_path)
    with pytest.raises(TrainingError, match="belongs to another configuration"):
        record(teacher, tmp_path, lr=1e-3)
    for wrong in ({"every": 0}, {"steps": -1}, {"storage": "half"}, {"rank": 0}):
        with pytest.raises(ConfigError, match="count from 1"):
            record(teacher, tmp_path, **wrong)


@pytest.mark.parametrize("storage", ["delta", "lora"])
def test_a_wrong_prefix_is_seen_in_every_storage(storage, teacher: nn.Module, tmp_path: Path) -> None:
    record(teacher, tmp_path, storage=storage)
    file = tmp_path / "node-00000060.safetensors"
    save_file({f"module.{name}": one for name, one in load(file.read_bytes()).items()}, file)
    with pytest.raises(ConfigError, match=r"is no node of this teacher: .*module\."):
        Degradation(tmp_path, teacher)[-1]


# ---- the way back --------------------------------------------------------------------------------


def test_without_nodes_it_is_dmd_bit_for_bit(teacher: nn.Module, tmp_path: Path) -> None:
    none = record(teacher, tmp_path, steps=0)
    how = {"regime": REGIME, "seed": 3, "progress": False}
    fake = network()
    fake.load_state_dict(teacher.state_dict())
    dmd = distill(fresh(), teacher, SOURCE, fake=fake, **how)
    for path in (none, []):
        done = walk(teacher, path)
        assert same(done.student, dmd.student) and done.values == dmd.values


@pytest.mark.parametrize(("official", "runs"), [(False, [4, 3, 5]), (True, [3, 3, 6])])
def test_targets_follow_the_path_back_to_the_teacher(official, runs, teacher: nn.Module, path: Path) -> None:
    """12 updates, 3 of each target; the first stays one longer where the rule is the README's."""
    seen = []

    def guide(node):
        def answer(x, sigma, cond):
            seen.append(node)
            return node(x, sigma, cond)

        return answer

    walk(teacher, path, guide=guide, official=official)
    nodes = Degradation(path, teacher)
    found = [(one, len(list(group))) for one, group in groupby(seen)]
    assert [count for _, count in found] == runs
    assert same(found[0][0], nodes[1]) and same(found[1][0], nodes[0]) and found[2][0] is teacher


def test_the_fake_score_begins_at_the_last_node(teacher: nn.Module, path: Path) -> None:
    """Its first update is one step of Adam, of the learning rate at most."""
    fake = walk(teacher, path, regime=Regime(updates=1, batch=32, turns=1, fake_lr=1e-4)).fake
    last = Degradation(path, teacher)[-1].state_dict()
    gaps = [float((one - last[name]).abs().max()) for name, one in fake.state_dict().items()]
    assert 0 < max(gaps) < 1.1e-4


def test_the_student_passes_through_the_nodes() -> None:
    """Exact Gaussian nodes at 0.3 (the last) and 0.7; the teacher is at 1.2. 4000 pictures: s.e. 0.005."""
    nodes, law = [Mixture([[mean]], STD) for mean in (0.7, 0.3)], Mixture([[1.2]], STD)
    net = partial(Sizes(16, 1).build, [1], 0, STD)
    noise = torch.randn(4000, 1, 1, generator=torch.Generator().manual_seed(9))
    done = backtrack(
        one_network(net(), [2.5]), law, Exact(law), nodes, interval=50, fake=net(), seed=0, progress=False,
        regime=Regime(updates=100, batch=32, turns=3, lr=1e-3, fake_lr=5e-3, average=0.8),
        judge=lambda student: {"mean": float(student(noise).mean())}, judge_at=range(25, 101, 25),
    )  # fmt: skip
    means = {updates: values["mean"] for updates, values in done.judged.items()}
    assert [means[k] for k in (50, 100)] == pytest.approx([0.7, 1.2], abs=0.1)
    for before, after in zip(list(means.values()), list(means.values())[1:], strict=False):
        assert after > before


def test_a_first_target_that_is_the_student_already_is_told(teacher: nn.Module, path: Path) -> None:
    """Two nodes with the law of the untrained student: nothing is left to learn from the first."""
    law = Mixture([[0.0, 0.0]], STD)
    silent = [Mixture([MEAN], STD), Mixture([[0.0, 0.0]], 0.05), Mixture([[0.0, 0.0]], 0.05)]
    how = {"fake": network(), "progress": False, "regime": Regime(updates=1, batch=8)}
    with pytest.warns(UserWarning, match=r"already equals the student's law[\s\S]*node 0: loss \S+ on data[\s\S]* 2: "):
        backtrack(fresh(), silent[0], Exact(law), silent[1:], **how)
    between = [Mixture([[0.5, -0.25]], STD), silent[2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backtrack(fresh(), silent[0], Exact(law), between, **how)


def test_nodes_may_be_guided(tmp_path: Path) -> None:
    law = Exact(Mixture([[1.0, 0.0], [-1.0, 0.0]], STD), conditional=True)
    net, student = network(0, 2), one_network(network(0, 2), [2.5])
    folder = record_degradation(student, net, law, tmp_path, steps=6, every=3, lr=3e-3, batch=8, progress=False)
    how = {"regime": Regime(updates=3, batch=8), "seed": 0, "progress": False}
    losses = [
        walk_student(net, law, folder, guide=partial(guided, guidance=kappa, null=2), **how) for kappa in (1.0, 3.0)
    ]
    assert losses[0] != losses[1]


def walk_student(net, law, folder, **how) -> float:
    done = backtrack(one_network(network(0, 2), [2.5]), net, law, folder, **how)
    return done.values["train/student/loss"]


# ---- stops ---------------------------------------------------------------------------------------


def dies_at(step: int):
    def judge(student) -> dict[str, float]:
        judge.calls += 1
        if judge.calls == step:
            raise RuntimeError("power cut")
        return {"mean": float(moments(student, 64)[0].mean())}

    judge.calls = 0
    return judge


def test_a_degradation_killed_in_the_middle_goes_on(teacher: nn.Module, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "path"
    killed_at("node-*20.safetensors", out, record, teacher, out)
    assert not (out / "path.json").exists()
    record(teacher, out)
    for name in ("node-00000020.safetensors", "node-00000060.safetensors", "path.json"):
        assert (out / name).read_bytes() == (path / name).read_bytes()


def test_a_stop_within_a_target_keeps_the_target(teacher: nn.Module, path: Path, tmp_path: Path) -> None:
    """Stopped at update 11 of 20, in the second target of 7; the checkpoint before is of step 25, update 9."""
    how = {"regime": Regime(**{**REGIME.__dict__, "updates": 20}), "interval": 7, "judge_at": [4, 11, 20]}
    whole = walk(teacher, path, tmp_path / "whole", judge=dies_at(0), **how)
    with pytest.raises(RuntimeError, match="power cut"):
        walk(teacher, path, tmp_path / "cut", judge=dies_at(2), **how)
    seen = []
    again = walk(
        teacher, path, tmp_path / "cut", judge=dies_at(0), guide=lambda node: (seen.append(node), node)[1], **how
    )
    assert seen[0] is teacher and same(seen[1], Degradation(path, teacher)[0]) and len(seen) == 2
    assert same(again.student, whole.student) and again.judged == whole.judged and again.values == whole.values
    with pytest.raises(TrainingError, match="belongs to another configuration"):
        walk(teacher, path, tmp_path / "cut", judge=dies_at(0), **how | {"interval": 6})
    with pytest.raises(TrainingError, match="belongs to another configuration"):
        walk(teacher, path, tmp_path / "cut", judge=dies_at(0), guide=lambda node: guided(node, 2.0, 1), **how)
