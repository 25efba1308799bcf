"""W.A.L.T.: diffusion of video latents, with text and past frames given.

The velocity of noisy latents of a frozen tokenizer is predicted. Beside them
the network gets the caption or, at times, the null text; at times its own
first guess of the clean latents (self-conditioning); and at times the clean
latents of the first one or two slots (frame prediction, the way in which
N-W.A.L.T. forecasts: two slots are the context frames). The error is taken over
slots that were not given.

Source: arXiv 2312.06662. That self-conditioning is drawn for a whole batch is
ours: half of the steps then need one pass only.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from forecasting.backbones.encode import load_spec, to_model_range
from forecasting.backbones.spec import BackboneSpec
from forecasting.backbones.walt import Walt
from forecasting.backbones.walt_noise import NUM_LEVELS, signal_amplitudes
from forecasting.frames.scenes.captions import MAX_WORDS
from forecasting.pretraining import objective
from forecasting.pretraining.text import BagOfWords
from forecasting.shapes import Array, Params, PRNGKey

MAX_PAST = 2  # slots, as in the paper
# Tells the key of a step's coin from those of clips.
_COIN_STREAM = 2**24


class VideoDiffusion(objective.Objective):
  """Diffusion of video latents; see the module.

  Parameters are {'encoder', 'text'}, the first without the frozen tokenizer.
  """

  keys = ("video", "text")

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks and reads the tokenizer.

    Args:
      spec: of a backbone of the family walt.
      cfg: the fields of `objective` in `configs/pretrain/walt_tiny.py`.

    Raises:
      FileNotFoundError: there is no file of the tokenizer's weights.
    """
    super().__init__(spec, cfg)
    weights = load_spec(
      spec,
      checkpoint=cfg["tokenizer"],
      random_init=cfg["tokenizer"] is None,
    ).params
    self.frozen = {name: weights[name] for name in ("tokenizer", "stats")}
    self.num_tokens, width = self.network.text_shape
    self.text = BagOfWords(width, self.num_tokens * width)

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters of denoiser, null text and text model."""
    encoder, text = jax.random.split(key)
    weights = self.init_encoder(encoder)
    words = jnp.zeros((1, MAX_WORDS), jnp.int32)
    return {
      "encoder": {name: weights[name] for name in ("denoiser", "null_text")},
      "text": self.text.init(text, words)["params"],
    }

  def encoder(self, average: Params) -> Params:
    """Returns the denoiser together with the tokenizer."""
    return {**average["encoder"], **self.frozen}

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the error of the velocity.

    Logged beside it: the error of clips with ('given') and without ('free')
    past slots; 0 if there is none of the kind.
    """
    del average
    keys = objective.clip_keys(key, batch)
    video = to_model_range(objective.pixels(batch), self.spec)
    clean = self.clean_latents(video)
    level, noise, is_past, is_null = jax.vmap(
      lambda key: self._draw(key, clean.shape[1:])
    )(keys)
    signal = jnp.asarray(signal_amplitudes(), jnp.float32)[level]
    signal = signal[:, None, None, None, None]
    sigma = jnp.sqrt(1.0 - jnp.square(signal))
    noisy = signal * clean + sigma * noise
    text = self.embed(params, batch["text"], is_null)

    def velocity(estimate: Array) -> jax.Array:
      return self.velocity(params, noisy, level, text, estimate, clean, is_past)

    def first_guess() -> jax.Array:
      guess = velocity(jnp.zeros_like(clean))
      return jax.lax.stop_gradient(signal * noisy - sigma * guess)

    twice = jax.random.bernoulli(
      jax.random.fold_in(key, _COIN_STREAM), self.cfg["self_conditioning"]
    )
    estimate = jax.lax.cond(twice, first_guess, lambda: jnp.zeros_like(clean))
    error = jnp.square(velocity(estimate) - (signal * noise - sigma * clean))
    error = error.mean((2, 3, 4))
    by_clip = (error * ~is_past).sum(1) / (~is_past).sum(1)
    given = is_past.any(1)
    return by_clip.mean(), {
      name: (by_clip * chosen).sum() / jnp.maximum(chosen.sum(), 1)
      for name, chosen in (("given", given), ("free", ~given))
    }

  def clean_latents(
    self, video: Float[Array, "B T H W 3"]
  ) -> Float[Array, "B t h w c"]:
    """Returns normalized latents of the frozen tokenizer."""
    # The network looks for its null text whatever is asked of it.
    null = jnp.zeros(self.network.text_shape)
    return self.network.apply(
      {"params": {**self.frozen, "null_text": null}},
      video,
      method="clean_latents",
    )

  def embed(
    self, params: Params, words: Int[Array, "B m"], is_null: Array
  ) -> Float[Array, "B n E"]:
    """Returns embedded captions, or the null text where it is asked for."""
    null = params["encoder"]["null_text"]
    text = self.text.apply({"params": params["text"]}, words)
    text = text.reshape(len(words), *null.shape)
    return jnp.where(is_null[:, None, None], null, text)

  def velocity(
    self,
    params: Params,
    noisy: Float[Array, "B t h w c"],
    level: Int[Array, "B"],
    text: Float[Array, "B n E"],
    estimate: Float[Array, "B t h w c"],
    past: Float[Array, "B t h w c"],
    is_past: Array,
  ) -> Float[Array, "B t h w c"]:
    """Runs the denoiser; arguments as of `walt_denoiser.Denoiser.features`."""

    def run(module: Walt) -> jax.Array:
      return module.denoiser(
        noisy, level, text, estimate=estimate, past=past, is_past=is_past
      )

    return self.network.apply({"params": params["encoder"]}, method=run)

  def _draw(
    self, key: PRNGKey, shape: tuple[int, ...]
  ) -> tuple[Array, Array, Array, Array]:
    """Draws noise level, noise, given slots and the null text of one clip."""
    keys = jax.random.split(key, 5)
    level = jax.random.randint(keys[0], (), 0, NUM_LEVELS)
    noise = jax.random.normal(keys[1], shape)
    count = jax.random.randint(keys[2], (), 1, MAX_PAST + 1)
    is_given = jax.random.bernoulli(keys[3], self.cfg["past_probability"])
    is_past = (jnp.arange(shape[0]) < count) & is_given
    is_null = jax.random.bernoulli(keys[4], self.cfg["null_probability"])
    return level, noise, is_past, is_null
