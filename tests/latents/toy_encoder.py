"""What toy encoders have in common: all of `Encoder` but the encoding."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class ToyEncoder:
  """Without `encode`, `encode_context` and `encode_leaky`."""

  context_mode: str = "crop_pos"
  resolution: int = 4
  params: Any = dataclasses.field(default_factory=lambda: {"w": jnp.ones(3)})
  weights_digest: str = "none"
  num_blocks: int = 1

  @property
  def spec(self):
    """What is used of a spec."""
    return SimpleNamespace(
      name="toy", resolution=self.resolution, stochastic=False
    )
