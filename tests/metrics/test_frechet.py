import numpy as np
import pytest
import scipy.linalg

from forecasting.metrics import frechet
from forecasting.metrics.frechet import fd, fd_1, frechet_distance
from forecasting.metrics.vectors import Vectors


def _rows(num, dims, seed, decay=0.5):
  rng = np.random.default_rng(seed)
  scale = np.arange(1, dims + 1) ** -decay
  rotation = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
  return (rng.normal(size=(num, dims)) * scale) @ rotation + 0.1


def _square_root(pred, truth):
  """The textbook formula, with a matrix square root."""
  c1, c2 = np.cov(pred, rowvar=False), np.cov(truth, rowvar=False)
  root = scipy.linalg.sqrtm(c1 @ c2).real
  shift = pred.mean(0) - truth.mean(0)
  return shift @ shift + np.trace(c1 + c2 - 2 * root)


def _traces(pred, truth):
  return pred.var(0, ddof=1).sum() + truth.var(0, ddof=1).sum()


@pytest.mark.parametrize(
  ("num_pred", "num_truth", "dims"), [(60, 50, 5), (400, 90, 24), (60, 70, 48)]
)
def test_matches_the_matrix_square_root_at_full_rank(num_pred, num_truth, dims):
  pred, truth = _rows(num_pred, dims, 0), _rows(num_truth, dims, 1)
  expected = _square_root(pred, truth)
  assert frechet_distance(pred, truth) == pytest.approx(expected, rel=1e-8)


def test_one_dimension_by_hand():
  # Means 1 and 5, variances 1 and 4: 16 + 1 + 4 - 2 * 2.
  pred = np.array([[0.0], [1.0], [2.0]])
  truth = np.array([[3.0], [5.0], [7.0]])
  assert frechet_distance(pred, truth) == pytest.approx(17.0, rel=1e-14)


def test_rank_deficient_sets_equal_their_own_subspace():
  pred, truth = _rows(20, 6, 2), _rows(30, 6, 3)
  basis = np.linalg.qr(np.random.default_rng(4).normal(size=(200, 6)))[0].T
  expected = _square_root(pred, truth)
  wide = frechet_distance(pred @ basis, truth @ basis)
  assert wide == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("num", [3, 30, 200])
def test_every_route_gives_the_same_value(num, monkeypatch):
  pred, truth = _rows(num, 40, 5), _rows(120, 40, 6)
  _, a = frechet._standardize(pred)
  _, b = frechet._standardize(truth)
  direct = np.linalg.svd(a @ b.T, compute_uv=False).sum()
  rest = _traces(pred, truth) + np.square(pred.mean(0) - truth.mean(0)).sum()
  expected = rest - 2 * direct
  assert frechet_distance(pred, truth) == pytest.approx(expected, rel=1e-9)
  monkeypatch.setattr(frechet, "_SMALL", 0)
  assert frechet_distance(pred, truth) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("decay", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("shift", [1e-3, 1.0])
def test_eigenvalues_are_taken_only_where_they_are_accurate(
  decay, shift, monkeypatch
):
  truth = _rows(150, 60, 7, decay)
  pred = truth + shift * _rows(150, 60, 8, decay)
  expected = frechet_distance(pred, truth)
  monkeypatch.setattr(frechet, "_SMALL", 0)
  value = frechet_distance(pred, truth)
  # Rounding of the traces alone is 1e-15 of them.
  slack = 1e-14 * _traces(pred, truth)
  assert value == pytest.approx(expected, rel=1e-8, abs=slack)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
def test_cholesky_factor_is_taken_only_where_it_is_accurate(decay, monkeypatch):
  truth, pred = _rows(300, 40, 16, decay), _rows(200, 40, 17, 0.8 * decay)
  value = frechet_distance(pred, truth)
  monkeypatch.setattr(frechet, "_MIN_PIVOT", 2.0)
  assert value == pytest.approx(frechet_distance(pred, truth), rel=1e-8)


def test_poorly_conditioned_rows_are_not_squared(monkeypatch):
  rng = np.random.default_rng(18)
  rotation = np.linalg.qr(rng.normal(size=(20, 20)))[0]
  scale = np.array([1.0] + [2e-8] * 19)
  truth = (rng.normal(size=(300, 20)) * scale) @ rotation
  pred = truth + 1e-3 * rng.normal(size=(300, 20))
  value = frechet_distance(pred, truth)
  monkeypatch.setattr(frechet, "_MIN_PIVOT", 2.0)
  exact = frechet_distance(pred, truth)
  assert value == pytest.approx(exact, rel=1e-8)
  monkeypatch.setattr(frechet, "_MIN_PIVOT", 0.0)
  assert frechet_distance(pred, truth) != pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize(("num", "dims"), [(50, 8), (8, 50)])
def test_identical_sets_have_no_distance(num, dims):
  rows = _rows(num, dims, 9)
  assert frechet_distance(rows, rows) <= 1e-9 * rows.var(0).sum()


def test_constant_sides():
  pred = np.tile([1.0, 2.0], (5, 1))
  truth = _rows(7, 2, 10)
  shift = np.square(pred.mean(0) - truth.mean(0)).sum()
  expected = shift + truth.var(0, ddof=1).sum()
  assert frechet_distance(pred, truth) == pytest.approx(expected, rel=1e-12)
  assert frechet_distance(truth, pred) == pytest.approx(expected, rel=1e-12)
  assert frechet_distance(pred, pred + np.array([3.0, 4.0])) == pytest.approx(
    25.0
  )


def test_too_few_rows_or_non_finite_rows_are_nan():
  rows = _rows(6, 3, 11)
  for few in (rows[:0], rows[:1]):
    assert np.isnan(frechet_distance(few, rows))
    assert np.isnan(frechet_distance(rows, few))
  bad = rows.copy()
  bad[2, 1] = np.nan
  assert np.isnan(frechet_distance(bad, rows))


def test_order_of_rows_and_a_common_shift_do_not_matter():
  pred, truth = _rows(30, 5, 12), _rows(40, 5, 13)
  value = frechet_distance(pred, truth)
  assert frechet_distance(truth, pred) == pytest.approx(value, rel=1e-10)
  shuffled = np.random.default_rng(0).permutation(pred)
  assert frechet_distance(shuffled, truth) == pytest.approx(value, rel=1e-10)
  moved = frechet_distance(pred + 7, truth + 7)
  assert moved == pytest.approx(value, rel=1e-9)


def test_pooled_and_first_sample_distances():
  rng = np.random.default_rng(14)
  vectors = Vectors(
    pred=rng.normal(size=(20, 4, 6)) * 2,
    truth=rng.normal(size=(20, 6)),
    example=np.arange(20),
    track=np.zeros(20, int),
    num_examples=20,
    num_dropped=0,
    num_frames=3,
  )
  pooled, first = fd(vectors), fd_1(vectors)
  rows = vectors.pred.reshape(80, 6)
  assert pooled.value == frechet_distance(rows, vectors.truth)
  assert first.value == frechet_distance(vectors.pred[:, 0], vectors.truth)
  assert (pooled.num_pred, pooled.num_truth, pooled.num_samples) == (80, 20, 4)
  assert (first.num_pred, first.num_truth, first.num_samples) == (20, 20, 1)


@pytest.mark.parametrize(("num", "flag"), [(6, True), (7, False)])
def test_rank_flag_is_raised_at_as_many_rows_as_dimensions(num, flag):
  result = frechet.FrechetDistance(0.0, 100, num, 1, 6)
  assert result.rank_deficient is flag
  result = frechet.FrechetDistance(0.0, num, 100, 1, 6)
  assert result.rank_deficient is flag
