"""Who teaches: a network, an ONNX file, an array of answers, several of them, or what was kept of any.

A teacher is asked for the logits of a batch; who knows probabilities only gives their logarithms. The classes of a
teacher that names them are matched with those of the data.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from limbeck.distill import evaluating
from limbeck.distill.examples import Labelled
from limbeck.errors import ConfigError, TrainingError, nearest
from limbeck.files import write_bytes, write_json
from limbeck.vision.augmentation import Augmentation

TINY, AT_ONCE = 1e-8, 512


class Batch(NamedTuple):
    """Examples as all networks see them.

    Args:
        inputs: [n, ...], augmented.
        labels: [n], -1 where there is none.
        rows: their places in the whole data, [n].
        view: number of their augmentation.
    """

    inputs: Tensor
    labels: Tensor
    rows: Tensor
    view: int = 0


class Teacher(Protocol):
    """Gives the logits [n, C] of a batch."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return logits, or log-probabilities."""
        ...

    def describe(self) -> str:
        """What tells this teacher from another: the key of kept answers."""
        ...


def log_probabilities(p: Tensor) -> Tensor:
    """Logarithms of probabilities, no smaller than 1e-8: the logits of a teacher that gives no others.

    Raises:
        TrainingError: rows that are not probabilities.
    """
    if not (p.min() >= 0 and (p.sum(-1) - 1).abs().max() < 1e-3):
        raise TrainingError("these are not probabilities: rows must not be negative and sum to 1")
    return p.clamp(min=TINY).log()


def logits_of(said: Any) -> Tensor:
    """What a network said: logits, or an object that has them."""
    logits: Tensor = getattr(said, "logits", said)
    return logits


class Module:
    """A torch network of any kind, in evaluation mode while it is asked.

    Args:
        network: maps inputs [n, ...] to logits [n, C], or to an object that has `logits`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, batch: Batch) -> Tensor:
        """See `Teacher`."""
        with evaluating(self.network):
            return logits_of(self.network(batch.inputs))

    def describe(self) -> str:
        """The weights, hashed."""
        content = hashlib.sha256(repr(self.network).encode())
        for tensor in self.network.state_dict().values():
            content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return f"module {content.hexdigest()[:16]}"


class Onnx:
    """A classifier in an ONNX file; probabilities are known by their sums.

    Args:
        model: the file, or what is in it; it is run by ONNX Runtime and cannot run other code.
        name: of the output; the first by default.

    Raises:
        ConfigError: no such file, or not a model.
    """

    def __init__(self, model: Path | str | bytes, name: str | None = None) -> None:
        import onnxruntime

        if not isinstance(model, bytes) and not Path(model).is_file():
            raise ConfigError(f"{model} does not exist: give the path of an ONNX file")
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        self.path = "the ONNX model" if isinstance(model, bytes) else str(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises classes of its own, without a common one
            raise ConfigError(f"{self.path} is not an ONNX model that can be run ({error})") from error
        self.digest, self.given = hashlib.sha256(content).hexdigest()[:16], self.session.get_inputs()[0]
        outputs = [one.name for one in self.session.get_outputs()]
        self.name = name or outputs[0]
        if self.name not in outputs:
            raise ConfigError(f'{self.path} has no output "{self.name}".{nearest(self.name, outputs)}')

    def __call__(self, batch: Batch) -> Tensor:
        """See `Teacher`."""
        kind = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(double)": np.float64}
        given = batch.inputs.cpu().numpy().astype(kind.get(self.given.type, np.float32))
        try:
            said = torch.from_numpy(self.session.run([self.name], {self.given.name: given})[0])
        except Exception as error:
            wanted = f"{self.given.type} {self.given.shape}"
            raise ConfigError(f"{self.path} wants inputs {wanted}, got {list(given.shape)} ({error})") from error
        sums = bool((said >= 0).all() and ((said.sum(-1) - 1).abs() < 1e-3).all())
        return (log_probabilities(said) if sums else said).to(batch.inputs.device)

    def describe(self) -> str:
        """The file, hashed."""
        return f"onnx {self.digest} {self.name}"


class Answers:
    """Answers that are there already, one row for each example, whatever its augmentation.

    Args:
        logits: [N, C]; take `log_probabilities` of probabilities.

    Example:
        >>> Answers(torch.eye(3))(Batch(torch.zeros(1, 2), torch.zeros(1).long(), torch.tensor([2])))
        tensor([[0., 0., 1.]])
    """

    def __init__(self, logits: Tensor) -> None:
        if logits.ndim != 2 or not (logits < torch.inf).all():
            raise ConfigError(f"answers must be logits [N, C] without NaN, got {list(logits.shape)}")
        self.logits = logits

    def __call__(self, batch: Batch) -> Tensor:
        """See `Teacher`."""
        if batch.rows.max() >= len(self.logits):
            raise ConfigError(f"there are answers for {len(self.logits)} examples only: give one row for each")
        return self.logits.to(batch.inputs.device)[batch.rows]

    def describe(self) -> str:
        """The answers, hashed."""
        return f"answers {hashlib.sha256(self.logits.contiguous().numpy().tobytes()).hexdigest()[:16]}"


class Several:
    """Teachers that answer together.

    `log sum_k w_k p_k` (arithmetic) or `sum_k w_k log p_k` (geometric)

    Args:
        teachers: of the same classes.
        weights: not negative; brought to a sum of 1, and equal by default.
        geometric: which mean.

    Example:
        >>> batch = Batch(torch.zeros(1, 2), torch.zeros(1).long(), torch.tensor([0]))
        >>> both = Several([Answers(torch.tensor([[0.5, 0.5]]).log()), Answers(torch.tensor([[0.9, 0.1]]).log())])
        >>> both(batch).exp()
        tensor([[0.7000, 0.3000]])
    """

    def __init__(
        self, teachers: Sequence[Teacher], weights: Sequence[float] | None = None, geometric: bool = False
    ) -> None:
        shares = torch.tensor(weights if weights is not None else [1.0] * len(teachers))
        if not len(teachers) == len(shares) > 0 or shares.min() < 0 or not shares.sum() > 0:
            raise ConfigError(f"{len(teachers)} teachers need as many weights that are not negative, got {weights}")
        self.teachers, self.weights, self.geometric = list(teachers), shares / shares.sum(), geometric

    def __call__(self, batch: Batch) -> Tensor:
        """See `Teacher`."""
        said = [teacher(batch).float().log_softmax(-1) for teacher in self.teachers]
        if len({one.shape for one in said}) > 1:
            raise ConfigError(f"the teachers know {[one.shape[-1] for one in said]} classes: they must be the same")
        weights = self.weights.to(said[0].device)[:, None, None]
        together = torch.stack(said)
        if self.geometric:
            return (weights * together).sum(0).log_softmax(-1)
        return (together + weights.log()).logsumexp(0)

    def describe(self) -> str:
        """All of them."""
        kind = "geometric" if self.geometric else "arithmetic"
        return f"{kind} {self.weights.tolist()} {[one.describe() for one in self.teachers]}"


class Chosen:
    """A teacher of more classes, or of another order, heard about those of the data.

    Args:
        teacher: of its own classes.
        theirs: their names, in its order.
        ours: the classes of the data.

    Raises:
        ConfigError: a class that the teacher does not know.
    """

    def __init__(self, teacher: Teacher, theirs: Sequence[str], ours: Sequence[str]) -> None:
        if missing := [name for name in ours if name not in theirs]:
            near = nearest(missing[0], theirs)
            raise ConfigError(f"the teacher does not know {len(missing)} classes, for instance {missing[:3]}.{near}")
        self.teacher, self.columns = teacher, torch.tensor([list(theirs).index(name) for name in ours])

    def __call__(self, batch: Batch) -> Tensor:
        """See `Teacher`."""
        return self.teacher(batch)[:, self.columns.to(batch.inputs.device)]

    def describe(self) -> str:
        """The teacher and the chosen classes."""
        return f"{self.teacher.describe()} of {self.columns.tolist()}"


class Kept:
    """What a teacher says about all views of all examples, asked once and kept in a file.

    Args:
        teacher: is asked if the file is not there.
        data: the examples.
        augmentation: with `views`, unless nothing is changed.
        seed: of the augmentation.
        folder: of the file, which is named after everything that the answers depend on, and carries a checksum.

    Raises:
        ConfigError: endless views; a file that was changed.
    """

    def __init__(
        self, teacher: Teacher, data: Labelled, augmentation: Augmentation, seed: int, folder: Path | str
    ) -> None:
        if not augmentation.views and augmentation != Augmentation():
            raise ConfigError("a teacher can be kept for a number of views only: give augmentation.views")
        self.said = f"{teacher.describe()} {augmentation} {seed} {data.digest()}"
        key = hashlib.sha256(self.said.encode()).hexdigest()[:16]
        file, note = (Path(folder) / f"teacher-{key}{end}" for end in (".safetensors", ".json"))
        if not note.is_file():
            views = range(max(1, augmentation.views))
            answers = torch.stack([_all(teacher, data, augmentation, view, seed) for view in views])
            content = save({"logits": answers})
            write_bytes(file, content)
            write_json(note, {"teacher": self.said, "sha256": hashlib.sha256(content).hexdigest()})
        known = json.loads(note.read_text())["sha256"]
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != known:
            raise ConfigError(f"{file} is not what was written: remove {note}, and the teacher is asked again")
        with safe_open(file, "pt") as content:
            self.logits: Tensor = content.get_tensor("logits")
        self.place = torch.zeros(int(data.places.max()) + 1).long()
        self.place[data.places] = torch.arange(len(data))

    def __call__(self, batch: Batch) -> Tensor:
        """See `Teacher`."""
        return self.logits[batch.view % len(self.logits), self.place[batch.rows.cpu()]].to(batch.inputs.device)

    def describe(self) -> str:
        """The same as of the teacher that was asked."""
        return self.said


def _all(teacher: Teacher, data: Labelled, augmentation: Augmentation, view: int, seed: int) -> Tensor:
    said = []
    for some in torch.arange(len(data)).split(AT_ONCE):
        rows = data.places[some]
        inputs = augmentation(data.inputs[some], rows, view, seed)
        said.append(teacher(Batch(inputs, data.labels[some], rows, view)).cpu())
    return torch.cat(said)


def answers(teacher: Teacher, data: Labelled) -> Tensor:
    """What a teacher says about all examples as they are: logits [N, C]."""
    return _all(teacher, data, Augmentation(), 0, 0)


def teacher_of(given: Any, data: Labelled, classes: Sequence[str] | None = None) -> Teacher:
    """A teacher from what there is, checked on a few examples.

    Args:
        given: a teacher, a network, a function of inputs, an array or tensor of logits [N, C], the path of an ONNX
            file, or a list of these.
        data: what it will be asked about.
        classes: names of the teacher's classes, if they are not those of the data.

    Raises:
        ConfigError: a teacher that knows another number of classes, or answers NaN.
    """
    if isinstance(given, list | tuple):
        teacher: Teacher = Several([teacher_of(one, data, classes) for one in given])
    elif hasattr(given, "describe"):
        teacher = given
    elif isinstance(given, nn.Module):
        teacher = Module(given)
    elif isinstance(given, str | Path):
        teacher = Onnx(given)
    elif isinstance(given, Tensor | np.ndarray):
        teacher = Answers(torch.as_tensor(given).float())
    elif callable(given):
        teacher = _Function(given)
    else:
        raise ConfigError(f"a teacher is a network, a function, an array or the path of an ONNX file, not {given!r}")
    if classes is not None and tuple(classes) != data.classes and not isinstance(teacher, Several):
        teacher = Chosen(teacher, classes, data.classes)
    few = torch.arange(min(4, len(data)))
    said = teacher(Batch(data.inputs[few], data.labels[few], data.places[few]))
    if said.shape != (len(few), len(data.classes)):
        raise ConfigError(
            f"the teacher answers {list(said.shape)} to {len(few)} examples of {len(data.classes)} classes: "
            "name the teacher's classes if they are others"
        )
    if said.isnan().any():
        raise ConfigError("the teacher answers NaN: its weights or inputs are broken")
    return teacher


class _Function:
    """A function of inputs, which is known by its name alone."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        self.function = function

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        return logits_of(self.function(batch.inputs))

    def describe(self) -> str:
        return f"function {getattr(self.function, '__qualname__', type(self.function).__qualname__)}"
