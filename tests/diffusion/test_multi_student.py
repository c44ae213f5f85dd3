"""Several students: who owns what, who is asked, what each of them sees, and what it all costs."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from killing import killed_at
from limbeck.diffusion.adversary import Adversary, FeatureCritic
from limbeck.diffusion.game import Pairs
from limbeck.diffusion.matching import Levels, fake_loss, noised
from limbeck.diffusion.mixtures import Mixture, class_ring
from limbeck.diffusion.multi_student import (
    Bundle,
    Students,
    compare_students,
    distill_students,
    match_teacher,
    partition,
    training_calls,
)
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.sources import Draws, Exact
from limbeck.diffusion.students import Student, generate, noise_for, one_network
from limbeck.diffusion.teachers import Pretraining, train_teacher
from limbeck.diffusion.training import Regime, distill
from limbeck.errors import ConfigError, TrainingError

SOURCE = Exact(class_ring(), conditional=True)
NETWORK = Sizes(8, 1).build([2], 4, SOURCE.data_std)
REGIME = Regime(updates=4, batch=16, turns=2)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Painter(nn.Module):
    """Says its own number, and the class that it was asked for; counts its calls."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.calls = number, 0

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        self.calls += 1
        return torch.stack([torch.full_like(sigma, self.number), cond.to(x.dtype), x[:, 0]], 1)


def painters(count: int) -> list[Student]:
    return [Student([Painter(k)], [[2.0]]) for k in range(count)]


def critic(fake: nn.Module) -> Adversary:
    x, cond = SOURCE.draw(Draws(0, 0), 2)
    return Adversary(FeatureCritic(fake, ["network.maps.0"], x, cond), levels=Levels())


def train(owner: Any, out: Path | None = None, **changes: Any) -> Students:
    known = {"fake": NETWORK, "levels": [2.5], "regime": REGIME, "progress": False, "out": out}
    return distill_students(NETWORK, SOURCE.law, SOURCE, owner, **known | changes)


def test_parity(parity: Callable[[str], dict[str, Any]], walk_sections: Callable[..., None]) -> None:
    def check_partition(cases: Any) -> None:
        for case in cases:
            owner = partition(case["num_classes"], case["K"])
            if "owner" in case:
                assert owner.tolist() == case["owner"]
            else:
                assert owner.bincount().tolist() == case["sizes"]
                assert [int((owner == k).nonzero()[0]) for k in range(case["K"])] == case["first"]

    def tsm_cases(cases: Any) -> None:
        for case in cases:
            y, eps, sigma = (torch.tensor(case[name], dtype=torch.float64) for name in ("y", "eps", "sigma"))
            there = noised(y, sigma, eps, case["sigma_data"])
            torch.testing.assert_close(there.weight.tolist(), case["weight"], rtol=1e-10, atol=0)
            told = [Mixture([[case[who]["mu"]] * 4], case[who]["s"])(there.x, sigma) for who in ("student", "teacher")]
            found = fake_loss(told[0], there._replace(target=told[1]))
            assert found.item() == pytest.approx(case["tsm_loss"], rel=1e-10)

    checks = {"partition": check_partition, "tsm_cases": tsm_cases}
    walk_sections(parity("multi-student-distillation"), checks, ignore=["_about"])


@pytest.mark.parametrize("how", ["contiguous", "similar", "random"])
@pytest.mark.parametrize(("classes", "students"), [(10, 1), (10, 3), (10, 4), (11, 5), (7, 7)])
def test_parts_are_whole_and_even(how: Any, classes: int, students: int) -> None:
    embeddings = normal(classes, 3)
    owner = partition(classes, students, how, embeddings=embeddings, seed=5)
    sizes = owner.bincount(minlength=students)
    assert len(owner) == classes and len(sizes) == students and sizes.max() - sizes.min() <= 1 and sizes.min() >= 1
    assert owner.equal(partition(classes, students, how, embeddings=embeddings, seed=5))


def test_random_parts_follow_the_seed() -> None:
    assert len({tuple(partition(10, 2, "random", seed=seed).tolist()) for seed in range(5)}) == 5


def test_similar_classes_are_together() -> None:
    """Three heaps of four, shuffled: each heap is a part, parts are numbered by their first class."""
    places = torch.tensor([0, 2, 1, 0, 0, 1, 2, 2, 1, 0, 1, 2])
    owner = partition(12, 3, "similar", embeddings=10 * torch.eye(3)[places] + 0.1 * normal(12, 3))
    assert owner.tolist() == [{0: 0, 2: 1, 1: 2}[k] for k in places.tolist()]
    uneven = torch.cat([torch.zeros(9, 2), torch.ones(1, 2)])  # k-means would say 9 and 1
    assert partition(10, 2, "similar", embeddings=uneven).bincount().tolist() == [5, 5]


def test_similar_parts_are_the_best_of_all() -> None:
    """Beside all ways to halve eight classes; from one start alone k-means may end elsewhere."""
    for seed in range(10):
        x = normal(8, 2, seed=seed).double()
        halves = [torch.isin(torch.arange(8), torch.tensor(half)).long() for half in combinations(range(8), 4)]
        spread = [sum((x[owner == k] - x[owner == k].mean(0)).square().sum() for k in (0, 1)) for owner in halves]
        owner = partition(8, 2, "similar", embeddings=x)
        best = halves[int(torch.stack(spread).argmin())]
        assert owner.equal(best) or owner.equal(1 - best)


@pytest.mark.parametrize("wrong", [{"students": 0}, {"students": 5}, {"how": "similar"}])
def test_parts_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"students cannot share|embeddings"):
        partition(**{"classes": 4, "students": 2} | wrong)


def test_the_router_keeps_the_order_and_asks_each_student_once() -> None:
    bundle = Bundle(painters(3), [2, 0, 1, 0, 2])
    cond = torch.tensor([4, 1, 1, 0, 3, 4])
    z = normal(6, 1, 3)
    x = bundle(z, cond)
    assert x[:, 0].tolist() == [2, 0, 0, 2, 0, 2] and x[:, 1].tolist() == cond.tolist()
    torch.testing.assert_close(x[:, 2], 2 * z[:, 0, 0])
    assert [one.experts[0].calls for one in bundle.students] == [1, 0, 1] and bundle.steps == 1
    assert generate(bundle, noise_for(bundle, [3], 6, 0), cond)[:, 1].tolist() == cond.tolist()


def test_foreign_classes_are_refused() -> None:
    bundle = Bundle(painters(2), [0, 1, 1])
    for cond in (torch.tensor([0, 3]), torch.tensor([-1]), None):
        with pytest.raises(ConfigError, match=r"make the classes \[0, 1, 2\]"):
            bundle(torch.zeros(2, 1, 3), cond)
    alone = bundle.only(1)
    assert alone(torch.zeros(2, 1, 3), torch.tensor([2, 1]))[:, :2].tolist() == [[1, 2], [1, 1]]
    with pytest.raises(ConfigError, match=r"\[1, 2\], and were asked for \[0\]"):
        alone(torch.zeros(2, 1, 3), torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match="equal steps"):
        Bundle(painters(2), [0, 1, 2])
    with pytest.raises(ConfigError, match="equal steps"):
        Bundle([*painters(1), Student([Painter(1)], [[2.0, 1.0]])], [0, 1])


def test_one_student_is_plain_distillation_to_the_bit() -> None:
    plain = distill(
        one_network(NETWORK, [2.5]), SOURCE.law, SOURCE, regime=REGIME, fake=deepcopy(NETWORK), seed=7, progress=False
    )
    done = train([0] * 4, seed=7)
    assert len(done.runs) == 1 and done.runs[0][0].values == plain.values
    for name, value in plain.student.state_dict().items():
        assert value.equal(done.bundle.students[0].state_dict()[name])


def test_students_differ_and_begin_alike() -> None:
    before = deepcopy(NETWORK.state_dict())
    done = train(partition(4, 2))
    assert all(one.equal(before[name]) for name, one in NETWORK.state_dict().items())
    assert done.params == 2 * sum(one.numel() for one in NETWORK.parameters())
    a, b = (one.experts[0].network.out.weight for one in done.bundle.students)
    assert not a.equal(b) and done.bundle.owner.tolist() == [0, 0, 1, 1]


def test_nothing_foreign_is_seen_by_a_student_or_its_critic() -> None:
    """Pictures are made for own classes, real ones are of own classes: near own modes and under own numbers."""
    seen: dict[int, set[int]] = {}

    class Watching(FeatureCritic):
        def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
            assert cond is not None
            seen.setdefault(id(self), set()).update(cond.tolist())
            near = SOURCE.law.labels[torch.cdist(x.detach().double(), SOURCE.law.means).argmin(1)]
            if not (sigma > 0).any() and not x.requires_grad and (x.norm(dim=1) - 1).abs().max() < 0.6:
                right.append((near == cond).float().mean().item())
            return super().forward(x, sigma.clamp(min=0.1), cond)

    right: list[float] = []
    critics: list[nn.Module] = []

    def make(fake: nn.Module) -> Adversary:
        critics.append(Watching(fake, ["network.maps.0"], *SOURCE.draw(Draws(0, 0), 2)))
        return Adversary(critics[-1])

    done = train(partition(4, 2), adversary=make)
    assert [seen[id(one)] for one in critics] == [{0, 1}, {2, 3}]
    assert [len(run) for run in done.runs] == [2, 2] and len(right) >= 16 and min(right) > 0.8
    assert {"train/fake/critic", "train/student/gan"} <= set(done.runs[1][1].values)


def test_pairs_are_whole_in_matching_and_filtered_if_asked() -> None:
    seen: list[set[int]] = []

    class Watching(Pairs):
        def loss(self, student: Student, draws: Draws, count: int) -> Tensor:
            assert self.cond is not None
            seen.append(set(self.cond.tolist()))
            return super().loss(student, draws, count)

    pairs = Watching(normal(12, 2), normal(12, 2, seed=1), torch.arange(12) % 4)
    one = {"pairs": pairs, "regime": replace(REGIME, updates=1)}
    train(partition(4, 2), adversary=critic, **one)  # the second training of each has none
    assert seen == [{0, 1, 2, 3}] * 2
    seen.clear()
    train(partition(4, 2), filter_pairs=True, **one)
    assert seen == [{0, 1}, {2, 3}]


def test_the_second_training_goes_on_from_the_first() -> None:
    done = train([0] * 4, adversary=critic, adversarial=replace(REGIME, updates=1, lr=1e-9))
    first, second = (run.student.state_dict() for run in done.runs[0])
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-7)


def test_owners_that_do_not_fit() -> None:
    for owner in ([0, 1], [0, 0, 2, 2], [0, -1, 0, 0]):
        with pytest.raises(ConfigError, match="needs an owner"):
            train(owner)


def test_matching_a_copied_teacher_has_no_loss_and_no_gradient() -> None:
    teacher = Sizes(8, 1).build([2], 4, SOURCE.data_std)
    nn.init.normal_(teacher.network.out.weight)
    done = match_teacher(deepcopy(teacher), teacher, SOURCE, Pretraining(2, 64), progress=False)
    assert done.loss == 0
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(done.denoiser.state_dict()[name], value, rtol=0, atol=1e-8)


def test_the_teachers_answer_is_the_expected_picture_with_less_noise() -> None:
    """On one Gaussian both targets have the same gradient on average; that of scores varies less."""
    law, draws = Mixture([[0.7, -0.2]], 0.4), Draws(0, 0)
    x = law.sample(200_000, 0)[0]
    sigma = (-0.5 + 0.5 * draws.normal("sigma", len(x))).exp()
    there = noised(x, sigma, draws.normal("eps", *x.shape), 0.5)
    exact, slopes = law(there.x, sigma), []
    for target in (there.target, exact):
        error = exact + 0.1 * there.x - target  # a student that errs by 0.1 x; the slope of its loss by that 0.1
        slopes.append((2 * there.weight[:, None] * error * there.x).mean(1).double())
    bound = 4 * (slopes[0] - slopes[1]).std() / len(x) ** 0.5
    assert (slopes[0].mean() - slopes[1].mean()).abs() < bound < 0.1 * slopes[1].mean()
    assert slopes[1].var() < 0.5 * slopes[0].var()


def test_a_small_student_learns_more_from_scores_than_it_is_off(tmp_path: Path) -> None:
    """The trained average is nearer to the teacher than the silent network, and data and scores are not mixed up."""
    how = Pretraining(150, 128, 3e-3, log_mean=-1.0)
    small = partial(Sizes(16, 1).build, [2], 4, SOURCE.data_std)
    done = match_teacher(small(), SOURCE.law, SOURCE, how, progress=False, out=tmp_path)
    x, cond = SOURCE.draw(Draws(9, 9), 1000)
    sigma = torch.full((1000,), 1.0)
    there = x + normal(1000, 2)
    wanted = SOURCE.law(there, sigma, cond)
    before, after = ((one(there, sigma, cond) - wanted).square().mean() for one in (small(), done.denoiser))
    assert after < 0.2 * before
    with pytest.raises(TrainingError, match="recipe"):
        train_teacher(small(), SOURCE, how, progress=False, out=tmp_path)


def test_a_bundle_is_saved_and_read(tmp_path: Path) -> None:
    done = train([1, 0, 0, 1])
    torch.save(done.bundle.state_dict(), tmp_path / "bundle.pt")
    other = Bundle([one_network(NETWORK, [2.5]) for _ in range(2)], [0, 0, 0, 1])
    other.load_state_dict(torch.load(tmp_path / "bundle.pt"))
    z, cond = noise_for(other, [2], 8, 1), torch.arange(8) % 4
    assert generate(other, z, cond).equal(generate(done.bundle, z, cond)) and other.owner.tolist() == [1, 0, 0, 1]


def test_a_killed_series_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    how = {"adversary": critic, "regime": replace(REGIME, updates=40), "adversarial": REGIME}
    whole = train(partition(4, 2), tmp_path / "whole", **how)
    sign = "student-2/matching/checkpoints/step-*"
    killed_at(sign, tmp_path / "cut", partial(train, partition(4, 2), **how), tmp_path / "cut")
    assert not (tmp_path / "cut" / "student-2" / "adversarial").exists()
    resumed = train(partition(4, 2), tmp_path / "cut", **how)
    for name, value in whole.bundle.state_dict().items():
        assert value.equal(resumed.bundle.state_dict()[name]), name
    with pytest.raises(TrainingError, match="another configuration"):
        train(partition(4, 2), tmp_path / "cut", filter_pairs=True, **how)


@pytest.mark.parametrize("levels", [[2.5], [2.5, 0.8]])
def test_calls_are_counted(levels: list[float]) -> None:
    """Calls of the network by hooks: student and fake score are copies of it, the teacher is asked as itself."""
    counted = []
    network = deepcopy(NETWORK)
    network.register_forward_hook(lambda *call: counted.append(1))
    regime = replace(REGIME, updates=10 if len(levels) == 1 else 40)
    pairs = Pairs(normal(12, 2), normal(12, 2, seed=1), torch.arange(12) % 4)
    done = distill_students(
        network, network, SOURCE, [0, 0, 1, 1], fake=network, levels=levels, regime=regime, pairs=pairs,
        progress=False,
    )  # fmt: skip
    assert done.calls == 2 * training_calls(regime, len(levels), True, False)
    assert len(counted) == pytest.approx(done.calls, rel=0 if len(levels) == 1 else 0.05)
    counted.clear()
    done = distill_students(
        network, network, SOURCE, [0] * 4, fake=network, levels=levels, regime=regime, adversary=critic,
        progress=False,
    )  # fmt: skip
    sizes_of_features = 1
    assert len(counted) - sizes_of_features == pytest.approx(done.calls, rel=0 if len(levels) == 1 else 0.05)


def test_fair_comparison(tmp_path: Path) -> None:
    judged: list[int] = []

    def judge(bundle: Bundle) -> dict[str, float]:
        judged.append(len(bundle.students))
        return {"spread": generate(bundle, noise_for(bundle, [2], 8, 0), torch.arange(8) % 4).std().item()}

    found = compare_students(
        NETWORK, SOURCE.law, SOURCE, [0, 0, 1, 1], judge,
        fake=NETWORK, levels=[2.5], regime=REGIME, progress=False, out=tmp_path,
    )  # fmt: skip
    names = ["2 students", "one student", "one student, 2 times the updates"]
    assert list(found.rows) == names and judged == [2, 1, 1]
    assert [found.rows[name]["updates"] for name in names] == [4, 4, 8]
    a, b, c = ([found.rows[name][key] for name in names] for key in ("calls", "params", "students"))
    assert a[0] == a[2] == 2 * a[1] and b[0] == 2 * b[1] == 2 * b[2] and c == [2, 1, 1]
    assert found.to_dict()["rows"] == found.rows and found.summary().count("\n") == 2 and "spread" in found.summary()
    assert (tmp_path / "one-student-2-times-the-updates" / "student-1" / "matching" / "runs.jsonl").exists()
