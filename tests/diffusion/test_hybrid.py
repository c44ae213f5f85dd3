"""Several models in one sample: reference traces, equalities bit for bit, what is believed, what is counted."""

import pytest
import torch
from PIL import Image

from limbeck.diffusion import (
    DDPM,
    EDM,
    Mixture,
    Prediction,
    Sizes,
    Student,
    TrigFlow,
    believed_sheet,
    commitment,
    ddim,
    diversity,
    euler,
    guided,
    hybrid,
    interventions,
    lcm,
    mixture,
    multistep,
    noise_for,
    sample_folder,
    sample_with,
    save_model,
    switch,
    traced,
)
from limbeck.errors import ConfigError


def unit(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


LAW, OTHER = mixture("ring8"), Mixture([[1.0, 0.0], [0.0, 1.0]], 0.1)
STUDENT = Student([OTHER], [[2.5, 0.9, 0.4]])
NOISE = unit(50, 3, 2)


@pytest.fixture
def reference(parity):
    return parity("distilling-diversity-control")


@pytest.fixture
def models(reference):
    """Schedule, base and student of the reference: functions of x_t that predict eps."""
    s = reference["schedule"]
    ends = [s["beta_start"] ** 0.5, s["beta_end"] ** 0.5]
    betas = torch.linspace(*ends, s["num_train_timesteps"]) ** 2  # in float32, as there
    schedule = DDPM(tuple((1 - betas).cumprod(0).tolist()))

    def of(eps):
        def denoise(x, sigma, cond=None):
            t = schedule.time(sigma).reshape(-1, 1, 1, 1).round()
            return x - sigma.reshape(-1, 1, 1, 1) * eps(schedule.a(t) * x, t)

        return denoise

    assert reference["base_eps"] == "0.6 x + 0.2 tanh(x) cos(t/300)"
    assert reference["student_eps"] == "0.7 x - 0.1 tanh(2x) sin(t/200)"
    base = of(lambda x, t: 0.6 * x + 0.2 * x.tanh() * (t / 300).cos())
    return schedule, base, of(lambda x, t: 0.7 * x - 0.1 * (2 * x).tanh() * (t / 200).sin())


def near(found, expected, rtol=1e-6):
    # the reference rounds its coefficients sqrt(abar), sqrt(1 - abar) to float32
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=rtol, atol=1e-7)


def test_the_schedule_is_that_of_the_reference(models, reference):
    near(
        models[0].a(torch.arange(0.0, 1000, 100, dtype=torch.float64)) ** 2, reference["alphas_cumprod_every_100"], 1e-9
    )


def test_ddim_of_the_reference(models, reference):
    schedule, base, _ = models
    times = torch.tensor([*reference["ddim_timesteps"], 0.0], dtype=torch.float64)
    z = torch.tensor(reference["z"], dtype=torch.float64)
    made = sample_with([(base, 8)], z, schedule, times, sampler=ddim)
    after = [step.x * schedule.a(t) for step, t in zip(made.steps[1:], times[1:], strict=False)] + [made.x]
    for step, x, row, t in zip(made.steps, after, reference["ddim8"], reference["ddim_timesteps"], strict=True):
        assert row["t"] == t
        near(x, row["x"])
        near(step.x0, row["x0"])


@pytest.mark.parametrize(
    ("name", "base_steps"), [("student_only", 0), ("hybrid_k1", 1), ("hybrid_k2", 2), ("skip1", 0)]
)
def test_lcm_of_the_reference(models, reference, name, base_steps):
    schedule, base, student = models
    rows = reference[f"lcm4_{name}"]
    skipped = 4 - len(rows)
    times = torch.tensor(reference["lcm_timesteps"][skipped:], dtype=torch.float64)
    assert times.tolist() == [row["t"] for row in rows]
    plan = [(lcm(base, schedule), base_steps), (lcm(student, schedule), len(rows) - base_steps)]
    draws = [torch.tensor(row["noise"], dtype=torch.float64) for row in rows]
    z = torch.tensor(reference["z"], dtype=torch.float64) / schedule.b(times[0])  # the reference starts at unit noise
    made = sample_with(plan, z, schedule, times, draws=draws)
    after = [step.x * schedule.a(t) for step, t in zip(made.steps[1:], times[1:], strict=True)] + [made.x]
    for step, x, row in zip(made.steps, after, rows, strict=True):
        near(step.x0, row["denoised"])
        near(x, row["x"])
    assert [step.model for step in made.steps] == [0] * base_steps + [1] * (len(rows) - base_steps)


def test_the_boundary_is_the_identity_at_time_0_alone():
    schedule, x = DDPM(), unit(3, 2)
    for t, kept in ((0.0, 1.0), (1.0, 0.25 / 100.25)):
        sigma = schedule.sigma(torch.full((3,), t, dtype=torch.float64))
        seen = x * schedule.a(torch.tensor(t, dtype=torch.float64))
        torch.testing.assert_close(
            lcm(lambda x, sigma, cond: 0 * x, schedule)(x, sigma), kept * seen, atol=1e-9, rtol=0
        )


def test_where_to_switch(reference):
    for row in reference["switch_rule"]:
        times = torch.tensor(row["base_timesteps"]), torch.tensor(reference["lcm_timesteps"])
        assert times[1][row["distilled_from"]] == row["distilled_t"]
        assert len(times[0]) == row["base_steps"]
        if row["base_till"]:
            assert switch(*times, row["distilled_from"]) == row["base_till"]
        else:
            with pytest.raises(ConfigError, match="would take no step"):
                switch(*times, row["distilled_from"])


def test_no_step_of_the_base_is_the_student_and_all_steps_are_the_base():
    for chosen, only in ((), STUDENT), (range(3), Student([LAW], STUDENT.levels)):
        assert torch.equal(hybrid(STUDENT, LAW, chosen)(NOISE), only(NOISE))
        plain = multistep(
            only.experts[0],
            NOISE[:, 0],
            EDM(),
            torch.tensor([2.5, 0.9, 0.4], dtype=torch.float64),
            draws=NOISE[:, 1:].unbind(1),
        )
        torch.testing.assert_close(traced(hybrid(STUDENT, LAW, chosen), NOISE).x, plain, rtol=0, atol=0)
    with pytest.raises(ConfigError, match="steps 0 to 2"):
        hybrid(STUDENT, LAW, [3])


@pytest.mark.parametrize("renoise", [True, False])
def test_a_trace_is_what_the_student_does(renoise):
    student = hybrid(Student([OTHER], STUDENT.levels, renoise), LAW)
    made = traced(student, NOISE)
    torch.testing.assert_close(made.x, student(NOISE), rtol=1e-12, atol=1e-12)
    assert [step.model for step in made.steps] == [0, 1, 2]
    assert torch.equal(made.steps[-1].x0, made.x) or not renoise
    torch.testing.assert_close(made.steps[-1].x0, made.x, rtol=1e-12, atol=1e-12)  # the last belief is the sample


def test_beliefs_are_posterior_means_of_a_gaussian():
    law = Mixture([[1.0, -0.5]], 0.3)
    made = sample_with(
        [(law, 4)], unit(5, 2), TrigFlow(), torch.tensor([1.5, 1.1, 0.7, 0.3, 0.0]).double(), sampler=ddim
    )
    for step in made.steps:
        mean = (0.09 * step.x + step.sigma**2 * law.means[0]) / (0.09 + step.sigma**2)
        torch.testing.assert_close(step.x0, mean, rtol=1e-12, atol=1e-12)


def test_an_error_in_eps_is_amplified_by_the_noise_level():
    x, abar = unit(2), torch.tensor(0.2, dtype=torch.float64)

    def believed(eps):
        return Prediction("eps", eps, x, abar.sqrt(), (1 - abar).sqrt()).to("x0")

    slope = torch.autograd.functional.jacobian(believed, 0.3 * x)
    torch.testing.assert_close(slope, -((1 - abar) / abar).sqrt() * torch.eye(2, dtype=torch.float64))


def test_pairwise_distance():
    x = unit(800, 40)
    assert diversity(x) == pytest.approx(diversity(x[torch.randperm(800)]), rel=1e-12)
    assert diversity(x[:1].expand(5, -1)) == 0
    assert diversity(x) == pytest.approx((2 * 40) ** 0.5, rel=0.02)


def test_total_variance_is_what_is_left_and_what_is_explained():
    law = Mixture([[-1.0], [1.0]], 0.2)
    x0 = law.sample(200_000, 0)[0].double()
    sigma = torch.full((len(x0),), 1.5, dtype=torch.float64)
    mean = law(x0 + 1.5 * unit(len(x0), 1), sigma)
    assert float((x0 - mean).square().mean() + mean.var()) == pytest.approx(1.04, rel=0.01)
    assert float(mean.var()) < 0.5  # a student of the mean would lose more than half


def test_every_call_is_counted():
    calls = []

    def counted(name):
        def denoise(x, sigma, cond=None):
            calls.append(name)
            return x / 2

        return denoise

    times, cond = torch.tensor([9.0, 3.0, 1.0, 0.5]).double(), torch.tensor([0])
    base, draws = guided(counted("base"), 2.0, 1), torch.Generator().manual_seed(0)
    made = sample_with([(base, 1), (counted("student"), 3)], unit(1, 2), EDM(), times, cond, draws=draws)
    assert calls == ["base"] * 2 + ["student"] * 3
    assert len(made.steps) == 4
    assert made.ms == pytest.approx(sum(step.ms for step in made.steps)) and made.steps[0].ms > 0
    with pytest.raises(ConfigError, match="have 3 steps, the sampler takes 4"):
        sample_with([(base, 3)], unit(1, 2), EDM(), times, cond)


def test_commitment_falls_to_nothing_and_a_student_commits_earlier():
    many = traced(Student([LAW], [[9.0, 4.0, 2.0, 1.0, 0.5, 0.1]], renoise=False), unit(200, 6, 2))
    curve = commitment(many)
    assert curve[0] == 1 and curve[-1] < 1e-5 and curve == sorted(curve, reverse=True)
    assert curve[2] > 0.5


def test_the_table_finds_the_step_that_lost_the_modes():
    half = Student([OTHER, LAW], [[1.0], [0.2]])
    ideal = Student([LAW], [[1.0, 0.2]])
    noise = unit(400, 2, 2)

    def judge(x):
        return {"spread": diversity(x)}

    table = interventions(half, LAW, noise, judge=judge)
    assert [*table] == ["student", "base at 1", "base at 2", "base", "skip first"]
    assert table["base at 1"]["spread"] == table["base"]["spread"] == judge(ideal(noise))["spread"]
    assert table["base at 2"]["spread"] == table["student"]["spread"] < 0.8 * table["base"]["spread"]
    assert table["skip first"]["spread"] == judge(Student([LAW], [[0.2]])(noise[:, 1:]))["spread"]
    assert all(row["ms"] > 0 for row in table.values())


def test_the_sheet_has_a_row_a_model_and_a_column_a_step():
    model = Student([torch.nn.Identity()], [[2.0, 1.0]])
    model.experts[0].forward = lambda x, sigma, cond=None: x / 2
    made = traced(model, unit(3, 2, 1, 8, 8))
    wide = believed_sheet({"a": made, "b": made})
    one = believed_sheet({"a": made}, decode=lambda x: x[:, :, :4, :4])
    assert wide.height == 2 * 36 and wide.width > 3 * 34
    assert one.height == 36


def test_the_levels_of_the_base_alone_are_a_sampler():
    levels = torch.tensor([9.0, 3.0, 0.5, 0.0]).double()
    made = sample_with([(LAW, 3)], 9 * NOISE[:, 0], EDM(), levels, sampler=ddim)
    torch.testing.assert_close(made.x, euler(LAW, NOISE[:, 0], levels), rtol=1e-12, atol=1e-12)


def test_a_saved_student_is_begun_by_a_saved_base_and_shown(tmp_path):
    base, other = (Sizes(16, 1).build([1, 8, 8], 2, std) for std in (0.5, 0.9))  # silent, of two widths
    student = Student([other], [[2.5, 0.8]])
    for name, model in ("base", base), ("student", student):
        save_model(model, tmp_path / name, shape=[1, 8, 8], classes=["a", "b"])
    how = {"base": (tmp_path / "base", 1), "believed": tmp_path / "dt.png", "seed": 4}
    sampled = sample_folder(tmp_path / "student", 6, **how)
    made = sampled.made
    assert sampled.who.endswith(f"student, steps 1 to 1 by {tmp_path / 'base'}")
    noise, cond = noise_for(student, [1, 8, 8], 6, 4), torch.arange(6) % 2
    assert made.calls == 2
    assert torch.equal(made.x, hybrid(student, base)(noise, cond))
    assert not torch.equal(made.x, student(noise, cond))
    with Image.open(tmp_path / "dt.png") as sheet:
        assert sheet.height == 2 * 36  # the student's row, and the row of both
    with pytest.raises(ConfigError, match="is a teacher: a base takes steps of a student"):
        sample_folder(tmp_path / "base", 6, base=how["base"])
    with pytest.raises(ConfigError, match="must be a teacher with the pictures"):
        sample_folder(tmp_path / "student", 6, base=(tmp_path / "student", 1))
