"""Image networks on clips: frame by frame, a bounded number at once."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float

from forecasting.backbones.vit import BlockConfig
from forecasting.shapes import Array

AUTOMATIC = 0  # value of the option `frames_at_once`
# Numbers; our choice. Four clips of SigLIP G-opt/14, 4096 tokens of width 1536
# each, then need 0.8 GiB beside parameters and latents, 3.1 GiB all at once.
ACTIVATIONS_LIMIT = 2**26
CPU_LIMIT = 2**22  # what stays in the cache: 1.4 times as fast for DINOv2-B


def frames_at_once(
  asked: int, shape: tuple[int, ...], tokens: int, config: BlockConfig
) -> int:
  """Returns how many frames of each clip are encoded together.

  Args:
    asked: at most so many; 0: as many as keep the largest activations of a
      block, the attention or the MLP of all clips, below a limit.
    shape: of the clips; clips and frames come first.
    tokens: of a frame.
    config: of the blocks.

  Returns:
    A divisor of the number of frames.
  """
  clips, frames = shape[:2]
  if asked == AUTOMATIC:
    largest = 2 * tokens * max(config.heads * tokens, config.mlp_dim)
    is_cpu = jax.default_backend() == "cpu"
    limit = CPU_LIMIT if is_cpu else ACTIVATIONS_LIMIT
    asked = limit // (clips * largest)
  return max(
    count
    for count in range(1, frames + 1)
    if frames % count == 0 and count <= max(asked, 1)
  )


def encode_frames(
  module: nn.Module,
  encode: Callable[[Any, jax.Array], jax.Array],
  video: Float[Array, "B T H W 3"],
  count: int,
) -> Float[Array, "B T h w D"]:
  """Encodes every frame by itself.

  Groups of frames follow one another, so that the activations of one group are
  alive at a time. A group has frames of all clips: clips may be spread over
  devices.

  Args:
    module: with the parameters.
    encode: (module, frames `[f H W 3]`) -> latents `[f h w D]`.
    video: clips.
    count: frames of each clip in a group; divides their number.

  Returns:
    The latents of each frame.
  """
  clips = len(video)

  def group(module: nn.Module, carry: None, images: jax.Array):
    return carry, encode(module, images)

  if module.is_initializing():  # the parameters are those of one frame
    _, latents = group(module, None, video[:1, 0])
    return jnp.broadcast_to(latents, (*video.shape[:2], *latents.shape[1:]))
  groups = rearrange(video, "B (g f) H W c -> g (B f) H W c", f=count)
  if len(groups) == 1:
    _, latents = group(module, None, groups[0])
    return rearrange(latents, "(B f) h w D -> B f h w D", B=clips)
  scan = nn.scan(
    group, variable_broadcast="params", split_rngs={"params": False}
  )
  _, latents = scan(module, None, groups)
  return rearrange(latents, "g (B f) h w D -> B (g f) h w D", B=clips)
