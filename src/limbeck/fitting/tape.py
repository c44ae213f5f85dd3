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
from limbeck.fitting.expression import DATA, MIXED, PARAMETER, Graph, Symbol, gradient
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
    fixed = dict(fixed or {})
    graph = Graph()
    leaves: dict[str, int] = {}
    parameters: dict[str, Symbol] = {}
    for parameter in model.parameters:
        if parameter.name in fixed:
            parameters[parameter.name] = Symbol(graph, graph.constant(fixed[parameter.name]))
        else:
            leaf = leaves[parameter.name] = graph.parameter(parameter.name)
            parameters[parameter.name] = Symbol(graph, graph.apply("exp", leaf) if parameter.log else leaf)
    columns = {name: Symbol(graph, graph.column(name)) for name in model.columns}
    value = model.formula(SimpleNamespace(**parameters), SimpleNamespace(**columns))
    if not isinstance(value, Symbol):
        raise FittingError(f"the formula of {model.name} does not depend on its parameters or columns.")
    root = graph.apply("log", value.index) if log else value.index
    jacobian = gradient(graph, root, list(leaves.values()))
    return Tape(graph, tuple(leaves), root, tuple(jacobian))


@dataclass(frozen=True)
class Step:
    """One operation of a program: `registers[out] = op(registers[a] for a in args)`."""

    op: str
    args: tuple[int, ...]
    out: int


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
        graph = tape.graph
        outputs = (*tape.jacobian, tape.value)
        needed = reachable(graph, outputs)
        self.fixed: dict[int, Array | float] = {}
        with np.errstate(all="ignore"):
            for i in needed:
                node = graph.nodes[i]
                if node.op == "constant":
                    self.fixed[i] = float(node.payload or 0.0)
                elif node.op == "column":
                    self.fixed[i] = self.columns[str(node.payload)]
                elif graph.stage[i] == DATA:
                    self.fixed[i] = getattr(np, node.op)(*(self.fixed[a] for a in node.args))
        self.leaves = [
            (i, tape.free.index(str(graph.nodes[i].payload))) for i in needed if graph.nodes[i].op == "parameter"
        ]
        row_nodes = [i for i in needed if graph.stage[i] == PARAMETER and graph.nodes[i].op != "parameter"]
        self.row_steps = [(i, getattr(np, graph.nodes[i].op), graph.nodes[i].args) for i in row_nodes]
        mixed = [i for i in needed if graph.stage[i] == MIXED]
        self.steps, self.n_buffers = _allocate(graph, mixed, set(outputs))
        self._calls = [(getattr(np, step.op), step.args, step.out) for step in self.steps]
        self._workspace = np.empty((0, 0, self.n))
        self.place = {node: k for k, node in reversed(list(enumerate(outputs)))}
        self.copies = [
            (k, node) for k, node in enumerate(outputs) if self.place[node] != k or graph.stage[node] != MIXED
        ]

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
        registers = {
            i: value[index] if not isinstance(value, float) and value.ndim == 2 else value
            for i, value in self.fixed.items()
        }
        for i, k in self.leaves:
            registers[i] = theta[:, k : k + 1]
        with np.errstate(all="ignore"):
            for i, ufunc, args in self.row_steps:
                registers[i] = ufunc(*[registers[a] for a in args])
            for ufunc, args, out in self._calls:
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
    needed: set[int] = set()
    stack = list(outputs)
    while stack:
        i = stack.pop()
        if i not in needed:
            needed.add(i)
            stack.extend(graph.nodes[i].args)
    return sorted(needed)


def _allocate(graph: Graph, mixed: list[int], outputs: set[int]) -> tuple[list[Step], int]:
    """Give every mixed node a buffer (negative register) that is free by then; outputs keep their own register."""
    last_use = {a: position for position, i in enumerate(mixed) for a in graph.nodes[i].args}
    register: dict[int, int] = {}
    free: list[int] = []
    count = 0
    steps: list[Step] = []
    for position, i in enumerate(mixed):
        node = graph.nodes[i]
        args = tuple(register.get(a, a) for a in node.args)
        for a in dict.fromkeys(node.args):
            if register.get(a, 0) < 0 and last_use[a] == position:
                free.append(register[a])
        if i in outputs:
            register[i] = i
        elif free:
            register[i] = free.pop()
        else:
            count += 1
            register[i] = -count
        steps.append(Step(node.op, args, register[i]))
    return steps, count
