"""Forecasts of several windows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy

from forecasting.forecaster import registry, rollout

SPEC = tiny.SPEC
WINDOWS = 3
PARAMS = {"offset": jnp.zeros(())}


def _data(size=2):
  """Latents on straight lines, and the seconds of all windows."""
  rng = np.random.default_rng(0)
  start, speed = tiny.normal(rng, 2, size, 1, SPEC.h, SPEC.w, SPEC.channels)
  slots = np.arange(SPEC.tc + WINDOWS * SPEC.tf)[:, None, None, None]
  times = np.tile(0.1 * slots.reshape(-1), (size, 1)).astype(np.float32)
  return (start + slots * speed).astype(np.float32), times


def _rollout(noise, windows=WINDOWS, **fields):
  return rollout.Rollout(toy.Toy(SPEC, noise, **fields), SPEC, windows)


def test_a_line_goes_on_through_all_windows():
  line, times = _data()
  keys = jax.random.split(jax.random.key(0), 2)
  out = _rollout(0.0).sample(PARAMS, line[:, : SPEC.tc], times, keys, 2)
  expected = np.broadcast_to(line[:, None, SPEC.tc :], out.shape)
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
  assert rollout.long_spec(SPEC, WINDOWS).tf == out.shape[2]


def test_samples_and_windows_do_not_depend_on_how_many_there_are():
  line, times = _data(4)
  context = line[:, : SPEC.tc]
  keys = jax.random.split(jax.random.key(0), 4)
  many = _rollout(1.0).sample(PARAMS, context, times, keys, 5)
  few = _rollout(1.0).sample(PARAMS, context[1:2], times[1:2], keys[1:2], 2)
  np.testing.assert_allclose(few, many[1:2, :2], rtol=1e-5)
  short = _rollout(1.0, 2).sample(PARAMS, context, times, keys, 5)
  np.testing.assert_allclose(short, many[:, :, : short.shape[2]], rtol=1e-5)
  # Each window draws anew: its step is not the one of the window before.
  level = np.asarray(many - line[:, None, SPEC.tc :])[..., 0, 0, 0]
  first, second = level[..., 0], level[..., SPEC.tf] - level[..., SPEC.tf - 1]
  assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.9
  assert len(np.unique(level[..., -1].round(4))) == 20


def test_one_future_stays_one():
  line, times = _data()
  keys = jax.random.split(jax.random.key(0), 2)
  single = _rollout(1.0, deterministic=True)
  out = single.sample(PARAMS, line[:, : SPEC.tc], times, keys, 5)
  assert out.shape[1] == 1 and single.deterministic
  assert single.calls == 9


class _Network(toy.Denoiser):
  """Answers with the context's last slot, and shows the level it was told."""

  def apply(self, params, *args, method=None):
    if method == "encode_context":
      context, _, level, _ = args
      shown = jnp.zeros(context.shape[:2]) if level is None else level
      return context[:, -1] + 100 * shown[:, -1, None, None, None]
    last, z, _, _ = args
    return jnp.broadcast_to(last[:, None, None], z.shape)


def test_generated_context_is_noised_and_its_level_told():
  cfg = tiny.config()
  cfg.normalize.update(stats="none", target_transform="none")
  cfg.flow.context_noise = 0.2
  plain = registry.make_forecaster("flow", cfg, SPEC, None)
  network = _Network(plain.network.config, SPEC.channels)
  plain = dataclasses.replace(plain, network=network)
  long = rollout.Rollout(plain, SPEC, 2, context_level=0.1)
  line, times = _data()
  keys = jax.random.split(jax.random.key(0), 2)
  context = line[:, : SPEC.tc]
  out = np.asarray(long.sample({}, context, times[:, :8], keys, 1))[:, 0]
  np.testing.assert_allclose(out[:, 0], context[:, -1], rtol=1e-4, atol=1e-4)
  noise = (out[:, SPEC.tf] - 10 - 0.9 * context[:, -1]) / 0.1
  assert 0.8 < noise.std() < 1.2 and abs(noise.mean()) < 0.3


def _flow(**fields):
  cfg = tiny.config()
  cfg.sampler.chunk = 5
  cfg.update_from_flattened_dict(fields)
  return registry.make_forecaster("flow", cfg, SPEC, None)


def test_no_future_is_drawn_that_is_not_returned():
  flow = _flow()
  network = toy.Counting(flow.network.config, SPEC.channels)
  flow = dataclasses.replace(flow, network=network)
  line, times = _data()
  keys = jax.random.split(jax.random.key(0), 2)
  long = rollout.Rollout(flow, SPEC, WINDOWS)
  context = line[:, : SPEC.tc]
  assert toy.count_rows(long, {}, context, times, keys, 5) == 2 * 5 * long.calls


def test_later_windows_are_what_a_chunk_that_is_cut_gives():
  """Which key a sample draws with has not changed with the size of chunks."""
  flow = _flow()
  params = tiny.random_params(flow)
  data, (_, times) = tiny.batch(2), _data()
  keys = jax.random.split(jax.random.key(0), 2)
  long = rollout.Rollout(flow, SPEC, 2)
  times = times[:, : SPEC.tc + 2 * SPEC.tf]
  draw = jax.jit(flow.sample, static_argnums=4)
  whole = jax.jit(long.sample, static_argnums=4)
  out = np.asarray(whole(params, data["context"], times, keys, 3))
  seconds = times[:, : SPEC.tc + SPEC.tf]
  first = np.asarray(draw(params, data["context"], seconds, keys, 3))
  np.testing.assert_array_equal(out[:, :, : SPEC.tf], first)
  for sample in range(3):
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, sample)
    own = jax.vmap(jax.random.fold_in, (0, None))(own, 2**20 + 1)
    past = np.concatenate([data["context"], first[:, sample]], axis=1)
    later = times[:, SPEC.tf :] - times[:, SPEC.tf : SPEC.tf + 1]
    second = draw(params, past[:, SPEC.tf :], later, own, 1)
    np.testing.assert_allclose(
      out[:, sample, SPEC.tf :], second[:, 0], atol=1e-5
    )


@pytest.mark.parametrize("name", ["flow", "ddpm", "shortcut"])
def test_context_noise_that_was_not_trained_is_refused(name):
  cfg = tiny.config()
  forecaster = registry.make_forecaster(name, cfg, SPEC, None)
  with pytest.raises(ValueError, match=r"horizon\.context_level is 0\.1"):
    rollout.Rollout(forecaster, SPEC, 2, context_level=0.1)
  cfg.flow.context_noise = 0.2
  trained = registry.make_forecaster(name, cfg, SPEC, None)
  assert trained.context_noise == 0.2
  rollout.Rollout(trained, SPEC, 2, context_level=0.1)


@pytest.mark.parametrize("windows", [0, -1])
def test_no_window_is_refused(windows):
  with pytest.raises(ValueError, match="windows"):
    rollout.Rollout(toy.Toy(SPEC), SPEC, windows)
