"""A formula as a graph: traced once by running it on symbols, simplified, and differentiated.

Running a NumPy formula on `Symbol`s records every operation in a `Graph`. Equal sub-expressions share one node, so the
derivatives (reverse mode, one adjoint per node) cost what a hand-written Jacobian costs: for `log(E + A N^-alpha + B
D^-beta)` one exponential per term and one division in all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from limbeck.errors import FittingError

CONSTANT, DATA, PARAMETER, MIXED = 0, 1, 2, 3
"""What a node depends on: nothing, columns, parameters, or both (the sum of the flags)."""

UNARY = ("negative", "exp", "log", "log1p", "expm1", "sqrt", "square", "tanh", "absolute", "sign")
BINARY = ("add", "subtract", "multiply", "divide", "logaddexp", "maximum", "minimum", "greater_equal")
COMMUTATIVE = {"add", "multiply", "logaddexp", "maximum", "minimum"}


@dataclass(frozen=True)
class Node:
    """One operation: its name, the indices of its arguments, and a constant's value or a leaf's name."""

    op: str
    args: tuple[int, ...] = ()
    payload: float | str | None = None


@dataclass
class Graph:
    """Nodes in the order of evaluation, each distinct expression once."""

    nodes: list[Node] = field(default_factory=list)
    stage: list[int] = field(default_factory=list)
    _index: dict[Node, int] = field(default_factory=dict)

    def constant(self, value: float) -> int:
        """Return the node of a number."""
        return self._intern(Node("constant", (), float(value)), CONSTANT)

    def column(self, name: str) -> int:
        """Return the node of a data column."""
        return self._intern(Node("column", (), name), DATA)

    def parameter(self, name: str) -> int:
        """Return the node of a parameter's fitted coordinate."""
        return self._intern(Node("parameter", (), name), PARAMETER)

    def apply(self, op: str, *args: int) -> int:
        """Return the node of an operation, simplified."""
        if op == "power":
            return self._power(*args)
        values = [self.value(a) for a in args]
        if all(v is not None for v in values):
            with np.errstate(all="ignore"):
                return self.constant(float(getattr(np, op)(*values)))
        simple = self._simplify(op, args, values)
        if simple is not None:
            return simple
        if op in COMMUTATIVE:
            args = tuple(sorted(args))
        stage = 0
        for a in args:
            stage |= self.stage[a]
        return self._intern(Node(op, args), stage)

    def value(self, index: int) -> float | None:
        """Return the number that a constant node holds, else None."""
        node = self.nodes[index]
        return float(node.payload) if node.op == "constant" and node.payload is not None else None

    def _intern(self, node: Node, stage: int) -> int:
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
            self.stage.append(stage)
        return self._index[node]

    def _power(self, base: int, exponent: int) -> int:
        fixed = {0.0: lambda: self.constant(1.0), 1.0: lambda: base, 2.0: lambda: self.apply("square", base)}
        e = self.value(exponent)
        if e in fixed:
            return fixed[e]()
        return self.apply("exp", self.apply("multiply", exponent, self.apply("log", base)))

    def _simplify(self, op: str, args: tuple[int, ...], values: list[float | None]) -> int | None:
        """Keep the graph as small as a careful hand would: neutral elements, and exponents added, not multiplied."""
        ops = [self.nodes[a].op for a in args]
        if op in ("exp", "log") and ops[0] == ("log" if op == "exp" else "exp"):
            return self.nodes[args[0]].args[0]
        if op == "negative" and ops[0] == "negative":
            return self.nodes[args[0]].args[0]
        if op == "negative" and ops[0] == "multiply":
            for cheap, other in (self.nodes[args[0]].args, self.nodes[args[0]].args[::-1]):
                if self.stage[cheap] <= DATA:
                    return self.apply("multiply", self.apply("negative", cheap), other)
        if op in ("multiply", "divide") and ops == ["exp", "exp"]:
            u, v = (self.nodes[a].args[0] for a in args)
            return self.apply("exp", self.apply("add" if op == "multiply" else "subtract", u, v))
        if op == "multiply" and 0.0 in values:
            return self.constant(0.0)
        if op in ("add", "multiply"):
            neutral = 0.0 if op == "add" else 1.0
            if values[0] == neutral:
                return args[1]
            if values[1] == neutral:
                return args[0]
        if op == "subtract" and values[0] == 0.0:
            return self.apply("negative", args[1])
        if (op == "subtract" and values[1] == 0.0) or (op == "divide" and values[1] == 1.0):
            return args[0]
        return None


class Symbol(NDArrayOperatorsMixin):
    """A value that records what NumPy does to it."""

    def __init__(self, graph: Graph, index: int) -> None:
        self.graph, self.index = graph, index

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Symbol:
        """Record one NumPy operation."""
        name = {"true_divide": "divide", "float_power": "power", "reciprocal": "divide"}.get(
            ufunc.__name__, ufunc.__name__
        )
        if method != "__call__" or kwargs or name not in (*UNARY, *BINARY, "power"):
            raise FittingError(
                f"a formula used numpy.{ufunc.__name__}, which cannot be differentiated here; "
                f"it may use: {', '.join((*UNARY, *BINARY, 'power'))}."
            )
        args = [x.index if isinstance(x, Symbol) else self.graph.constant(float(x)) for x in inputs]
        if ufunc.__name__ == "reciprocal":
            args = [self.graph.constant(1.0), *args]
        return Symbol(self.graph, self.graph.apply(name, *args))


def held(value: Any) -> Any:
    """Return a value whose derivatives count as zero: inside a formula, an iterate that is near a root already.

    One Newton step from a held root has the derivatives of the implicit function, whatever led to the root.

    Example:
        >>> held(2.0)
        2.0
    """
    return Symbol(value.graph, value.graph.apply("positive", value.index)) if isinstance(value, Symbol) else value


Chain = Callable[[Graph, int, tuple[int, ...], int], tuple[int, ...]]


def _binary_max(g: Graph, a: tuple[int, ...], adjoint: int, swap: bool) -> tuple[int, int]:
    first = g.apply("greater_equal", *(a[::-1] if swap else a))
    return (
        g.apply("multiply", adjoint, first),
        g.apply("multiply", adjoint, g.apply("subtract", g.constant(1.0), first)),
    )


def _divide(g: Graph, y: int, a: tuple[int, ...], w: int) -> tuple[int, ...]:
    numerator = g.apply("divide", w, a[1])
    return numerator, g.apply("negative", g.apply("multiply", numerator, y))


RULES: dict[str, Chain] = {
    "add": lambda g, y, a, w: (w, w),
    "subtract": lambda g, y, a, w: (w, g.apply("negative", w)),
    "multiply": lambda g, y, a, w: (g.apply("multiply", w, a[1]), g.apply("multiply", w, a[0])),
    "divide": _divide,
    "negative": lambda g, y, a, w: (g.apply("negative", w),),
    "exp": lambda g, y, a, w: (g.apply("multiply", w, y),),
    "log": lambda g, y, a, w: (g.apply("divide", w, a[0]),),
    "log1p": lambda g, y, a, w: (g.apply("divide", w, g.apply("add", g.constant(1.0), a[0])),),
    "expm1": lambda g, y, a, w: (g.apply("multiply", w, g.apply("add", g.constant(1.0), y)),),
    "sqrt": lambda g, y, a, w: (g.apply("divide", g.apply("multiply", g.constant(0.5), w), y),),
    "square": lambda g, y, a, w: (g.apply("multiply", g.apply("multiply", g.constant(2.0), w), a[0]),),
    "tanh": lambda g, y, a, w: (g.apply("multiply", w, g.apply("subtract", g.constant(1.0), g.apply("square", y))),),
    "absolute": lambda g, y, a, w: (g.apply("multiply", w, g.apply("sign", a[0])),),
    "logaddexp": lambda g, y, a, w: (
        g.apply("multiply", w, g.apply("exp", g.apply("subtract", a[0], y))),
        g.apply("multiply", w, g.apply("exp", g.apply("subtract", a[1], y))),
    ),
    "maximum": lambda g, y, a, w: _binary_max(g, a, w, swap=False),
    "minimum": lambda g, y, a, w: _binary_max(g, a, w, swap=True),
}
"""Adjoints of the arguments `a` of node `y` whose own adjoint is `w`. Comparisons and signs are locally constant."""


def gradient(graph: Graph, root: int, parameters: list[int]) -> list[int]:
    """Return the nodes of ∂root/∂parameter for every parameter, by one reverse sweep.

    Args:
        graph: extended in place by the adjoints.
        root: node of the scalar that is differentiated (one value per data point).
        parameters: leaf nodes.
    """
    adjoint: dict[int, int] = {root: graph.constant(1.0)}
    for y in range(root, -1, -1):
        node = graph.nodes[y]
        if y not in adjoint or not graph.stage[y] & PARAMETER or node.op not in RULES:
            continue
        for argument, contribution in zip(node.args, RULES[node.op](graph, y, node.args, adjoint[y]), strict=True):
            if graph.stage[argument] & PARAMETER:
                known = adjoint.get(argument)
                adjoint[argument] = contribution if known is None else graph.apply("add", known, contribution)
    zero = graph.constant(0.0)
    return [adjoint.get(p, zero) for p in parameters]
