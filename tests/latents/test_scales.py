"""Further statistics, against all latents at once."""

import jax
import numpy as np
import pytest
from noise_store import NUM_CLIPS, make_example

from forecasting.latents import normalize, pca, scales


@pytest.fixture(name="latents")
def fixture_latents():
  clips = [make_example(i) for i in range(NUM_CLIPS)]
  context = np.stack([clip["context"] for clip in clips]).astype(np.float64)
  future = np.stack([clip["clip"][2:] for clip in clips]).astype(np.float64)
  return context, future


def _expected(context, future):
  sequence = np.concatenate([context, future], axis=1)
  last, speed = context[:, -1], context[:, -1] - context[:, -2]
  change = future - last[:, None]
  factor = np.empty(change.shape[1:2] + change.shape[-1:])
  std = np.empty_like(factor)
  for slot in range(factor.shape[0]):
    for channel in range(factor.shape[1]):
      x, y = speed[..., channel].ravel(), change[:, slot, ..., channel].ravel()
      factor[slot, channel] = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
      std[slot, channel] = np.sqrt(
        np.mean((y - factor[slot, channel] * x) ** 2)
      )
  return {
    "mean": sequence.mean((0, 1, 2, 3)),
    "residual_std": change.std((0, 2, 3)),
    "element_mean": sequence.mean(0),
    "element_std": sequence.std(0),
    "linear_factor": factor,
    "linear_std": std,
  }


# forecaster.md test 13.
TOLERANCE = 1e-6


def _check(found, expected, tolerance=TOLERANCE):
  for name, value in expected.items():
    np.testing.assert_allclose(
      getattr(found, name), value, rtol=tolerance, atol=tolerance, err_msg=name
    )


def test_statistics_of_channels(write, latents):
  found = scales.compute_scales(write())
  _check(found, _expected(*latents))
  assert found.codec is None


@pytest.mark.parametrize("batch_size", [1, 4, NUM_CLIPS])
def test_order_and_batches_do_not_matter(latents, batch_size):
  order = np.random.default_rng(batch_size).permutation(NUM_CLIPS)
  accumulator = scales.ScalesAccumulator()
  for start in range(0, NUM_CLIPS, batch_size):
    rows = order[start : start + batch_size]
    accumulator.update(*(part[rows].astype(np.float32) for part in latents))
  _check(accumulator.finish(), _expected(*latents))


def _compute(store, components):
  codec = pca.compute_pca(store, normalize.compute_stats(store), components)
  return scales.compute_scales(store, codec, f"pca-{components}")


@pytest.mark.parametrize("components", [2, 5])
def test_statistics_of_components(write, latents, components):
  found = _compute(write(), components)
  codec = found.codec
  rows = np.concatenate(latents, axis=1).reshape(-1, 5)
  variances = np.linalg.eigvalsh(np.cov(rows.T, ddof=0))[::-1]
  assert codec.shape == codec.basis.shape == (5, components)
  np.testing.assert_allclose(
    codec.basis.T @ codec.basis, np.eye(components), atol=1e-6
  )
  for std in (found.std, codec.deviation):
    np.testing.assert_allclose(std, np.sqrt(variances[:components]), rtol=1e-5)
  share = variances[:components].sum() / variances.sum()
  np.testing.assert_allclose(codec.explained, share, rtol=1e-6)
  np.testing.assert_allclose(codec.total, variances.sum(), rtol=1e-6)
  basis, center = (np.float64(x) for x in (codec.basis, codec.center))
  np.testing.assert_allclose(center, rows.mean(0), rtol=1e-5)
  encoded = (np.float64(codec.encode(np.float32(x))) for x in latents)
  _check(found, _expected(*encoded))
  # The codec makes components in float32.
  expected = _expected(*((x - center) @ basis for x in latents))
  _check(found, expected, 2e-5)
  if components == 5:
    back = codec.decode(codec.encode(np.float32(rows)))
    np.testing.assert_allclose(back, rows, atol=1e-5)


def test_kept_with_the_store_by_number_of_components(write, monkeypatch):
  store = write()
  first = _compute(store, 2)
  with monkeypatch.context() as patch:
    patch.setattr(type(store), "read", None)  # a second pass would fail
    again = _compute(store, 2)
    with pytest.raises(TypeError):
      _compute(store, 3)
  jax.tree.map(np.testing.assert_array_equal, first, again)


@pytest.mark.parametrize("components", [0, 6])
def test_more_components_than_channels_are_refused(write, components):
  store = write()
  with pytest.raises(ValueError, match="have 5 channels: expected 1 to 5"):
    pca.compute_pca(store, normalize.compute_stats(store), components)
