"""The four readout heads: features of a clip to what a task predicts.

Heads read what `temporal.to_frames` returns. `make_head` builds the head of a
task, `init_head` its parameters, and `read_out` runs it on latents, taking the
queries from the first frame of the labels, which is inside the context.

Source: the official 4D representations code (design and sizes of depth,
points and boxes); pixels reuse the depth head (paper 4.1).
"""

import math

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from forecasting.readouts import patches
from forecasting.readouts.attention import (
  AttentionReadout,
  LearnedEmbedding,
  Trunk,
)
from forecasting.readouts.positions import (
  MODES,
  patch_places,
  point_places,
)
from forecasting.readouts.queries import QueryInitializer
from forecasting.readouts.temporal import to_frames
from forecasting.shapes import Array, Batch, Latents, Params, PRNGKey

FRAMES_PER_TILE = 2
POINT_CHANNELS = 4  # x, y, visibility logit, certainty logit
BOX_CHANNELS = 4
BORDER = 1e-3  # how close to the border an anchored track may start
DENSE_CHANNELS = {"pixels": 3, "depth": 1}
DENSE_NAMES = {"pixels": "video", "depth": "depth"}


class DenseHead(nn.Module):
  """Pixels or depth: one learned query per patch.

  Attributes:
    output: name of the output.
    channels: numbers per pixel.
    num_frames: T.
    frame_size: H and W in pixels.
    trunk: of the attention readout.
    patch: frames, rows and columns of a query.
  """

  output: str
  channels: int
  num_frames: int
  frame_size: tuple[int, int]
  trunk: Trunk
  patch: tuple[int, int, int] = patches.PATCH

  @property
  def num_queries(self) -> int:
    """Number of patches of a clip."""
    return math.prod(
      patches.patch_grid(self.num_frames, self.frame_size, self.patch)
    )

  def setup(self) -> None:
    self.attention_readout = AttentionReadout(
      math.prod(self.patch) * self.channels,
      self.trunk,
      num_queries=self.num_queries,
    )
    # Official checkpoints of the dense heads have no level for the readout.
    nn.share_scope(self, self.attention_readout)

  def __call__(
    self,
    features: Float[Array, "B T N C"],
    query_index: Int[Array, "Q"] | None = None,
  ) -> dict[str, jax.Array]:
    """Reads all patches, or those of `query_index`.

    Args:
      features: of every frame.
      query_index: the patches to compute, at the cost of only those.

    Returns:
      `{output: [B T H W channels]}`, or `patches` [B Q numbers] with
      `query_index`. Pixels are in [0, 1], not clipped; depth is in meters.
    """
    places = None
    if self.trunk.grid is not None:
      grid = patches.patch_grid(self.num_frames, self.frame_size, self.patch)
      places = patch_places(self.num_frames, self.trunk.grid, grid)
      places = jnp.asarray(places)[None]
      places = places if query_index is None else places[:, query_index]
    out = self.attention_readout(
      features, query_index=query_index, places=places
    )
    if query_index is not None:
      return {"patches": out, "query_index": query_index}
    dense = patches.unpatchify(
      out, self.num_frames, self.frame_size, self.patch
    )
    return {self.output: dense}


class PointHead(nn.Module):
  """Point tracks: each query is tiled, one tile for every two frames.

  Attributes:
    num_frames: T, even.
    trunk: of the attention readout.
    query_hidden: of the query MLP.
    query_width: of a query.
    anchored: predict the way from the query instead of the place.
  """

  num_frames: int
  trunk: Trunk
  query_hidden: int
  query_width: int
  anchored: bool = False

  @nn.compact
  def __call__(
    self, features: Float[Array, "B T N C"], queries: Float[Array, "B Q 2"]
  ) -> dict[str, jax.Array]:
    """Tracks the queried points.

    Args:
      features: of every frame.
      queries: (x, y) at frame 0, normalized.

    Returns:
      `tracks` [B T Q 2] in [0, 1], `visible_logit` and `certainty_logit`
      [B T Q]; a point is visible if the product of their sigmoids is over 0.5.

    Raises:
      ValueError: if the number of frames is odd.
    """
    if self.num_frames % FRAMES_PER_TILE:
      raise ValueError(
        f"the point head predicts {FRAMES_PER_TILE} frames at a time and "
        f"cannot predict {self.num_frames}: data.num_frames must be even"
      )
    tiles = self.num_frames // FRAMES_PER_TILE
    embed = QueryInitializer(
      self.query_hidden,
      self.query_width,
      self.trunk.dtype,
      name="query_initializer",
    )
    shape = (tiles, self.query_width)
    tile_embedding = LearnedEmbedding(shape, name="temporal_tile_posenc")()
    tiled = embed(queries)[:, :, None] + tile_embedding
    out = AttentionReadout(
      FRAMES_PER_TILE * POINT_CHANNELS,
      self.trunk,
      name="attention_readout",
    )(
      features,
      einops.rearrange(tiled, "B Q k E -> B (Q k) E"),
      places=self._places(queries),
    )
    out = einops.rearrange(
      out, "B (Q k) (t c) -> B (k t) Q c", k=tiles, t=FRAMES_PER_TILE
    )
    places = out[..., :2]
    if self.anchored:
      start = jnp.clip(queries, BORDER, 1 - BORDER)
      places = places + jnp.log(start / (1 - start))[:, None]
    return {
      "tracks": jax.nn.sigmoid(places),
      "visible_logit": out[..., 2],
      "certainty_logit": out[..., 3],
    }

  def _places(self, queries: Float[Array, "B Q 2"]) -> Array | None:
    """Returns each point's place at the frames of its tiles."""
    if self.trunk.grid is None:
      return None
    tiles = self.num_frames // FRAMES_PER_TILE
    times = FRAMES_PER_TILE * (jnp.arange(tiles) + 0.5) - 0.5
    points = einops.repeat(queries, "B Q c -> B Q k c", k=tiles)
    places = point_places(points, times, self.trunk.grid)
    return einops.rearrange(places, "B Q k c -> B (Q k) c")


class BoxHead(nn.Module):
  """Box tracks: one query gives the boxes of all frames.

  Attributes:
    num_frames: T.
    trunk: of the attention readout.
    query_hidden: of the query MLP.
    query_width: of a query.
    anchored: predict the way from the query instead of the place.
  """

  num_frames: int
  trunk: Trunk
  query_hidden: int
  query_width: int
  anchored: bool = False

  @nn.compact
  def __call__(
    self, features: Float[Array, "B T N C"], queries: Float[Array, "B Q 4"]
  ) -> dict[str, jax.Array]:
    """Tracks the queried boxes.

    Args:
      features: of every frame.
      queries: (ymin, xmin, ymax, xmax) at frame 0, normalized.

    Returns:
      `boxes` [B T Q 4], same order, not clipped.
    """
    embed = QueryInitializer(
      self.query_hidden,
      self.query_width,
      self.trunk.dtype,
      name="query_initializer",
    )
    out = AttentionReadout(
      self.num_frames * BOX_CHANNELS,
      self.trunk,
      name="attention_readout",
    )(features, embed(queries), places=self._places(queries))
    boxes = einops.rearrange(out, "B Q (T c) -> B T Q c", T=self.num_frames)
    if self.anchored:
      boxes = boxes + queries[:, None]
    return {"boxes": boxes}

  def _places(self, queries: Float[Array, "B Q 4"]) -> Array | None:
    """Returns each box's center, at frame 0."""
    if self.trunk.grid is None:
      return None
    ymin, xmin, ymax, xmax = jnp.moveaxis(queries, -1, 0)
    centers = jnp.stack([xmin + xmax, ymin + ymax], axis=-1) / 2
    return point_places(centers, jnp.zeros(()), self.trunk.grid)


Head = DenseHead | PointHead | BoxHead


def make_head(
  task: str,
  *,
  width: int,
  num_heads: int,
  num_frames: int,
  frame_size: tuple[int, int],
  patch: tuple[int, int, int] = patches.PATCH,
  query_hidden: int = 512,
  query_chunk: int = 1024,
  dtype: DTypeLike = jnp.float32,
  positions: str = "time",
  grid: tuple[int, int] | None = None,
  output_scale: float = 1.0,
  output_mean: float = 0.0,
  anchored: bool = False,
) -> Head:
  """Builds the head of a task.

  Args:
    task: 'pixels', 'depth', 'points' or 'boxes'.
    width: of the attention readout.
    num_heads: of its attention.
    num_frames: T.
    frame_size: H and W in pixels; only the dense heads use it.
    patch: frames, rows and columns of a dense query.
    query_hidden: widths of the MLP on a point or box.
    query_chunk: queries whose logits are held at a time; 0 for all.
    dtype: of the matrix products.
    positions: 'time' for the official learned embedding of every frame,
      'space_time' for waves of every token's place besides.
    grid: rows and columns of tokens; only 'space_time' uses it.
    output_scale: of the initial last kernel, over Flax's default.
    output_mean: initial last bias.
    anchored: points and boxes as ways from their queries (our choice): a short
      training then starts from what stays where it was.

  Returns:
    The Flax module.

  Raises:
    ValueError: if the task or the kind of positions is unknown, or 'space_time'
      lacks the grid.
  """
  if positions not in MODES or (positions == "space_time" and grid is None):
    raise ValueError(
      f"readout.positions={positions!r} with a token grid {grid}: expected one "
      f"of {MODES}, 'space_time' with the grid's rows and columns"
    )
  shared = {
    "num_frames": num_frames,
    "trunk": Trunk(
      width=width,
      num_heads=num_heads,
      query_chunk=query_chunk,
      dtype=dtype,
      grid=grid if positions == "space_time" else None,
      output_scale=output_scale,
      output_mean=output_mean,
    ),
  }
  if task in DENSE_CHANNELS:
    return DenseHead(
      output=DENSE_NAMES[task],
      channels=DENSE_CHANNELS[task],
      frame_size=tuple(frame_size),
      patch=tuple(patch),
      **shared,
    )
  tracked = {"points": PointHead, "boxes": BoxHead}
  if task not in tracked:
    raise ValueError(
      f"unknown task {task!r}: expected one of {(*DENSE_CHANNELS, *tracked)}"
    )
  return tracked[task](
    query_hidden=query_hidden,
    query_width=query_hidden,
    anchored=anchored,
    **shared,
  )


def init_head(
  head: Head, key: PRNGKey, num_tokens: int, channels: int
) -> Params:
  """Draws the parameters of a head.

  Args:
    head: of `make_head`.
    key: of the draw.
    num_tokens: N, latent tokens of one slot.
    channels: C.

  Returns:
    The parameters, without the `params` level.
  """
  features = jnp.zeros((1, head.num_frames, num_tokens, channels))
  if isinstance(head, DenseHead):
    one = jnp.zeros(1, jnp.int32)
    return head.init(key, features, one)["params"]
  size = 2 if isinstance(head, PointHead) else BOX_CHANNELS
  return head.init(key, features, jnp.zeros((1, 1, size)))["params"]


def read_out(
  head: Head,
  params: Params,
  latents: Latents,
  labels: Batch | None = None,
  query_index: Int[Array, "Q"] | None = None,
) -> dict[str, jax.Array]:
  """Reads the latents of whole clips.

  Args:
    head: of `make_head`.
    params: its parameters.
    latents: of all slots: of the clip, or of the context and a future.
    labels: `tracks` or `boxes`, of which only frame 0 is used; the dense heads
      need none.
    query_index: patches to compute, for the dense heads; None for all.

  Returns:
    The outputs of the head.

  Raises:
    ValueError: if the label that gives the queries is missing.
  """
  features = to_frames(latents, head.num_frames)
  if isinstance(head, DenseHead):
    return head.apply({"params": params}, features, query_index)
  name = "tracks" if isinstance(head, PointHead) else "boxes"
  if labels is None or name not in labels:
    raise ValueError(
      f"{type(head).__name__} needs the label {name!r}, whose frame 0 is the "
      "query: give the clips' labels"
    )
  queries = jnp.asarray(labels[name][:, 0], jnp.float32)
  # Padding may hold NaN, which would reach the shared weights' gradient even
  # though the loss masks it.
  queries = jnp.where(jnp.isfinite(queries), queries, 0.0)
  return head.apply({"params": params}, features, queries)
