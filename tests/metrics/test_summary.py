"""The scores of a result row, against the metrics they are made of."""

import dataclasses

import numpy as np
import pytest

from forecasting.metrics import (
  frechet,
  frechet_bootstrap,
  proper,
  summary,
  variance,
)
from forecasting.metrics.vectors import Vectors


def rows(num_samples, num_clips=40, seed=0):
  rng = np.random.default_rng(seed)
  return Vectors(
    pred=rng.normal(size=(num_clips, num_samples, 4)) * 1.5,
    truth=rng.normal(size=(num_clips, 4)),
    example=np.arange(num_clips),
    track=np.zeros(num_clips, int),
    num_examples=num_clips,
    num_dropped=0,
    num_frames=2,
  )


def test_distribution_scores_are_those_of_the_metrics():
  vectors = rows(6)
  scores, fields = summary.distribution_scores(vectors, 50, 10)
  assert scores["fd"]["value"] == frechet.fd(vectors).value
  assert scores["fd_1"]["value"] == frechet.fd_1(vectors).value
  assert scores["fd"]["value"] != scores["fd_1"]["value"]
  score = proper.energy_score(vectors.pred, vectors.truth).mean()
  assert scores["energy_score"]["value"] == pytest.approx(score)
  for name in ("fd", "fd_1", "energy_score", "crps", "spread_skill"):
    entry = scores[name]
    assert entry["low"] < entry["value"] < entry["high"], name
  assert len(fields["spread_skill_per_lead"]) == 2
  assert sum(fields["rank_histogram"]) == pytest.approx(1.0)
  assert fields["fd_rows"] == [40, 240]
  assert len(fields["fd_1_replicates"]) == 10  # of one sample per clip
  assert fields["fd_1_replicates"] == pytest.approx(
    frechet_bootstrap.frechet_replicates(vectors.first_sample(), 10), rel=1e-5
  )
  halves = [
    dataclasses.replace(
      vectors,
      pred=vectors.pred[..., part],
      truth=vectors.truth[:, part],
      num_frames=1,
    )
    for part in (slice(0, 2), slice(2, 4))
  ]
  alone = [summary.distribution_scores(half, 5, 5)[0] for half in halves]
  for name in ("energy_score", "crps", "rank_deviation"):
    expected = [scores[name]["value"] for scores in alone]
    np.testing.assert_allclose(fields[f"{name}_per_lead"], expected)
  counts = np.zeros(7)
  for row, truth in zip(vectors.pred, vectors.truth):
    for column, value in zip(row.T, truth):
      counts[(column < value).sum()] += 1
  deviation = np.abs(counts / counts.sum() - 1 / 7).sum() / 2
  assert scores["rank_deviation"]["value"] == pytest.approx(deviation)
  variance = np.mean([row.var(0, ddof=1).mean() for row in vectors.pred])
  assert scores["spread"]["value"] == pytest.approx(variance)


def test_means_of_each_frame_leave_out_what_has_no_value():
  values = np.array([[[1.0, 2.0], [3.0, np.nan]], [[np.nan] * 2] * 2])
  finite = np.ones(values.shape, bool)
  assert summary.means_per_lead(values, finite) == [2.0, 2.0]
  finite[1, 1, 0] = False
  found = summary.means_per_lead(values, finite)
  assert np.isnan(found[0]) and found[1] == 2.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_member_that_is_not_finite_leaves_no_score_that_uses_it(value):
  # The hardest clips: leaving them out would make the rest look good.
  vectors = rows(3, num_clips=20)
  vectors.truth[10:] += 50.0
  clean, _ = summary.distribution_scores(vectors, 20, 5)
  vectors.pred[10:, 2, 3] = value
  spoilt, fields = summary.distribution_scores(vectors, 20, 5)
  assert clean["energy_score"]["value"] > 20
  for name, entry in spoilt.items():
    if name == "fd_1" or name.startswith("truth"):
      assert entry == clean[name], name
      continue
    assert np.isnan([entry["value"], entry["low"], entry["high"]]).all(), name
    assert entry["reason"] == "10 of 60 forecasts of rows are not finite"
  for name in (n for n in fields if n.endswith("_per_lead")):
    assert np.isfinite(fields[name]).tolist() == [True, False], name
  assert np.isnan(fields["rank_histogram"]).all()


def test_a_truth_that_is_not_finite_is_left_out():
  vectors = rows(3, num_clips=20)
  vectors.truth[4] = np.nan
  scores, _ = summary.distribution_scores(vectors, 20, 5)
  kept = np.arange(20) != 4
  expected = proper.energy_score(vectors.pred[kept], vectors.truth[kept]).mean()
  assert scores["energy_score"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize(
  ("members", "split"), [(1, False), (2, True), (5, True), (6, False)]
)
def test_members_of_an_ensemble_split_its_spread(members, split):
  vectors = rows(6)
  scores, fields = summary.distribution_scores(vectors, 20, 5, members)
  alone, _ = summary.distribution_scores(vectors, 20, 5)
  assert {name: scores[name] for name in alone} == alone
  assert fields.get("members") == (members if split else None)
  assert ("spread_between" in scores) == ("spread_within" in scores) == split
  if split:
    between, within = variance.by_member(vectors.pred, members)
    assert scores["spread_between"]["value"] == pytest.approx(between.mean())
    assert scores["spread_within"]["value"] == pytest.approx(within.mean())


def test_one_sample_has_no_spread_and_one_frechet_distance():
  scores, fields = summary.distribution_scores(rows(1), 20, 5)
  assert scores["fd"] == scores["fd_1"]
  assert "spread_skill" not in scores
  assert "rank_histogram" not in fields


def test_without_complete_rows_there_are_no_distribution_scores():
  scores, fields = summary.distribution_scores(rows(3, num_clips=0), 20, 5)
  assert scores == {}
  assert fields["num_rows"] == 0


@pytest.mark.parametrize("higher", [True, False])
def test_best_follows_the_direction_of_the_metric(higher):
  values = np.array([[1.0, 3.0], [2.0, 6.0], [np.nan, np.nan]])
  scores, total = summary.sample_scores(values, higher, 20)
  assert scores["mean"]["value"] == pytest.approx(3.0)
  assert scores["best"]["value"] == pytest.approx(4.5 if higher else 1.5)
  assert (total.num_examples, total.num_excluded) == (2, 1)
