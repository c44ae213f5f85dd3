from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import bucketed, cross_entropy, dkd, forward_kl, pld, standardised
from limbeck.errors import ConfigError
from limbeck.vision import Method, Ramp, method_of
from limbeck.vision.methods import PRESETS, require_fit

SAID, TAUGHT = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(0)).unbind()
LABELS = torch.tensor([0, 1, 2, 3, 4, -1])
HOW: dict[str, Any] = {"tau_squared": True}


def parts(name: str, **choices: Any) -> dict[str, torch.Tensor]:
    return method_of({"name": name, **choices}).parts(SAID, TAUGHT, LABELS, 0.5)


def test_presets_are_the_published_sums() -> None:
    known = LABELS[:5]
    filled = torch.where(LABELS >= 0, LABELS, TAUGHT.argmax(-1))
    ce = F.cross_entropy(SAID[:5], known)
    kd = parts("kd")
    torch.testing.assert_close(kd["labels"], 0.1 * ce)
    torch.testing.assert_close(kd["distillation"], 0.9 * forward_kl(SAID, TAUGHT, temperature=4.0, **HOW))
    found = parts("dkd-z")
    wanted = 9 * standardised(dkd)(SAID, TAUGHT, filled, temperature=2.0, beta=2.0, **HOW)
    torch.testing.assert_close(found["distillation"], wanted)
    torch.testing.assert_close(found["labels"], ce)
    ranked = parts("pld", options={"teacher_temperature": 2.0})
    assert set(ranked) == {"distillation"}
    torch.testing.assert_close(ranked["distillation"], pld(SAID, TAUGHT, filled, teacher_temperature=2.0))
    top = parts("top", top=3)["distillation"]
    torch.testing.assert_close(top, 0.9 * bucketed(forward_kl, 3)(SAID, TAUGHT))
    assert set(parts("ce")) == {"labels"}
    smooth = F.cross_entropy(SAID[:5], known, label_smoothing=0.1)
    torch.testing.assert_close(parts("smooth")["labels"], smooth)


def test_two_views_count_their_labels_both() -> None:
    strong = SAID.flip(0), TAUGHT.flip(0)
    found = method_of("mlkd").parts(SAID, TAUGHT, LABELS, 0.0, strong)
    both = sum(cross_entropy(one, one, LABELS, mask=LABELS >= 0) for one in (SAID, strong[0]))
    torch.testing.assert_close(found["labels"], 0.1 * both)
    assert found["distillation"] > 0


def test_weights_move_in_a_straight_line_and_stay() -> None:
    ramp = Ramp(start=1, end=3, until=0.5)
    assert [ramp.at(x) for x in (0, 0.25, 0.5, 1)] == [1, 2, 3, 3]
    method = method_of({"name": "kd", "weight": {"start": 0, "end": 2}, "ce_weight": 0})
    assert method.parts(SAID, TAUGHT, LABELS, 0.0) == {}
    half, whole = (method.parts(SAID, TAUGHT, LABELS, x)["distillation"] for x in (0.5, 1.0))
    torch.testing.assert_close(2 * half, whole)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_made_and_written(name: str) -> None:
    features = {"features": {"1": "1"}} if "feature_loss" in PRESETS[name] else {}
    method = method_of({"name": name, **features})
    assert Method(**method.model_dump()) == method
    assert method.only_labels == (name in ("ce", "smooth"))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"name": "dkdd"}, 'Did you mean "dkd"'),
        ({"loss": "forward"}, "unknown loss"),
        ({"name": "dkd", "options": {"betta": 1}}, 'Did you mean "beta"'),
        ({"name": "rkd"}, "needs the modules"),
        ({"features": {"0": "0"}}, "needs such a loss|needs the modules"),
        ({"feature_loss": "hints", "features": {"0": "0"}}, 'Did you mean "hint"'),
        ({"temperature": 0}, "greater than 0"),
        ({"wieght": 1}, 'Did you mean "weight"'),
    ],
)
def test_choices_that_do_not_exist(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        method_of(choices)


def test_what_cannot_work_is_refused_before_it_begins() -> None:
    for name, classes, known, words in (
        ("kd-z", 2, 5, "nothing but their order"), ("top", 5, 5, "leaves nothing"), ("kd", 5, 0, "has none"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            require_fit(method_of(name), classes, known)
    require_fit(method_of({"name": "kd", "ce_weight": 0}), 5, 0)
