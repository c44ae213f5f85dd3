"""Consistency models: exact maps, the two kinds of paths, discrete and continuous gradients, MeanFlow, training."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from killing import killed_at
from limbeck.diffusion import (
    DDPM,
    RULES,
    Consistency,
    Discrete,
    Drawn,
    Draws,
    Exact,
    Ladder,
    LogNormal,
    MeanFlow,
    Pretraining,
    RectifiedFlow,
    Regime,
    Scene,
    Shifted,
    Shrinking,
    Sizes,
    Skipping,
    Tangent,
    TimeWeight,
    Translated,
    TrigFlow,
    TwoTimes,
    distil_consistency,
    few_levels,
    heun,
    karras,
    one_network,
    tangent,
    train_teacher,
    velocity_of,
)
from limbeck.diffusion.consistency import SOLVERS, pseudo_huber
from limbeck.diffusion.continuous import direction, normalised, weighted
from limbeck.diffusion.matching import matching_direction, surrogate
from limbeck.diffusion.mixtures import Mixture, mixture
from limbeck.diffusion.networks import ResidualPerceptron
from limbeck.diffusion.trigflow import diffused, rotated
from limbeck.distill import read_checkpoint

F64 = torch.float64
S = 0.3
"""Standard deviation of Gaussian data, for the exact maps below."""


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian(x, sigma, cond=None):
    """The denoiser of N(0, S^2)."""
    return (S**2 / (sigma**2 + S**2))[:, None] * x


def mapped(x, sigma, cond=None):
    """The end of its ODE."""
    return (S / (sigma**2 + S**2).sqrt())[:, None] * x


def randomised(**sizes):
    """A network that is far from any solution, float64."""
    denoiser = Sizes(16, 1, clock="angle", **sizes).build([2], data_std=1.0).double()
    nn.init.normal_(denoiser.network.out.weight, std=0.3, generator=torch.Generator().manual_seed(1))
    return denoiser


def drawn(x0, d=1.0, **how):
    return Drawn(x0, None, Draws(0, how.get("update", 0)), d, **how)


def slopes(loss, module):
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(module.parameters()))])


# ---- reference vectors -----------------------------------------------------------------------------------


def test_parity(parity, walk_sections):
    data = parity("consistency-base")
    known = {name: torch.tensor(data["inputs"][name], dtype=F64) for name in ("F", "F_jvp_rearranged", "x_t", "dxt_dt")}
    t, logvar = (torch.tensor(data["inputs"][name], dtype=F64) for name in ("t", "logvar"))
    d, size = data["inputs"]["sigma_data"], 6

    def continuous(case):
        config, r = case["config"], case["warmup"]
        assert r == min(1.0, case["iteration"] / config["tangent_warmup_steps"])
        g = direction(known["F"], known["dxt_dt"] / d, known["x_t"] / d, known["F_jvp_rearranged"], t, r, "scm")
        wide = config["g_norm_spatial_invariance"]
        g = normalised(g, config["tangent_warmup_const"] / d, "rms" if wide else "l2")
        answer = known["F"].clone().requires_grad_()
        square = (answer - known["F"] - g).square().sum(1)
        torch.testing.assert_close(square / size, torch.tensor(case["unweighted"], dtype=F64), rtol=1e-12, atol=0)
        prior = 1 / (d * t.tan()) if config["prior_weighting_enabled"] else 1.0
        divided = square / size if config["divide_x_0_spatial_dim"] else square  # by D a second time
        loss = weighted(divided, size, -logvar, prior)
        torch.testing.assert_close(loss, torch.tensor(case["loss"], dtype=F64), rtol=1e-12, atol=1e-14)
        (slope,) = torch.autograd.grad(loss.sum(), answer)
        torch.testing.assert_close(slope, torch.tensor(case["grad_F"], dtype=F64), rtol=1e-12, atol=1e-14)

    def vsd(case):
        gen, real, fake = (torch.tensor(case[name], dtype=F64) for name in ("gen", "teacher_x0", "fake_x0"))
        gen.requires_grad_()
        loss = surrogate(gen, matching_direction(gen, real, fake)[0])  # theirs adds 1e-6 to the divisor
        assert loss.item() == pytest.approx(case["loss"], rel=4e-6)
        (slope,) = torch.autograd.grad(loss, gen)
        torch.testing.assert_close(slope, torch.tensor(case["grad"], dtype=F64), rtol=4e-6, atol=0)

    checks = dict.fromkeys(("full", "warm_quarter", "no_prior", "no_spatial"), continuous) | {"vsd": vsd}
    walk_sections(data, checks, ignore=("_meta", "inputs"))


# ---- exact maps ------------------------------------------------------------------------------------------


def test_the_exact_map_does_not_change_along_the_ode():
    """x0 ~ N(0, S^2), f = S x / sqrt(v): g = 0 at r = 1 everywhere, and not below."""
    x, t = normal(6, 2), torch.tensor([0.05, 0.3, 0.7, 1.1, 1.4, 1.57], dtype=F64)
    slope = velocity_of(gaussian, 1.0)(x, t)
    field = partial(velocity_of(mapped, 1.0), cond=None)
    here, moved = tangent(field, x, t, slope, t.cos() * t.sin())
    for warmup in ("rcm", "scm"):
        assert direction(here, slope, x, moved, t, 1.0, warmup).abs().max() < 1e-12
        assert direction(here, slope, x, moved, t, 0.5, warmup).abs().max() > 0.1


@pytest.mark.parametrize(("solver", "order"), [("euler", 2), ("angle", 2), ("heun", 3)])
def test_the_exact_map_has_no_loss_up_to_the_error_of_the_solver(solver, order):
    """One step of 1 / N has an error of N^-order; the loss is its square. The 's.e.' is 0: the same draws."""
    x0 = S * normal(400, 2)
    losses = []
    for steps in (100, 200):
        rule = Discrete(Ladder(steps, steps, sigma_min=0.02, sigma_max=20.0), solver)
        losses.append(float(rule(mapped, mapped, gaussian, drawn(x0))["loss"]))
    assert losses[0] < 1e-3
    assert math.log2(losses[0] / losses[1]) == pytest.approx(2 * order, abs=0.3)


def test_solvers_end_where_the_ode_does():
    x, high, low = normal(5, 2), torch.full((5,), 1.0, dtype=F64), torch.full((5,), 0.99, dtype=F64)
    exact = x * ((low**2 + S**2) / (high**2 + S**2)).sqrt()[:, None]
    errors = {name: float((step(gaussian, x, high, low, None, 1.0) - exact).norm()) for name, step in SOLVERS.items()}
    assert errors["heun"] < 1e-2 * min(errors["euler"], errors["angle"])
    assert max(errors.values()) < 1e-3 * x.norm()
    to_data = SOLVERS["heun"](gaussian, x, high, 0 * low, None, 1.0)  # the last step is one of Euler
    torch.testing.assert_close(to_data, gaussian(x, high))


# ---- gradients -------------------------------------------------------------------------------------------


def test_the_gradient_in_the_velocity_is_minus_twice_the_tangent():
    answer, g = normal(4, 3).requires_grad_(), normalised(normal(4, 3, seed=1))
    loss = (answer - answer.detach() - g).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(torch.autograd.grad(loss, answer)[0], -2 * g / 4)


def test_data_and_teacher_give_the_same_gradient_in_expectation():
    """Given x_t, the mean of cos t eps - sin t x0 is the teacher's velocity; g is linear in it, J included."""
    law, d, n = mixture("ring8"), mixture("ring8").data_std, 40_000
    x0, eps, t = law.sample(n, 0)[0].double() / d, normal(n, 2), torch.full((n,), 0.6, dtype=F64)
    x, student = diffused(x0, t, eps), randomised()
    gs = []
    for slope in (diffused(eps, t, -x0), velocity_of(law, d)(x, t)):
        here, moved = tangent(student.velocity, x, t, slope, t.cos() * t.sin())
        gs.append(direction(here, slope, x, moved, t))
    features = torch.stack([torch.ones(n, dtype=F64), x[:, 0], x[:, 0] * x[:, 1]], 1)
    apart = (gs[0] - gs[1])[:, None] * features[..., None]
    z = apart.mean(0) / (apart.std(0) / n**0.5)
    assert z.abs().max() < 4.5  # six of them; s.e. of each is 1
    assert apart.std() > 0.1  # and single pictures do differ


@pytest.mark.parametrize("solver", ["heun", "angle"])
def test_small_steps_tend_to_the_tangent(solver):
    """At one t, |f - f'|^2 has the gradient -2 dt sin(t) df/dt . dF, and g = cos(t) df/dt."""
    law, d, t = mixture("ring8"), mixture("ring8").data_std, 0.9
    student, x0 = randomised(), mixture("ring8").sample(500, 0)[0].double()
    student.data_std = d
    batch = drawn(x0, d)
    eps = batch.draws.normal("eps/pair", *x0.shape).double()
    times = torch.full((500,), t, dtype=F64)
    x = diffused(x0 / d, times, eps)
    slope = velocity_of(law, d)(x, times)
    here, moved = tangent(student.velocity, x, times, slope, times.cos() * times.sin())
    g = direction(here, slope, x, moved, times)
    continuous = slopes(-2 * (g * student.velocity(x, times)).sum(1).mean(), student)
    errors = []
    for gap in (1e-2, 1e-3):
        pair = lambda u, drawn, gap=gap: (d * times.tan(), d * (times - gap).tan())  # noqa: E731
        loss = Discrete(pair, solver)(student, student, law, batch)["loss"]
        discrete = slopes(loss, student) / (gap * math.sin(t)) * math.cos(t)
        errors.append(float((discrete - continuous).norm() / continuous.norm()))
        assert torch.cosine_similarity(discrete, continuous, 0) > 0.99
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)
    assert errors[1] < 5e-3


def test_discrete_consistency_of_rcm_tends_to_the_tangent_too():
    """K = 1000 steps, at times near each other; a cosine above 0.99."""
    law, d = mixture("ring8"), mixture("ring8").data_std
    student, x0 = randomised(), mixture("ring8").sample(300, 0)[0].double()
    student.data_std = d
    batch = drawn(x0, d)
    fixed = lambda u, drawn: Shifted(1000)(0.5 + 1e-3 * u, drawn)  # noqa: E731
    discrete = slopes(Discrete(fixed, "angle")(student, student, law, batch)["loss"], student)
    t = (fixed(batch.draws.uniform("pair", 300), batch)[0] / d).atan()
    x = diffused(x0 / d, t, batch.draws.normal("eps/pair", *x0.shape).double())
    slope = velocity_of(law, d)(x, t)
    here, moved = tangent(student.velocity, x, t, slope, t.cos() * t.sin())
    g = direction(here, slope, x, moved, t)
    continuous = slopes(-2 * (g * student.velocity(x, t)).sum(1).mean(), student)
    assert torch.cosine_similarity(discrete, continuous, 0) > 0.99


# ---- parts -----------------------------------------------------------------------------------------------


def test_a_ladder_grows_by_doubling_and_weighs_its_intervals():
    law = LogNormal(-1.1, 2.0)
    u = torch.linspace(1e-5, 1 - 1e-5, 100_000, dtype=F64)
    start = drawn(torch.zeros(1, 1))
    high, low = Ladder(10, 1280, law)(u, start)
    grid = low.unique()
    assert len(grid) == 10
    ends = torch.cat([grid, torch.tensor([80.0], dtype=F64)])
    mass = torch.special.ndtr((ends.log() + 1.1) / 2.0).diff()
    share = torch.stack([(low == one).double().mean() for one in grid])
    torch.testing.assert_close(share, mass / mass.sum(), atol=2e-4, rtol=0)
    steps = [len(Ladder(10, 1280)(u, start._replace(progress=p))[1].unique()) for p in (0, 0.124, 0.126, 0.6, 0.999)]
    assert steps == [10, 10, 20, 160, 1280]
    assert torch.equal(*(one.unique() for one in (high[high < 80], low[low > 0.0021])))


def test_shrinking_pairs_begin_with_denoising():
    u, start = torch.tensor([0.1, 0.5, 0.9], dtype=F64), drawn(normal(3, 2))
    high, low = Shrinking()(u, start)
    assert low.tolist() == [0, 0, 0]
    later = [Shrinking()(u, start._replace(progress=p))[1] for p in (0.51, 0.99)]
    n = 1 + 8 / (1 + high.exp())
    torch.testing.assert_close(later[0], high * (1 - n / 2**4))
    torch.testing.assert_close(later[1], high * (1 - n / 2**7))
    student = randomised()
    loss = Discrete(Shrinking(), by_gap=True)(student, student, None, start)["loss"]  # with low = 0: denoising
    high = Shrinking()(start.draws.uniform("pair", 3), start)[0]
    x = start.x0 + high[:, None] * start.draws.normal("eps/pair", 3, 2).double()
    torch.testing.assert_close(loss, ((student(x, high) - start.x0).square().sum(1) / high).mean())


def test_other_pairs():
    u = torch.tensor([0.0, 0.4, 0.9999], dtype=F64)
    high, low = Skipping()(u, drawn(torch.zeros(3, 1)))
    n = torch.tensor([20.0, 412.0, 999.0], dtype=F64)
    torch.testing.assert_close(high, DDPM().sigma(n))
    torch.testing.assert_close(low, DDPM().sigma(n - 20))
    high, low = Shifted()(u[1:], drawn(torch.zeros(2, 1), 0.5))
    s = [5 * v / (1 + 4 * v) for v in 1 - u[1:] * (1 - 1 / 48)]
    assert high.tolist() == pytest.approx([float(0.5 * one / (1 - one)) for one in s])
    assert ((high / 0.5) / (5 + high / 0.5) - (low / 0.5) / (5 + low / 0.5)).tolist() == pytest.approx([1 / 48] * 2)


def test_the_path_without_a_teacher_has_the_same_noise():
    x0, batch = normal(5, 2), drawn(normal(5, 2))
    high, low = Ladder()(batch.draws.uniform("pair", 5), batch)
    eps = batch.draws.normal("eps/pair", 5, 2).double()
    seen = {}

    def student(x, sigma, cond):
        seen[float(sigma[0])] = x
        return x

    Discrete()(student, student, None, batch._replace(x0=x0))
    torch.testing.assert_close(seen[float(high[0])], x0 + high[:, None] * eps)
    torch.testing.assert_close(seen[float(low[0])], x0 + low[:, None] * eps)


def test_pseudo_huber_is_square_near_and_straight_far():
    a = torch.zeros(2, 4, dtype=F64)
    assert pseudo_huber(a, a + 1e-6, 0.1).tolist() == pytest.approx([4e-12 / 0.2] * 2, rel=1e-3)
    assert pseudo_huber(a, a + 1e6, 0.1).tolist() == pytest.approx([2e6 - 0.1] * 2, rel=1e-12)
    assert pseudo_huber(a, a + 1).tolist() == pytest.approx([math.sqrt(4 + (2 * 0.00054) ** 2) - 2 * 0.00054] * 2)


def test_norms_of_the_tangent():
    g = normal(3, 16)
    torch.testing.assert_close(normalised(g, 0.1), g / (g.norm(dim=1, keepdim=True) + 0.1))
    torch.testing.assert_close(normalised(g, 0.1, "rms"), g / (g.norm(dim=1, keepdim=True) / 4 + 0.1))


def test_a_learned_weight_rests_where_all_times_weigh_alike():
    """prior e^w m - w is least at w = -ln(prior m), where each time's loss is 1."""
    square, w = torch.tensor([8.0, 0.5]), torch.zeros(2, requires_grad=True)
    weighted(square, 4, w).sum().backward()
    assert w.grad.tolist() == pytest.approx([1.0, -0.875])
    head = TimeWeight()
    assert head(torch.tensor([0.3, 1.2])).tolist() == [0, 0]
    batch = drawn(normal(64, 2))
    student = randomised()
    plain, adaptive = (Tangent(head=one)(student, student, gaussian, batch)["loss"] for one in (None, head.double()))
    assert adaptive.item() == pytest.approx(plain.item() / 2, rel=1e-6)  # w = 0: over D alone
    one = drawn(normal(1, 2))  # a single picture: the prior is a factor
    student.data_std = 0.5
    even, prior = (
        Tangent(head=head, prior=p)(student, student, gaussian, one._replace(data_std=0.5))["loss"] for p in (0, 1)
    )
    assert float(prior / even) == pytest.approx(float(1 / (0.5 * LogNormal(-0.8, 1.6)(one.draws.uniform("t", 1)))))


def test_warm_up_counts_updates_and_a_tangent_without_a_number_counts_nothing():
    student, x0 = randomised(), normal(6, 2)
    logs = [Tangent(warmup=10)(student, student, gaussian, drawn(x0, update=k)._replace(draws=Draws(0, 0)))
            for k in (0, 5, 10, 99)]  # fmt: skip
    assert len({round(float(one["tangent"]), 9) for one in logs}) == 3  # r = 0, 1/2, 1, 1
    broken = x0.clone()
    broken[2] = torch.nan
    rule = Tangent()
    whole, holed = (rule(student, student, gaussian, drawn(one)) if one is x0 else
                    Tangent(mode="finite")(student, student, gaussian, drawn(one)) for one in (x0, broken))  # fmt: skip
    assert int(holed["skipped"]) == 1
    assert int(whole["skipped"]) == 0


def test_a_broken_picture_changes_nothing_for_the_others():
    student, x0, rows = randomised(), normal(6, 2), torch.tensor([0, 1, 3, 4, 5])
    wrong = lambda x, sigma, cond: gaussian(x, sigma).masked_fill((torch.arange(6) == 2)[:, None], torch.nan)  # noqa: E731
    batch = drawn(x0, update=1)
    broken = slopes(Tangent()(student, student, wrong, batch)["loss"], student)

    class Some(Draws):
        """The random numbers of five of the six."""

        def normal(self, name, *shape):
            return Draws(0, 1).normal(name, 6, *shape[1:])[rows]

        def uniform(self, name, count):
            return Draws(0, 1).uniform(name, 6)[rows]

    some = batch._replace(x0=x0[rows], draws=Some(0, 1))
    expected = slopes(Tangent()(student, student, gaussian, some)["loss"] * 5 / 6, student)
    torch.testing.assert_close(broken, expected)
    holed = x0.index_fill(0, torch.tensor(2), torch.nan)  # the picture itself, which the student sees
    for update in (0, 1):  # the first one compares tangents too
        logs = Tangent()(student, student, gaussian, batch._replace(x0=holed, update=update))
        torch.testing.assert_close(slopes(logs["loss"], student), expected)
        assert logs["tangent"].isfinite() and logs["skipped"] == 1


# ---- two times -------------------------------------------------------------------------------------------


class Known(nn.Module):
    """A network of two times with a formula."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x, t, cond=None, s=None):
        return self.formula(x, t, torch.zeros_like(t) if s is None else s)


def test_mean_velocities_of_a_point_and_of_a_gaussian_have_no_loss():
    point = 1.5
    straight = Translated(Known(lambda z, t, r: (z - point) / t[:, None]), RectifiedFlow(), "u")
    batch = drawn(torch.full((64, 2), point, dtype=F64))
    assert MeanFlow(same=0.5)(straight, straight, None, batch)["loss"] < 1e-20

    def average(z, t, r):
        """(z_t - z_r) / (t - r) for N(0, S^2), where z_r = z_t sqrt(v_r / v_t); at r = t the velocity."""
        v = lambda t: (1 - t) ** 2 * S**2 + t**2  # noqa: E731
        gap = torch.where(t > r, t - r, 1.0)
        jump = (1 - (v(r) / v(t)).sqrt()) / gap
        return torch.where(t > r, jump, (t - (1 - t) * S**2) / v(t))[:, None] * z

    batch = drawn(S * normal(64, 2))
    exact = Translated(Known(average), RectifiedFlow(), "u")
    assert MeanFlow(same=0.5, power=0.0)(exact, exact, gaussian, batch)["loss"] < 1e-18
    z, t, s, r = normal(3, 2), *(torch.full((3,), v, dtype=F64) for v in (0.9, 0.6, 0.2))
    middle = z - (t - s)[:, None] * average(z, t, s)
    whole = (t - r)[:, None] * average(z, t, r)
    torch.testing.assert_close(whole, z - middle + (s - r)[:, None] * average(middle, s, r))


def test_without_a_jump_mean_flow_is_flow_matching():
    net = Known(lambda z, t, r: torch.tanh(z * t[:, None] + r[:, None]))
    student, batch = Translated(net, RectifiedFlow(), "u"), drawn(normal(64, 2))
    loss = MeanFlow(same=1.0, power=0.0)(student, student, None, batch)["loss"]
    logits = LogNormal(-0.4, 1.0)(batch.draws.uniform("t", 128)).reshape(2, 64)
    t, eps = (logits / (1 + logits)).max(0).values, batch.draws.normal("eps/mean", 64, 2).double()
    z = (1 - t)[:, None] * batch.x0 + t[:, None] * eps
    torch.testing.assert_close(loss, (net(z, t, s=t) - (eps - batch.x0)).square().sum(1).mean())
    scaled = MeanFlow(same=1.0)(student, student, None, batch)["loss"]
    assert 0.9 < scaled < 1  # |.|^2 / (|.|^2 + 0.01)


def test_jumps_to_any_time_of_a_gaussian_have_no_tangent():
    def jump(x, t, s):
        """F of f(x, t, s) = x sqrt(v_s / v_t), v = S^2 cos^2 + sin^2."""
        v = lambda t: S**2 * t.cos() ** 2 + t.sin() ** 2  # noqa: E731
        return (((t - s).cos() - (v(s) / v(t)).sqrt()) / (t - s).sin())[:, None] * x

    student = Translated(Known(jump), TrigFlow(), "v")
    logs = Tangent(jumps=True)(student, student, gaussian, drawn(S * normal(64, 2)))
    assert logs["tangent"] < 1e-9
    assert Tangent()(student, student, gaussian, drawn(S * normal(64, 2)))["tangent"] < 1e-9  # s = 0


# ---- training --------------------------------------------------------------------------------------------

LAW = Mixture([[1.0, 0.0], [-1.0, 0.5]], 0.2)
SOURCE, D = Exact(LAW), LAW.data_std


def two_times(schedule, kind):
    torch.manual_seed(0)
    return Translated(TwoTimes(ResidualPerceptron([2], 0, Sizes(24, 2, clock="angle"), clocks=2)), schedule, kind)


@pytest.fixture(scope="module")
def denoising():
    """A diffusion model that a consistency model begins as."""
    fresh = Sizes(24, 2, clock="angle").build([2], data_std=D)
    return train_teacher(fresh, SOURCE, Pretraining(300, 128, 4e-3, average=0.9), progress=False).denoiser


def error(denoiser, sigma):
    """Distance of one call from the end of the teacher's ODE, root mean square over 500 points."""
    x = LAW.sample(500, 7)[0] + sigma * normal(500, 2, seed=9).float()
    with torch.no_grad():
        made = denoiser(x, torch.full((500,), sigma))
    return float((made - heun(LAW, x / sigma, karras(20, sigma_max=sigma))).square().mean().sqrt())


@pytest.mark.parametrize(
    ("rule", "teacher", "how"),
    [(RULES["cd"](), LAW, {}), (RULES["lcm"](), LAW, {}), (RULES["dcm"](), LAW, {"updates": 250, "lr": 5e-4}),
     (RULES["ct"](), None, {}), (RULES["ict"](), None, {}), (RULES["ect"](), None, {}), (Tangent(), LAW, {}),
     (Tangent(head=TimeWeight(), prior=True, norm="rms", form="scm"), None, {}),
     (Tangent(jumps=True), LAW, {"lr": 4e-3}), (MeanFlow(same=0.5), LAW, {"lr": 4e-3})],
    ids=["cd", "lcm", "dcm", "ct", "ict", "ect", "tangent", "scm-training", "jumps", "mean-flow"],
)  # fmt: skip
def test_one_call_comes_nearer_to_the_end_of_the_ode(rule, teacher, how, denoising):
    """From noise of 1 and of 80; a diffusion model says the mean of what may be behind it, a fresh one about 0."""
    begin = denoising
    if isinstance(rule, MeanFlow):
        begin = two_times(RectifiedFlow(), "u")
    elif isinstance(rule, Tangent) and rule.jumps:
        begin = two_times(TrigFlow(), "v")
    known = {"updates": 100, "batch": 128, "lr": 2e-3, "turns": 1, "average": 0.9, "betas": (0.9, 0.99)}
    student = one_network(begin, few_levels(1, D))
    before = error(student.experts[0], 1.0) + error(student.experts[0], 80.0)
    done = distil_consistency(student, SOURCE, rule, teacher, regime=Regime(**known | how), progress=False)
    after = error(done.student.experts[0], 1.0) + error(done.student.experts[0], 80.0)
    assert after < 0.8 * before, (before, after)


def test_the_target_is_the_average_of_the_updates_before():
    denoiser = randomised()
    term = Consistency(Discrete(decay=0.5), denoiser, SOURCE, Regime(10, 4))
    assert dict(term.target.module.named_parameters()).keys() == dict(denoiser.named_parameters()).keys()
    assert not any(one.requires_grad for one in term.parameters())
    assert "decay=0.5" in repr(term)
    student, shift = one_network(denoiser.float(), [1.0]), []
    term = Consistency(Discrete(decay=0.5), student.experts[0], SOURCE, Regime(10, 4))
    for update in (0, 1, 2):
        if update == 1:
            with torch.no_grad():
                for one in student.parameters():
                    one += 1
        term(student, Scene(Draws(0, update), update, None, LAW, None, D, update=update))
        shift.append(float((term.target.module.network.out.bias - denoiser.network.out.bias).mean()))
    assert shift == pytest.approx([0.0, 0.9, 0.9 * 2 / 11 + 9 / 11])  # decays of 1/10 and 2/11


def test_the_weight_of_times_learns_with_the_student():
    head, denoiser = TimeWeight(), Sizes(16, 1, clock="angle").build([2], data_std=D)
    student, regime = one_network(denoiser, few_levels(1, D)), Regime(3, 16, turns=1)
    distil_consistency(student, SOURCE, Tangent(head=head), LAW, regime=regime, progress=False)
    assert head.amplitudes.abs().max() > 0


@pytest.mark.parametrize("clock", ["log", "angle"])
def test_a_student_is_not_asked_where_there_is_no_noise(clock):
    """ln 0 is no number; the first pairs of ECT end there."""
    student, batch = Sizes(16, 1, clock=clock).build([2], data_std=1.0), drawn(normal(8, 2).float())
    assert RULES["ect"]()(student, student, None, batch)["loss"].isfinite()


def long(out):
    rule = Tangent(head=TimeWeight(), prior=True, warmup=8)
    denoiser = Sizes(16, 1, clock="angle").build([2], data_std=D)
    regime = Regime(30, 32, turns=1)
    distil_consistency(
        one_network(denoiser, few_levels(2, D)), SOURCE, rule, LAW, regime=regime, out=out, progress=False
    )
    student = one_network(denoiser, few_levels(2, D))
    distil_consistency(student, SOURCE, RULES["cd"](), LAW, regime=regime, out=out / "cd", progress=False)


def test_resumes_bit_for_bit_after_sigkill(tmp_path):
    """In the midst of a tangent with a learned weight, then in the midst of pairs with an averaged target."""
    whole, cut = tmp_path / "whole" / "run", tmp_path / "cut" / "run"
    long(whole)
    killed_at("checkpoints/step-*25", cut, long, cut)
    killed_at("cd/checkpoints/step-*25", cut, long, cut)
    assert not (cut / "cd/checkpoints/step-00000030").exists()
    long(cut)
    for folder in ("", "cd"):
        ours, theirs = (read_checkpoint(one / folder / "checkpoints/step-00000030") for one in (cut, whole))
        torch.testing.assert_close(ours.tensors, theirs.tensors, rtol=0, atol=0)
        assert (cut / folder / "runs.jsonl").read_bytes() == (whole / folder / "runs.jsonl").read_bytes()
    assert any("also.target" in name for name in theirs.tensors["players"]["student"]["module"])


def test_steps_of_the_finished_student_change_nothing_in_its_training():
    made = []
    for steps in (1, 3):
        student = one_network(Sizes(16, 1, clock="angle").build([2], data_std=D), few_levels(steps, D))
        regime = Regime(5, 32, turns=1)
        made.append(distil_consistency(student, SOURCE, Tangent(), LAW, regime=regime, progress=False).student)
    for one, other in zip(made[0].experts.parameters(), made[1].experts.parameters(), strict=True):
        assert torch.equal(one, other)
    assert made[1].steps == 3
    assert torch.equal(rotated(torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1)), torch.ones(1, 1))
