"""N-W.A.L.T.: futures drawn by the frozen diffusion model itself.

No forecaster is trained. One pass of the denoiser over pure noise, with the
context's latents as given past frames, and the tokens of the layer that the
readouts of perception were trained on. Other noise, another future; the paper
finds that they differ little.

Source: forecasting paper, appendix.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float, Key

from forecasting.backbones.encode import (
  Backbone,
  build_network,
  layer_norm,
  to_model_range,
)
from forecasting.shapes import Array, Params, Samples


def native_samples(
  backbone: Backbone,
  params: Params,
  context_video: Float[Array, "B Tc H W 3"],
  keys: Key[Array, "B"],
  num_samples: int,
) -> Samples:
  """Draws futures; pure and jit-able, `backbone` and `num_samples` static.

  Args:
    backbone: of the W.A.L.T. family; its layer is read.
    params: its weights.
    context_video: frames of the context, in [0, 1].
    keys: one per clip. Sample s of a clip uses `fold_in(key, s)`, so the first
      samples do not depend on how many are drawn.
    num_samples: futures per clip, at least 1.

  Returns:
    Latents of the future slots, normalized like those of `Backbone.encode`.

  Raises:
    ValueError: the backbone cannot forecast, or the frames do not fit it.
  """
  spec = backbone.spec
  if spec.family != "walt":
    raise ValueError(
      f"backbone.name is {spec.name!r}, which has no forecast of its own; the"
      " forecaster 'native' needs a W.A.L.T. backbone such as 'walt_419m'"
    )
  frames, *size = context_video.shape[1:]
  rows, columns = spec.frame_size
  if (
    size != [rows, columns, 3]
    or frames % spec.tubelet
    or not 0 < frames < spec.num_frames
  ):
    raise ValueError(
      f"{spec.name} forecasts from frames of {rows} x {columns} x 3, fewer than"
      f" {spec.num_frames} and a multiple of {spec.tubelet}; got {frames}"
      f" frames of {' x '.join(map(str, size))}. Resize the frames or set"
      " data.num_context."
    )
  network = build_network(spec, backbone.dtype)
  video = to_model_range(context_video, spec)
  # Samples share the context, so it is tokenized once.
  past = network.apply({"params": params}, video, method="clean_latents")

  def draw(sample: jax.Array) -> jax.Array:
    folded = jax.vmap(lambda key: jax.random.fold_in(key, sample))(keys)
    tokens = network.apply(
      {"params": params},
      past,
      backbone.num_blocks,
      folded,
      method="forecast_from",
    )
    return layer_norm(tokens)

  # A loop of one would be inlined, and fused with what surrounds it: the first
  # sample of one would not be bitwise the first of ten.
  drawn = jax.lax.map(draw, jnp.arange(max(num_samples, 2)))
  return rearrange(drawn[:num_samples], "S B ... -> B S ...")
