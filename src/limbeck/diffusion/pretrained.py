"""Folders that diffusers wrote, as teachers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.diffusion.denoisers import Preconditioned, Translated
from limbeck.diffusion.folders import MODELS, Saved
from limbeck.diffusion.networks import TIME_SCALE, Diffusers
from limbeck.diffusion.predictions import Kind
from limbeck.diffusion.schedules import DDPM, RectifiedFlow
from limbeck.errors import ConfigError

KINDS: dict[str, Kind] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
Wrap = Callable[[nn.Module, int, Any], nn.Module]


def _ddpm(model: nn.Module, classes: int, scheduler: Any) -> nn.Module:
    # a last one of 0 (zero terminal SNR) is pure noise: no finite noise level reaches it
    falling = [one for one in scheduler.alphas_cumprod.tolist() if one > 0]
    return Translated(Diffusers(model, 1.0, classes), DDPM(tuple(falling)), KINDS[scheduler.config.prediction_type])


def _edm(model: nn.Module, classes: int, scheduler: Any) -> nn.Module:
    return Preconditioned(Diffusers(model, 1.0, classes), scheduler.config.sigma_data)


def _consistency(model: nn.Module, classes: int, scheduler: Any) -> nn.Module:
    told = scheduler.config
    return Preconditioned(Diffusers(model, TIME_SCALE, classes), told.sigma_data, told.sigma_min)


def _flow(model: nn.Module, classes: int, scheduler: Any) -> nn.Module:
    # the network is told the noise level itself, after the shift: the shift only says where samplers stop
    return Translated(Diffusers(model, scheduler.config.num_train_timesteps, classes), RectifiedFlow(), "u")


SCHEDULERS: dict[str, Wrap] = {
    **dict.fromkeys(("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"), _ddpm),
    **dict.fromkeys(("EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"), _ddpm),
    **dict.fromkeys(("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"), _edm),
    "CMStochasticIterativeScheduler": _consistency,
    "FlowMatchEulerDiscreteScheduler": _flow,
}
OTHERWISE = {"timestep_type": "continuous", "invert_sigmas": True, "use_flow_sigmas": True}
"""Settings of these schedulers that stand for another model than the one that is built here."""


def from_diffusers(folder: Path | str, classes: int | None = None) -> Saved:
    """Read a model that diffusers wrote: a pipeline, or one network with its scheduler's settings beside it.

    Networks: `UNet2DModel`, `DiTTransformer2DModel`, from safetensors. Schedulers of `SCHEDULERS`; they say what the
    network predicts and at which times. diffusers' clipping of x0 is left out, and so is a variance that is predicted.

    Args:
        folder: with `model_index.json`; or `config.json` and `scheduler_config.json`, the latter here or in
            `../scheduler`.
        classes: that a U-Net was trained with, if the label after them is "no class"; by default all its labels are
            classes, and it cannot be guided.

    Raises:
        ConfigError: not such a folder, weights that are missing, another network or scheduler than the known ones.

    Example:
        >>> from_diffusers("ddpm-cifar10-32").shape  # doctest: +SKIP
        [3, 32, 32]

    Source: the formats of diffusers 0.35, von Platen et al., https://github.com/huggingface/diffusers.
    """
    import diffusers

    folder = Path(folder)
    parts = [folder / name for name in ("unet", "transformer") if (folder / name / "config.json").is_file()]
    network = parts[0] if (folder / "model_index.json").is_file() and parts else folder
    settings = [network / "scheduler_config.json", network.parent / "scheduler" / "scheduler_config.json"]
    try:
        about = json.loads((network / "config.json").read_text())
        told = json.loads(next((path for path in settings if path.is_file()), settings[0]).read_text())
        name, scheduler = about["_class_name"], told["_class_name"]
        strange = {key: value for key, value in OTHERWISE.items() if told.get(key) == value}
        kind = told.get("prediction_type", "epsilon")
        if kind not in (["epsilon"] if SCHEDULERS.get(scheduler) is _edm else KINDS):
            strange["prediction_type"] = kind
        if name not in MODELS or scheduler not in SCHEDULERS or strange:
            raise ConfigError(
                f"{folder} holds {name} with {scheduler}{f' and {strange}' if strange else ''}, which is not known. "
                f"Known are {', '.join(MODELS)} with {', '.join(SCHEDULERS)}"
            )
        model, found = getattr(diffusers, name).from_pretrained(
            network, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"{folder} is not a folder that diffusers wrote with safetensors, a network and a scheduler: {error}"
        ) from error
    lost = [f"{what}: {', '.join(keys[:3])}" for what, keys in found.items() if keys]
    if lost:
        raise ConfigError(f"the weights of {network} are not those of the network that it describes: {'; '.join(lost)}")
    if classes is None:
        classes = model.config.get("num_embeds_ada_norm") or model.config.get("num_class_embeds") or 0
    wrapped = SCHEDULERS[scheduler](model, classes, getattr(diffusers, scheduler).from_config(told))
    size = model.config.sample_size
    shape = [model.config.in_channels, *(size if isinstance(size, list | tuple) else (size, size))]
    return Saved.of(wrapped, shape, [str(one) for one in range(classes)])
