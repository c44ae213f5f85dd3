"""Spans by bytes, merged distributions, sorted and hybrid distances, and the signal that joins them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from limbeck.errors import ConfigError, TrainingError
from limbeck.lm import Batch, Divergence, Teaching, byte_tokenizer, tiny_llama, trained_tokenizer
from limbeck.lm.alignment import (
    CrossTokenizer,
    align_spans,
    hybrid_distance,
    merge_spans,
    sorted_distance,
    token_bytes,
)
from limbeck.lm.conversations import Example, collate

exact = partial(torch.tensor, dtype=torch.float64)
BYTES = byte_tokenizer()
TEXT = "the naïve café owner — a wizard — boils 液体 in the copper vessels 🙂 of the café"
BPE = trained_tokenizer((TEXT + " the café the café 液体液体 🙂🙂").encode(), 290)
STUDENT = tiny_llama(16, vocabulary=256, context=256, seed=0)


def teacher(vocabulary: int, seed: int = 1) -> Any:
    return tiny_llama(16, vocabulary=vocabulary, context=256, seed=seed).eval()


def batch(*texts: str, tokenizer: Any = BYTES) -> Batch:
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return collate([Example(tuple(row[:1]), tuple(row[1:])) for row in rows])


def sentencepiece(**special: str) -> PreTrainedTokenizerFast:
    """Words begin with ▁, unknown characters fall back to bytes, and a space is put before the text."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256)), "▁", "t", "h", "e", "▁the", "th"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate([*pieces, "▁t", "▁th"])},
            merges=[("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("t", "h")],
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.ByteFallback()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", **special)


@pytest.mark.parametrize("tokenizer", [BYTES, BPE, sentencepiece()])
def test_tokens_are_bytes_of_the_text(tokenizer: Any) -> None:
    table = token_bytes(tokenizer)
    written = b"".join(table[token] for token in tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    assert written.removeprefix(b" ") == TEXT.encode()


def test_spans_end_at_the_same_byte_inside_characters() -> None:
    signal = CrossTokenizer(teacher(290), BPE, BYTES)
    tokens = BYTES(TEXT, add_special_tokens=False)["input_ids"]
    ids, mine, theirs = signal.read(tokens)
    assert ids == BPE(TEXT, add_special_tokens=False)["input_ids"] and len(ids) < len(tokens)
    assert mine == list(range(1, len(TEXT.encode()) + 1)) and theirs[-1] == len(TEXT.encode())
    spans = align_spans(mine, theirs)
    assert all(len(own) == 1 for _, own in spans) and len(spans) == len(ids)
    assert [place for own, _ in spans for place in own] == list(range(len(tokens)))
    table = token_bytes(BPE)
    for own, (other,) in spans:
        assert TEXT.encode()[own.start : own.stop] == table[ids[other]]
    back = CrossTokenizer(teacher(256), BYTES, BPE).read(ids)
    assert back[0] == tokens and align_spans(back[1], back[2]) == [(one, other) for other, one in spans]


def test_cut_and_invented_characters_keep_their_bytes() -> None:
    signal = CrossTokenizer(teacher(290), BPE, BYTES)
    cut = list(b"\xa9 caf\xc3\xa9 \xff\xe6\xb6")  # the end of a character, no character, the beginning of one
    ids, mine, theirs = signal.read(cut)
    assert BPE.decode(ids) == "? café ???" and mine[-1] == theirs[-1] == len(cut)


def test_ends_of_texts_meet_whatever_their_tokens() -> None:
    """The student's end is byte 0, the teacher's a token </s>; its beginning <s> is read and never compared."""
    pieces = sentencepiece(bos_token="<s>")
    pieces.add_tokens([AddedToken("<call>", normalized=False)])
    signal = CrossTokenizer(teacher(300), pieces, BYTES)
    ids, mine, theirs = signal.read(list(b"the he\0the<call>\0"))
    assert pieces.convert_ids_to_tokens(ids) == ["▁the", "▁", "h", "e", "</s>", "▁the", "<call>", "</s>"]
    assert theirs == [3, 4, 5, 6, 7, 10, 16, 17] and mine == list(range(1, 18))
    back = CrossTokenizer(teacher(256), BYTES, pieces)
    assert back.read([1, *ids])[0] == list(b" the he\0 the<call>\0")
    student, here = tiny_llama(16, vocabulary=300), Batch.of(torch.tensor([[1, *ids]]))
    assert back.loss(student, here)["weight"] == len(ids) - 1  # nothing stands before the teacher's first token
    pieces.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    assert CrossTokenizer(teacher(300), pieces, pieces).loss(student, here)["weight"] == len(ids)


def test_a_teacher_that_changes_the_text_is_refused() -> None:
    lower = Tokenizer.from_str(BPE.backend_tokenizer.to_str())
    lower.normalizer = normalizers.Lowercase()
    signal = CrossTokenizer(teacher(290), PreTrainedTokenizerFast(tokenizer_object=lower), BYTES)
    with pytest.raises(TrainingError, match="changes the text: 'The café' becomes b'the caf"):
        signal.read(list("The café".encode()))


@pytest.mark.parametrize("merge", ["observed", "bayesian"])
def test_one_tokenizer_gives_singletons_and_the_plain_loss(merge: Any) -> None:
    here, there = batch(TEXT, "the café\0wizard"), teacher(256)
    signal = CrossTokenizer(there, BYTES, BYTES, merge=merge, beta=0.3, ce_weight=0.25)
    assert signal.shared == {token: token for token in range(256)}
    found = signal.loss(STUDENT, here)
    plain = Teaching(there, Divergence("generalized_jsd", beta=0.3), ce_weight=0.25).loss(STUDENT, here)
    assert found["weight"] == plain["weight"] == here.mask.sum()
    assert found["loss"].item() == pytest.approx(plain["loss"].item(), abs=1e-6)
    alone = CrossTokenizer(STUDENT, BYTES, BYTES, distance="sorted", merge=merge)
    assert alone.loss(STUDENT, here)["loss"].item() == pytest.approx(0, abs=1e-6)


def test_padding_weights_and_uncounted_tokens() -> None:
    signal = CrossTokenizer(teacher(290), BPE, BYTES)
    first, second = batch(TEXT), batch("the copper")
    both = batch(TEXT, "the copper")._replace(weight=torch.tensor([2.0, 0.5]))
    one, two, found = (signal.loss(STUDENT, each) for each in (first, second, both))
    assert found["weight"] == one["weight"] + two["weight"]
    expected = (2 * one["loss"] * one["weight"] + 0.5 * two["loss"] * two["weight"]) / found["weight"]
    assert found["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(TrainingError, match="not told, not packed"):
        signal.loss(STUDENT, first._replace(told=second))
    nothing = first._replace(counted=torch.zeros_like(first.counted))
    assert signal.loss(STUDENT, nothing)["weight"] == 0 == signal.loss(STUDENT, nothing)["loss"]
    half = first.counted.clone()
    half[:, : len("the naïve ca".encode())] = False
    fewer = signal.loss(STUDENT, first._replace(counted=half))["weight"]
    assert 0 < fewer < one["weight"]


def test_training_on_it_brings_the_student_closer() -> None:
    student, here = tiny_llama(16, vocabulary=256, context=256, seed=3), batch(TEXT)
    signal = CrossTokenizer(teacher(290), BPE, BYTES)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = signal.loss(student, here)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(weight.grad is None for weight in signal.teacher.parameters())


def test_gradients_of_merging_and_of_both_distances() -> None:
    draw = torch.Generator().manual_seed(0)
    student = torch.randn(5, 4, generator=draw, dtype=torch.float64).requires_grad_()
    told = torch.randn(3, 6, generator=draw, dtype=torch.float64).log_softmax(-1)
    tokens, shared = torch.tensor([0, 3, 1, 2, 2]), {1: 0, 4: 2}
    for merge in ("observed", "bayesian"):
        merged = partial(merge_spans, tokens=tokens, sizes=[2, 1, 2], merge=merge)
        for loss in (
            lambda s: sorted_distance(merged(s.log_softmax(-1)).exp(), told.exp()),  # noqa: B023
            lambda s: hybrid_distance(merged(s.log_softmax(-1)), told, shared)[0],  # noqa: B023
        ):
            assert torch.autograd.gradcheck(loss, (student,))


def test_out_of_range() -> None:
    for wrong in ({"beta": 0.0}, {"beta": 1.0}, {"temperature": 0.0}, {"ce_weight": 1.5}):
        with pytest.raises(ConfigError, match="needed are 0 < beta < 1"):
            CrossTokenizer(STUDENT, BYTES, BYTES, **wrong)
    words = CrossTokenizer(STUDENT, BYTES, BYTES, ce_weight=0.5).describe()
    assert words == "distil across tokenizers hybrid observed beta=0.5 temperature=1 ce_weight=0.5"


def _gold(section: dict[str, Any]) -> None:
    close = partial(torch.testing.assert_close, rtol=0, atol=2e-11)
    for case in section["cases"]:
        if "student_offsets" in case:
            ends = [[end for _, end in case[f"{side}_offsets"]] for side in ("student", "teacher")]
            spans = align_spans(*ends)
            assert [list(one) for one, _ in spans] == case["student_groups"]
            assert [list(one) for _, one in spans] == case["teacher_groups"]
            continue
        merged = []
        for side in ("student", "teacher"):
            sizes, ids = [len(group) for group in case[f"{side}_groups"]], torch.tensor(case[f"{side}_ids"])
            merged.append(merge_spans(exact(case[f"{side}_probs"]).log(), ids, sizes, case["strategy"]))
            close(merged[-1].exp(), exact(case[f"{side}_aligned"]))
        student, teacher = merged
        close(sorted_distance(student.exp(), teacher.exp()).mean(), exact(case["uld_sorted_l1"]))
        for beta in (0.0, 0.5, 1.0):
            expected = case[f"hybrid_beta_{beta}"]
            shared = {int(theirs): mine for theirs, mine in expected["teacher_to_student"].items()}
            assert expected["weights"] == "matched=3/7, unmatched=4/7" and (len(shared), teacher.shape[1]) == (3, 7)
            found = hybrid_distance(student, teacher, shared, beta)
            for value, name in zip(found, ("total", "matched", "unmatched"), strict=True):
                close(value.mean(), exact(expected[name]))


@pytest.mark.parity
def test_parity_of_spans_and_distances(parity: Any, walk_sections: Any) -> None:
    walk_sections(
        parity("llm-distillation-engines"),
        {"gold_uld": _gold},
        ignore=("dtype_note", "topk_tail_bucket", "distillkit_sparse", "liger_fused_linear_jsd"),
    )
