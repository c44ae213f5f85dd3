"""Features: what modules inside a model give, named by their paths, and adapters between a student's and a teacher's.

Nothing is attached to a model for longer than a block lasts, and adapters stand beside the student: a student that is
saved is the plain one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Size, Tensor, nn

from limbeck.errors import ConfigError, nearest


@contextmanager
def captured(model: nn.Module, paths: Collection[str], *, steady: bool = False) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of modules while the block lasts, each of its latest call.

    They are copies that gradients pass, so that an activation in place behind the module does not change them.

    Args:
        model: whose modules are heard.
        paths: of modules, as in `model.named_modules()`.
        steady: refuse a module that is called again with another shape.

    Raises:
        ConfigError: a path without a module, one whose output is no tensor, or is not steady.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
        >>> with captured(model, ["0"]) as seen:
        ...     output = model(torch.ones(1, 2))
        >>> bool((seen["0"].relu() == output).all())
        True
    """
    modules, seen = dict(model.named_modules()), dict[str, Tensor]()

    def keep(path: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise ConfigError(f'"{path}" gives a {type(output).__name__}, no tensor: name a module inside it.')
        if steady and path in seen and seen[path].shape != output.shape:
            shapes = [list(seen[path].shape), list(output.shape)]
            raise ConfigError(f'"{path}" is called with several shapes {shapes}: name a module that has one.')
        seen[path] = output.clone()

    with ExitStack() as stack:
        for path in paths:
            if path not in modules:
                raise ConfigError(f'the model has no module "{path}".{nearest(path, modules)}')
            stack.enter_context(modules[path].register_forward_hook(partial(keep, path)))
        yield seen


def adapters(student: nn.Module, teacher: nn.Module, pairs: Mapping[str, str], *inputs: Any) -> nn.ModuleList:
    """Return one module for each pair of paths that brings the student's feature to the shape of the teacher's.

    Both models run once on `inputs`, in evaluation mode and without gradients. Maps [N, C, H, W] go through a
    convolution, batch normalisation and ReLU: stride 2 for maps twice as large, transposed for maps half as large, else
    a kernel of `1 + H - H_teacher`; others [..., d] through a linear layer. Train the adapters with the student.

    Args:
        student, teacher: models of the same inputs.
        pairs: the teacher's path of each of the student's.
        inputs: a small batch.

    Raises:
        ConfigError: a path that cannot be captured or is never called; shapes that no adapter joins.

    Example:
        >>> adapters(nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 5)), {"0": "0"}, torch.ones(1, 2))[0]
        Linear(in_features=3, out_features=5, bias=True)

    Source: Adriana Romero et al., FitNets: Hints for Thin Deep Nets (2015), arXiv 1412.6550; the shapes of the
        convolutions as in mdistiller.
    """
    ours, theirs = (shapes(one, names, inputs) for one, names in ((student, pairs), (teacher, pairs.values())))
    return nn.ModuleList(_adapter(*shapes) for shapes in zip(ours, theirs, strict=True))


def shapes(model: nn.Module, paths: Collection[str], inputs: tuple[Any, ...]) -> list[Size]:
    """Shapes of the features at paths, from one run in evaluation mode and without gradients."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad(), captured(model.eval(), paths, steady=True) as seen:
            model(*inputs)
    finally:
        for module, mode in modes:
            module.training = mode
    if idle := [path for path in paths if path not in seen]:
        raise ConfigError(f"the modules {', '.join(idle)} are never called: name others.")
    return [seen[path].shape for path in paths]


def _adapter(student: Size, teacher: Size) -> nn.Module:
    if len(student) == len(teacher) == 4:
        (ours, *size), (theirs, *wanted) = student[1:], teacher[1:]
        rest = nn.BatchNorm2d(theirs), nn.ReLU()
        if size == [2 * one for one in wanted]:
            return nn.Sequential(nn.Conv2d(ours, theirs, 3, stride=2, padding=1), *rest)
        if wanted == [2 * one for one in size]:
            return nn.Sequential(nn.ConvTranspose2d(ours, theirs, 4, stride=2, padding=1), *rest)
        kernel = 1 + size[0] - wanted[0], 1 + size[1] - wanted[1]
        if min(kernel) > 0:
            return nn.Sequential(nn.Conv2d(ours, theirs, kernel), *rest)
    elif student[:-1] == teacher[:-1]:
        return nn.Linear(student[-1], teacher[-1])
    raise ConfigError(f"no adapter brings features {list(student)} to {list(teacher)}: pair other modules.")
