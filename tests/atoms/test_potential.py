from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from small_atoms import SHORT, cluster, potential

from limbeck.atoms.descriptor import Sizes
from limbeck.atoms.geometry import Graph, joined
from limbeck.atoms.model import Potential, build, load_potential, save_potential
from limbeck.errors import ConfigError

CELL = np.array([[4.2, 0.0, 0.0], [0.3, 4.4, 0.0], [-0.2, 0.4, 4.6]])
KINDS: list[dict[str, Any]] = [
    {}, {"angles": 0}, {"sequential": True}, {"compress": False}, {"switch": "quintic"}, {"datasets": 3, "layers": 1},
]  # fmt: skip


def moved(graph: Graph, change: Any) -> Graph:
    """The same neighbours with other positions."""
    return graph._replace(positions=graph.positions + torch.as_tensor(change))


def energy(model: Potential, graph: Graph) -> float:
    return float(model(graph).energy.sum())


@pytest.mark.parametrize("kind", KINDS)
def test_forces_and_virial_are_finite_differences(kind: dict[str, Any]) -> None:
    model = potential(**kind)
    positions, symbols = cluster(5, seed=2)
    positions[1] = positions[0] + np.array([SHORT["angle_cutoff"] - 1e-3, 0, 0])  # near a cut-off, none beyond it
    graph = model.graph(positions, symbols, 2 * CELL, [True] * 3, dataset=kind.get("datasets", 1) - 1)
    said, h = model(graph), 1e-5
    for atom, axis in ((0, 0), (1, 0), (2, 1), (4, 2)):
        change = np.zeros((5, 3))
        change[atom, axis] = h
        slope = (energy(model, moved(graph, change)) - energy(model, moved(graph, -change))) / (2 * h)
        assert float(said.forces[atom, axis]) == pytest.approx(-slope, rel=1e-6, abs=1e-8)
    for p, q in ((0, 0), (1, 2), (2, 2)):
        strain = np.zeros((3, 3))
        strain[p, q] += h / 2
        strain[q, p] += h / 2
        both = []
        for sign in (1, -1):
            turn = torch.as_tensor(np.eye(3) + sign * strain)
            both.append(energy(model, graph._replace(positions=graph.positions @ turn, cell=graph.cell @ turn)))
        assert float(said.virial[0, p, q]) == pytest.approx(-(both[0] - both[1]) / (2 * h), rel=1e-6, abs=1e-7)


def test_a_training_step_sees_the_derivative_of_the_forces() -> None:
    model = potential()
    graph = model.graph(*cluster(5, seed=3))
    model.train()
    model(graph).forces.square().sum().backward()
    weight, h = model.descriptor.layers[0].around.weight, 1e-6
    slope = float(weight.grad[2, 3])
    model.eval()
    both = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[2, 3] += sign * h
            both.append(float(model(graph).forces.square().sum()))
            weight[2, 3] -= sign * h
    assert slope == pytest.approx((both[0] - both[1]) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("kind", [{}, {"sequential": True}])
def test_energies_do_not_turn_and_forces_do(kind: dict[str, Any]) -> None:
    model = potential(**kind)
    positions, symbols = cluster(7, seed=4)
    before = model(model.graph(positions, symbols))
    for mirror in (np.eye(3), np.diag([1.0, 1.0, -1.0])):
        turn = Rotation.random(random_state=5).as_matrix() @ mirror
        after = model(model.graph(positions @ turn + np.array([3.0, -7.0, 11.0]), symbols))
        assert float(after.energy) == pytest.approx(float(before.energy), abs=1e-10)
        np.testing.assert_allclose(after.forces, before.forces.numpy() @ turn, atol=1e-10)
        np.testing.assert_allclose(after.virial[0], turn.T @ before.virial[0].numpy() @ turn, atol=1e-10)
    order = np.random.default_rng(0).permutation(7)
    after = model(model.graph(positions[order], [symbols[k] for k in order]))
    assert float(after.energy) == pytest.approx(float(before.energy), abs=1e-10)
    np.testing.assert_allclose(after.forces, before.forces[torch.as_tensor(order)], atol=1e-10)
    swapped = model(model.graph(positions, [{"Cu": "Al", "Al": "Cu"}[one] for one in symbols]))
    assert abs(float(swapped.energy - before.energy)) > 1e-3


def test_a_supercell_repeats_and_wrapping_changes_nothing() -> None:
    model = potential()
    positions, symbols = cluster(3, seed=6, size=3.0)
    small = model(model.graph(positions, symbols, CELL, [True] * 3))  # thinner than the cut-off of 4 Å along no axis
    shifts = [np.array([a, b, c]) @ CELL for a in range(2) for b in range(2) for c in range(2)]
    large = model(model.graph(np.concatenate([positions + s for s in shifts]), symbols * 8, 2 * CELL, [True] * 3))
    assert float(large.energy) == pytest.approx(8 * float(small.energy), abs=1e-10)
    np.testing.assert_allclose(large.forces, np.tile(small.forces, (8, 1)), atol=1e-10)
    np.testing.assert_allclose(large.virial, 8 * small.virial, atol=1e-9)
    wrapped = positions + np.array([[0, 0, 0], [2, -1, 0], [0, 3, -5]]) @ CELL
    np.testing.assert_allclose(model(model.graph(wrapped, symbols, CELL, [True] * 3)).forces, small.forces, atol=1e-10)


def test_a_cell_thinner_than_the_cutoff_agrees_with_its_supercell() -> None:
    model = potential()
    thin = np.diag([2.2, 2.3, 2.4])
    small = model(model.graph([[0, 0, 0]], ["Cu"], thin, [True] * 3))
    grid = np.array([[a, b, c] for a in range(4) for b in range(4) for c in range(4)]) @ thin
    large = model(model.graph(grid, ["Cu"] * 64, 4 * thin, [True] * 3))
    assert float(large.energy) == pytest.approx(64 * float(small.energy), abs=1e-9)
    assert float(large.forces.abs().max()) < 1e-10


def test_two_clusters_far_apart_add() -> None:
    model = potential()
    (a, names_a), (b, names_b) = cluster(5, seed=7), cluster(4, seed=8)
    alone = [float(model(model.graph(*one)).energy) for one in ((a, names_a), (b, names_b))]
    both = model(model.graph(np.concatenate([a, b + 20]), names_a + names_b))
    assert float(both.energy) == pytest.approx(sum(alone), abs=1e-10)
    as_frames = model(joined([model.graph(a, names_a), model.graph(b, names_b)]))
    np.testing.assert_allclose(as_frames.energy, alone, atol=1e-10)
    np.testing.assert_allclose(as_frames.forces, both.forces, atol=1e-10)


@pytest.mark.parametrize("switch", ["exponential", "quintic"])
@pytest.mark.parametrize("at", ["cutoff", "angle_cutoff"])
def test_energies_are_smooth_where_an_atom_leaves(at: str, switch: Any) -> None:
    model = potential(switch=switch)
    still = np.array([[0, 0, 0], [1.8, 0, 0], [0.6, 1.7, 0]])

    def at_distance(r: float) -> float:
        return float(model(model.graph(np.vstack([still, [0, 0, r]]), ["Cu", "Al", "Cu", "Al"])).energy)

    span = [at_distance(r) for r in np.linspace(1.5, 4.5, 31)]
    jump = abs(at_distance(SHORT[at] + 1e-9) - at_distance(SHORT[at] - 1e-9))
    assert jump < 1e-5 * (max(span) - min(span))


def test_only_the_ratio_of_selection_and_its_factor_counts() -> None:
    """A selection doubled with its factor doubled is the same constant, whatever the number of neighbours."""
    model, graph = potential(), potential().graph(*cluster(6, seed=9))
    again = potential(edge_norm=2 * 80 / (2 * 10.0), angle_norm=2 * 30 / (2 * 10.0))
    assert float(again(graph).energy) == float(model(graph).energy)
    assert float(potential(edge_norm=16.0)(graph).energy) != float(model(graph).energy)


def test_the_work_along_a_closed_path_is_zero() -> None:
    model = potential()
    positions, symbols = cluster(5, seed=10)
    work, count = 0.0, 60
    for k in range(count):  # a circle of one atom, by the rule of midpoints: exact to high order on a closed path
        angle = 2 * np.pi * (k + 0.5) / count
        place = positions.copy()
        place[2] += 0.4 * np.array([np.cos(angle), np.sin(angle), 0.3 * np.sin(2 * angle)])
        step = 0.4 * np.array([-np.sin(angle), np.cos(angle), 0.6 * np.cos(2 * angle)]) * 2 * np.pi / count
        forces = model(model.graph(place, symbols)).forces[2].numpy()
        work += float(forces @ step)
    assert abs(work) < 1e-6 and abs(forces).max() > 0.01


def test_without_angle_messages_k_is_1() -> None:
    model = potential()
    graph = model.graph(*cluster(6, seed=11))
    plain = potential(angles=0)
    kept = {name: one for name, one in model.state_dict().items() if name in plain.state_dict()}
    plain.load_state_dict(kept)
    assert float(plain(graph).energy) != pytest.approx(float(model(graph).energy), abs=1e-4)
    with torch.no_grad():
        for layer in model.descriptor.layers:
            layer.angle_steps[0].zero_()
    assert float(plain(graph).energy) == pytest.approx(float(model(graph).energy), abs=1e-12)


def test_without_steps_layers_change_nothing() -> None:
    model = potential(layers=3)
    graph = model.graph(*cluster(6, seed=12))
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "steps" in name:
                one.zero_()
    empty = potential(layers=0)
    empty.load_state_dict({name: one for name, one in model.state_dict().items() if name in empty.state_dict()})
    seen, first = (one.descriptor(graph, graph.vectors()) for one in (model, empty))
    assert torch.equal(seen, first)


def test_one_layer_hears_no_angles() -> None:
    """Angles reach atoms through edges, so in parallel updates from the second layer on."""
    model, plain = potential(layers=1), potential(layers=1, angles=0)
    plain.load_state_dict({name: one for name, one in model.state_dict().items() if name in plain.state_dict()})
    graph = model.graph(*cluster(6, seed=11))
    assert float(plain(graph).energy) == float(model(graph).energy)
    sequential = potential(layers=1, sequential=True)
    sequential.load_state_dict(model.state_dict())
    assert abs(float(sequential(graph).energy - model(graph).energy)) > 1e-6


def test_a_data_set_enters_through_the_fitting_and_the_bias_alone() -> None:
    model = potential(datasets=2, hidden=(12, 12))
    positions, symbols = cluster(5, seed=13)
    a, b = (model.graph(positions, symbols, dataset=m) for m in (0, 1))
    assert torch.equal(model.descriptor(a, a.vectors()), model.descriptor(b, b.vectors()))
    first = model.fitting.hidden[0].weight
    with torch.no_grad():
        first[:, -2:] = first[:, -1:]
        model.bias[1] = torch.tensor([5.0, 7.0])
    said = [model(one) for one in (a, b)]
    counts = [symbols.count("Cu"), symbols.count("Al")]
    assert float(said[1].energy - said[0].energy) == pytest.approx(counts @ np.array([5.0, 7.0]), abs=1e-10)
    assert torch.equal(said[0].forces, said[1].forces)
    with pytest.raises(ConfigError, match="there is no 2"):
        model.graph(positions, symbols, dataset=2)


def test_the_bias_is_the_composition_linear_baseline() -> None:
    model = potential(datasets=2)
    rng, graphs, energies, rows = np.random.default_rng(0), [], [], []
    for k in range(12):
        positions, symbols = cluster(4 + k % 3, seed=20 + k)
        graphs.append(model.graph(positions, symbols, dataset=k % 2))
        rows.append([symbols.count("Cu"), symbols.count("Al")])
        energies.append(float(np.dot(rows[-1], [-3.5, -3.3 + k % 2]) - 1000.0 * len(symbols) + rng.normal(0, 0.1)))
    model.set_bias(graphs, energies)
    for m in (0, 1):
        expected = np.linalg.lstsq(np.array(rows[m::2], float), np.array(energies[m::2]), rcond=None)[0]
        np.testing.assert_allclose(model.bias[m], expected, atol=1e-9)
    with torch.no_grad():
        model.fitting.out.weight.zero_(), model.fitting.out.bias.zero_()
    said = model(joined(graphs)).energy.numpy()
    np.testing.assert_allclose(said, [rows[k] @ model.bias[k % 2].numpy() for k in range(12)], atol=1e-9)


def test_large_totals_lose_nothing_in_single_precision() -> None:
    model = build(Sizes(("Cu", "Al"), 1, 8, 6, 4, hidden=(8,)), seed=0).eval()
    graph = model.graph(*cluster(6, seed=14))
    alone = float(model(graph).energy)
    model.bias += -30_000.0
    assert float(model(graph).energy) + 6 * 30_000 == pytest.approx(alone, abs=1e-9)


def test_a_folder_gives_the_same_potential_and_bad_ones_are_named(tmp_path: Any) -> None:
    model = build(Sizes(("Cu", "Al"), 2, 8, 6, 4, hidden=(8, 8), datasets=2, switch="quintic"), seed=3).eval()
    model.bias[1, 0] = -29944.123456789
    graph = model.graph(*cluster(5, seed=15), dataset=1)
    again = load_potential(save_potential(model, tmp_path / "kept"))
    assert asdict(again.sizes) == asdict(model.sizes) and torch.equal(again(graph).energy, model(graph).energy)
    (tmp_path / "kept" / "network.json").write_text('{"room": "vision"}')
    with pytest.raises(ConfigError, match="not a folder of a network of atoms"):
        load_potential(tmp_path / "kept")
    with pytest.raises(ConfigError, match=r"knows Cu, Al, not Ag"):
        model.graph([[0, 0, 0]], ["Ag"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"smooth": 7.0}, "ordered"), ({"angle_cutoff": 8.0}, "ordered"), ({"axes": 99}, "axes"), ({"nodes": 0}, "widths"),
     ({"angles": 70}, "components"), ({"elements": ()}, "elements")],
)  # fmt: skip
def test_sizes_that_cannot_work_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Sizes(**{"elements": ("H",), **wrong})
