"""diffusers' folders as teachers: x0 is what diffusers' own scheduler says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from limbeck.diffusion.denoisers import Preconditioned
from limbeck.diffusion.folders import load_model, save_model
from limbeck.diffusion.pretrained import OTHERWISE, from_diffusers
from limbeck.errors import ConfigError

diffusers = pytest.importorskip("diffusers")


def lively(model: nn.Module) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in model.parameters():
            one.copy_(0.15 * torch.randn(one.shape, generator=generator))
    return model.eval()


def unet(**more: Any) -> Any:
    blocks = {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "block_out_channels": [8]}
    sizes = {"sample_size": 4, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
    return lively(diffusers.UNet2DModel(**sizes | blocks | {"add_attention": False} | more))


@pytest.fixture(scope="module")
def network() -> Any:
    return unet(out_channels=2)  # the second channel is a variance, which is left out


@pytest.fixture(scope="module")
def transformer() -> Any:
    sizes = {"in_channels": 2, "out_channels": 4, "num_layers": 1, "norm_num_groups": 4, "sample_size": 4}
    heads = {"num_attention_heads": 2, "attention_head_dim": 8, "num_embeds_ada_norm": 5}
    return lively(diffusers.DiTTransformer2DModel(**sizes | heads))


def write(model: Any, scheduler: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    scheduler.save_pretrained(folder)
    return folder


@torch.no_grad()
def both(model: Any, scheduler: Any, folder: Path, cond: torch.Tensor | None = None) -> None:
    """Compare one call of the teacher with one step of the scheduler, at a noisy and a clean time."""
    saved = from_diffusers(write(model, scheduler, folder))
    assert saved.shape == [model.config.in_channels, 4, 4]
    told = {} if cond is None else {"class_labels": cond}
    for index in (1, 7):
        scheduler.set_timesteps(10)
        t = scheduler.timesteps[index]
        abar = scheduler.alphas_cumprod[int(t)] if hasattr(scheduler, "alphas_cumprod") else None
        level = float(scheduler.sigmas[index] if abar is None else ((1 - abar) / abar) ** 0.5)
        flow = type(scheduler).__name__.startswith("FlowMatch")
        sigma, scale = (
            (level / (1 - level), 1 - level) if flow else (level, 1.0 if abar is None else float(abar) ** 0.5)
        )
        x = torch.randn(3, *saved.shape, generator=torch.Generator().manual_seed(1)) * (sigma**2 + 0.25) ** 0.5
        euler = "Euler" in type(scheduler).__name__ and not flow  # its pictures are x0 + sigma eps
        theirs = x if euler else scale * x
        seen = scheduler.scale_model_input(theirs, t) if hasattr(scheduler, "scale_model_input") else theirs
        said = model(seen, t.expand(3), **told).sample[:, : saved.shape[0]]
        if flow:
            expected = scheduler.step(said, t, theirs).prev_sample  # one step on; from there to noise 0:
            expected = expected - float(scheduler.sigmas[index + 1]) * said
        else:
            expected = scheduler.step(said, t, theirs, generator=torch.Generator()).pred_original_sample
        assert expected.std() > 0.01
        torch.testing.assert_close(saved.model(x, torch.full((3,), sigma), cond), expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("DDPMScheduler", "epsilon"),
        ("DDPMScheduler", "sample"),
        ("DDIMScheduler", "v_prediction"),
        ("EulerDiscreteScheduler", "epsilon"),
        ("EulerDiscreteScheduler", "v_prediction"),
    ],
)
def test_discrete_times(name: str, kind: str, network: Any, tmp_path: Path) -> None:
    more = {"timestep_spacing": "leading"} if "Euler" in name else {"clip_sample": False}
    both(network, getattr(diffusers, name)(prediction_type=kind, beta_schedule="scaled_linear", **more), tmp_path)


def test_zero_terminal_snr_leaves_the_last_time_out(network: Any, tmp_path: Path) -> None:
    how = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "clip_sample": False}
    both(network, diffusers.DDIMScheduler(**how), tmp_path)
    assert from_diffusers(tmp_path).model.schedule.largest == 998


def test_edm_and_flow(network: Any, tmp_path: Path) -> None:
    both(network, diffusers.EDMEulerScheduler(sigma_data=0.7), tmp_path / "edm")
    assert from_diffusers(tmp_path / "edm").data_std == 0.7
    both(network, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), tmp_path / "flow")


def test_transformers_with_classes_and_no_class(transformer: Any, tmp_path: Path) -> None:
    cond = torch.tensor([0, 4, 5])
    both(transformer, diffusers.DDPMScheduler(clip_sample=False), tmp_path, cond)
    saved, x = from_diffusers(tmp_path), torch.zeros(1, 2, 4, 4)
    assert saved.classes == ("0", "1", "2", "3", "4")
    free = saved.model(x, torch.ones(1))
    assert torch.equal(free, saved.model(x, torch.ones(1), torch.tensor([5])))
    assert not torch.equal(free, saved.model(x, torch.ones(1), torch.tensor([4])))
    again = load_model(save_model(saved.model, tmp_path / "own", shape=saved.shape, classes=saved.classes))
    assert torch.equal(free, again.model(x, torch.ones(1)))


def test_pipelines_and_bare_models_give_the_same_teacher(tmp_path: Path) -> None:
    model = unet(num_class_embeds=4)
    diffusers.DDPMPipeline(model, diffusers.DDPMScheduler(num_train_timesteps=50)).save_pretrained(tmp_path)
    whole, bare = from_diffusers(tmp_path), from_diffusers(tmp_path / "unet", classes=3)
    x, cond = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 3])
    assert torch.equal(whole.model(x, x[:, 0, 0, 0], cond), bare.model(x, x[:, 0, 0, 0], cond))
    assert torch.equal(bare.model(x, x[:, 0, 0, 0]), bare.model(x, x[:, 0, 0, 0], torch.tensor([3, 3])))
    assert (len(whole.classes), len(bare.classes), whole.model.schedule.largest) == (4, 3, 49)


def test_a_consistency_model_is_the_identity_at_its_smallest_noise(network: Any, tmp_path: Path) -> None:
    scheduler = diffusers.CMStochasticIterativeScheduler(sigma_min=0.01, sigma_data=0.6)
    saved, x = from_diffusers(write(network, scheduler, tmp_path)), torch.randn(1, 1, 4, 4)
    assert isinstance(saved.model, Preconditioned) and saved.data_std == 0.6
    torch.testing.assert_close(saved.model(x, torch.tensor([0.01])), x)


def edit(path: Path, **new: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | new))


def test_what_is_not_known_is_refused(network: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder that diffusers wrote"):
        from_diffusers(tmp_path)
    config, scheduler = tmp_path / "config.json", tmp_path / "scheduler_config.json"
    network.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"not a folder .*scheduler_config.json"):
        from_diffusers(tmp_path)
    for new in ({"_class_name": "HeunScheduler"}, *({key: value} for key, value in OTHERWISE.items())):
        diffusers.DDPMScheduler().save_pretrained(tmp_path)
        edit(scheduler, **new)
        with pytest.raises(ConfigError, match=f"{next(iter(new.values()))}.*not known. Known are .*DDIMScheduler"):
            from_diffusers(tmp_path)
    for made in (diffusers.EDMEulerScheduler(prediction_type="v_prediction"), diffusers.DDPMScheduler()):
        made.save_pretrained(tmp_path)
        edit(scheduler, prediction_type="v_prediction" if "EDM" in type(made).__name__ else "flow_prediction")
        with pytest.raises(ConfigError, match=r"'prediction_type': .* not known"):
            from_diffusers(tmp_path)
    diffusers.DDPMScheduler().save_pretrained(tmp_path)
    edit(config, _class_name="UNet2DConditionModel")
    with pytest.raises(ConfigError, match="holds UNet2DConditionModel with DDPMScheduler"):
        from_diffusers(tmp_path)


def test_weights_that_do_not_fit_are_refused(network: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write(network, diffusers.DDPMScheduler(), tmp_path)
    weights, own = tmp_path / "diffusion_pytorch_model.safetensors", dict(network.state_dict())
    save_file({key: one for key, one in own.items() if key != "conv_in.bias"} | {"x": torch.zeros(1)}, weights)
    with pytest.raises(ConfigError, match=r"missing_keys: conv_in.bias; unexpected_keys: x"):
        from_diffusers(tmp_path)
    save_file(own | {"conv_in.bias": torch.zeros(3)}, weights)
    with pytest.raises(ConfigError, match=r"conv_in.bias"):
        from_diffusers(tmp_path)
    assert "conv_in.bias" in load_file(weights)
    torch.save(own, tmp_path / "diffusion_pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ConfigError, match="not a folder that diffusers wrote with safetensors"):
        from_diffusers(tmp_path)
