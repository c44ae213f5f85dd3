"""The solver once more, compiled by numba for very many fits: one kernel that interprets the program of any model.

The algorithm of `solver`, one row after the other, on data that stay in the first-level cache and without the points of
weight zero. A new model costs no compilation: its program is a table of numbers. The first use on a machine compiles
the kernel (some ten seconds) and keeps it in numba's cache. Needs the extra `fast`; `minimise` imports it only where it
pays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from limbeck.fitting.expression import PARAMETER
from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem
from limbeck.fitting.solver import CONVERGED, EXHAUSTED, NOT_FINITE, STALLED, Optima
from limbeck.fitting.tape import Program, reachable

# numba's cache follows the time-stamp of this file alone: the numbers of the operations are therefore given here.
NEGATIVE, EXP, LOG, LOG1P, EXPM1, SQRT, SQUARE, TANH, ABSOLUTE, SIGN = range(10)
ADD, SUBTRACT, MULTIPLY, DIVIDE, LOGADDEXP, MAXIMUM, MINIMUM, GREATER_EQUAL, POSITIVE = range(10, 19)
LOOSE = {"reassoc", "contract", "nsz", "arcp"}
"""What the compiler may do to sums; infinities and NaN keep their meaning."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
exact: Decorator = njit(error_model="numpy", fastmath={"contract"})
kernel: Decorator = njit(error_model="numpy", fastmath=LOOSE, cache=True, nogil=True)


@exact
def _exp(x: Any) -> Any:
    """e^x = 2^k e^r, |r| ≤ ln 2 / 2, by its series: without branches, so that a loop over it is vectorised."""
    k = np.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    y = (((r / 6227020800 + 1 / 479001600) * r + 1 / 39916800) * r + 1 / 3628800) * r + 1 / 362880
    y = (((y * r + 1 / 40320) * r + 1 / 5040) * r + 1 / 720) * r + 1 / 120
    y = ((((y * r + 1 / 24) * r + 1 / 6) * r + 0.5) * r + 1.0) * r + 1.0
    # Adding 1.5·2^52 leaves the integer k in the low bits; shifted by 52 it becomes the exponent of 2^k.
    y *= np.int64((np.float64(k + 6755399441055744.0).view(np.int64) + 1023) << 52).view(np.float64)
    y = y if x > -708.0 else 0.0
    return y if x < 709.0 else x + np.inf


@exact
def _log(x: Any) -> Any:
    """ln x = e ln 2 + 2 artanh s, s = (m − 1)/(m + 1), m in [√½, √2); NaN where x is not a positive normal number."""
    bits = np.float64(x).view(np.int64) - 4604544271217802189  # the bits of √½
    e = np.int64(((bits >> 52) + 2048) | 4841369599423283200).view(np.float64) - (2.0**52 + 2048.0)
    m = np.int64((bits & 4503599627370495) + 4604544271217802189).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    t = s * s
    y = (((t / 23 + 1 / 21) * t + 1 / 19) * t + 1 / 17) * t + 1 / 15
    y = ((((y * t + 1 / 13) * t + 1 / 11) * t + 1 / 9) * t + 1 / 7) * t + 1 / 5
    y = 2.0 * s + 2.0 * s * t * (y * t + 1 / 3)
    y = e * 0.6931471803691238 + (y + e * 1.9082149292705877e-10)
    return y if (x >= 2.3e-308) and (x < np.inf) else np.nan


@exact
def _rare(op: Any, a: Any, b: Any) -> Any:
    """One number through an operation that few formulas use."""
    if op == LOGADDEXP:
        return np.logaddexp(a, b)
    if op in (LOG1P, EXPM1):
        return np.log1p(a) if op == LOG1P else np.expm1(a)
    if op in (SQRT, TANH):
        return np.sqrt(a) if op == SQRT else np.tanh(a)
    if op == POSITIVE:
        return a
    if op in (ABSOLUTE, SIGN):
        return abs(a) if op == ABSOLUTE else np.sign(a)
    if op in (MAXIMUM, MINIMUM):
        return max(a, b) if op == MAXIMUM else min(a, b)
    return 1.0 if a >= b else 0.0


@kernel
def _apply(op: Any, x: Any, a: Any, b: Any, out: Any, n: Any) -> None:
    """x[out] = op(x[a], x[b])` on the first n numbers of these rows."""
    if op == ADD:
        for i in range(n):
            x[out, i] = x[a, i] + x[b, i]
    elif op == SUBTRACT:
        for i in range(n):
            x[out, i] = x[a, i] - x[b, i]
    elif op in (MULTIPLY, SQUARE):
        for i in range(n):
            x[out, i] = x[a, i] * x[b, i]
    elif op == DIVIDE:
        for i in range(n):
            x[out, i] = x[a, i] / x[b, i]
    elif op == NEGATIVE:
        for i in range(n):
            x[out, i] = -x[a, i]
    elif op == EXP:
        for i in range(n):
            x[out, i] = _exp(x[a, i])
    elif op == LOG:
        for i in range(n):
            x[out, i] = _log(x[a, i])
    else:
        for i in range(n):
            x[out, i] = _rare(op, x[a, i], x[b, i])


@kernel
def _quadratic(registers: Any, table: Any, z: Any, space: Any, data: Any, loss: Any, model: Any) -> Any:
    """Run the program and form the sums of `Problem.quadratic` in `model`; return the objective."""
    (ops, leaves, outputs), (transform, offset, mean, precision) = table, space
    (target, weights, n), (delta, overestimate), (gradient, majoriser, newton, half) = data, loss, model
    p = z.size
    theta = offset.copy()
    for j in range(p):
        for k in range(p):
            theta[j] += transform[j, k] * z[k]
        registers[leaves[j], :n] = theta[j]
    for s in range(len(ops)):
        op, a, b, out, row = ops[s]
        width = 1 if row else n
        _apply(op, registers, a, b, out, width)
        registers[out, width:n] = registers[out, 0]
    f, value, q, inside, pull = 0.0, registers[outputs[p]], registers[-3], registers[-2], registers[-1]
    for i in range(n):
        r = value[i] - target[i]
        w = weights[i] * (overestimate if r > 0 else 1.0)
        share = delta / abs(r) if abs(r) > delta else 1.0
        q[i], inside[i], pull[i] = w * share, (w if abs(r) <= delta else 0.0), w * share * r
        f += w * share * r * (r - 0.5 * share * r)
    for j in range(p):
        one, away = outputs[j], theta[j] - mean[j]
        f += 0.5 * precision[j] * away**2
        slope = precision[j] * away
        for i in range(n):
            slope += registers[one, i] * pull[i]
        half[0, j] = slope
        for k in range(j + 1):
            other = outputs[k]
            bound = curve = precision[j] if j == k else 0.0
            for i in range(n):
                product = registers[one, i] * registers[other, i]
                bound += product * q[i]
                curve += product * inside[i]
            majoriser[j, k] = majoriser[k, j] = bound
            newton[j, k] = newton[k, j] = curve
    gradient[:] = 0.0
    for j in range(p):
        for k in range(p):
            gradient[j] += transform[k, j] * half[0, k]
    for matrix in (majoriser, newton):
        _product(matrix, transform, half)
        _product(transform.T, half, matrix)
    return f


@kernel
def _product(a: Any, b: Any, out: Any) -> None:
    """`out = a b` for small square matrices."""
    for j in range(len(a)):
        for k in range(len(a)):
            out[j, k] = 0.0
            for i in range(len(a)):
                out[j, k] += a[j, i] * b[i, k]


@kernel
def _step(z: Any, lower: Any, upper: Any, mu: Any, extra: Any, model: Any, step: Any) -> Any:
    """Fill in the damped Newton step by elimination; return the fall that it predicts."""
    gradient, majoriser, newton, hessian = model
    p, largest = z.size, 0.0
    for j in range(p):
        largest, step[j] = max(largest, majoriser[j, j]), -gradient[j]
        for k in range(p):
            hessian[j, k] = newton[j, k] + mu * majoriser[j, k]
    for j in range(p):
        hessian[j, j] += (1e-9 + extra * mu) * max(majoriser[j, j], 1e-8 * largest) + 1e-300
        if (z[j] <= lower[j] and gradient[j] > 0) or (z[j] >= upper[j] and gradient[j] < 0):
            hessian[j] = hessian[:, j] = 0.0
            hessian[j, j], step[j] = 1.0, 0.0
    for j in range(p):
        for k in range(j + 1, p):
            ratio = hessian[k, j] / hessian[j, j]
            step[k] -= ratio * step[j]
            for i in range(j + 1, p):
                hessian[k, i] -= ratio * hessian[j, i]
    fall = 0.0
    for j in range(p - 1, -1, -1):
        for k in range(j + 1, p):
            step[j] -= hessian[j, k] * step[k]
        step[j] /= hessian[j, j]
        fall -= 0.5 * step[j] * gradient[j]
    return fall


@kernel
def _model(p: Any) -> Any:
    """Room for a gradient, the two parts of a Hessian and a matrix to work with."""
    return np.zeros(p), np.zeros((p, p)), np.zeros((p, p)), np.zeros((p, p))


@kernel
def _finite(f: Any, model: Any) -> Any:
    """Whether objective, gradient and majoriser are finite."""
    good = np.isfinite(f)
    for j in range(len(model[0])):
        good = good and np.isfinite(model[0][j]) and np.isfinite(model[1][j, j])
    return good


@kernel
def _fits(table: Any, held: Any, space: Any, box: Any, data: Any, loss: Any, z: Any, rows: Any, control: Any) -> Any:
    """Minimise from every row of z, in place; return objectives, status and iterations."""
    (places, columns, size), (transform, offset, means, precision), (lower, upper) = held, space, box
    (targets, weights, noise), (damping, extra, tolerance, iterations) = data, control
    (total, p), n = z.shape, targets.shape[1]
    objective, status, spent = np.full(total, np.inf), np.full(total, EXHAUSTED), np.zeros(total, np.int64)
    registers, target, weight = np.zeros((size + 4, n)), np.empty(n), np.empty(n)
    here, there, step, trial = _model(p), _model(p), np.empty(p), np.empty(p)
    for b in range(total):
        # Tables of one row are shared by all fits.
        w, y, mean = (weights[rows[b] % len(weights)], targets[rows[b] % len(targets)], means[rows[b] % len(means)])
        kept = np.flatnonzero(w)
        m = len(kept)
        weight[:m], target[:m] = w[kept], y[kept]
        for k in range(len(places)):
            registers[places[k], :m] = columns[k][kept]
        where, points, mu = (transform, offset, mean, precision), (target, weight, m), damping
        f = _quadratic(registers, table, z[b], where, points, loss, here)
        if not _finite(f, here):
            status[b] = NOT_FINITE
            continue
        for _ in range(iterations):
            fall = _step(z[b], lower, upper, mu, extra, here, step)
            if mu > 1e6 or (fall <= tolerance * f + noise[b] and mu <= 1.0):
                status[b] = STALLED if mu > 1e6 else CONVERGED
                break
            longest = max(1.0, np.abs(step).max())
            for j in range(p):
                trial[j] = min(max(z[b, j] + step[j] / longest, lower[j]), upper[j])
            below = _quadratic(registers, table, trial, where, points, loss, there)
            spent[b] += 1
            if below < f and _finite(below, there):
                f, here, there, mu = below, there, here, max(mu / 4, 1e-6)
                z[b] = trial
            else:
                mu *= 5
        objective[b] = f
    return objective, status, spent


def minimise(
    problem: Problem, starts: Array, rows: NDArray[np.int_], control: tuple[float, float, float, int]
) -> Optima:
    """Do what `solver.minimise` does; `control` holds damping, extra, tolerance and iterations."""
    table, held = _pack(problem.program)
    z = np.ascontiguousarray(np.clip(starts, problem.lower, problem.upper), float)
    p, n, loss = z.shape[1], problem.program.n, problem.loss
    space = (problem.transform, problem.offset, problem.prior_mean.reshape(-1, p), problem.prior_precision)
    tables = [np.ascontiguousarray(values.reshape(-1, n), float) for values in (problem.target, problem.weights)]
    data = (*tables, problem.rounding(rows))
    box = (problem.lower, problem.upper)
    ends = _fits(table, held, space, box, data, (float(loss.delta), float(loss.overestimate)), z, rows, control)
    return Optima(z, *ends)


def _pack(program: Program) -> tuple[Any, Any]:
    """A program as numbers: (operations, leaves, outputs) and (registers that hold data, the data, how many registers).

    An operation is (code, first and last argument, result, whether it depends on the parameters alone).
    """
    tape, graph = program.tape, program.tape.graph
    outputs = (*tape.jacobian, tape.value)
    register = {node: place for place, node in enumerate(reachable(graph, outputs))}
    leaves = np.full(len(tape.free), len(register))  # a parameter without effect fills a register that nothing reads
    ops = []
    for node, place in register.items():
        entry = graph.nodes[node]
        if entry.op == "parameter":
            leaves[tape.free.index(str(entry.payload))] = place
        elif node not in program.fixed:
            arguments = register[entry.args[0]], register[entry.args[-1]]
            ops.append((globals()[entry.op.upper()], *arguments, place, int(graph.stage[node] == PARAMETER)))
    held = [node for node in register if node in program.fixed]
    columns = np.array([np.broadcast_to(program.fixed[node], (program.n,)) for node in held], float)
    table = (np.array(ops, int).reshape(-1, 5), leaves, np.array([register[node] for node in outputs]))
    return table, (np.array([register[n] for n in held], int), columns.reshape(-1, program.n), len(register))
