"""Raw pixels as latents: the reference that has learned nothing.

A token is the pixels of its tubelet. Latents are normalized token by token
(paper 4.3), which would take away how bright and how contrasted a tubelet is;
two more channels of constant value carry both through the normalization.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float

from forecasting.backbones.four_ds import to_patches
from forecasting.backbones.spec import BackboneSpec, Family, Route
from forecasting.shapes import Array

MARKS = (1.0, -1.0)


class RawPatches(nn.Module):
  """Cuts clips into tubelets.

  Attributes:
    patch: frames, rows and columns of a tubelet.
  """

  patch: tuple[int, int, int]

  @nn.compact
  def latents(
    self,
    video: Float[Array, "B T H W 3"],
    num_blocks: int,
    keys: jax.Array | None = None,
  ) -> Float[Array, "B t h w D"]:
    """Returns pixels and the two marks; see `spec.Family`."""
    del num_blocks, keys
    marks = self.param("marks", lambda _: jnp.array(MARKS))
    patches = to_patches(video, self.patch)
    marks = jnp.broadcast_to(marks, (*patches.shape[:2], len(MARKS)))
    tokens = jnp.concatenate([patches, marks], axis=-1)
    rows, columns = (
      size // part
      for size, part in zip(video.shape[2:4], self.patch[1:], strict=True)
    )
    return rearrange(tokens, "B (t h w) D -> B t h w D", h=rows, w=columns)


def build(spec: BackboneSpec, dtype: Any) -> RawPatches:
  """Returns the network of a spec."""
  del dtype
  return RawPatches((spec.tubelet, spec.patch, spec.patch))


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns None: there are no checkpoints; see `spec.Family`."""
  del name, spec


FAMILY = Family(
  name="raw",
  build=build,
  route=route,
  specs=(
    BackboneSpec(
      name="raw_tiny",
      family="raw",
      resolution=64,
      num_frames=16,
      tubelet=2,
      patch=8,
      width=2 * 8 * 8 * 3 + len(MARKS),
      depth=1,
      heads=1,
      mlp_dim=1,
      mean=(0.5, 0.5, 0.5),
      source="this project",
      license="Apache-2.0",
    ),
  ),
)
