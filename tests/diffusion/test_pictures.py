from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.diffusion.mixtures import mixture
from limbeck.diffusion.pictures import contact_sheet, grid, progress_figure, save_grid, trajectory_figure, ways
from limbeck.diffusion.students import Student
from limbeck.errors import ConfigError


def test_every_picture_is_where_it_belongs() -> None:
    samples = torch.stack([torch.full((1, 8, 8), value) for value in (-1.0, 0.0, 5.0)])
    samples[0, 0, 0, 7] = 1.0  # one white pixel, at the upper right of the first
    sheet = np.asarray(grid(samples, columns=2))
    assert sheet.shape == (2 * 34 + 2, 2 * 34 + 2, 3)
    first = sheet[2:34, 2:34, 0]
    assert (first[:4, 28:] == 255).all() and first.sum() == 16 * 255  # enlarged by 4, not smoothed
    assert (sheet[2:34, 36:68] == 128).all()
    assert (sheet[36:68, 2:34] == 255).all()  # cut off at white
    assert (sheet[:2] == 255).all()


def test_colours_and_large_pictures_stay() -> None:
    samples = torch.full((1, 3, 40, 40), -1.0)
    samples[:, 1] = 1.0
    sheet = np.asarray(grid(samples))
    assert sheet.shape[0] == 44 and sheet[20, 20].tolist() == [0, 255, 0]


def test_a_sheet_is_written_whole(tmp_path: Path) -> None:
    path = save_grid(tmp_path / "new" / "samples.png", torch.zeros(4, 1, 8, 8), columns=2)
    with Image.open(path) as read:
        assert read.format == "PNG" and np.array_equal(np.asarray(read), np.asarray(grid(torch.zeros(4, 1, 8, 8), 2)))
    assert [one.name for one in path.parent.iterdir()] == ["samples.png"]


def test_rows_of_a_contact_sheet_have_names() -> None:
    rows = {"teacher": torch.full((3, 1, 8, 8), -1.0), "student, 1 step": torch.zeros(2, 1, 8, 8)}
    sheet = np.asarray(contact_sheet(rows))
    left = sheet.shape[1] - (3 * 34 + 2)
    assert (sheet[2:34, left + 2 : left + 34] == 0).all() and (sheet[38:70, left + 2 : left + 34] == 128).all()
    ink = [(sheet[top : top + 36, :left] < 100).sum() for top in (0, 36)]
    assert 0 < ink[0] < ink[1]  # the longer name takes more ink
    assert (sheet[:, left : left + 2] == 255).all()  # and ends before the pictures


def test_ways_through_the_plane() -> None:
    paths = torch.arange(24.0).reshape(3, 4, 2)
    figure = trajectory_figure(mixture("ring8"), paths, points=50)
    data, lines, end = figure.data
    assert len(data.x) == 50 and np.hypot(data.x, data.y).max() < 1.5
    assert (
        np.array_equal(lines.x[:3], [0, 8, 16]) and np.isnan(lines.x[3]) and np.array_equal(lines.y[4:7], [3, 11, 19])
    )
    assert np.array_equal(end.y, [17, 19, 21, 23]) and "4 samples in 2 steps" in figure.layout.title.text


def test_quality_against_updates() -> None:
    runs = {"dmd": {50: {"jsd": 0.4, "radius": 1.0}, 100: {"jsd": 0.2}}, "gdd": {100: {"jsd": 0.3}}}
    figure = progress_figure(runs, "jsd", floor=0.01)
    assert [(one.name, one.x, one.y) for one in figure.data] == [
        ("dmd", (50, 100), (0.4, 0.2)),
        ("gdd", (100,), (0.3,)),
    ]
    assert figure.layout.yaxis.type == "log" and figure.layout.shapes[0].y0 == 0.01
    assert not progress_figure(runs, "radius").layout.shapes


def test_mistakes_are_named() -> None:
    for bad in (torch.zeros(4, 8, 8), torch.zeros(4, 2, 8, 8), torch.zeros(0, 1, 8, 8)):
        with pytest.raises(ConfigError, match="pictures must be"):
            grid(bad)
    with pytest.raises(ConfigError, match="at least one row"):
        contact_sheet({})
    with pytest.raises(ConfigError, match="paths must be"):
        trajectory_figure(mixture("ring8"), torch.zeros(4, 2))
    with pytest.raises(ConfigError, match='Did you mean "jsd"'):
        progress_figure({"dmd": {1: {"jsd": 0.1}}}, "jsdd")


def test_ways_show_what_a_student_sees_at_each_step():
    law = mixture("ring8")
    student = Student([law], [[2.0, 0.5]])
    noise = torch.ones(3, 2, 2)
    seen = ways(student, 1.0, lambda: student(noise))
    assert seen.shape == (3, 3, 2)
    torch.testing.assert_close(seen[0], torch.full((3, 2), 2 / 5**0.5))
    first = law(torch.full((3, 2), 2.0), torch.full((3,), 2.0))
    torch.testing.assert_close(seen[1], (first + 0.5) / 1.25**0.5)
    torch.testing.assert_close(seen[2], student(noise))
    assert not any(one._forward_pre_hooks for one in student.modules())
