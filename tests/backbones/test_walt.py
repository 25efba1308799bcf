"""Features and native forecasts: noise, slots, the checkpoint layout."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from forecasting.backbones import encode
from forecasting.backbones.spec import BackboneSpec
from forecasting.backbones.walt_native import native_samples
from forecasting.backbones.weights import save_weights
from forecasting.backbones.zoo import get_spec

SPEC = BackboneSpec(
  name="walt_toy",
  family="walt",
  resolution=8,
  num_frames=4,
  tubelet=2,
  patch=2,
  width=12,
  depth=3,
  heads=2,
  mlp_dim=16,
  mean=(0.5, 0.5, 0.5),
  std=(0.5, 0.5, 0.5),
  layer="0.667",
  stochastic=True,
  sizes={
    "tokenizer": {
      "width": 4,
      "multipliers": (1, 1),
      "channels": 3,
      "num_blocks": 1,
      "halves_time": (True,),
      "groups": 2,
    },
    "tube": (2, 2),
    "rank": 2,
    "null_text": (2, 5),
  },
  options={"noise_level": 200, "native_noise_level": 999, "noise_seed": 0},
)
NETWORK = encode.build_network(SPEC)
AMPLITUDE = 0.8089393  # at level 200
KEYS = jax.random.split(jax.random.key(7), 2)
VIDEO = jnp.array(np.random.default_rng(1).random((2, 4, 8, 8, 3), np.float32))
num_values = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731


@pytest.fixture(scope="module")
def toy():
  """A backbone in whose weights nothing is zero or one."""
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: rng.normal(0.0, 0.3, leaf.shape).astype(np.float32),
    encode.parameter_shapes(SPEC),
  )
  params["stats"]["latent_std"] = np.abs(params["stats"]["latent_std"]) + 0.1
  blocks = encode.num_blocks(SPEC, "default")
  assert blocks == 2
  return encode.Backbone(SPEC, params, "test", blocks, "crop_pos")


def _noise(keys, slots):
  return jnp.stack(
    [
      jnp.stack(
        [
          jax.random.normal(jax.random.fold_in(keys[clip], slot), (4, 4, 3))
          for slot in range(slots)
        ]
      )
      for clip in range(2)
    ]
  )


@pytest.fixture(scope="module")
def run(toy):
  """Everything at once, from the backbone and from its parts."""

  @jax.jit
  def everything(params, video, keys):
    bound = NETWORK.bind({"params": params})
    text = jnp.stack([params["null_text"]] * 2)
    mean, std = params["stats"]["latent_mean"], params["stats"]["latent_std"]

    def parts(frames):
      frames = 2.0 * jnp.concatenate([frames[:, :1], frames], axis=1) - 1.0
      clean = (bound.tokenizer(frames) - mean) / std
      noise = _noise(keys, clean.shape[1])
      noisy = AMPLITUDE * clean + np.sqrt(1.0 - AMPLITUDE**2) * noise
      level = jnp.array([200, 200])
      tokens = bound.denoiser.features(noisy, level, text, 2)
      return clean, tokens[:, 1:]

    _, whole = parts(video)
    past, short = parts(video[:, :2])
    native = bound.denoiser.features(
      _noise(keys, 3),
      jnp.array([999, 999]),
      text,
      2,
      past=jnp.pad(past, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0))),
      is_past=jnp.array([[True, True, False]] * 2),
    )
    return {
      "whole": toy.raw_latents(params, video, keys),
      "whole_expected": whole,
      "short": toy.raw_latents(params, video[:, :2], keys),
      "short_expected": short,
      "native": bound.native_forecast(2.0 * video[:, :2] - 1.0, 2, keys),
      "native_expected": native[:, 2:],
    }

  def call(video, keys=KEYS):
    return jax.device_get(everything(toy.params, video, keys))

  return call


@pytest.mark.parametrize(
  ("name", "slots"), [("whole", 2), ("short", 1), ("native", 1)]
)
def test_latents_are_those_of_the_parts(run, name, slots):
  out = run(VIDEO)
  assert out[name].shape == (2, slots, 4, 4, 12)
  expected = out[f"{name}_expected"]
  np.testing.assert_allclose(out[name], expected, atol=1e-4 * expected.std())


def test_context_alone_is_not_a_part_of_the_whole(run):
  out = run(VIDEO)
  assert np.abs(out["short"] - out["whole"][:, :1]).max() > 1e-2
  changed = run(VIDEO.at[:, 2:].set(0.0))
  for name in ("short", "native"):
    np.testing.assert_array_equal(changed[name], out[name])
  assert np.abs(changed["whole"] - out["whole"])[:, :1].max() > 1e-2


def test_latents_depend_on_clip_and_key_alone(run):
  out, flipped = run(VIDEO), run(VIDEO[::-1], KEYS[::-1])
  same_clip = run(jnp.stack([VIDEO[0], VIDEO[0]]))
  same_key = run(VIDEO, jnp.stack([KEYS[0], KEYS[0]]))
  for name in ("whole", "short", "native"):
    np.testing.assert_allclose(flipped[name][::-1], out[name], atol=1e-5)
    np.testing.assert_allclose(same_clip[name][0], out[name][0], atol=1e-5)
    assert np.abs(same_clip[name][1] - out[name][1]).max() > 1e-2
    assert np.abs(same_key[name][1] - out[name][1]).max() > 1e-2


def test_clips_without_keys_share_their_noise():
  for seed in (0, 1):
    spec = encode.with_options(SPEC, {"noise_seed": seed})
    network = encode.build_network(spec)
    keys = jnp.stack([jax.random.key(seed)] * 2)
    np.testing.assert_array_equal(
      network._noise(None, (2, 3, 4, 4, 3)), _noise(keys, 3)
    )


def test_noise_levels_are_options():
  options = {"noise_level": 50, "native_noise_level": 900}
  network = encode.build_network(encode.with_options(SPEC, options))
  assert (network.noise_level, network.native_noise_level) == (50, 900)
  for level in (1000, -1, 0.5):
    with pytest.raises(ValueError, match=r"options.noise_level is .* 999"):
      encode.build_network(encode.with_options(SPEC, {"noise_level": level}))


def test_native_samples_do_not_depend_on_their_number(toy, run):
  @functools.partial(jax.jit, static_argnums=1)
  def draw(params, count):
    return native_samples(toy, params, VIDEO[:, :2], KEYS, count)

  three = np.asarray(draw(toy.params, 3))
  assert three.shape == (2, 3, 1, 4, 4, 12)
  np.testing.assert_array_equal(draw(toy.params, 1), three[:, :1])
  assert np.abs(three[:, 0] - three[:, 1]).max() > 1e-2
  # Sample s is the forecast under fold_in(key, s), normalized.
  keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(KEYS)
  expected = encode.layer_norm(run(VIDEO, keys)["native"])
  np.testing.assert_allclose(three[:, 2], expected, atol=1e-4)


def test_native_samples_refuse_what_does_not_fit(toy):
  with pytest.raises(ValueError, match=r"fewer than 4.*got 4 frames"):
    native_samples(toy, toy.params, VIDEO, KEYS, 2)
  other = dataclasses.replace(toy, spec=get_spec("4ds_tiny"))
  with pytest.raises(ValueError, match="no forecast of its own"):
    native_samples(other, toy.params, VIDEO[:, :2], KEYS, 2)


def test_checkpoint_layout(toy, tmp_path):
  arrays = flatten_dict(toy.params, sep="/")
  groups = {name.split("/")[0] for name in arrays}
  assert groups == {"tokenizer", "denoiser", "stats", "null_text"}
  assert arrays["stats/latent_mean"].shape == (3,)
  assert arrays["null_text"].shape == (2, 5)
  np.savez(tmp_path / "walt.npz", **arrays)
  save_weights(tmp_path / "walt.safetensors", toy.params, {}, jnp.float32)
  for name in ("walt.npz", "walt.safetensors"):
    loaded = encode.load_spec(SPEC, checkpoint=tmp_path / name).params
    jax.tree.map(np.testing.assert_array_equal, loaded, toy.params)

  arrays["denoiser/layers_0/gate"] = arrays.pop("denoiser/modulation/bias")
  np.savez(tmp_path / "wrong.npz", **arrays)
  with pytest.raises(ValueError, match="does not fit") as error:
    encode.load_spec(SPEC, checkpoint=tmp_path / "wrong.npz")
  assert "missing: denoiser/modulation/bias" in str(error.value)
  assert "not used by this backbone: denoiser/layers_0/gate" in str(error.value)


def test_missing_weights_say_that_nothing_is_public():
  with pytest.raises(FileNotFoundError, match="none were ever released"):
    encode.load_backbone("walt_419m")


def test_full_size():
  spec = get_spec("walt_419m")
  assert spec.grid == (4, 16, 16)
  assert encode.num_blocks(spec, "default") == 16
  assert encode.num_blocks(get_spec("walt_tiny"), "default") == 3
  shapes = encode.parameter_shapes(spec)
  # The paper's figure is that of the denoiser.
  assert num_values(shapes["denoiser"]) == 416_061_320
  assert abs(num_values(shapes["denoiser"]) / 419e6 - 1.0) < 0.01
  assert num_values(shapes["tokenizer"]) == 72_298_504
  video = jax.ShapeDtypeStruct((1, 4, 128, 128, 3), jnp.float32)
  backbone = encode.Backbone(spec, {}, "test", 16, "crop_pos")
  out = jax.eval_shape(backbone.encode_context, shapes, video)
  assert out.shape == (1, 1, 16, 16, 1024)


def test_tiny_encodes():
  backbone = encode.load_backbone("walt_tiny", random_init=True)
  video = jax.random.uniform(jax.random.key(0), (1, 4, 64, 64, 3))
  latents = jax.jit(backbone.encode_context)(backbone.params, video)
  assert latents.shape == (1, 1, 8, 8, 96)
  assert jnp.isfinite(latents).all()
