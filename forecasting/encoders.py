"""The frozen backbone on the devices of a process."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from forecasting.backbones.encode import (
  DTYPES,
  load_backbone,
  parameter_shapes,
)
from forecasting.backbones.zoo import get_spec
from forecasting.latents.encoding import Encoder, encode_clips
from forecasting.shapes import Params
from forecasting.training.mesh import AXES, make_mesh, state_shardings

Shape = tuple[int, ...]
# Video uint8 and example ids of a full batch -> context and clip latents.
Encode = Callable[[np.ndarray, np.ndarray], tuple[jax.Array, jax.Array]]

# Parameters that take more are split over the devices of a process: gathering
# them for every batch costs little, a full copy might not fit.
SPLIT_BYTES = 2**31


def encoding_mesh(num_bytes: int, devices: Sequence[Any], local: int) -> Mesh:
  """Returns the mesh on which a backbone encodes.

  Args:
    num_bytes: of its parameters.
    devices: that take part.
    local: how many of them one process has; parameters are split over no more,
      since every process encodes on its own.
  """
  return make_mesh(local if num_bytes > SPLIT_BYTES else 1, devices)


class FrozenEncoder:
  """A backbone on this process's devices, for the clips of all splits.

  What takes long is done when it is first asked for, and then once: tracing,
  which tells the shapes of latents, and compilation.

  Attributes:
    backbone: with its parameters.
    batch_size: clips of one call, a multiple of the devices.
  """

  def __init__(self, backbone: Encoder, num_context: int, batch_size: int):
    """Takes a backbone; computes nothing.

    Args:
      backbone: with its parameters.
      num_context: frames of the context.
      batch_size: clips of one call, at least.
    """
    self.backbone = backbone
    # One and the same function: JAX keeps what it has traced of it.
    self._encode = functools.partial(encode_clips, backbone, num_context)
    self._devices = jax.local_devices()
    number = len(self._devices)
    self.batch_size = -(-batch_size // number) * number

  def latent_shapes(self, video: Shape) -> tuple[Shape, ...]:
    """Returns the shapes of the context's and the clip's latents.

    Args:
      video: shape [T H W 3] of a clip.
    """
    clips = jax.ShapeDtypeStruct((1, *video), np.uint8)
    latents = jax.eval_shape(self._encode, self.backbone.params, clips)
    return tuple(array.shape[1:] for array in latents)

  def __call__(
    self, video: np.ndarray, ids: np.ndarray
  ) -> tuple[jax.Array, jax.Array]:
    """Encodes a batch of `batch_size` clips.

    Args:
      video: uint8 [B T H W 3].
      ids: of the examples, see `latents.encoding.encode_clips`.

    Returns:
      Context latents and clip latents.
    """
    params, encode, split = self._placed
    return encode(params, *jax.device_put((video, ids), split))

  @functools.cached_property
  def _placed(self) -> tuple[Params, Callable[..., Any], NamedSharding]:
    """The parameters on their devices, and what is compiled for these."""
    params, number = self.backbone.params, len(self._devices)
    num_bytes = sum(x.nbytes for x in jax.tree.leaves(params))
    mesh = encoding_mesh(num_bytes, self._devices, number)
    split = NamedSharding(mesh, P(AXES))
    return (
      jax.device_put(params, state_shardings(params, mesh)),
      jax.jit(self._encode, out_shardings=split),
      split,
    )


def load(config: ConfigDict) -> FrozenEncoder:
  """Loads the backbone of a config, every array straight to its devices.

  Args:
    config: of the run.

  Raises:
    ValueError: unknown name, layer, mode, dtype or option, or weights that do
      not fit.
    FileNotFoundError: no weights; says where to get them.
  """
  settings = config.backbone
  shapes = jax.tree.leaves(parameter_shapes(get_spec(settings.name)))
  itemsize = np.dtype(DTYPES[settings.dtype]).itemsize
  devices = jax.local_devices()
  num_bytes = itemsize * sum(shape.size for shape in shapes)
  mesh = encoding_mesh(num_bytes, devices, len(devices))

  def place(array: Any) -> jax.Array:
    return jax.device_put(array, state_shardings(array, mesh))

  backbone = load_backbone(**settings, place=place)
  return FrozenEncoder(
    backbone, config.data.num_context, config.latents.batch_size
  )
