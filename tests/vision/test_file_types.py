import json
from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import ConfigError, LimbeckError
from limbeck.vision import answers, magika, read_files
from limbeck.vision.file_types import BLOCK, HALF, PADDING, file_bytes


def test_a_long_file_is_seen_at_both_ends_without_outer_space() -> None:
    content = b"\n" * 10 + bytes(range(33, 243)) * 40 + b" " * 5
    seen = file_bytes(content)
    assert bytes(seen[:HALF].tolist()) == content[10 : 10 + HALF]
    assert bytes(seen[HALF:].tolist()) == content[-5 - HALF : -5]


def test_a_short_file_is_padded_between_its_copies() -> None:
    seen = file_bytes(b"abc")
    assert seen[:3].tolist() == seen[-3:].tolist() == [97, 98, 99] and (seen[3:-3] == PADDING).all()
    assert (file_bytes(b" " * 2 * BLOCK) == PADDING).all()


def test_folders_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="holds no files"):
        read_files(tmp_path)
    with pytest.raises(ConfigError, match="not a folder"):
        read_files(tmp_path / "absent")
    (tmp_path / "one.txt").write_text("some words")
    monkeypatch.setenv("LIMBECK_WHEELS", str(tmp_path / "none"))
    with pytest.raises(LimbeckError, match="make data"):
        read_files(tmp_path)


@pytest.mark.weights
def test_the_shipped_network_knows_files_of_this_machine(tmp_path: Path) -> None:
    source = Path(np.__file__).parent
    for k, path in enumerate(sorted(source.rglob("*.py"))[:12]):
        (tmp_path / f"{k}.py").write_bytes(path.read_bytes())
    for k in range(10):
        content = {"name": f"package-{k}", "files": [f"{n}.txt" for n in range(20)], "options": {"deep": True, "n": k}}
        (tmp_path / f"{k}.json").write_text(json.dumps(content, indent=2))
    data, network, names = read_files(tmp_path, at_least=5)
    assert {"python", "json"} <= set(data.classes) and len(names) == 214
    said = answers(network, data).softmax(-1)
    assert said.shape == (len(data), 214) and np.allclose(said.sum(-1), 1, atol=1e-5)
    assert [names[k] for k in said.argmax(-1)] == [data.classes[k] for k in data.labels]
    assert magika()[1] == names
