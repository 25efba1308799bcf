"""Sampled futures -> frozen readout -> task outputs.

Readouts know clips of one length. A longer one is read window by window, each
beginning with as many slots of the one before as a context has, and points and
boxes are queried where the window before left them.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from forecasting.readouts import heads, patches
from forecasting.shapes import Batch, Context, Latents, Params, Samples


@dataclasses.dataclass(frozen=True)
class Window:
  """What a readout sees at a time.

  Attributes:
    slots: latent slots of the clips it was trained on.
    overlap: slots that a window shares with the one before.
  """

  slots: int
  overlap: int


def read_windows(
  head: heads.Head,
  params: Params,
  latents: Latents,
  labels: Batch,
  window: Window | None,
) -> dict[str, jax.Array]:
  """Reads out clips of any number of windows.

  Args:
    head: readout head of the task.
    params: its trained parameters.
    latents: of all slots.
    labels: of the clips; only the queries of frame 0 are used.
    window: what the head takes; None: the whole clip.

  Returns:
    The head's outputs for all frames: [B T ...].

  Raises:
    ValueError: the clip is no whole number of windows.
  """
  slots = latents.shape[1]
  if window is None or slots == window.slots:
    return heads.read_out(head, params, latents, labels)
  step = window.slots - window.overlap
  if slots < window.slots or (slots - window.overlap) % step:
    raise ValueError(
      f"{slots} latent slots are no whole windows of {window.slots} slots that"
      f" share {window.overlap}: set data.horizon_frames"
    )
  frames = head.num_frames // window.slots
  parts = []
  for start in range(0, slots - window.overlap, step):
    seen = latents[:, start : start + window.slots]
    found = heads.read_out(head, params, seen, labels)
    labels = {
      name: found[name][:, step * frames :]
      for name in ("tracks", "boxes")
      if name in found
    }
    shared = window.overlap * frames if parts else 0
    parts.append({name: value[:, shared:] for name, value in found.items()})
  return {
    name: jnp.concatenate([part[name] for part in parts], axis=1)
    for name in parts[0]
  }


def decode(
  head: heads.Head,
  params: Params,
  context: Context,
  futures: Samples,
  labels: Batch,
  window: Window | None = None,
) -> dict[str, jax.Array]:
  """Reads out `[context ; future]` for every sample.

  Observed frames are no forecast, and nothing scores them. Of pixels and depth,
  where each frame is as much work as another, they are read once a clip, beside
  its first sample.

  Args:
    head: readout head of the task.
    params: its trained parameters.
    context: latents of the context frames, encoded alone.
    futures: sampled latents of the future slots.
    labels: of the clips; only the queries of frame 0 are used.
    window: what the head takes; None: whole clips.

  Returns:
    The head's outputs for all frames, with a sample axis: [B S T ...].
  """

  def one(future: Latents) -> dict[str, jax.Array]:
    latents = jnp.concatenate([context, future], axis=1)
    if observed:
      return _read_frames(head, params, latents, observed, head.num_frames)
    return read_windows(head, params, latents, labels, window)

  observed = _observed_frames(head, context, futures, window)
  # One sample at a time: the attention weights of a dense head over all
  # samples at once would take gigabytes.
  outputs = jax.lax.map(one, rearrange(futures, "B S ... -> S B ..."))
  outputs = jax.tree.map(lambda x: rearrange(x, "S B ... -> B S ..."), outputs)
  if not observed:
    return outputs
  first = jnp.concatenate([context, futures[:, 0]], axis=1)
  seen = _read_frames(head, params, first, 0, observed)
  samples = futures.shape[1]
  return {
    name: jnp.concatenate(
      [repeat(seen[name], "B T ... -> B S T ...", S=samples), ahead], axis=2
    )
    for name, ahead in outputs.items()
  }


def _observed_frames(
  head: heads.Head, context: Context, futures: Samples, window: Window | None
) -> int:
  """Returns how many frames a dense head need not read of every sample.

  0 for other heads, for clips of several windows, and where the context ends
  inside of a query's patch.
  """
  slots = context.shape[1] + futures.shape[2]
  several = window is not None and window.slots != slots
  if several or not isinstance(head, heads.DenseHead):
    return 0
  observed = head.num_frames * context.shape[1] // slots
  return 0 if observed % head.patch[0] else observed


def _read_frames(
  head: heads.DenseHead, params: Params, latents: Latents, start: int, stop: int
) -> dict[str, jax.Array]:
  """Reads the frames from `start` to before `stop` of whole clips."""
  grid = patches.patch_grid(stop - start, head.frame_size, head.patch)
  index = math.prod(grid[1:]) * (start // head.patch[0])
  index += jnp.arange(math.prod(grid))
  found = heads.read_out(head, params, latents, query_index=index)["patches"]
  frames = patches.unpatchify(found, stop - start, head.frame_size, head.patch)
  return {head.output: frames}


def perceive(
  head: heads.Head,
  params: Params,
  clip: Latents,
  labels: Batch,
  window: Window | None = None,
) -> dict[str, jax.Array]:
  """Reads out the latents of observed clips: [B 1 T ...].

  The same readout without any forecast: the perception column.
  """
  outputs = read_windows(head, params, clip, labels, window)
  return jax.tree.map(lambda x: x[:, None], outputs)
