"""A real pair, where the package `iglm` is installed: IgLM (12.9 M parameters) teaches IgLM-S (1.4 M)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from limbeck.lm import answer_loss, distill, load_model, load_tokenizer, read_examples, save_model

pytestmark = pytest.mark.weights

HEAVY = (  # variable regions of trastuzumab and adalimumab
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS",
    "EVQLVESGGGLVQPGRSLRLSCAASGFTFDDYAMHWVRQAPGKGLEWVSAITWNSGHIDYADSVEGRFTISRDNAKNSLYLQMNSLRAEDTAVYYC"
    "AKVSYLSTASSLDYWGQGTLVTVSS",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two models as ordinary folders: safetensors, and a tokenizer of residues and bracketed names."""
    package = importlib.util.find_spec("iglm")
    if package is None or package.origin is None:
        pytest.skip("iglm is not installed: pip install --no-deps iglm")
    trained = Path(package.origin).parent / "trained_models"
    names = (trained / "vocab.txt").read_text().split()
    words = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    words.pre_tokenizer = Split(Regex("."), "isolated")
    words.add_special_tokens([name for name in names if name.startswith("[")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", eos_token="[SEP]", bos_token=None
    )
    made = {}
    for name in ("IgLM", "IgLM-S"):
        config = GPT2Config.from_pretrained(trained / name, bos_token_id=None, eos_token_id=names.index("[SEP]"))
        model = GPT2LMHeadModel(config)
        weights = torch.load(trained / name / "pytorch_model.bin", map_location="cpu", weights_only=True)
        missing, _ = model.load_state_dict(weights, strict=False)
        assert missing in ([], ["lm_head.weight"])
        made[name] = save_model(model, tokenizer, tmp_path_factory.mktemp("weights") / name)
    return made


def test_the_larger_teaches_the_smaller(folders: dict[str, Path], tmp_path: Path) -> None:
    """Prompts are the beginnings of two sequences, under four species; the teacher writes on, both are compared."""
    species, lengths = ("HUMAN", "MOUSE", "RAT", "RHESUS"), range(2, 22)
    prompts = [f"[HEAVY][{one}]{sequence[:length]}" for sequence in HEAVY for one in species for length in lengths]
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    recipe = {
        "teacher": folders["IgLM"], "student": folders["IgLM-S"], "data": data, "out": tmp_path / "out",
        "method": {"name": "kd", "answers": "teacher", "length": 100}, "steps": 16, "batch": 8, "context": 128,
        "lr": 2e-5, "warmup": 5,
    }  # fmt: skip
    result = distill(recipe, progress=False)
    assert result.teacher_params > 8 * result.params
    gap = result.student_loss_before - result.teacher_loss
    assert gap > 0.005 and result.student_loss_before - result.student_loss > 0.5 * gap


def test_a_human_sequence_is_likelier_to_both_than_to_chance(folders: dict[str, Path], tmp_path: Path) -> None:
    data = tmp_path / "known.jsonl"
    data.write_text(json.dumps({"prompt": "[HEAVY][HUMAN]", "completion": HEAVY[0]}) + "\n")
    losses = {}
    for name, folder in folders.items():
        examples = read_examples(data, load_tokenizer(folder), context=512)
        assert len(examples[0].prompt) == 2 and len(examples[0].answer) == len(HEAVY[0]) + 1
        losses[name] = float(answer_loss(load_model(folder).eval(), examples))
    assert all(0.5 < loss < 1.5 for loss in losses.values())  # chance: log 20 = 3.0
