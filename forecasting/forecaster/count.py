"""Parameters and floating-point operations of the denoiser, in closed form.

FLOPs are those of matrix products, two per multiply-add. Norms, softmax,
rotations and gates are left out: they are a few per cent and not what the
matrix units of an accelerator do.
"""

import dataclasses

from forecasting.forecaster.architecture import (
  NUM_NOISE_FEATURES,
  DenoiserConfig,
  mlp_hidden,
)
from forecasting.forecaster.base import LatentSpec


@dataclasses.dataclass(frozen=True)
class Flops:
  """Matrix-product FLOPs for one example.

  Attributes:
    context: encoding the context, once per example.
    call: one network call for one sample.
  """

  context: int
  call: int


def _linear(inputs: int, outputs: int, bias: bool = True) -> int:
  return inputs * outputs + (outputs if bias else 0)


def _block_weights(width: int, is_cross: bool) -> int:
  attention = 4 * width**2
  cross = 4 * width**2 if is_cross else 0
  return attention + cross + 3 * width * mlp_hidden(width)


def count_parameters(config: DenoiserConfig, channels: int) -> int:
  """Returns the number of parameters of `Denoiser(config, channels)`."""
  width, depth = config.width, config.depth
  is_cross = config.conditioning == "cross"
  factor = 9 if is_cross else 6
  token = channels * config.patch**2
  scales = 2 * config.head_dim if config.qk_norm else 0
  out_width = config.head_width or width
  total = 2 * _linear(token, width) + 3 * width
  total += _linear(NUM_NOISE_FEATURES, width) + _linear(width, width)
  total += config.condition_dim * width
  total += _linear(width, factor * width) + depth * factor * width
  total += depth * (_block_weights(width, is_cross) + scales)
  if config.head_width:
    total += _linear(token, out_width)
    total += config.head_depth * (
      _linear(width, 6 * out_width) + _block_weights(out_width, False) + scales
    )
  return total + _linear(width, 2 * out_width) + _linear(out_width, token)


def _pattern(config: DenoiserConfig, index: int) -> str:
  if config.attention == "full":
    return "full"
  return ("spatial", "temporal")[index % 2]


def _attention_flops(
  width: int, pattern: str, tokens: int, slots: int, others: int
) -> int:
  """Logits and weighted values of `slots` slots that also read `others`."""
  queries = slots * tokens
  keys = {
    "full": (slots + others) * tokens,
    "spatial": tokens,
    "temporal": slots + others,
  }[pattern]
  return 4 * width * queries * keys


def count_flops(config: DenoiserConfig, spec: LatentSpec) -> Flops:
  """Returns the forward FLOPs for one example of `spec`.

  A training step costs three times (context + draws * call).
  """
  width, depth = config.width, config.depth
  is_full = config.conditioning == "joint_full"
  is_cross = config.conditioning == "cross"
  tokens = spec.h * spec.w // config.patch**2
  token = spec.channels * config.patch**2
  past, future = spec.tc * tokens, spec.tf * tokens
  own = 2 * _block_weights(width, False)
  factor = 9 if is_cross else 6
  noise = 2 * (NUM_NOISE_FEATURES * width + width**2)
  modulation = 2 * factor * width**2
  context = 2 * past * token * width + spec.tc * noise
  call = 2 * future * token * width + spec.tf * noise
  call += 2 * config.condition_dim * width
  if is_full:
    slots = spec.tc + spec.tf
    call += slots * modulation + depth * (past + future) * own
    for i in range(depth):
      call += _attention_flops(width, _pattern(config, i), tokens, slots, 0)
  else:
    context += spec.tc * modulation + (depth - 1) * past * own
    # Of the last block the context only supplies keys and values; its fused
    # projection makes queries too.
    context += past * (4 * depth if is_cross else 6) * width**2
    call += spec.tf * modulation + depth * future * own
    for i in range(depth):
      pattern = _pattern(config, i)
      others = 0 if is_cross else spec.tc
      call += _attention_flops(width, pattern, tokens, spec.tf, others)
      if is_cross:
        call += 4 * future * width**2 + 4 * width * future * past
      if i < depth - 1:
        context += _attention_flops(width, pattern, tokens, spec.tc, 0)
  call += _head_flops(config, spec, tokens, token)
  return Flops(context=context, call=call)


def _head_flops(
  config: DenoiserConfig, spec: LatentSpec, tokens: int, token: int
) -> int:
  """FLOPs of the wide head and of the output projection."""
  width, future = config.width, spec.tf * tokens
  if not config.head_width:
    return 2 * spec.tf * 2 * width**2 + 2 * future * width * token
  wide = config.head_width
  total = 2 * future * token * wide
  total += config.head_depth * (
    2 * future * (6 * width * wide + _block_weights(wide, False))
    + _attention_flops(wide, "full", tokens, spec.tf, 0)
  )
  return total + 2 * future * 2 * width * wide + 2 * future * wide * token
