import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_atoms import potential

from limbeck.atoms import (
    Potentials,
    Prefactors,
    build,
    calculator,
    dynamics,
    export_energy,
    joined,
    judge,
    labelled,
    read_frames,
    relaxed,
    split_frames,
    train_potential,
    with_dataset,
)
from limbeck.atoms.cost import flops_of
from limbeck.atoms.frames import batch_of, example_of
from limbeck.atoms.training import _Batches, misfits
from limbeck.distill.regime import Regime
from limbeck.errors import ConfigError, TrainingError
from limbeck.runs import read_runs

BRIEF = Regime(steps=6, batch=2, learning_rate=1e-2, optimizer="adamw", clip=5.0)


@pytest.fixture(scope="module")
def frames() -> list[Any]:
    return read_frames("emt:CuAl", 6)


def small(**changes: Any) -> Any:
    return build(potential(**changes).sizes, seed=0)


def test_the_loss_is_that_of_its_formula(frames: list[Any]) -> None:
    model = small().double()
    example = batch_of([example_of(model, one) for one in frames[:2]])
    said = model(example.graph)
    parts = {name: one.item() for name, one in misfits(said, example).items()}
    n, wrong = 8, np.zeros(3)
    for k, one in enumerate(frames[:2]):
        forces = said.forces[8 * k : 8 * k + 8].detach().numpy()
        virial = -one.get_stress(voigt=False) * one.get_volume()
        wrong += np.array(
            [((said.energy[k].item() - one.get_potential_energy()) / n) ** 2, ((forces - one.get_forces()) ** 2).mean(),
             ((said.virial[k].detach().numpy() - virial) ** 2).mean() / n]
        ) / 2  # fmt: skip
    assert list(parts.values()) == pytest.approx(wrong.tolist(), rel=1e-12)
    unknown = example._replace(virial=torch.full_like(example.virial, torch.nan))
    assert misfits(said, unknown)["virial"].item() == 0.0
    assert Prefactors().at(1.0) == pytest.approx({"energy": 0.2, "forces": 100.0, "virial": 0.02})
    assert Prefactors().at(0.5)["forces"] == 80.0


def test_a_training_gets_better_and_records_what_laws_read(frames: list[Any], tmp_path: Path) -> None:
    model = small()
    regime = Regime(steps=20, batch=2, learning_rate=2e-2, optimizer="adamw", clip=5.0, evaluate_every=10)
    before = judge(model, [example_of(model, one) for one in frames[:2]])
    found = train_potential(model, frames[:2], frames[:2], regime=regime, out=tmp_path / "one", progress=False)
    assert found.judged is not None and found.judged.force_mae < 0.9 * before.force_mae
    assert found.judged == judge(model, [example_of(model, one) for one in frames[:2]])
    rows = [json.loads(line) for line in (tmp_path / "one" / "runs.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20] and rows[1]["samples"] == 40
    assert rows[1]["loss"] == rows[1]["force_mae"] == pytest.approx(found.judged.force_mae)
    assert rows[0]["train/student/lr"] == pytest.approx(2e-2 * 0.02 ** (9 / 20))
    assert rows[1]["flops"] == 2 * rows[0]["flops"] > 0
    table = read_runs(tmp_path / "one" / "runs.jsonl")
    assert table.column("params").tolist() == [model.params] * 2


def test_a_stopped_training_goes_on_bit_for_bit(frames: list[Any], tmp_path: Path) -> None:
    whole = small()
    train_potential(whole, frames[:4], regime=BRIEF, progress=False)

    stopped, calls = small(), 0
    forward = stopped.forward

    def interrupted(graph: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            signal.raise_signal(signal.SIGINT)
        return forward(graph)

    stopped.forward = interrupted
    where: dict[str, Any] = {"out": tmp_path / "run", "progress": False}
    with pytest.raises(KeyboardInterrupt, match="Stopped at step 3 of 6"):
        train_potential(stopped, frames[:4], regime=BRIEF, **where)
    again = small()
    train_potential(again, frames[:4], regime=BRIEF, **where)
    for name, one in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], one), name
    with pytest.raises(TrainingError, match="another configuration"):
        train_potential(small(), frames[1:5], regime=BRIEF, **where)


def test_data_sets_are_drawn_by_their_weights(frames: list[Any]) -> None:
    model = small(datasets=2)
    both = [example_of(model, one) for one in [*frames[:4], *with_dataset(frames[4:], 1)]]
    drawn = [_Batches(both, 2, (1.0, 3.0), seed=0)(step).graph.dataset.tolist() for step in range(400)]
    assert all(len(set(one)) == 1 for one in drawn)
    assert np.mean([one[0] for one in drawn]) == pytest.approx(0.75, abs=0.05)
    plain = [_Batches(both, 2, (), seed=0)(step).graph.dataset[0].item() for step in range(400)]
    assert np.mean(plain) == pytest.approx(1 / 3, abs=0.06)
    with pytest.raises(ConfigError, match="2 data sets need as many weights"):
        _Batches(both, 2, (1.0,), seed=0)


def test_a_calculator_says_what_the_potential_says(frames: list[Any]) -> None:
    model = potential()
    atoms = frames[0].copy()
    atoms.calc = Potentials(model)
    said = model(example_of(model, frames[0]).graph)
    assert atoms.get_potential_energy() == pytest.approx(float(said.energy), abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), said.forces, atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(voigt=False) * -atoms.get_volume(), said.virial[0], atol=1e-12)
    from ase.calculators.fd import calculate_numerical_stress

    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), rtol=1e-5, atol=1e-8)


def test_energy_is_kept_in_dynamics_of_a_trained_toy_and_rest_is_found(frames: list[Any]) -> None:
    model = small(layers=1, angles=0, nodes=6, edges=4)
    regime = Regime(steps=20, batch=2, learning_rate=2e-2, optimizer="adamw", clip=5.0)
    train_potential(model, frames, regime=regime, progress=False)
    toy, crystal = Potentials(model.double()), frames[0].copy()
    crystal.calc = toy
    start = relaxed(crystal, toy, steps=100, force=0.02)
    assert start.get_potential_energy() < crystal.get_potential_energy() - 1e-3
    assert np.linalg.norm(start.get_forces(), axis=1).max() <= 0.02
    path = dynamics(start, toy, temperature=100.0, steps=250, every=25, timestep=4.0, friction=0.0)  # 1 ps
    total = np.array([one.get_potential_energy() + one.get_kinetic_energy() for one in path])
    kinetic = np.array([one.get_kinetic_energy() for one in path])
    assert np.ptp(kinetic) > 10 * np.ptp(total) and np.ptp(total) / 8 < 2e-4  # eV per atom


def test_langevin_dynamics_repeat_and_reach_their_temperature(frames: list[Any]) -> None:
    toy = labelled([frames[0]], "emt")[0]
    paths = [dynamics(toy, calculator("emt"), temperature=300, steps=100, every=5, friction=0.1, seed=3) for _ in "ab"]
    np.testing.assert_array_equal(paths[0][-1].positions, paths[1][-1].positions)
    kelvin = np.mean([one.get_temperature() for one in paths[0][5:]])
    assert 150 < kelvin < 450
    with pytest.raises(ConfigError, match="positive"):
        dynamics(toy, calculator("emt"), steps=0)


@pytest.mark.slow  # `torch.export` takes ten seconds
def test_an_exported_energy_reads_other_structures(frames: list[Any], tmp_path: Path) -> None:
    model = potential()
    graphs = [example_of(model, one).graph for one in frames[:3]]
    path = export_energy(model, joined(graphs[:2]), tmp_path / "energy.pt2")
    program = torch.export.load(path).module()
    other = joined([graphs[2], model.graph([[0, 0, 0], [0, 0, 2.0], [0, 1.9, 0.3]], ["Cu", "Al", "Al"]), graphs[0]])
    torch.testing.assert_close(program(*other), model(other).energy, rtol=0, atol=1e-10)
    place = other.positions.clone().requires_grad_()
    (slope,) = torch.autograd.grad(program(*other._replace(positions=place)).sum(), place)
    torch.testing.assert_close(-slope, model(other).forces, rtol=0, atol=1e-10)


def test_products_are_counted() -> None:
    x = torch.ones(4, 3, requires_grad=True)
    assert flops_of(lambda: (x @ torch.ones(3, 5)).sum().backward()) == 2 * (2 * 4 * 3 * 5)


def test_frames_of_files(frames: list[Any], tmp_path: Path) -> None:
    from ase.io import write

    write(tmp_path / "kept.extxyz", frames)
    again = read_frames(tmp_path / "kept.extxyz", 3)
    np.testing.assert_allclose(again[1].get_forces(), frames[2].get_forces(), atol=1e-7)  # spread evenly: 0, 2, 5
    np.testing.assert_allclose(again[1].get_stress(), frames[2].get_stress(), atol=1e-7)
    arrays = {
        "positions": np.random.default_rng(0).normal(0, 3, (4, 3, 3)), "forces": np.ones((4, 3, 3), np.float32),
        "energy": np.arange(4.0), "cell": np.tile(9 * np.eye(3), (4, 1, 1)), "types": np.array([0, 1, 1], np.int8),
        "system": np.array([0, 0, 1, 1]),
    }  # fmt: skip
    np.savez(tmp_path / "water.npz", **arrays)
    water = read_frames(tmp_path / "water.npz", elements=("O", "H"))
    assert str(water[0].symbols) == "OH2" and water[2].get_potential_energy() == 2.0 and water[0].pbc.all()
    learn, test = split_frames(water, 0.5, seed=0)
    assert {one.info["group"] for one in learn}.isdisjoint({one.info["group"] for one in test})
    with pytest.raises(ConfigError, match="types 0 to 1: name their elements"):
        read_frames(tmp_path / "water.npz", elements=("O",))
    with pytest.raises(ConfigError, match="must hold positions"):
        np.savez(tmp_path / "other.npz", energy=np.ones(3))
        read_frames(tmp_path / "other.npz")
    for k, one in enumerate(frames[:2]):
        one = one.copy()
        write(tmp_path / f"bare{k}.extxyz", one)
    with pytest.raises(ConfigError, match="frame 0 has no energy"):
        read_frames(tmp_path / "bare0.extxyz")
    (tmp_path / "words.extxyz").write_text("not a structure")
    with pytest.raises(ConfigError, match="no file of structures"):
        read_frames(tmp_path / "words.extxyz")
    with pytest.raises(ConfigError, match=r'no calculator is called "emd". Did you mean "emt"'):
        calculator("emd")
    for name, said in (
        ("emt:cu", "write elements"),
        ("emt:Zz", "EMT knows"),
        ("emt:CuFe", "EMT knows"),
        ("nowhere.xyz", "does not exist"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_frames(name)


def test_labels_by_xtb_are_forces_of_their_energy() -> None:
    """GFN2-xTB of ethanol in the geometry of the G2 set: energy in eV, and minus the slope along one coordinate."""
    from ase.build import molecule

    ethanol = molecule("CH3CH2OH")
    ethanol.calc = calculator("xtb")
    energy, force = ethanol.get_potential_energy(), ethanol.get_forces()[2, 0]
    ends = []
    for step in (1e-3, -1e-3):
        moved = ethanol.copy()
        moved.positions[2, 0] += step
        moved.calc = calculator("xtb")
        ends.append(moved.get_potential_energy())
    assert energy == pytest.approx(-309.9765, abs=2e-3)
    assert force == pytest.approx((ends[1] - ends[0]) / 2e-3, abs=1e-3)
