"""Progressive distillation: the target by hand, weights, a ladder that samples, and goes on after a stop."""

from copy import deepcopy

import pytest
import torch

from limbeck.diffusion import (
    EDM,
    Cosine,
    Exact,
    Mixture,
    Pretraining,
    Sizes,
    TwoSteps,
    ddim,
    distil_progressively,
    even_angles,
    generate,
    in_one_step,
    mixture,
    noise_for,
    train_teacher,
)
from limbeck.diffusion.matching import noised
from limbeck.diffusion.progressive import truncated_loss
from limbeck.errors import ConfigError

SOURCE = Exact(Mixture([[1.0, -0.5]], 0.3))


def unit(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def known(steps=150, std=0.6):
    """A network that has the wrong width until it learns."""
    return Sizes(16, 1).build([2], 0, std, seed=1), Pretraining(steps=steps, batch=64, lr=3e-3)


def test_one_step_with_the_target_ends_where_two_steps_end():
    schedule, law, x = Cosine(), mixture("ring8"), unit(20, 2)
    t, m, s = (torch.tensor(one, dtype=torch.float64) for one in (0.8, 0.55, 0.3))
    x_s = ddim(law, x, schedule, torch.stack([t, m, s]))
    a_t, b_t, a_s, b_s = schedule.a(t), schedule.b(t), schedule.a(s), schedule.b(s)
    sigma = [(b / a).expand(20) for a, b in ((a_t, b_t), (a_s, b_s))]
    target = in_one_step(x / a_t, x_s / a_s, *sigma)
    ratio = b_s / b_t
    torch.testing.assert_close(target, (x_s - ratio * x) / (a_s - ratio * a_t), rtol=1e-12, atol=1e-12)
    again = ddim(lambda x, sigma, cond: target, x, schedule, torch.stack([t, s]))
    torch.testing.assert_close(again, x_s, rtol=1e-12, atol=1e-12)


def test_limits_of_the_target():
    levels, x, sigma = even_angles(4), unit(6, 2), torch.full((6,), 2.0, dtype=torch.float64)
    point = TwoSteps(lambda x, sigma, cond: torch.full_like(x, 3.0), levels)
    for level in levels[:-1:2]:
        torch.testing.assert_close(point(level * x, level.expand(6)), torch.full_like(x, 3.0))
    clean = unit(6, 2, seed=1)
    assert torch.equal(in_one_step(x, clean, sigma, 0 * sigma), clean)
    assert not in_one_step(x, clean, sigma, sigma).isfinite().any()


def test_two_steps_are_those_of_the_teacher():
    law, levels, x = mixture("ring8"), even_angles(4, 0.7), unit(30, 2)
    two = TwoSteps(law, levels)
    for k in (0, 2):
        start = levels[k] * x
        middle = law(start, levels[k].expand(30)) + levels[k + 1] / levels[k] * (
            start - law(start, levels[k].expand(30))
        )
        there = law(middle, levels[k + 1].expand(30))
        end = there + levels[k + 2] / levels[k + 1] * (middle - there)
        x0 = two(start, levels[k].expand(30))
        torch.testing.assert_close(x0 + levels[k + 2] / levels[k] * (start - x0), end, rtol=1e-10, atol=1e-10)
    with pytest.raises(ConfigError, match="of 3 steps cannot be halved"):
        TwoSteps(law, even_angles(3))


def test_levels_are_nested_and_those_of_the_cosine_schedule():
    assert torch.equal(even_angles(8)[::2], even_angles(4))
    s = Cosine().time(even_angles(8, data_std=1.0)[:-1])
    torch.testing.assert_close(s.diff(), s.diff()[:1].expand(7))


def test_the_weight_is_the_ratio_of_signal_and_noise_but_at_least_1():
    sigma, zero = torch.tensor([0.5, 4.0]), torch.zeros(2, 1)
    there = noised(zero, sigma, torch.ones(2, 1), 1.0)._replace(target=torch.tensor([[1.0], [1.0]]))
    assert truncated_loss(zero, there, 1.0).item() == pytest.approx((4 + 1) / 2)
    assert truncated_loss(zero, there, 0.1).item() == pytest.approx(100)


@pytest.mark.parametrize("truncated", [True, False])
def test_a_ladder_keeps_what_the_teacher_samples(truncated):
    network, how = known()
    teacher = train_teacher(network, SOURCE, how, progress=False).denoiser
    before = deepcopy(teacher.state_dict())
    students = distil_progressively(teacher, SOURCE, how, start=8, truncated=truncated, progress=False)
    assert [(steps, student.steps) for steps, student in students.items()] == [(4, 4), (2, 2), (1, 1)]
    assert all(torch.equal(one, before[name]) for name, one in teacher.state_dict().items())
    noise = unit(400, 2).float()
    levels = even_angles(8, teacher.data_std)
    many = ddim(teacher, levels[0] * noise, EDM(), levels)
    for student in students.values():
        made = generate(student, noise[:, None].expand(-1, student.steps, -1))
        assert float((made - many).square().mean().sqrt()) < 0.05
    assert float((generate(students[1], noise[:, None]) - many).square().mean()) < 0.2 * float(many.var(0).mean())


def test_a_ladder_goes_on_where_it_stopped(tmp_path):
    network, how = known(steps=20)
    said = []

    def broken(student):
        if student.steps == 2 and not said:
            said.append(1)
            raise KeyboardInterrupt
        return {"steps": student.steps}

    whole = distil_progressively(network, SOURCE, how, start=8, progress=False)
    with pytest.raises(KeyboardInterrupt):
        distil_progressively(network, SOURCE, how, start=8, judge=broken, out=tmp_path, progress=False)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["steps-2", "steps-4"]
    again = distil_progressively(network, SOURCE, how, start=8, judge=broken, out=tmp_path, progress=False)
    for steps, student in whole.items():
        noise = noise_for(student, [2], 5, 0)
        assert torch.equal(again[steps](noise), student(noise))
    other = distil_progressively(network, SOURCE, how, start=8, end=4, truncated=False, progress=False)[4]
    noise = noise_for(other, [2], 5, 0)
    assert not torch.equal(other(noise), whole[4](noise))  # the weight matters


@pytest.mark.parametrize(("start", "end"), [(8, 3), (12, 1), (4, 4), (4, 0)])
def test_steps_that_halving_does_not_reach(start, end):
    with pytest.raises(ConfigError, match="halving does not lead"):
        distil_progressively(known()[0], SOURCE, known()[1], start=start, end=end, progress=False)
