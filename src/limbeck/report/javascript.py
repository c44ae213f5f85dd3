"""A law's formula as JavaScript, from the engine's own graph: what the page computes is what Python computes."""

from __future__ import annotations

import json
from types import SimpleNamespace

from limbeck.errors import FittingError
from limbeck.fitting.expression import Graph, Symbol
from limbeck.fitting.model import Model

INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
CALLS = {name: name for name in ("exp", "log", "log1p", "expm1", "sqrt", "tanh", "sign")}
CALLS |= {"absolute": "abs", "maximum": "max", "minimum": "min"}
TEMPLATES = {
    "negative": "-{0}",
    "positive": "{0}",
    "square": "{0} * {0}",
    "greater_equal": "+({0} >= {1})",
    "logaddexp": "Math.max({0}, {1}) + Math.log1p(Math.exp(-Math.abs({0} - {1})))",
}


def law_function(model: Model) -> str:
    """Return `(p, x) => number`: the model's formula on natural parameters `p.name` and columns `x.name`.

    Raises:
        FittingError: the formula does not depend on its parameters or columns.

    Example:
        >>> from limbeck.laws.loss import Power
        >>> print(law_function(Power("tokens")))
        (p, x) => {
        const v0 = x["tokens"];
        const v1 = p["A"];
        const v2 = p["alpha"];
        const v3 = -v2;
        const v4 = Math.log(v0);
        const v5 = v3 * v4;
        const v6 = Math.exp(v5);
        const v7 = v1 * v6;
        return v7;
        }
    """
    graph, columns = _columns(model)
    parameters = SimpleNamespace(**{name: Symbol(graph, graph.parameter(name)) for name in model.parameter_names})
    return _emit(graph, model.formula(parameters, columns), "(p, x)")


def size_function(model: Model) -> str:
    """Return `(x) => number`: what orders runs from small to large (`Model.size`)."""
    graph, columns = _columns(model)
    return _emit(graph, model.size(columns), "(x)")


def _columns(model: Model) -> tuple[Graph, SimpleNamespace]:
    graph = Graph()
    return graph, SimpleNamespace(**{name: Symbol(graph, graph.column(name)) for name in model.columns})


def _emit(graph: Graph, result: Symbol | float, arguments: str) -> str:
    if not isinstance(result, Symbol):
        raise FittingError(f"a formula gave the constant {result}: it must depend on its parameters and columns.")
    lines = [f"{arguments} => {{"]
    for i, node in enumerate(graph.nodes[: result.index + 1]):
        names = [f"v{a}" for a in node.args]
        if node.op == "constant":
            text = json.dumps(node.payload)
        elif node.op in ("column", "parameter"):
            text = f"{'x' if node.op == 'column' else 'p'}[{json.dumps(node.payload)}]"
        elif node.op in INFIX:
            text = f" {INFIX[node.op]} ".join(names)
        elif node.op in CALLS:
            text = f"Math.{CALLS[node.op]}({', '.join(names)})"
        else:
            text = TEMPLATES[node.op].format(*names)
        lines.append(f"const v{i} = {text};")
    return "\n".join([*lines, f"return v{result.index};", "}"])
