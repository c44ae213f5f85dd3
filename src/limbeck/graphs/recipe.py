"""`limbeck distill recipe.yaml` for graphs: data, how it is condensed, and the network that learns from what is left.

```yaml
room: graphs
data: mutag                     # or solubility, a folder in the text format of TU Dortmund, an .sdf, a .json
method: mirage                  # or full, random
theta: 0.5                      # share of a class that must have trees in common; or budget: 20000 (bytes)
network: {kind: gin, hidden: 32}
steps: 100
out: distilled/mirage
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from limbeck.distill import TrainingSettings, cpu_threads
from limbeck.errors import ConfigError
from limbeck.files import write_json
from limbeck.fitting.plain import Plain
from limbeck.graphs.data import Graph, GraphData, balanced
from limbeck.graphs.networks import Classifier, Network, load_network, logits_of, save_network
from limbeck.graphs.reading import read_graphs, save_graphs
from limbeck.graphs.summary import condense, random_graphs
from limbeck.graphs.training import Judgement, judge, train
from limbeck.settings import Count, FilePath, Number, check_settings, read_settings


class GraphRecipe(TrainingSettings):
    """Everything that condensing graphs and training on what is left needs.

    Args:
        room: graphs.
        data: see `read_graphs`; `property` names the class in an .sdf.
        test, validation: shares of every class to judge by and to choose the best evaluation by.
        method: mirage (frequent trees), random (real graphs of equally many bytes) or full.
        theta, budget, closed_only, exclusive, cap: see `condense`; random takes the budget too.
        weighting: frequency or none, of patterns within a class.
        counts: a root counts in the pool as often as graphs have its tree.
        network: that learns, see `Network`; its depth is that of the trees.
        teacher: a larger network that it learns from too: trained first, on all graphs, or a folder.
        loss, temperature, ce_weight: of that, see `train`.
        steps, batch, lr, seed, out, ...: see `TrainingSettings`.
    """

    room: Literal["graphs"] = "graphs"
    data: FilePath
    property: str = "SOL_classification"
    test: Number = Field(default=0.1, gt=0, lt=1)
    validation: Number = Field(default=0.1, gt=0, lt=1)
    method: Literal["mirage", "random", "full"] = "mirage"
    theta: int | float | tuple[int | float, ...] | None = None
    budget: Count | None = Field(default=None, gt=0)
    closed_only: bool = False
    exclusive: bool = False
    cap: Count | None = Field(default=None, gt=0)
    weighting: Literal["frequency", "none"] = "frequency"
    counts: bool = False
    network: Network = Network()
    teacher: Network | FilePath | None = None
    loss: str = "forward_kl"
    temperature: Number = Field(default=4.0, gt=0)
    ce_weight: Number = Field(default=0.1, ge=0, le=1)
    steps: Count = Field(default=100, gt=0)
    batch: Count = Field(default=512, gt=0)
    evaluate_every: Count = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> GraphRecipe:
        amounts = {"theta", "budget", "closed_only", "exclusive", "cap", "weighting", "counts"}
        uses = {"mirage": amounts, "random": {"budget"}, "full": set[str]()}[self.method]
        taught = {"loss", "temperature", "ce_weight"} if self.teacher is None else set[str]()
        if unused := (amounts - uses | taught) & self.model_fields_set:
            alone = "" if self.teacher else " without a teacher"
            raise ValueError(
                f"method {self.method}{alone} makes no use of {' and '.join(sorted(unused))}: leave it out"
            )
        if uses and (self.theta is None) == (self.budget is None):
            either = "theta: 0.5 or budget: 20000, not both" if self.method == "mirage" else "budget: 20000"
            raise ValueError(f"method {self.method} needs {either}")
        if self.test + self.validation >= 1:
            raise ValueError("test and validation must leave graphs to learn from: together below 1")
        return self


@dataclass(frozen=True)
class GraphResult(Plain):
    """What a recipe gave.

    Args:
        student: folder of the network, for `load_network`.
        data: what was read, in words.
        condensed: how it was condensed, in words.
        graphs, bytes: what the network learnt from; `full_bytes` is the size of all graphs to learn from.
        condense_seconds, train_seconds: the time of both.
        trained_on_full_data: whether any network saw all graphs in training.
        best_step: of the training.
        test: what the network is worth on graphs that were not used.
    """

    student: str
    data: str
    condensed: str
    graphs: int
    bytes: int
    full_bytes: int
    condense_seconds: float
    train_seconds: float
    trained_on_full_data: bool
    best_step: int
    test: Judgement

    def summary(self) -> str:
        """The answer, in plain text."""
        saw = "a network was trained on all graphs" if self.trained_on_full_data else "no network saw all graphs"
        return (
            f"{self.student}: {self.test.summary()}\n  {self.data}\n  {self.condensed}\n  {self.graphs} graphs, "
            f"{self.bytes:,} of {self.full_bytes:,} bytes, condensed in {self.condense_seconds:.2f} s ({saw}), "
            f"trained in {self.train_seconds:.1f} s, best at step {self.best_step}"
        )


def read_graph_recipe(path: Path | str, overrides: Sequence[str] = ()) -> GraphRecipe:
    """Read a recipe file; `key=value` overrides may follow.

    Raises:
        ConfigError: with the line of every mistake.
    """
    return read_settings(GraphRecipe, path, overrides)


def run_recipe(recipe: GraphRecipe | Mapping[str, Any], *, progress: bool = True) -> GraphResult:
    """Condense graphs as a recipe says and train a network on what is left; the same call goes on after a stop.

    In `out`: `student/`, `teacher/` if it was trained here, `distilled.json` (see `Summary`), `held-out.json` (what
    the network was judged by), `runs.jsonl`, `result.json`.

    Raises:
        ConfigError: a mistake in the recipe, its data or its networks.
        TrainingError: `out` holds another training; a loss that is not finite.
    """
    if not isinstance(recipe, GraphRecipe):
        recipe = check_settings(GraphRecipe, recipe, source="recipe")
    data = read_graphs(recipe.data, recipe.property)
    rest, test = data.split(recipe.seed, recipe.test)
    learn, choose = rest.split(recipe.seed, recipe.validation / (1 - recipe.test))
    names = learn.used()
    learn, choose, test = (one.named(*names) for one in (learn, choose, test))
    graphs, said, seconds = _condensed(recipe, learn)
    network = _build(recipe.network, learn, recipe.seed)
    how: dict[str, Any] = {"choose": choose.graphs, "regime": recipe.regime, "seed": recipe.seed, "progress": progress}
    with cpu_threads(recipe.threads):
        teacher = _teacher(recipe, learn, how)
        how |= {name: getattr(recipe, name) for name in ("loss", "temperature", "ce_weight", "out")}
        done = train(network, graphs, teacher=teacher, columns={"recipe": recipe.method, "dataset": data.name}, **how)
        found = judge(logits_of(network, test.graphs), test.labels)
    folder = save_network(network, learn, recipe.out / "student")
    save_graphs(test, recipe.out / "held-out.json")
    sizes = (len(graphs), sum(one.bytes for one in graphs), learn.bytes, seconds, done.seconds)
    full = recipe.method == "full" or teacher is not None
    result = GraphResult(str(folder), data.summary(), said, *sizes, full, done.best_step, found)
    write_json(recipe.out / "result.json", result.to_dict())
    return result


def _condensed(recipe: GraphRecipe, learn: GraphData) -> tuple[list[Graph], str, float]:
    """What a network learns from, in words, and the seconds that it took."""
    if recipe.method == "full":
        return balanced(learn.graphs), "all graphs", 0.0
    if recipe.method == "random":
        return random_graphs(learn, recipe.budget or 0, recipe.seed), "real graphs at random", 0.0
    how = {name: getattr(recipe, name) for name in ("theta", "budget", "closed_only", "exclusive", "cap")}
    found = condense(learn, depth=recipe.network.depth, **how)
    found.save(recipe.out / "distilled.json")
    return found.graphs(recipe.weighting == "frequency", recipe.counts), found.summary(), found.seconds


def _build(made: Network, data: GraphData, seed: int) -> Classifier:
    return made.build(len(data.nodes), len(data.bonds), len(data.classes), seed)


def _teacher(recipe: GraphRecipe, learn: GraphData, how: Mapping[str, Any]) -> Classifier | None:
    """A teacher of a folder, or one that is trained on all graphs first."""
    if isinstance(recipe.teacher, Path):
        saved = load_network(recipe.teacher)
        if saved[1:] != (learn.classes, learn.nodes, learn.bonds):
            raise ConfigError(f"the teacher in {recipe.teacher} knows other classes or labels than {learn.name}")
        return saved.network
    if recipe.teacher is None:
        return None
    network = _build(recipe.teacher, learn, recipe.seed + 1000)
    train(network, balanced(learn.graphs), out=recipe.out / "teacher", **how)
    save_network(network, learn, recipe.out / "teacher")
    return network


@dataclass(frozen=True)
class Comparison(Plain):
    """A student beside its teacher, on the same graphs.

    Args:
        student, teacher: how good each is.
        agreement: share of graphs with one favourite.
        divergence: mean KL(teacher‖student), nats.
    """

    student: Judgement
    teacher: Judgement
    agreement: float
    divergence: float

    def summary(self) -> str:
        """Three lines."""
        return (
            f"student {self.student.summary()}\nteacher {self.teacher.summary()}\n"
            f"{100 * self.agreement:.1f} % answered alike, KL(teacher‖student) {self.divergence:.3f} nats"
        )

    def plot(self) -> Any:
        """Return AUC, accuracy and agreement as a plotly figure."""
        from plotly import graph_objects as go

        pairs = [("student", self.student), ("teacher", self.teacher)]
        bars = [go.Bar(x=["AUC", "share right"], y=[one.auc, one.accuracy], name=name) for name, one in pairs]
        title = f"{self.agreement:.1%} of {self.student.graphs} graphs answered alike"
        return go.Figure(bars).update_layout(title=title, template="simple_white")


def evaluate_folder(student: Path, against: Path, data: Path | str, limit: int | None = None) -> Comparison:
    """Compare a student with its teacher, both in folders.

    Args:
        student, against: folders that limbeck wrote.
        data: see `read_graphs`; a recipe writes what was held out as `held-out.json`.
        limit: so many graphs only.
    """
    graphs = read_graphs(data)
    graphs = graphs.at(range(min(limit or len(graphs), len(graphs))))
    said, taught = (
        logits_of(saved.network, saved.reads(graphs).graphs) for saved in map(load_network, (student, against))
    )
    p, q = taught.double().log_softmax(-1), said.double().log_softmax(-1)
    alike = (p.argmax(-1) == q.argmax(-1)).double().mean()
    return Comparison(
        judge(said, graphs.labels),
        judge(taught, graphs.labels),
        float(alike),
        float((p.exp() * (p - q)).sum(-1).mean()),
    )
