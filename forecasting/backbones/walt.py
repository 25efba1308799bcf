"""W.A.L.T.: features of a frozen video diffusion model (arXiv 2312.06662).

The first frame is doubled, the clip becomes 1 + t latents, noise of a chosen
level is added, and one pass of the denoiser with the null text gives the
tokens after a chosen layer. The latent of the doubled first frame is dropped,
so slot j stands for frames 4 j to 4 j + 3. Four context frames alone are two
latents, which meet the first two temporal positions and the matching parts of
the tables of relative biases.

N-W.A.L.T. reads its forecast from the same layer: the context's latents are
given as past frames, everything is noise, and there is one pass.

Neither code nor weights are public. `save_weights` writes, and a user with
weights fills, a safetensors or npz file of these names, joined by '/':

  tokenizer/...      walt_tokenizer.Tokenizer
  denoiser/...       walt_denoiser.Denoiser, with its output head
  stats/latent_mean  [c]     of the tokenizer's latents
  stats/latent_std   [c]
  null_text          [m E]   embedding of the empty prompt

Source: forecasting paper, appendix, for how features are read; the layer and
the noise level are those that arXiv 2502.07001 found best for most tasks.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.backbones.spec import BackboneSpec, Family, Route
from forecasting.backbones.walt_denoiser import Denoiser, DenoiserConfig
from forecasting.backbones.walt_noise import NUM_LEVELS, add_noise
from forecasting.backbones.walt_tokenizer import Tokenizer, TokenizerConfig
from forecasting.shapes import Array

READOUT_DEPTH = 0.667  # 16 of 24 layers


class LatentStats(nn.Module):
  """Mean and standard deviation of the tokenizer's latents.

  Attributes:
    channels: of a latent.
  """

  channels: int

  @nn.compact
  def __call__(self, latents: Float[Array, "*B c"]) -> Float[Array, "*B c"]:
    """Normalizes every channel."""
    shape = (self.channels,)
    mean = self.param("latent_mean", nn.initializers.zeros, shape)
    std = self.param("latent_std", nn.initializers.ones, shape)
    return (latents - mean) / std


class Walt(nn.Module):
  """Tokenizer and denoiser.

  Attributes:
    tokenizer_config: sizes of the tokenizer.
    denoiser_config: sizes of the denoiser.
    text_shape: tokens and features of the null text.
    noise_level: t at which features are read.
    native_noise_level: t of the native forecast.
    noise_seed: of the noise of clips without keys.
  """

  tokenizer_config: TokenizerConfig
  denoiser_config: DenoiserConfig
  text_shape: tuple[int, int]
  noise_level: int
  native_noise_level: int
  noise_seed: int

  def setup(self) -> None:
    self.tokenizer = Tokenizer(self.tokenizer_config)
    self.denoiser = Denoiser(self.denoiser_config)
    self.stats = LatentStats(self.tokenizer_config.channels)
    self.null_text = self.param(
      "null_text", nn.initializers.normal(0.02), self.text_shape
    )

  def latents(
    self,
    video: Float[Array, "B T H W 3"],
    num_blocks: int,
    keys: Key[Array, "B"] | None = None,
  ) -> Float[Array, "B t h w D"]:
    """Encodes clips; see `spec.Family`."""
    clean = self.clean_latents(video)
    noise = self._noise(keys, clean.shape)
    noisy = add_noise(clean, noise, self.noise_level)
    level, text = self._conditions(len(video), self.noise_level)
    if self.is_initializing():
      self.denoiser(noisy, level, text)  # creates the output head too
    tokens = self.denoiser.features(noisy, level, text, num_blocks)
    return tokens[:, 1:]

  def native_forecast(
    self,
    context_video: Float[Array, "B Tc H W 3"],
    num_blocks: int,
    keys: Key[Array, "B"] | None = None,
  ) -> Float[Array, "B tf h w D"]:
    """Forecasts the rest of a full clip from its first frames.

    Args:
      context_video: whole tubelets of normalized frames.
      num_blocks: as in `latents`, so that the readouts of perception apply.
      keys: one per clip; other keys, other futures.

    Returns:
      Tokens of the future slots, not normalized.

    Source: forecasting paper, appendix; the noise level is our choice.
    """
    past = self.clean_latents(context_video)
    return self.forecast_from(past, num_blocks, keys)

  def clean_latents(
    self, video: Float[Array, "B T H W 3"]
  ) -> Float[Array, "B t h w c"]:
    """Tokenizes clips, first frame doubled, and normalizes the latents."""
    video = jnp.concatenate([video[:, :1], video], axis=1)
    return self.stats(self.tokenizer(video))

  def forecast_from(
    self,
    past: Float[Array, "B tc h w c"],
    num_blocks: int,
    keys: Key[Array, "B"] | None = None,
  ) -> Float[Array, "B tf h w D"]:
    """Forecasts from clean latents of the context; see `native_forecast`."""
    batch, num_past = past.shape[:2]
    slots = self.denoiser_config.grid[0]
    missing = [(0, 0), (0, slots - num_past), (0, 0), (0, 0), (0, 0)]
    past = jnp.pad(past, missing)
    # At the last level nothing of the latents is left. Below it the unknown
    # ones count as zeros, their mean.
    noise = self._noise(keys, past.shape)
    noisy = add_noise(past, noise, self.native_noise_level)
    level, text = self._conditions(batch, self.native_noise_level)
    is_past = jnp.broadcast_to(jnp.arange(slots) < num_past, (batch, slots))
    tokens = self.denoiser.features(
      noisy, level, text, num_blocks, past=past, is_past=is_past
    )
    return tokens[:, num_past:]

  def _conditions(self, batch: int, level: int) -> tuple[jax.Array, jax.Array]:
    """Returns noise levels and null text of a batch."""
    text = jnp.broadcast_to(self.null_text, (batch, *self.text_shape))
    return jnp.full((batch,), level), text

  def _noise(
    self, keys: Key[Array, "B"] | None, shape: tuple[int, ...]
  ) -> Float[Array, "B t h w c"]:
    """Draws noise; a slot's does not depend on how many there are."""
    batch, slots, *place = shape
    if keys is None:
      keys = jnp.broadcast_to(jax.random.key(self.noise_seed), (batch,))

    def draw(key: jax.Array) -> jax.Array:
      each = jax.vmap(lambda slot: jax.random.fold_in(key, slot))
      return jax.vmap(lambda key: jax.random.normal(key, place))(
        each(jnp.arange(slots))
      )

    return jax.vmap(draw)(keys)


def build(spec: BackboneSpec, dtype: Any) -> Walt:
  """Returns the network of a spec.

  Raises:
    ValueError: a noise level that the schedule does not have.
  """
  sizes, options = spec.sizes, spec.options
  for field in ("noise_level", "native_noise_level"):
    level = options[field]
    if not (isinstance(level, int) and 0 <= level < NUM_LEVELS):
      raise ValueError(
        f"backbone.options.{field} is {level!r}; expected a whole number from"
        f" 0 (no noise) to {NUM_LEVELS - 1} (only noise)"
      )
  slots, rows, columns = spec.grid
  return Walt(
    tokenizer_config=TokenizerConfig(**sizes["tokenizer"], dtype=dtype),
    denoiser_config=DenoiserConfig(
      grid=(slots + 1, rows, columns),
      tube=tuple(sizes["tube"]),
      width=spec.width,
      depth=spec.depth,
      heads=spec.heads,
      mlp_dim=spec.mlp_dim,
      rank=sizes["rank"],
      channels=sizes["tokenizer"]["channels"],
      dtype=dtype,
    ),
    text_shape=tuple(sizes["null_text"]),
    **options,
  )


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns None: files use the parameters' own names; see `spec.Family`."""
  del name, spec


_OPTIONS = {"noise_level": 200, "native_noise_level": 999, "noise_seed": 0}


def _spec(
  name: str,
  width: int,
  depth: int,
  heads: int,
  *,
  resolution: int,
  **fields: Any,
) -> BackboneSpec:
  """Returns the spec of one size."""
  return BackboneSpec(
    name=name,
    family="walt",
    resolution=resolution,
    num_frames=16,
    tubelet=4,
    patch=8,
    width=width,
    depth=depth,
    heads=heads,
    mlp_dim=4 * width,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    layer=str(READOUT_DEPTH),
    stochastic=True,
    options=_OPTIONS,
    source="arXiv 2312.06662",
    **fields,
  )


FAMILY = Family(
  name="walt",
  build=build,
  route=route,
  specs=(
    _spec(
      "walt_tiny",
      96,
      4,
      3,
      resolution=64,
      sizes={
        "tokenizer": {
          "width": 8,
          "multipliers": (1, 2, 2, 4),
          "channels": 8,
          "num_blocks": 1,
          "halves_time": (False, True, True),
          "downsample": "conv",
          "time_padding": "zeros",
          "groups": 4,
        },
        "tube": (4, 4),
        "rank": 2,
        "null_text": (1, 32),
      },
      license="Apache-2.0",
      checkpoint="walt_tiny.safetensors",
    ),
    _spec(
      "walt_419m",
      1024,
      24,
      16,
      resolution=128,
      sizes={
        "tokenizer": {
          "width": 128,
          "multipliers": (1, 2, 2, 4),
          "channels": 8,
          "num_blocks": 2,
          "halves_time": (False, True, True),
          "downsample": "conv",
          "time_padding": "zeros",
          "groups": 32,
        },
        "tube": (8, 8),
        "rank": 2,
        "null_text": (1, 2048),  # one token of a T5-XL encoder
      },
      # Another kind of model: no video diffusion model of the paper is public.
      substitute="4ds_e",
    ),
  ),
)
