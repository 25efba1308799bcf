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
  Backbone,
  load_backbone,
  parameter_shapes,
)
from forecasting.backbones.zoo import get_spec
from forecasting.latents.encoding import Encoder, encode_clips
from forecasting.training.mesh import AXES, make_mesh, state_shardings

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


def load(config: ConfigDict) -> Backbone:
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

  return load_backbone(**settings, place=place)


def compile_encoder(
  backbone: Encoder, num_context: int, batch_size: int
) -> tuple[Encode, int]:
  """Compiles the encoding of batches over this process's devices.

  Args:
    backbone: with its parameters.
    num_context: frames of the context.
    batch_size: clips of one call, at least.

  Returns:
    The function, and the batch size rounded up to a multiple of the devices.
  """
  devices = jax.local_devices()
  num_bytes = sum(x.nbytes for x in jax.tree.leaves(backbone.params))
  mesh = encoding_mesh(num_bytes, devices, len(devices))
  params = jax.device_put(
    backbone.params, state_shardings(backbone.params, mesh)
  )
  split = NamedSharding(mesh, P(AXES))
  encode = jax.jit(
    functools.partial(encode_clips, backbone, num_context),
    out_shardings=split,
  )
  batch_size = -(-batch_size // len(devices)) * len(devices)

  def run(video: np.ndarray, ids: np.ndarray) -> tuple[jax.Array, jax.Array]:
    return encode(params, *jax.device_put((video, ids), split))

  return run, batch_size
