"""`limbeck doctor`: what is installed, what is missing, and what this machine can do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

from limbeck.cli.arguments import JsonOption, emit

MEMBERS = {
    "core": ("numpy", "scipy", "narwhals", "polars", "pydantic", "typer", "rich", "plotly", "jinja2", "pyyaml"),
    "distill": ("torch", "safetensors", "accelerate"),
    "lm": ("transformers", "tokenizers", "datasets", "peft", "rapidfuzz"),
    "endpoint": ("openai",),
    "vision": ("scikit-learn", "pillow", "onnxruntime"),
    "diffusion": ("diffusers", "onnxscript"),
    "graphs": ("torch_geometric", "mlxtend"),
    "atoms": ("ase", "vesin", "tblite"),
    "tracking": ("mlflow-skinny", "tensorboard"),
    "cluster": ("ray",),
    "fast": ("numba",),
}
"""Packages of each extra that this version uses."""


def doctor(as_json: JsonOption = False) -> None:
    """Show versions, extras and the device.

    Example: limbeck doctor
    """
    from limbeck import __version__

    extras: dict[str, dict[str, str | None]] = {}
    for extra, packages in MEMBERS.items():
        extras[extra] = {package: _version(package) for package in packages}
    missing = [extra for extra, found in extras.items() if None in found.values()]
    device = _device() if extras["distill"]["torch"] else "unknown without torch"
    version, cores = sys.version.split()[0], os.cpu_count()
    record: dict[str, Any] = {
        "limbeck": __version__,
        "python": version,
        "platform": platform.platform(),
        "cores": cores,
    }
    record |= {"device": device, "extras": extras, "missing": missing}
    lines = [f"limbeck {__version__} · Python {version} · {cores} cores · device: {device}", ""]
    for extra, found in extras.items():
        state = "complete" if extra not in missing else f"pip install 'limbeck[{extra}]'"
        lines.append(f"  {extra:9} {state}")
        lines += [f"    {package:14} {version or 'missing'}" for package, version in found.items()]
    emit(as_json, record, "\n".join(lines))


def extra_of(module: str) -> str | None:
    """Return the extra that brings a module, None if none does.

    Example:
        >>> extra_of("sklearn.datasets"), extra_of("torch"), extra_of("limbeck.missing")
        ('vision', 'distill', None)
    """
    package = {"sklearn": "scikit-learn", "PIL": "pillow", "mlflow": "mlflow-skinny"}.get(
        module.split(".")[0], module.split(".")[0]
    )
    return next((extra for extra, packages in MEMBERS.items() if package in packages and extra != "core"), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return "mps" if torch.backends.mps.is_available() else "cpu"
