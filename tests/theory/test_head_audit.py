from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from limbeck.errors import ConfigError, FittingError
from limbeck.theory import audit_heads, overlaps
from limbeck.theory.head_audit import StoredMatrix, find_head, read_tensors

NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "<i1"}


def write(path, tensors):
    """A safetensors file, written here: {name: (type, array of its bits)}."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, (kind, values) in tensors.items():
        raw = values.astype(NUMPY[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": values.shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)


def matrix(n=60, m=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, m))


@pytest.mark.parametrize(("kind", "tolerance"), [("F64", 1e-12), ("F32", 1e-6), ("F16", 2e-3), ("BF16", 2e-2)])
def test_every_type_reads_as_numbers(tmp_path, kind, tolerance):
    w = matrix()
    bits = (w.astype(np.float32).view(np.uint32) >> 16) if kind == "BF16" else w
    write(tmp_path / "model.safetensors", {"bias": ("F32", np.ones(3)), "lm_head.weight": (kind, bits)})
    stored = find_head(read_tensors(tmp_path))
    np.testing.assert_allclose(stored[np.array([3, 59, 0])], w[[3, 59, 0]], atol=4 * tolerance)
    found = audit_heads([tmp_path]).audits[0]
    assert found.plain.mean == pytest.approx(overlaps(w).mean, rel=4 * tolerance)


def test_transformers_folder_in_shards_reads_like_the_model(tmp_path):
    torch = pytest.importorskip("torch")
    from limbeck.lm import tiny_llama

    model = tiny_llama(24, vocabulary=300)
    model.to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    record = audit_heads([tmp_path]).to_dict()["models"][0]
    assert record["tensor"] == "model.embed_tokens.weight" and record["plain"]["rows"] == 300
    weight = model.get_output_embeddings().weight.detach().float().numpy()
    assert record["plain"]["mean"] == pytest.approx(overlaps(weight).mean, rel=1e-6)
    assert record["regime"] == "strong"


def test_padding_rows_are_left_out_and_counted(tmp_path):
    w = matrix(64)
    w[50:] = 0
    w[7] = 0
    write(tmp_path / "model.safetensors", {"transformer.wte.weight": ("F32", w)})
    words = {"model": {"vocab": {f"t{i}": i for i in range(48)}}, "added_tokens": [{"id": 49}, {"id": 48}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    found = audit_heads([tmp_path]).audits[0]
    assert (found.padding, found.plain.zero, found.plain.rows) == (14, 1, 49)
    assert "left out: 14 padding, 1 zero rows" in found.summary()
    assert audit_heads([tmp_path], tokens=20).audits[0].plain.rows == 19
    pairs = [[f"t{i}", -1.0] for i in range(30)]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": pairs}}))
    assert audit_heads([tmp_path]).audits[0].padding == 34


def test_regimes(tmp_path):
    def regime(w):
        write(tmp_path / "model.safetensors", {"embed_out.weight": ("F32", w)})
        return audit_heads([tmp_path]).audits[0].regime

    w = matrix(200, 16)
    assert regime(w) == "strong"
    assert regime(w + 5) == "strong"  # a common mean is no lack of directions
    weak = w.copy()
    weak[16:] *= 0.01
    assert regime(weak) == "weak"
    line = np.outer(np.sign(w[:, 0]), w[0]) + 0.01 * w
    assert regime(line) == "undecided"
    assert regime(np.eye(16)[:10]) == "no"


def test_a_narrow_embedding_is_read_through_its_projection(tmp_path):
    w, out = matrix(40, 6), matrix(6, 12, 1)
    tensors = {"decoder.embed_tokens.weight": ("F32", w), "decoder.project_out.weight": ("F32", out)}
    write(tmp_path / "model.safetensors", tensors)
    found = audit_heads([tmp_path]).audits[0]
    assert found.plain.width == 12
    assert found.plain.mean == pytest.approx(overlaps(w @ out).mean, rel=1e-6)


def test_several_widths_give_the_exponent_of_random_directions(tmp_path):
    for m in (8, 16, 32, 64):
        (tmp_path / str(m)).mkdir()
        write(tmp_path / str(m) / "model.safetensors", {"lm_head.weight": ("F32", matrix(500, m, m))})
    audits = audit_heads([tmp_path / str(m) for m in (8, 16, 32, 64)])
    # m⟨o²⟩ has a s.e. below 0.01 each, the slope over a factor of 8 one below 0.01
    assert audits.trend.exponent == pytest.approx(1, abs=0.04)
    assert "over 4 models" in audits.summary() and audits.to_dict()["exponent"] == audits.trend.exponent
    assert len(audits.plot().data) == 5
    density = np.array(audits.audits[3].centred.density)
    # half-normal: 0.8 at 0; 5 % of 124 750 pairs a bin, s.e. below 0.01
    assert density.sum() * 0.1 == pytest.approx(1, abs=0.01) and density[0] == pytest.approx(0.8, abs=0.04)
    same = audit_heads([tmp_path / "8", tmp_path / "8"])
    assert same.trend is None and "exponent" not in same.to_dict()


def test_what_cannot_be_audited_says_why(tmp_path):
    def refused(words, **options):
        with pytest.raises((ConfigError, FittingError), match=words):
            audit_heads([tmp_path / "m"], **options)

    refused("does not exist")
    folder = tmp_path / "m"
    folder.mkdir()
    refused("save a model there")
    (folder / "pytorch_model.bin").write_bytes(b"")
    refused("may hold code")
    path = folder / "model.safetensors"
    for junk in (
        b"",
        b"not a model at all",
        b"\xff" * 64,
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 2) + b"[]",
    ):
        path.write_bytes(junk)
        refused("not a whole safetensors file")
    write(path, {"lm_head.weight": ("F32", matrix())})
    path.write_bytes(path.read_bytes()[:-100])
    refused("not a whole")
    write(path, {"lm_head.weight": ("F32", matrix())})
    refused('no matrix is named "lm_head".*the tallest are lm_head.weight', tensor="lm_head")
    for shape, offsets in (([60, 9], [0, 1920]), ([60, 8], [-8, 1912]), (["60", 8], [0, 1920]), ([-60, -8], [0, 1920])):
        head = json.dumps({"lm_head.weight": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(1920))
        refused("not a whole|give --tokens")
    write(path, {"lm_head.weight": ("F32", matrix())})
    refused("60 rows for 61 tokens", tokens=61)
    refused("60 rows for 1 tokens", tokens=1)
    (folder / "tokenizer.json").write_text("{}")
    refused("--tokens")
    (folder / "tokenizer.json").unlink()
    write(path, {"lm_head.weight": ("I8", np.ones((4, 4)))})
    refused("stored as I8")
    write(path, {"layers.0.weight": ("F32", matrix()), "bias": ("F32", np.ones(3))})
    refused("the tallest are layers.0.weight")
    write(path, {"bias": ("F32", np.ones(3))})
    refused("the tallest are none at all")
    write(path, {"lm_head.weight": ("F32", np.full((4, 4), np.nan))})
    refused("4 are not finite")


def test_a_matrix_larger_than_memory_is_read_in_parts(tmp_path, monkeypatch):
    read = []
    original = StoredMatrix.__getitem__
    monkeypatch.setattr(StoredMatrix, "__getitem__", lambda self, rows: read.append(len(rows)) or original(self, rows))
    write(tmp_path / "model.safetensors", {"lm_head.weight": ("F16", matrix(9000, 4))})
    found = audit_heads([tmp_path], sample=1000).audits[0]
    assert max(read) <= 4096 and found.plain.pairs == 499500
    assert "(5.0e+05 pairs)" in found.summary()
