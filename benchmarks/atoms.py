"""The potential of limbeck beside deepmd-kit's NumPy backend, beside plain loops, and over numbers of atoms.

deepmd-kit's descriptor of the same sizes runs in its own environment (deepmd-kit 3.2.0 with --no-deps, and numpy,
array-api-compat, h5py, ml_dtypes, lmdb, msgpack, scipy, pyyaml, dargs, typing-extensions, wcmatch, packaging), in
float64 as ours; it knows energies alone, no forces. "plain" computes the equations atom by atom with concatenations,
and forces through autograd. One thread; processor seconds, the least of several rounds.

    .venv/bin/python benchmarks/atoms.py [--quick] [--deepmd .venv-deepmd/bin/python]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ase.build import bulk
from machine import machine
from torch import Tensor

from limbeck.atoms import Graph, Potential, Sizes, build, silut
from limbeck.atoms.switches import exponential_switch

RESULTS = Path(__file__).parent / "results" / "atoms.json"
PUBLISHED = Sizes(("Cu",), layers=3)  # widths and cut-offs as published
SMALL = Sizes(("Cu",), 2, 24, 16, 8, 4, 5.0, 4.4, 3.5, 3.0, 8.0, 3.0, 10.0, (48, 48))
PEER = """
import json, sys, time
import numpy as np
from deepmd.dpmodel.descriptor.dpa3 import DescrptDPA3, RepFlowArgs
given = np.load(sys.argv[1]); rounds = int(sys.argv[2]); coord, nlist = given["coord"], given["nlist"]
flow = RepFlowArgs(
    n_dim=128, e_dim=64, a_dim=32, nlayers=3, e_rcut=6.0, e_rcut_smth=5.3, e_sel=nlist.shape[1], a_rcut=4.0,
    a_rcut_smth=3.5, a_sel=int(given["angles"]), a_compress_rate=1, a_compress_e_rate=2, a_compress_use_split=True,
    axis_neuron=4, smooth_edge_update=True, edge_init_use_dist=True, use_exp_switch=True, use_dynamic_sel=True,
    sel_reduce_factor=1.0,
)
model = DescrptDPA3(1, flow, activation_function="silut:3.0", precision="float64", use_loc_mapping=False, seed=0)
seconds = []
for _ in range(rounds):
    begin = time.process_time()
    model.call(coord.reshape(1, -1), given["types"][None], nlist[None], given["mapping"][None])
    seconds.append(time.process_time() - begin)
print(json.dumps(min(seconds)))
"""


def crystal(potential: Potential, repeat: int | tuple[int, int, int]) -> Graph:
    """Copper at some temperature."""
    atoms = bulk("Cu", cubic=True).repeat(repeat)
    atoms.rattle(0.05, seed=0)
    return potential.graph(atoms.positions, list(atoms.symbols), atoms.cell.array, atoms.pbc)


def least(work: Callable[[], Any], rounds: int) -> float:
    """Processor seconds of the fastest round."""
    seconds = []
    for _ in range(rounds + 1):  # the first warms up
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds[1:])


def beside_deepmd(python: Path, rounds: int, folder: Path) -> dict[str, Any]:
    """Descriptors of one structure without periodic images: the peer pads neighbours, ours does not."""
    potential = build(PUBLISHED, seed=0).double().eval()
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=0)
    graph = potential.graph(atoms.positions, list(atoms.symbols))
    rows = [graph.neighbour[graph.centre == i].numpy() for i in range(len(atoms))]
    most = max(map(len, rows))
    nlist = np.full((len(atoms), most), -1)
    for i, row in enumerate(rows):
        order = np.argsort(np.linalg.norm(atoms.positions[row] - atoms.positions[i], axis=1))
        nlist[i, : len(row)] = row[order]
    angles = int(torch.bincount(graph.centre[graph.short]).max())  # selections just large enough, to its advantage
    known: dict[str, Any] = {
        "angles": angles,
        "coord": atoms.positions,
        "types": np.zeros(len(atoms), int),
        "nlist": nlist,
    }
    np.savez(folder / "given.npz", mapping=np.arange(len(atoms)), **known)
    with torch.no_grad():
        ours = least(lambda: potential.descriptor(graph, graph.vectors()), rounds)
    about = {"atoms": len(atoms), "edges": len(graph.centre), "angles": len(graph.first), "milliseconds": 1e3 * ours}
    if not python.exists():
        return about | {"deepmd": f"not measured: {python} does not exist"}
    command = [str(python), "-c", PEER, str(folder / "given.npz"), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return about | {"deepmd": f"not measured: {done.stderr.strip().splitlines()[-1]}"}
    theirs = float(done.stdout.splitlines()[-1])
    return about | {"milliseconds_deepmd": 1e3 * theirs, "faster_than_deepmd": theirs / ours}


def plain(potential: Potential, graph: Graph) -> tuple[float, Tensor]:
    """Energy and forces, atom by atom, with every concatenation written out."""
    sizes = potential.sizes
    place = graph.positions.clone().requires_grad_()
    d = (graph._replace(positions=place)).vectors()
    r = d.norm(dim=1)
    s, unit = exponential_switch(r, sizes.smooth, sizes.cutoff), d / (r + 1e-6)[:, None]
    h = s[:, None] * d / r[:, None] ** 2 / 0.3
    near = exponential_switch(r, sizes.angle_smooth, sizes.angle_cutoff)
    act = sizes.threshold
    edges = [torch.nonzero(graph.centre == i).flatten() for i in range(len(place))]
    short = [one[r[one] < sizes.angle_cutoff] for one in edges]
    model = potential.descriptor
    v, e = silut(model.kinds, act)[graph.species], model.edge(r[:, None])
    a = [model.angle(((1 - 1e-6) * unit[k] @ unit[k].T)[..., None] / np.pi**0.5) for k in short]
    for layer in model.layers:
        n, w = sizes.nodes, sizes.edges
        nodes, new_e, angles = [], e.clone(), []
        for i, own in enumerate(edges):
            j = graph.neighbour[own]
            told = layer.around(torch.cat([v[i].expand(len(own), -1), v[j], e[own]], 1))
            told = silut(told, act)
            parts = []
            for g in (e[own], v[j]):
                H = torch.einsum("jq,jp->qp", s[own, None] * h[own], g) / sizes.edge_norm**0.5
                parts.append((H[:, : sizes.axes].T @ H / 3).flatten())
            first = silut(layer.own(v[i]), act)
            second = silut(layer.symmetric(torch.cat(parts)), act)
            third = (s[own, None] * told[:, :n]).sum(0) / sizes.edge_norm
            nodes.append(v[i] + layer.steps[0] * first + layer.steps[1] * second + layer.steps[2] * third)
            k, m = short[i], len(short[i])
            ec, nc = e[k][:, : sizes.angles], v[i, : sizes.angles]
            whole = torch.cat([a[i], nc.expand(m, m, -1), ec.expand(m, m, -1), ec[:, None].expand(m, m, -1)], 2)
            said = silut(layer.angle(whole), act)
            pair = (near[k][:, None] * near[k])[..., None]
            total = (pair * said[..., :w]).sum(1) / sizes.angle_norm**0.5
            heard = silut(layer.heard.bias, act).expand(len(own), -1).clone()
            heard[torch.isin(own, k)] = silut(layer.heard(total), act)
            new_e[own] = e[own] + layer.steps[3] * told[:, n:] + layer.angle_steps[0] * heard
            angles.append(a[i] + layer.angle_steps[1] * said[..., w:])
        v, e, a = torch.stack(nodes), new_e, angles
    energy = potential.fitting(v).sum()
    return energy.item(), -torch.autograd.grad(energy, place)[0]


def beside_loops(rounds: int) -> dict[str, Any]:
    """Energies and forces of 32 atoms."""
    potential = build(SMALL, seed=0).double().eval()
    graph = crystal(potential, 2)
    said, (energy, forces) = potential(graph), plain(potential, graph)
    apart = float((said.forces - forces).abs().max())
    ours, loops = least(lambda: potential(graph), rounds), least(lambda: plain(potential, graph), rounds)
    milliseconds = {"limbeck": 1e3 * ours, "plain": 1e3 * loops}
    about = {"atoms": len(forces), "edges": len(graph.centre), "angles": len(graph.first)}
    about |= {"energies_apart": abs(float(said.energy) - energy), "forces_apart": apart}
    return about | {"milliseconds": milliseconds, "faster_than_plain": loops / ours}


def over_atoms(rounds: int, quick: bool) -> dict[str, Any]:
    """Energies and forces in float32, and the graph, of more and more atoms."""
    potential, rows = build(SMALL, seed=0).eval(), []
    for repeat in ((4, 4, 4), (8, 4, 4), (8, 8, 4), (8, 8, 8))[: 2 if quick else 4]:
        graph = crystal(potential, repeat)
        row = {"atoms": len(graph.positions), "edges": len(graph.centre), "angles": len(graph.first)}
        row["milliseconds"] = 1e3 * least(lambda graph=graph: potential(graph), rounds)
        row["milliseconds_graph"] = 1e3 * least(lambda repeat=repeat: crystal(potential, repeat), rounds)
        rows.append(row | {"microseconds_per_atom": 1e3 * row["milliseconds"] / row["atoms"]})
    atoms, cost = (np.log([row[name] for row in rows]) for name in ("atoms", "milliseconds"))
    return {"rows": rows, "exponent": float(np.polyfit(atoms, cost, 1)[0])}


def main() -> None:
    import tempfile

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--deepmd", type=Path, default=Path(".venv-deepmd/bin/python"))
    given = options.parse_args()
    torch.set_num_threads(1)
    rounds = 1 if given.quick else 3
    with tempfile.TemporaryDirectory() as folder:
        found = {"deepmd": beside_deepmd(given.deepmd, rounds, Path(folder))}
    found |= {"plain": beside_loops(rounds), "scaling": over_atoms(rounds, given.quick), "machine": machine()}
    if not given.quick:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
