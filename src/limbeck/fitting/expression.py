"""A formula as a graph: traced once by running it on symbols, simplified, and differentiated.

Running a NumPy formula on `Symbol`s records every operation in a `Graph`. Equal sub-expressions share one node, so the
derivatives (reverse mode, one adjoint per node) cost what a hand-written Jacobian costs: for `log(E + A N^-alpha + B
D^-beta)` one exponential per term and one division in all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from limbeck.errors import FittingError

CONSTANT, DATA, PARAMETER, MIXED = 0, 1, 2, 3
"""What a node depends on: nothing, columns, parameters, or both (the sum of the flags)."""

UNARY = ("negative", "exp", "log", "log1p", "expm1", "sqrt", "square", "tanh", "absolute", "sign")
BINARY = ("add", "subtract", "multiply", "divide", "logaddexp", "maximum", "minimum", "greater_equal")
COMMUTATIVE = {"add", "multiply", "logaddexp", "maximum", "minimum"}
NEUTRAL = {"add": 0.0, "subtract": 0.0, "multiply": 1.0, "divide": 1.0}


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
        if None not in values:
            with np.errstate(all="ignore"):
                return self.constant(float(getattr(np, op)(*values)))
        if (simple := self._simplify(op, args, values)) is not None:
            return simple
        args = tuple(sorted(args)) if op in COMMUTATIVE else args
        return self._intern(Node(op, args), reduce(or_, (self.stage[a] for a in args)))

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
        if (e := self.value(exponent)) in (0.0, 1.0, 2.0):
            return self.constant(1.0) if e == 0.0 else base if e == 1.0 else self.apply("square", base)
        return self.apply("exp", self.apply("multiply", exponent, self.apply("log", base)))

    def _simplify(self, op: str, args: tuple[int, ...], values: list[float | None]) -> int | None:
        """Keep the graph as small as a careful hand would: neutral elements, and exponents added, not multiplied."""
        ops = [self.nodes[a].op for a in args]
        if (op, ops[0]) in (("exp", "log"), ("log", "exp"), ("negative", "negative")):
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
        neutral = NEUTRAL.get(op, math.nan)
        if values[0] == neutral and op in (*COMMUTATIVE, "subtract"):
            return self.apply("negative", args[1]) if op == "subtract" else args[1]
        return args[0] if values[-1] == neutral else None


class Symbol(NDArrayOperatorsMixin):
    """A value that records what NumPy does to it."""

    def __init__(self, graph: Graph, index: int) -> None:
        self.graph, self.index = graph, index

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Symbol:
        """Record one NumPy operation."""
        name = {"float_power": "power", "reciprocal": "divide"}.get(ufunc.__name__, ufunc.__name__)
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


def _one_of(w: Symbol, first: Symbol) -> tuple[Symbol, Symbol]:
    return w * first, w * (1.0 - first)


RULES: dict[str, Callable[..., tuple[Symbol, ...]]] = {
    "add": lambda y, w, a, b: (w, w),
    "subtract": lambda y, w, a, b: (w, -w),
    "multiply": lambda y, w, a, b: (w * b, w * a),
    "divide": lambda y, w, a, b: (w / b, -(w / b * y)),
    "negative": lambda y, w, a: (-w,),
    "exp": lambda y, w, a: (w * y,),
    "log": lambda y, w, a: (w / a,),
    "log1p": lambda y, w, a: (w / (1.0 + a),),
    "expm1": lambda y, w, a: (w * (1.0 + y),),
    "sqrt": lambda y, w, a: (0.5 * w / y,),
    "square": lambda y, w, a: (2.0 * w * a,),
    "tanh": lambda y, w, a: (w * (1.0 - np.square(y)),),
    "absolute": lambda y, w, a: (w * np.sign(a),),
    "logaddexp": lambda y, w, a, b: (w * np.exp(a - y), w * np.exp(b - y)),
    "maximum": lambda y, w, a, b: _one_of(w, a >= b),
    "minimum": lambda y, w, a, b: _one_of(w, b >= a),
}
"""Adjoints of the arguments a, b of a node y whose own adjoint is w. Comparisons and signs are locally constant."""


def gradient(graph: Graph, root: int, parameters: list[int]) -> list[int]:
    """Return the nodes of ∂root/∂parameter for every parameter, by one reverse sweep.

    Args:
        graph: extended in place by the adjoints.
        root: node of the scalar that is differentiated (one value per data point).
        parameters: leaf nodes.
    """
    adjoint = {root: Symbol(graph, graph.constant(1.0))}
    for y in range(root, -1, -1):
        node = graph.nodes[y]
        if y not in adjoint or not graph.stage[y] & PARAMETER or node.op not in RULES:
            continue
        here, *arguments = (Symbol(graph, i) for i in (y, *node.args))
        for i, contribution in zip(node.args, RULES[node.op](here, adjoint[y], *arguments), strict=True):
            if graph.stage[i] & PARAMETER:
                adjoint[i] = adjoint[i] + contribution if i in adjoint else contribution
    zero = graph.constant(0.0)
    return [adjoint[p].index if p in adjoint else zero for p in parameters]
