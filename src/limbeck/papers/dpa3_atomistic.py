"""A Graph Neural Network for the Era of Large Atomistic Models (DPA3): deeper is better, and angles help.

Crystals of copper and aluminium, eight atoms, labelled by the EMT of ASE; potentials of one, two and three layers with
angles, two layers without. The last is also trained on what three layers say: of the same frames, and of frames that
their own dynamics visit. Cut-offs, widths, frames and the loss are the specification's; 600 steps at a rate of 1e-2 in
place of 3000 at 5e-3 are what fits. One layer has no use for angles, which reach atoms through edges.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

DPA3 = Source(
    "A Graph Neural Network for the Era of Large Atomistic Models", "Zhang, Peng, Cai, Li, et al.", 2025, "2506.01686",
)  # fmt: skip
LAYERS = (1, 2, 3)
SIZES: dict[str, Any] = {
    "nodes": 24, "edges": 16, "hidden": (48, 48), "cutoff": 5.0, "smooth": 4.4, "angle_cutoff": 3.5,
    "angle_smooth": 3.0, "edge_norm": 8.0, "angle_norm": 3.0, "threshold": 10.0,
}  # fmt: skip
NAMES = ("1 layer", "2 layers", "3 layers", "2 without angles", "the same, distilled")


class Dpa3(Paper):
    """Depth, angles, and a student without them."""

    source = DPA3
    claim = "A deeper line-graph network has lower errors, and so has one with angles."
    metric = "error of forces, one layer minus three"
    unit = "meV/Å"
    baseline = "one layer"
    extras = ("atoms",)
    seeds = 3

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return errors of forces and energies of `NAMES`, of zero forces, of elements alone, and parameters."""
        from limbeck.atoms import Dynamics, Prefactors, Sizes, build, read_frames, told, train_potential, visited
        from limbeck.distill import Regime

        count, held, steps = (16, 8, 12) if quick else (256, 64, 600)
        frames = read_frames("emt:CuAl", count + held, seed=seed)
        learn, test = frames[:count], frames[count:]
        regime = Regime(steps, 4, 1e-2, "adamw", 1e-3, clip=5.0)
        how: dict[str, Any] = {"regime": regime, "prefactors": Prefactors((20.0, 200.0), (100.0, 100.0), (0.0, 0.0))}

        def trained(layers: int, angles: int, data: Sequence[Any]) -> Any:
            potential = build(Sizes(("Cu", "Al"), layers, angles=angles, **SIZES), seed)
            return train_potential(potential, data, test, seed=seed, progress=False, **how)

        found = [trained(layers, 8 if layers > 1 else 0, learn) for layers in LAYERS]
        teacher, moves = found[-1].potential, Dynamics(starts=2 if quick else 8, temperatures=(300, 600), steps=100)
        if not quick:  # in so few steps a teacher learns no dynamics
            learn_too = [*told(teacher, learn), *visited(teacher, learn, moves, seed=seed)]
        else:
            learn_too = told(teacher, learn)
        found += [trained(2, 0, learn), trained(2, 0, learn_too)]
        judged = [one.judged for one in found]
        return {
            "forces": [one.force_mae for one in judged], "energies": [one.energy_rmse for one in judged],
            "zero": judged[0].force_mean, "elements": judged[0].composition_rmse,
            "params": [one.potential.params for one in found], "visited": len(learn_too) - count,
        }  # fmt: skip

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare depths, angles, and the student with and without a teacher."""
        forces, energies, zero, elements, seen = stacked(measured, "forces", "energies", "zero", "elements", "visited")
        f, e = forces.mean(0), energies.mean(0)
        change = forces[:, 4] - forces[:, 3]
        error = change.std(ddof=1) / len(change) ** 0.5 if len(change) > 1 else np.nan
        params = measured[0]["params"]
        title = (
            f"Three layers have {f[2] / f[0]:.0%} of the force error of one; angles take {1 - f[1] / f[3]:.0%} off two"
        )
        return Outcome(
            effects=forces[:, 0] - forces[:, 2],
            checks={
                "mean force errors fall from one layer to two to three": (np.diff(f[:3]) < 0).all(),
                "two layers: angles lower the mean force error": f[1] < f[3],
                "two layers: force error below 25 % of the mean force": f[1] < 0.25 * zero.mean(),
                "two layers: energy error below half of that of elements alone": e[1] < 0.5 * elements.mean(),
            },
            details={
                "force error (meV/Å)": dict(zip(NAMES, f, strict=True)),
                "energy RMSE (meV/atom)": dict(zip(NAMES, e, strict=True)), "forces by seed": forces,
                "zero forces (meV/Å)": zero.mean(), "elements alone (meV/atom)": elements.mean(),
                "params": dict(zip(NAMES, params, strict=True)), "frames visited": seen.mean(),
            },
            notes=[
                f"taught by three layers with angles, two without err by {f[4]:.0f} meV/Å, by true labels "
                f"{f[3]:.0f} (difference {change.mean():+.1f} ± {error:.1f}; more than 0: distilling costs here)"
            ],
            figure=Figure(
                title, "parameters", "force error, meV/Å",
                [Series.measured("with angles", params[:3], forces[:, :3]),
                 Series.measured("without angles", params[3:4], forces[:, 3:4]),
                 Series.measured("without, distilled", params[4:], forces[:, 4:])],
            ),
        )  # fmt: skip
