"""A diffusion transformer in plain PyTorch, after arXiv 2212.09748.

Written from the paper's description as the peer of `train_step.py`: blocks with
adaLN-Zero (figure 3), a GELU network four times as wide, learnt positions, one
noise level per example. Context and noisy target are one sequence.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

_NUM_FEATURES = 256


def modulate(x, shift, scale):
  """Scales and shifts by one vector per example."""
  return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
  """Attention and a pointwise network, both modulated and gated."""

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width)
    self.out = nn.Linear(width, width)
    self.hidden = nn.Linear(width, 4 * width)
    self.back = nn.Linear(4 * width, width)
    self.modulation = nn.Linear(width, 6 * width)

  def forward(self, x, condition):
    """x [B N D], condition [B D] -> [B N D]."""
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(
      F.silu(condition)
    ).chunk(6, dim=-1)
    width = x.shape[-1]
    q, k, v = (
      part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
      for part in self.qkv(
        modulate(F.layer_norm(x, (width,), eps=1e-6), shift, scale)
      ).chunk(3, dim=-1)
    )
    mixed = F.scaled_dot_product_attention(q, k, v)
    x = x + gate[:, None] * self.out(mixed.transpose(1, 2).flatten(2))
    normed = modulate(F.layer_norm(x, (width,), eps=1e-6), mlp_shift, mlp_scale)
    hidden = F.gelu(self.hidden(normed), approximate="tanh")
    return x + mlp_gate[:, None] * self.back(hidden)


class Transformer(nn.Module):
  """Noisy targets behind their context to a prediction."""

  def __init__(
    self, width: int, depth: int, heads: int, channels: int, tokens: int
  ):
    super().__init__()
    self.embed = nn.Linear(channels, width)
    self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
    self.noise = nn.Sequential(
      nn.Linear(_NUM_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
    )
    self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
    self.modulation = nn.Linear(width, 2 * width)
    self.out = nn.Linear(width, channels)
    rates = torch.exp(
      torch.arange(_NUM_FEATURES // 2) * (-2 * math.log(1e4) / _NUM_FEATURES)
    )
    self.register_buffer("rates", 1000 * rates)

  def forward(self, context, z, t):
    """context [B P C], z [B N C], t [B] -> [B N C]."""
    angles = t[:, None] * self.rates
    features = torch.cat([angles.cos(), angles.sin()], dim=-1)
    condition = self.noise(features)
    x = self.embed(torch.cat([context, z], dim=1)) + self.positions
    for block in self.blocks:
      x = block(x, condition)
    x = x[:, context.shape[1] :]
    shift, scale = self.modulation(F.silu(condition)).chunk(2, dim=-1)
    return self.out(modulate(F.layer_norm(x, x.shape[-1:]), shift, scale))


def loss(model, context, future):
  """Squared error of the velocity between data and noise."""
  t = torch.sigmoid(torch.randn(len(future)))
  noise = torch.randn_like(future)
  z = torch.lerp(future, noise, t[:, None, None])
  return F.mse_loss(model(context, z, t), noise - future)


def count_flops(
  width: int, depth: int, channels: int, past: int, future: int
) -> int:
  """Matrix-product FLOPs of one example, forward."""
  tokens = past + future
  block = 24 * tokens * width**2 + 4 * width * tokens**2 + 12 * width**2
  ends = 2 * tokens * channels * width + 2 * future * width * channels
  noise = 2 * (_NUM_FEATURES * width + width**2) + 4 * width**2
  return depth * block + ends + noise
