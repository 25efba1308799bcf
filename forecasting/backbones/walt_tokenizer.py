"""Pixels -> the latents that W.A.L.T. denoises: a causal 3-D CNN.

1 + 4 k frames become 1 + k latents of an eighth of the rows and columns. Slot
j sees frames 0 to 4 j and no later one: convolutions pad time before the clip
only, and norms take their statistics from one frame.

Sources: arXiv 2312.06662 for sizes, strides and causality; the encoder of
MAGVIT (google-research/magvit) for the blocks; MAGVIT-v2 (arXiv 2310.05737)
for strided convolutions and for halving time in the last stages. No weights and
no code of this tokenizer are public.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Float

from forecasting.backbones.vit import NORM_EPSILON
from forecasting.shapes import Array

_VOLUME = ("NDHWC", "DHWIO", "NDHWC")
_FRAME = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
  """Sizes of the tokenizer. Only the first two fields are in the paper.

  Attributes:
    width: channels of the first stage.
    multipliers: of the width, one per stage; rows and columns are halved
      between stages.
    channels: of a latent.
    num_blocks: residual blocks per stage, and after the last one.
    halves_time: for each step between stages, whether it halves time too.
    downsample: 'conv' for strided convolutions, 'pool' for averages.
    time_padding: what lies before the first frame: 'zeros' or 'repeat', copies
      of it.
    groups: of the GroupNorms.
    dtype: of the convolutions; None: that of the video.
  """

  width: int = 128
  multipliers: tuple[int, ...] = (1, 2, 2, 4)
  channels: int = 8
  num_blocks: int = 2
  halves_time: tuple[bool, ...] = (False, True, True)
  downsample: str = "conv"
  time_padding: str = "zeros"
  groups: int = 32
  dtype: Any = None

  def __post_init__(self) -> None:
    for field, known in (
      ("downsample", ("conv", "pool")),
      ("time_padding", ("zeros", "repeat")),
    ):
      if getattr(self, field) not in known:
        raise ValueError(
          f"tokenizer {field} is {getattr(self, field)!r}; expected one of"
          f" {', '.join(known)}"
        )
    if len(self.halves_time) != len(self.multipliers) - 1:
      raise ValueError(
        f"tokenizer halves_time has {len(self.halves_time)} steps; expected"
        f" {len(self.multipliers) - 1}, one less than multipliers"
      )


def flat_normal(
  key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
  """Draws a kernel of variance 1 / fan-in.

  The same as Linen's `lecun_normal` but for the cut tails; drawn flat, since
  XLA compiles a draw over five axes for seconds on CPU.

  Args:
    key: random key.
    shape: of the kernel, output features last.
    dtype: of the kernel.

  Returns:
    The kernel.
  """
  draw = jax.random.normal(key, (math.prod(shape),), dtype)
  return draw.reshape(shape) * math.prod(shape[:-1]) ** -0.5


class CausalConv(nn.Module):
  """A 3-D convolution that sees no later frame.

  Attributes:
    features: output channels.
    config: of the tokenizer.
    strides: in time and in space.
    use_bias: whether a bias is added.
    size: of the kernel along each axis.
  """

  features: int
  config: TokenizerConfig
  strides: tuple[int, int] = (1, 1)
  use_bias: bool = False
  size: int = 3

  @nn.compact
  def __call__(
    self, video: Float[Array, "B T H W c"]
  ) -> Float[Array, "B t h w d"]:
    """Convolves; output j sees inputs up to `strides[0] * j`."""
    size = self.size
    kernel = self.param(
      "kernel",
      flat_normal,
      (size, size, size, video.shape[-1], self.features),
    )
    dtype = self.config.dtype or video.dtype
    mode = "edge" if self.config.time_padding == "repeat" else "constant"
    video = jnp.pad(
      video.astype(dtype), ((0, 0), (size - 1, 0), *[(0, 0)] * 3), mode
    )
    video = jax.lax.platform_dependent(
      video,
      kernel.astype(dtype),
      cpu=functools.partial(_convolve_frames, strides=self.strides),
      default=functools.partial(_convolve_volume, strides=self.strides),
    )
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (self.features,))
      video = video + bias.astype(dtype)
    return video


def _space_padding(size: int, stride: int) -> list[tuple[int, int]]:
  """Returns the padding of rows and columns that keeps size / stride."""
  total = max(size - stride, 0)
  return [(total // 2, total - total // 2)] * 2


def _convolve_volume(
  video: Array, kernel: Array, strides: tuple[int, int]
) -> jax.Array:
  """Convolves in one operation; time is padded already."""
  time, space = strides
  return jax.lax.conv_general_dilated(
    video,
    kernel,
    (time, space, space),
    [(0, 0), *_space_padding(kernel.shape[1], space)],
    dimension_numbers=_VOLUME,
  )


def _convolve_frames(
  video: Array, kernel: Array, strides: tuple[int, int]
) -> jax.Array:
  """Adds up 2-D convolutions: XLA's are 2 to 8 times as fast on CPU."""
  time, space = strides
  slots = (video.shape[1] - len(kernel)) // time + 1
  total = 0.0
  for tap, weights in enumerate(kernel):
    frames = video[:, tap : tap + time * (slots - 1) + 1 : time]
    total += jax.lax.conv_general_dilated(
      rearrange(frames, "B t H W c -> (B t) H W c"),
      weights,
      (space, space),
      _space_padding(kernel.shape[1], space),
      dimension_numbers=_FRAME,
    )
  return rearrange(total, "(B t) h w d -> B t h w d", t=slots)


class FrameNorm(nn.Module):
  """GroupNorm of every frame by itself, then swish.

  Attributes:
    config: of the tokenizer.
  """

  config: TokenizerConfig

  @nn.compact
  def __call__(
    self, video: Float[Array, "B T H W c"]
  ) -> Float[Array, "B T H W c"]:
    """Normalizes and activates."""
    frames = rearrange(video, "B T H W c -> (B T) H W c")
    frames = nn.GroupNorm(
      self.config.groups, epsilon=NORM_EPSILON, dtype=jnp.float32, name="norm"
    )(frames)
    return rearrange(
      nn.swish(frames), "(B T) H W c -> B T H W c", T=video.shape[1]
    )


class ResidualBlock(nn.Module):
  """Twice norm, swish and convolution, around a shortcut.

  Attributes:
    features: output channels.
    config: of the tokenizer.
  """

  features: int
  config: TokenizerConfig

  @nn.compact
  def __call__(
    self, video: Float[Array, "B T H W c"]
  ) -> Float[Array, "B T H W d"]:
    """Applies the block."""
    inner = video
    for i in range(2):
      inner = FrameNorm(self.config, name=f"norm_{i}")(inner)
      inner = CausalConv(self.features, self.config, name=f"conv_{i}")(inner)
    if video.shape[-1] != self.features:
      video = nn.Dense(
        self.features,
        use_bias=False,
        dtype=self.config.dtype,
        name="shortcut",
      )(video)
    return video + inner


class Tokenizer(nn.Module):
  """The encoder.

  Attributes:
    config: its sizes.
  """

  config: TokenizerConfig

  @nn.compact
  def __call__(
    self, video: Float[Array, "B T H W 3"]
  ) -> Float[Array, "B t h w c"]:
    """Encodes 1 + 4 k frames in [-1, 1] as 1 + k latents, not normalized."""
    config = self.config
    video = CausalConv(config.width, config, name="conv_in")(video)
    steps = len(config.halves_time)
    for stage, multiplier in enumerate(config.multipliers):
      features = config.width * multiplier
      # As many blocks again follow the last stage.
      count = config.num_blocks * (2 if stage == steps else 1)
      for i in range(count):
        name = f"stage_{stage}_block_{i}"
        video = ResidualBlock(features, config, name=name)(video)
      if stage < steps:
        video = self._downsample(video, stage)
    video = FrameNorm(config, name="norm_out")(video)
    latents = nn.Dense(config.channels, dtype=config.dtype, name="conv_out")
    return latents(video).astype(jnp.float32)

  def _downsample(
    self, video: Float[Array, "B T H W c"], step: int
  ) -> Float[Array, "B t h w c"]:
    """Halves rows and columns, and time at some steps."""
    config = self.config
    time = 2 if config.halves_time[step] else 1
    if config.downsample == "conv":
      return CausalConv(
        video.shape[-1],
        config,
        strides=(time, 2),
        use_bias=True,
        name=f"downsample_{step}",
      )(video)
    if time == 2:
      # The first frame stays alone, as the mean of itself and its copy.
      video = jnp.concatenate([video[:, :1], video], axis=1)
    return reduce(
      video, "B (t s) (h p) (w q) c -> B t h w c", "mean", s=time, p=2, q=2
    )
