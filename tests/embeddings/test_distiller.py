from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from limbeck.embeddings import Moments, ReverseDistiller, concatenated_pca, edge
from limbeck.errors import ConfigError, LimbeckError

REGRESSIONS = ("linear", "ridge", "pcr")


def same_up_to_sign(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-8) -> None:
    theirs = np.asarray(theirs)
    signs = np.sign((ours * theirs).sum(0))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours * signs, theirs, atol=tolerance)


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections):
    data = parity("reverse-distillation")
    x, n = [np.array(one) for one in data["E"]], data["n_train"]
    train = [one[:n] for one in x]
    assert [one.shape[1] for one in x] == data["dims"]

    def case(one):
        kind = one["regressor"]
        official = ReverseDistiller(kind, chain="official").fit(train)
        for level, theirs in enumerate(one["official_chain_out"], 1):
            same_up_to_sign(official.transform(x, level), theirs)
        same_up_to_sign(ReverseDistiller(kind).fit(train).transform(x), one["consistent_chain_level2_out"])
        for ours, theirs in zip(official.levels_, one["residual_pca_explained_variance"], strict=True):
            np.testing.assert_allclose(ours.residual[: len(theirs)], theirs, atol=1e-8)
            assert len(ours.components) == len(theirs)
        assert ("pcr" in one) == (kind == "pcr")
        for ours, theirs in zip(official.levels_, one.get("pcr", []), strict=False):
            np.testing.assert_allclose(ours.eigenvalues, theirs["eigenvalues"], atol=1e-8)
            assert ours.noise == pytest.approx(theirs["sigma_sq"], abs=1e-8)
            assert ours.threshold == pytest.approx(theirs["threshold"], abs=1e-8)
            assert ours.kept == theirs["n_significant"]
        assert set(one) <= {
            "regressor", "official_chain_out", "consistent_chain_level2_out", "residual_pca_explained_variance", "pcr"
        }  # fmt: skip

    def cases(each):
        assert [one["regressor"] for one in each] == ["linear", "ridge", "pcr"]
        for one in each:
            case(one)

    def naive(theirs):
        same_up_to_sign(concatenated_pca(train[:2], x[:2]), theirs)

    def johnstone(each):
        for one in each:
            assert one["s2"] * edge(one["n"], one["p"]) == pytest.approx(one["thr"], abs=1e-8)

    checks = {"cases": cases, "naive_level1_out": naive, "johnstone": johnstone}
    walk_sections(data, checks, ignore=("dims", "E", "n_train"))


@pytest.mark.parametrize("kind", REGRESSIONS)
@pytest.mark.parametrize("chain", ["consistent", "official"])
@pytest.mark.parametrize("form", [np.float32, np.float64])
def test_a_smaller_vector_is_the_start_of_a_larger_one_bit_for_bit(family, kind, chain, form):
    x = [one.astype(form) for one in family()]
    distiller = ReverseDistiller(kind, chain=chain).fit(x)
    largest = distiller.transform(x)
    assert largest.shape == (200, 10) and largest.dtype == form
    assert (largest[:, :3] == x[0]).all()
    for level, width in enumerate((3, 6, 10)):
        assert (distiller.transform(x, level) == largest[:, :width]).all()
        assert (distiller.transform(x[: level + 1]) == largest[:, :width]).all()


def test_what_is_added_is_uncorrelated_with_all_before_it(family):
    x = family()
    r = ReverseDistiller("linear").fit(x).transform(x)
    covariance = np.cov(r.T)
    for begin, end in ((3, 6), (6, 10)):
        assert np.abs(covariance[:begin, begin:end]).max() < 1e-10
        block = covariance[begin:end, begin:end]
        assert np.abs(block - np.diag(np.diag(block))).max() < 1e-10
        assert (np.diff(np.diag(block)) < 0).all()


def test_the_official_chain_is_no_projection_from_the_third_model_on(family):
    x = family()
    r = ReverseDistiller("linear", chain="official").fit(x).transform(x)
    covariance = np.cov(r.T)
    assert np.abs(covariance[:3, 3:6]).max() < 1e-10
    assert np.abs(covariance[:6, 6:]).max() > 0.1


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_components_are_orthonormal_rows_with_a_positive_largest_entry(family, kind):
    for level, width in zip(ReverseDistiller(kind).fit(family()).levels_, (3, 4), strict=True):
        assert len(level.components) == width
        np.testing.assert_allclose(level.components @ level.components.T, np.eye(width), atol=1e-12)
        assert (level.components[np.arange(width), np.abs(level.components).argmax(1)] > 0).all()


def test_a_linear_function_of_the_smaller_adds_nothing(family):
    x = family()[0]
    larger = x @ np.random.default_rng(1).standard_normal((3, 7)) + 2.0
    distiller = ReverseDistiller("linear").fit([x, larger])
    assert np.abs(distiller.transform([x, larger])[:, 3:]).max() < 1e-9
    assert distiller.levels_[0].told == pytest.approx(1.0) and distiller.lost_variance_ratio_[1] < 1e-12


def test_everything_new_is_kept_where_it_fits(family):
    x = family()[1]
    distiller = ReverseDistiller("linear").fit([x[:, :2], x])
    level, r = distiller.levels_[0], distiller.transform([x[:, :2], x])
    said = level.mean_y + (r[:, :2] - level.mean_x) @ level.coefficients + r[:, 2:] @ level.components
    np.testing.assert_allclose(said, x, atol=1e-10)
    assert distiller.lost_variance_ratio_[1] < 1e-12


@pytest.mark.parametrize("kind", REGRESSIONS)
@pytest.mark.parametrize("chain", ["consistent", "official"])
def test_batches_give_the_fit_of_all_rows(family, kind, chain, monkeypatch):
    x = family()
    whole = ReverseDistiller(kind, chain=chain).fit(x)
    streamed = ReverseDistiller(kind, chain=chain)
    for begin in range(0, 200, 7):
        streamed.partial_fit([one[begin : begin + 7] for one in x])
    np.testing.assert_allclose(streamed.transform(x), whole.transform(x), atol=1e-8)
    monkeypatch.setattr("limbeck.embeddings.moments.ROWS_AT_ONCE", 11)
    np.testing.assert_allclose(clone(whole).fit(x).transform(x), whole.transform(x), atol=1e-8)


def test_moments_keep_their_digits_beside_a_large_mean(family):
    x = [one + 1e6 for one in family()]
    moments = Moments()
    for begin in range(0, 200, 9):
        moments.update([one[begin : begin + 9] for one in x])
    np.testing.assert_allclose(moments.covariance, np.cov(np.hstack(x).T), atol=1e-9)
    assert moments.scatter.shape == (19, 19)


def test_a_rotation_of_the_larger_model_changes_signs_at_most(family):
    x = family()[:2]
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((6, 6)))
    turned = [x[0], x[1] @ rotation]
    ours = ReverseDistiller("linear").fit(turned).transform(turned)
    same_up_to_sign(ours, ReverseDistiller("linear").fit(x).transform(x), 1e-10)


def test_the_order_of_rows_does_not_matter(family):
    x, order = family(), np.random.default_rng(3).permutation(200)
    ours = ReverseDistiller().fit([one[order] for one in x]).transform(x)
    np.testing.assert_allclose(ours, ReverseDistiller().fit(x).transform(x), atol=1e-9)


def test_the_consistent_chain_is_two_fits_of_scikit_learn(family):
    x = family()
    r = x[0]
    for larger in x[1:]:
        rest = larger - LinearRegression().fit(r, larger).predict(r)
        r = np.hstack([r, PCA(larger.shape[1] - r.shape[1]).fit_transform(rest)])
    same_up_to_sign(ReverseDistiller("linear").fit(x).transform(x), r, 1e-9)


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_the_lost_variance_is_that_of_the_discarded_directions(family, kind):
    x = family()
    distiller = ReverseDistiller(kind).fit(x)
    level, r = distiller.levels_[0], distiller.transform(x, 1)
    rest = x[1] - level.mean_y - (x[0] - level.mean_x) @ level.coefficients
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(rest.T)))
    np.testing.assert_allclose(level.residual, eigenvalues[::-1], atol=1e-10)
    total = x[1].var(0, ddof=1).sum()
    missing = rest - r[:, 3:] @ level.components
    assert distiller.lost_variance_ratio_[1] == pytest.approx(eigenvalues[:3].sum() / total)
    assert distiller.lost_variance_ratio_[1] == pytest.approx(missing.var(0, ddof=1).sum() / total)
    assert level.told == pytest.approx(1 - rest.var(0, ddof=1).sum() / total)


def test_the_mean_may_be_taken_before(family):
    x = family()
    distiller = ReverseDistiller().fit(x)
    after, before = distiller.transform(x).mean(0), distiller.transform([one.mean(0)[None] for one in x])[0]
    np.testing.assert_allclose(after, before, atol=1e-10)


def test_a_saved_one_gives_the_same_bits(family, tmp_path):
    x = family()
    fitted = ReverseDistiller("ridge", penalty=3.0, chain="official").fit(x)
    path = fitted.save(tmp_path / "family.safetensors")
    loaded = ReverseDistiller.load(path)
    assert (loaded.transform(x) == fitted.transform(x)).all()
    assert loaded.get_params() == {"regression": "ridge", "penalty": 3.0, "chain": "official"}
    assert loaded.summary() == fitted.summary() and loaded.lost_variance_ratio_ == fitted.lost_variance_ratio_
    assert [one.name for one in tmp_path.iterdir()] == ["family.safetensors"]
    with pytest.raises(LimbeckError, match="no moments to add rows to"):
        loaded.partial_fit(x)
    assert (loaded.fit(x).transform(x) == fitted.transform(x)).all()


def test_what_it_says(family):
    fitted = ReverseDistiller("linear").fit(family())
    first, smallest, second, third = fitted.summary().splitlines()
    assert first == "200 rows, linear regression, consistent chain"
    assert smallest.strip() == "width     3  kept as it is"
    assert "width     6" in second and "3 of 3 components" in second and "6 of 6" in third
    record = fitted.to_dict()
    assert (
        record["rows"] == 200
        and record["widths"] == [3, 6, 10]
        and [one["width"] for one in record["levels"]] == [6, 10]
    )
    assert record["levels"][0]["lost"] == fitted.lost_variance_ratio_[1] > 0


def wrong_value(x):
    x[1][17, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: [x[0], x[1][:-1]], r"same rows; the matrices have \[200, 199\]"),
        (lambda x: [x[1], x[0]], r"widths must grow from model to model, given \[6, 3\]"),
        (lambda x: [x[0], x[0]], "widths must grow"),
        (wrong_value, r"the matrix of width 6 has a value that is not finite in row 17"),
        (lambda x: [one[:10] for one in x], "10 rows of widths .* more rows than the largest width"),
        (lambda x: x[:1], "needs two models"),
        (lambda x: [], "given none"),
        (lambda x: [one[0] for one in x], r"\[rows, width\]"),
        (lambda x: [x[0], x[1].astype(str)], "matrix of numbers"),
        (lambda x: [one[:0] for one in x], "matrix of numbers"),
    ],
)
def test_families_that_do_not_fit_are_refused(family, spoil, words):
    with pytest.raises(LimbeckError, match=words):
        ReverseDistiller().fit(spoil(family()))


def test_what_does_not_fit_the_fitted_family_is_refused(family):
    x = family()
    fitted = ReverseDistiller().fit(x)
    with pytest.raises(LimbeckError, match=r"widths \[3, 7\] do not fit a family of \[3, 6, 10\]"):
        fitted.transform([x[0], np.zeros((200, 7))])
    with pytest.raises(LimbeckError, match="level 2 cannot be made of 2 models"):
        fitted.transform(x[:2], 2)
    with pytest.raises(LimbeckError, match="batch of 2 models after batches of 3"):
        fitted.partial_fit(x[:2])
    with pytest.raises(LimbeckError, match="nothing is fitted yet"):
        ReverseDistiller().transform(x)
    with pytest.raises(ConfigError, match='chain "offical": choose'):
        ReverseDistiller(chain="offical").fit(x)
    with pytest.raises(ConfigError, match='regression "lasso"'):
        ReverseDistiller("lasso").fit(x)
    with pytest.raises(ConfigError, match="penalty -1"):
        ReverseDistiller("ridge", penalty=-1).fit(x)


def test_files_of_others_are_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    with pytest.raises(LimbeckError, match="no whole file"):
        ReverseDistiller.load(path)
    save_file({"w": np.zeros(3)}, path)
    with pytest.raises(LimbeckError, match="no whole file of a fitted reverse distillation"):
        ReverseDistiller.load(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(LimbeckError, match="limbeck embed fit"):
        ReverseDistiller.load(path)
