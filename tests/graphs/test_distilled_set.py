import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_graphs import molecules

from limbeck.errors import ConfigError
from limbeck.graphs.data import balanced
from limbeck.graphs.summary import Summary, condense, random_graphs
from limbeck.graphs.trees import computation_trees


def test_supports_and_counts_are_those_of_the_graphs() -> None:
    data = molecules()
    found = condense(data, depth=2, theta=0.4)
    trees, ids = computation_trees(data.graphs, 2)
    names = {str(trees.nested(k)): k for k in range(len(trees))}
    for one in found.patterns:
        wanted = [names[str(found.trees.nested(tree))] for tree in one.trees]
        having = [
            i for i, g in zip(ids, data.graphs, strict=True) if g.label == one.label and {*wanted} <= {*i.tolist()}
        ]
        assert len(having) == one.support >= 8
        assert one.counts == pytest.approx([np.mean([(i == tree).sum() for i in having]) for tree in wanted])
    assert {one.label for one in found.patterns} == {0, 1} and found.theta == (8, 8)


def test_a_round_trip_gives_the_same_forests_and_bytes(tmp_path: Path) -> None:
    found = condense(molecules(), depth=2, theta=0.4)
    again = Summary.load(found.save(tmp_path / "set.json"))
    assert again == found and again.seconds == found.seconds
    for one, two in zip(found.graphs(), again.graphs(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    graphs = found.graphs()
    nodes, edges = (sum(len(one[k]) for one in graphs) for k in (0, 2))
    assert found.bytes == sum(one.bytes for one in graphs) == 8 * nodes + 24 * edges
    content = json.loads((tmp_path / "set.json").read_text())
    numbers = sum(2 + 2 * len(children) for level in content["trees"]["levels"] for _, children in level)
    numbers += sum(3 + len(one[0]) for one in content["patterns"])
    assert found.stored_bytes == 8 * numbers < found.bytes
    assert f"{found.source_bytes / found.bytes:.1f} times smaller" in found.summary()
    assert "LARGER (raise theta" in condense(molecules(), depth=3, theta=1).summary()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["patterns"][0].__setitem__(0, [999]),
        lambda c: c["patterns"][0].__setitem__(1, 2),
        lambda c: c["trees"]["levels"][1][0][1].append([0, 77]),
        lambda c: c["trees"]["levels"][0][0][1].append([0, 0]),
        lambda c: c.pop("trees"),
        lambda c: c.update(classes=7),
    ],
)
def test_a_file_that_was_tampered_with_is_refused(tmp_path: Path, change) -> None:
    path = condense(molecules(), depth=2, theta=0.4).save(tmp_path / "set.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="not a distilled set"):
        Summary.load(path)
    with pytest.raises(ConfigError, match="not a distilled set"):
        Summary.load(tmp_path)


def test_weights_follow_supports_and_classes_balance() -> None:
    found = condense(molecules(), depth=2, theta=0.4)
    graphs = found.graphs()
    for label in (0, 1):
        supports = np.array([one.support for one in found.patterns if one.label == label])
        weights = [one.weight for one in graphs if one.label == label]
        assert weights == pytest.approx(supports / supports.sum())
        alike = {one.weight for one in found.graphs(frequency=False) if one.label == label}
        assert alike == {1 / len(supports)}
    counted = found.graphs(counts=True)[0].root
    assert counted is not None and counted[counted > 0].tolist() == list(found.patterns[0].counts)
    assert sum(one.weight for one in balanced(molecules().graphs)) == pytest.approx(2)


def test_a_theta_above_the_class_names_the_largest_usable_one() -> None:
    with pytest.raises(ConfigError, match=r'class "chain" is in 21 of its 20 graphs: the largest usable') as said:
        condense(molecules(), theta=21)
    top = int(str(said.value).split("theta is ")[1].split(" ")[0])
    assert condense(molecules(), theta=(top, 1)).theta == (top, 1)
    with pytest.raises(ConfigError, match=f"the largest usable theta is {top} "):
        condense(molecules(), theta=(top + 1, 1))


def test_a_budget_is_kept_and_used() -> None:
    data = molecules()
    for budget in (3000, 10_000, 40_000):
        found = condense(data, budget=budget)
        by_class = [sum(g.bytes for g in found.graphs() if g.label == k) for k in (0, 1)]
        assert max(by_class) <= budget / 2
        for k, theta in enumerate(found.theta):
            if theta > 1:
                lower = [*found.theta]
                lower[k] = theta - 1
                more = condense(data, theta=lower).graphs()
                assert sum(g.bytes for g in more if g.label == k) > budget / 2
    with pytest.raises(ConfigError, match=r"a budget of 100 bytes is too small: class .chain. needs \d+"):
        condense(data, budget=100)
    for how in ({}, {"theta": 0.5, "budget": 9}):
        with pytest.raises(ConfigError, match="either theta"):
            condense(data, **how)
    with pytest.raises(ConfigError, match="3 values of theta for 2 classes"):
        condense(data, theta=(1, 1, 1))


def test_exclusive_drops_what_classes_share() -> None:
    data = molecules()
    every, own = condense(data, theta=0.2), condense(data, theta=0.2, exclusive=True)
    sets = [{str([s.trees.nested(t) for t in p.trees]) for p in s.patterns if p.label == k}
            for s in (every, own) for k in (0, 1)]  # fmt: skip
    assert sets[0] & sets[1] and sets[2] == sets[0] - sets[1] and sets[3] == sets[1] - sets[0]
    same = replace(data, graphs=tuple(g._replace(label=k) for g in data.graphs[::2] for k in (0, 1)))
    with pytest.raises(ConfigError, match="no set of its own"):
        condense(same, theta=0.2, exclusive=True)
    with pytest.raises(ConfigError, match='class "ring" has no graph'):
        condense(data.at(range(0, 40, 2)), theta=0.2)


def test_random_graphs_fit_into_equally_many_bytes() -> None:
    data = molecules()
    for seed in range(5):
        chosen = random_graphs(data, 4000, seed)
        for label in (0, 1):
            size = sum(one.bytes for one in chosen if one.label == label)
            assert 2000 - 400 < size <= 2000
    assert {one.label for one in random_graphs(data, 1, 0)} == {0, 1}
    assert len(random_graphs(data, 10**9, 0)) == len(data)
