from __future__ import annotations

import zipfile

import pytest

from limbeck.errors import LimbeckError
from limbeck.wheels import read_member


def test_a_member_is_read_from_the_wheel_and_absence_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_WHEELS", str(tmp_path))
    with pytest.raises(LimbeckError, match="make data"):
        read_member("tiny-data", "tiny_data/a.csv")
    with zipfile.ZipFile(tmp_path / "tiny_data-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_data/a.csv", "x,y\n1,2\n")
    assert read_member("tiny-data", "tiny_data/a.csv") == b"x,y\n1,2\n"
    with pytest.raises(LimbeckError, match=r"holds no tiny_data/b\.csv"):
        read_member("tiny-data", "tiny_data/b.csv")
