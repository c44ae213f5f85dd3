"""A model's value and Jacobian as a short program that runs on blocks of parameter rows.

The graph of a formula is laid out in three stages: what depends on the columns alone is computed once per data set,
what depends on the parameters alone once per row, and only the rest for every row and point. Buffers are reused as
soon as their value is no longer needed, so that a block stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FittingError
from limbeck.fitting.expression import MIXED, PARAMETER, Graph, Symbol, gradient
from limbeck.fitting.model import Array, Model


@dataclass(frozen=True)
class Tape:
    """A traced formula: the nodes of its value and of its derivatives with respect to the free coordinates.

    Args:
        graph: all nodes.
        free: names of the free parameters; their coordinates are the columns of every parameter row.
        value: node of the prediction (or of its logarithm).
        jacobian: nodes of its derivatives, one per free parameter.
    """

    graph: Graph
    free: tuple[str, ...]
    value: int
    jacobian: tuple[int, ...]


def trace(model: Model, *, fixed: Mapping[str, float] | None = None, log: bool = False) -> Tape:
    """Run a model's formula once on symbols and differentiate it.

    Args:
        model: the model.
        fixed: parameters held at a number (natural units); the others are free.
        log: predict the logarithm of the formula.

    Raises:
        FittingError: the formula uses a function that cannot be differentiated.
    """
    graph, held = Graph(), fixed or {}
    leaves = {p.name: graph.parameter(p.name) for p in model.parameters if p.name not in held}
    nodes = {name: graph.constant(value) for name, value in held.items()} | leaves
    nodes |= {p.name: graph.apply("exp", leaves[p.name]) for p in model.parameters if p.log and p.name in leaves}
    symbols = SimpleNamespace(**{name: Symbol(graph, node) for name, node in nodes.items()})
    columns = SimpleNamespace(**{name: Symbol(graph, graph.column(name)) for name in model.columns})
    value = model.formula(symbols, columns)
    if not isinstance(value, Symbol):
        raise FittingError(f"the formula of {model.name} does not depend on its parameters or columns.")
    root = graph.apply("log", value.index) if log else value.index
    jacobian = gradient(graph, root, list(leaves.values()))
    return Tape(graph, tuple(leaves), root, tuple(jacobian))


Call = tuple[np.ufunc, tuple[int, ...], int]
"""One operation of a program: `registers[out] = ufunc(*registers[args])`, as (ufunc, args, out)."""


class Program:
    """A tape bound to one data set.

    Registers hold, in this order: constants and data-only values (shape [n]), parameter-only values ([rows, 1]), and
    mixed values ([rows, n]). The last ones are shared between operations whose lifetimes do not overlap.

    Args:
        tape: a traced formula.
        columns: the data, one float64 array [n] per column of the model; or [sets, n], one row per data set.
    """

    def __init__(self, tape: Tape, columns: Mapping[str, Array]) -> None:
        self.tape = tape
        self.columns = {name: np.ascontiguousarray(columns[name], float) for name in columns}
        self.n = next(iter(self.columns.values())).shape[-1]
        graph, outputs = tape.graph, (*tape.jacobian, tape.value)
        self.fixed: dict[int, Array | float] = {}
        self.leaves: list[tuple[int, int]] = []
        nodes: dict[int, list[int]] = {PARAMETER: [], MIXED: []}
        with np.errstate(all="ignore"):
            for i in reachable(graph, outputs):
                node, stage = graph.nodes[i], graph.stage[i]
                if node.op == "parameter":
                    self.leaves.append((i, tape.free.index(str(node.payload))))
                elif stage in nodes:
                    nodes[stage].append(i)
                elif node.op == "constant":
                    self.fixed[i] = float(node.payload or 0.0)
                elif node.op == "column":
                    self.fixed[i] = self.columns[str(node.payload)]
                else:
                    self.fixed[i] = getattr(np, node.op)(*(self.fixed[a] for a in node.args))
        self.row_calls = [(getattr(np, graph.nodes[i].op), graph.nodes[i].args, i) for i in nodes[PARAMETER]]
        self.calls, self.n_buffers = _allocate(graph, nodes[MIXED], set(outputs))
        self._workspace = np.empty((0, 0, self.n))
        self.place = {node: k for k, node in reversed(list(enumerate(outputs)))}
        self.copies = [(k, i) for k, i in enumerate(outputs) if self.place[i] != k or graph.stage[i] != MIXED]

    def evaluate(self, theta: Array, index: NDArray[np.int_] | None = None) -> tuple[Array, Array]:
        """Return values [rows, n] and Jacobians [rows, p, n] at parameter rows [rows, p].

        Both are views of a workspace that the next call overwrites. Non-finite results are returned as they are: the
        solver rejects such a step.
        """
        table = self.sweep(theta, index).swapaxes(0, 1)
        return table[:, -1], table[:, :-1]

    def sweep(self, theta: Array, index: NDArray[np.int_] | None = None) -> Array:
        """Return Jacobian rows and, last, the values as one table [p + 1, rows, n], in the workspace."""
        workspace = self._buffers(len(theta))
        buffers, table = workspace[: self.n_buffers], workspace[self.n_buffers :]
        registers = {i: v[index] if isinstance(v, np.ndarray) and v.ndim == 2 else v for i, v in self.fixed.items()}
        for i, k in self.leaves:
            registers[i] = theta[:, k : k + 1]
        with np.errstate(all="ignore"):
            for ufunc, args, out in self.row_calls:
                registers[out] = ufunc(*[registers[a] for a in args])
            for ufunc, args, out in self.calls:
                target = buffers[-out - 1] if out < 0 else table[self.place[out]]
                registers[out] = ufunc(*[registers[a] for a in args], out=target)
        for k, node in self.copies:
            table[k] = registers[node]
        return table

    def _buffers(self, rows: int) -> Array:
        """Scratch buffers, Jacobian rows and value, [n_buffers + p + 1, rows, n]."""
        if rows > self._workspace.shape[1]:
            self._workspace = np.empty((self.n_buffers + len(self.tape.free) + 1, rows, self.n))
        return self._workspace[:, :rows]


def reachable(graph: Graph, outputs: Sequence[int]) -> list[int]:
    """Nodes that the outputs need, in the order of evaluation."""
    needed = set(outputs)
    for i in range(max(needed), -1, -1):
        needed.update(graph.nodes[i].args if i in needed else ())
    return sorted(needed)


def _allocate(graph: Graph, mixed: list[int], outputs: set[int]) -> tuple[list[Call], int]:
    """Give every mixed node a buffer (negative register) that is free by then; outputs keep their own register."""
    last_use = {a: position for position, i in enumerate(mixed) for a in graph.nodes[i].args}
    register: dict[int, int] = {}
    free: list[int] = []
    calls, count = [], 0
    for position, i in enumerate(mixed):
        node = graph.nodes[i]
        args = tuple(register.get(a, a) for a in node.args)
        free += [register[a] for a in dict.fromkeys(node.args) if register.get(a, 0) < 0 and last_use[a] == position]
        if not free and i not in outputs:
            count += 1
            free = [-count]
        register[i] = i if i in outputs else free.pop()
        calls.append((getattr(np, node.op), args, register[i]))
    return calls, count
