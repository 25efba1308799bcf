"""Autoencoders of training latents: trained, kept, trained again."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting import compression
from forecasting import config as config_lib
from forecasting.latents import pca, store, vae
from forecasting.training import loop, mesh, steps

sys.path.insert(0, str(Path(__file__).parent / "latents"))
import noise_store


def _surface(rng, count):
  """A bent sheet in 6 dimensions: 2 numbers say all, linearly they do not."""
  u, v = rng.normal(size=(2, count))
  rows = np.stack([2 * u, 2 * v, u**2, u * v, v**2, np.sin(2 * u)], 1)
  mixing = np.random.default_rng(1).normal(size=(6, 6))
  return (rows @ np.linalg.qr(mixing)[0]).astype(np.float32)


def _trained(trainee, batches):
  """Parameters after a step on each batch."""
  one = mesh.make_mesh(1, jax.devices()[:1])
  key = trainee.key(0)
  state = trainee.create_state(one, key)

  @jax.jit
  def run(state, batches):
    step = lambda state, batch: steps.train_step(trainee, state, batch, key)  # noqa: E731
    return jax.lax.scan(step, state, batches)

  state, metrics = run(state, batches)
  return state.ema, metrics


def test_a_bent_surface_is_kept_where_principal_components_lose_it():
  rng, count = np.random.default_rng(0), 200
  tokens = _surface(rng, 20_000)
  centered = tokens - tokens.mean(0)
  _, lengths, rows = np.linalg.svd(centered, full_matrices=False)
  lost = 1 - (lengths[:2] ** 2).sum() / (lengths**2).sum()
  assert 0.2 < lost < 0.6
  variances = lengths**2 / len(tokens)
  linear = pca.Pca(
    *(
      np.float32(x)
      for x in (
        rows[:2].T,
        tokens.mean(0),
        np.sqrt(variances[:2]),
        variances.sum(),
      )
    )
  )
  settings = config_lib.base_config().forecaster.vae
  settings.update(width=32, steps=count)
  settings.optimizer.update(learning_rate=3e-3)
  draws = rng.integers(0, len(tokens), (count, 2, 3, 6, 6))
  clips = tokens[draws]
  batches = {"context": clips[:, :, :2], "clip": clips[:, :, 1:]}
  trainee = compression.vae_trainee(settings, linear, 1)
  weights, metrics = _trained(trainee, jax.tree.map(jnp.asarray, batches))
  np.testing.assert_allclose(metrics["unexplained"][0], lost, rtol=0.5)
  codec = vae.Vae(linear, weights)
  unseen = _surface(np.random.default_rng(5), 4096)
  left = unseen - jax.jit(lambda x: codec.decode(codec.encode(x)))(unseen)
  share = np.square(left).sum() / np.square(unseen - tokens.mean(0)).sum()
  assert share < 0.05 * lost


def _config(**fields):
  cfg = config_lib.base_config()
  cfg.forecaster.compress = "vae(2)"
  cfg.forecaster.vae.update(width=8, steps=6)
  cfg.train.update(batch_size=4, checkpoint_every=2, log_every=2)
  cfg.update_from_flattened_dict(fields)
  return cfg


@pytest.fixture(scope="module", name="made")
def fixture_made(tmp_path_factory):
  """A store, and the statistics of its components."""
  path = tmp_path_factory.mktemp("compression")
  latents = store.write_store(
    path / "store", noise_store.make_manifest(), noise_store.make_examples
  )
  found = compression.statistics(_config(), latents, path / "run")
  return path, latents, found


def _forbid_training(patch):
  def refuse(*args, **kwargs):
    raise AssertionError("trained again")

  patch.setattr(loop, "fit", refuse)


def test_scales_are_those_of_the_means(made):
  _, _, found = made
  assert found.codec.kind == "vae" and found.codec.shape == (5, 2)
  clips = [noise_store.make_example(i) for i in range(noise_store.NUM_CLIPS)]
  sequences = np.stack(
    [np.concatenate([clip["context"], clip["clip"][2:]]) for clip in clips]
  )
  means = np.asarray(jax.jit(found.codec.encode)(sequences), np.float64)
  np.testing.assert_allclose(found.mean, means.mean((0, 1, 2, 3)), atol=1e-5)
  np.testing.assert_allclose(found.std, means.std((0, 1, 2, 3)), rtol=1e-5)
  # Last layers start at zero.
  for side in ("encode", "decode"):
    assert np.all(found.codec.weights[f"{side}_2_kernel"] != 0)


def test_is_kept_beside_the_store(made, tmp_path, monkeypatch):
  path, latents, found = made
  files = sorted(file.name for file in latents.path.glob("*vae-2-*"))
  assert len(files) == 2 and files[0].replace("scales-", "") == files[1]
  assert (path / "run" / Path(files[1]).stem / "metrics.jsonl").exists()
  with monkeypatch.context() as patch:
    _forbid_training(patch)
    patch.setattr(type(latents), "read", None)
    again = compression.statistics(_config(), latents, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, again, found)


@pytest.mark.parametrize(
  ("field", "value"), [("seed", 1), ("forecaster.vae.kl_weight", 1e-3)]
)
def test_other_settings_train_another(
  made, monkeypatch, tmp_path, field, value
):
  _forbid_training(monkeypatch)
  with pytest.raises(AssertionError, match="trained again"):
    compression.statistics(_config(**{field: value}), made[1], tmp_path)


def test_killed_or_damaged_it_ends_the_same(made, tmp_path, monkeypatch):
  _, latents, found = made
  (file,) = latents.path.glob("vae-2-*")
  content = bytearray(file.read_bytes())
  content[-3] ^= 1
  file.write_bytes(content)
  with monkeypatch.context() as patch:
    batches = iter(range(5))

    def interrupt(*args):
      if next(batches) == 3:
        raise KeyboardInterrupt
      return mesh.shard_batch(*args)

    patch.setattr(loop, "shard_batch", interrupt)
    with pytest.raises(KeyboardInterrupt):
      compression.statistics(_config(), latents, tmp_path)
  again = compression.statistics(_config(), latents, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, again, found)
