from typing import Any

import numpy as np
import pytest
import torch

from limbeck.atoms.descriptor import Descriptor, Sizes
from limbeck.atoms.geometry import graph_of
from limbeck.atoms.switches import exponential_switch, quintic_switch


def sizes_of(config: dict[str, Any]) -> Sizes:
    factor = config["sel_reduce_factor"]
    assert config["a_compress_rate"] == 1 and config["a_compress_use_split"] and config["use_dynamic_sel"]
    return Sizes(
        tuple("ABCDEF"[: config["ntypes"]]), config["nlayers"], config["n_dim"], config["e_dim"], config["a_dim"],
        config["axis_neuron"], config["e_rcut"], config["e_rcut_smth"], config["a_rcut"], config["a_rcut_smth"],
        config["e_sel"] / factor, config["a_sel"] / factor, float(config["activation"].partition(":")[2]),
    )  # fmt: skip


def filled(sizes: Sizes, weights: dict[str, Any]) -> Descriptor:
    """The descriptor with the reference's weights, which multiply from the right."""
    made = Descriptor(sizes).double()
    tensors = {
        "kinds": weights["type_embedding"], "edge.weight": np.transpose(weights["edge_embd_w"]),
        "edge.bias": weights["edge_embd_b"], "angle.weight": np.transpose(weights["angle_embd_w"]),
    }  # fmt: skip
    for k, layer in enumerate(weights["layers"]):
        rows = {
            "own": ["node_self_mlp"], "symmetric": ["node_sym_linear"], "heard": ["edge_angle_linear2"],
            "around": ["node_edge_linear", "edge_self_linear"], "angle": ["edge_angle_linear1", "angle_self_linear"],
        }  # fmt: skip
        for name, parts in rows.items():
            weight = np.concatenate([layer[part]["w"] for part in parts], 1)
            tensors[f"layers.{k}.{name}.weight"] = weight.T
            tensors[f"layers.{k}.{name}.bias"] = np.concatenate([layer[part]["b"] for part in parts])
        steps = [*layer["n_residual"], layer["e_residual"][0]]
        tensors |= {f"layers.{k}.steps.{m}": one for m, one in enumerate(steps)}
        turned = [layer["e_residual"][1], layer["a_residual"][0]]
        tensors |= {f"layers.{k}.angle_steps.{m}": one for m, one in enumerate(turned)}
    made.load_state_dict({name: torch.as_tensor(np.array(one)) for name, one in tensors.items()})
    return made


@pytest.mark.parity
def test_descriptors_and_switches_agree_with_the_reference(parity, walk_sections) -> None:
    def check(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            sizes, switch = sizes_of(case["config"]), case["switch"]
            graph = graph_of(case["coord"], case["atype"], np.zeros((3, 3)), [False] * 3, *sizes.reach)
            with torch.no_grad():
                found = filled(sizes, case["weights"])(graph, graph.vectors())
            np.testing.assert_allclose(found.numpy(), case["descriptor"], rtol=0, atol=1e-12)
            r, names = torch.tensor(switch["r"]).double(), set(switch) - {"r"}
            kinds = {"exp_sw_rs5p3_rc6": exponential_switch, "quintic_rs5p3_rc6": quintic_switch}
            assert names == set(kinds)
            for name, kind in kinds.items():
                np.testing.assert_allclose(kind(r, 5.3, 6.0).numpy(), switch[name], rtol=0, atol=1e-12)

    walk_sections(parity("dpa3-atomistic"), {"cases": check}, ignore=["reference"])
