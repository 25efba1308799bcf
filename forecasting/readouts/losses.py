"""Training losses of the readouts.

Each is `(outputs, labels, example_mask=None) -> (loss, terms)`: values times
mask, summed, over the sum of the mask; zero if nothing is labeled. Labels are
batches of clips, whose masked entries may hold anything, also NaN.

Source: tasks.md 2.4 (paper 4.1: squared errors; for points a weighted sum of
Huber and cross-entropies, whose constants are TAPIR's).
"""

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array as JaxArray
from jaxtyping import Bool, Float

from forecasting.readouts.patches import PATCH, gather_patches
from forecasting.shapes import Array, Batch, Mask, PRNGKey

Loss = tuple[Float[JaxArray, ""], dict[str, Float[JaxArray, ""]]]

MIN_DEPTH_METERS = 1e-3
MAX_DEPTH_METERS = 10.0

RASTER = 256.0  # positions are compared in pixels of a 256 x 256 frame
HUBER_DELTA = 4.0
HUBER_EPS = 1e-12
POSITION_WEIGHT = 0.05
CERTAIN_WITHIN = 6.0  # pixels of the raster


def pixels_loss(
  outputs: Batch,
  labels: Batch,
  example_mask: Mask | None = None,
  *,
  patch: tuple[int, int, int] = PATCH,
) -> Loss:
  """Squared error on RGB in [0, 1].

  Args:
    outputs: of the dense head: `video`, or `patches` and `query_index`.
    labels: `video`, uint8 or floats in [0, 1].
    example_mask: False for clips that only fill the batch.
    patch: of the head.

  Returns:
    The loss and its term `squared_error`.
  """
  prediction, video = _dense_pair(outputs, labels, "video", patch)
  target = jnp.asarray(video, jnp.float32)
  if video.dtype == jnp.uint8:
    target = target / 255.0
  mask = jnp.ones(target.shape, bool)
  return _squared_error(prediction, target, mask, example_mask)


def depth_loss(
  outputs: Batch,
  labels: Batch,
  example_mask: Mask | None = None,
  *,
  patch: tuple[int, int, int] = PATCH,
) -> Loss:
  """Squared error in meters, where depth is measured and at most 10 m.

  Args:
    outputs: of the dense head: `depth`, or `patches` and `query_index`.
    labels: `depth` in meters.
    example_mask: False for clips that only fill the batch.
    patch: of the head.

  Returns:
    The loss and its term `squared_error`.
  """
  prediction, depth = _dense_pair(outputs, labels, "depth", patch)
  target = jnp.asarray(depth, jnp.float32)
  mask = jnp.isfinite(target) & (target > MIN_DEPTH_METERS)
  mask &= target <= MAX_DEPTH_METERS
  return _squared_error(prediction, target, mask, example_mask)


def boxes_loss(
  outputs: Batch, labels: Batch, example_mask: Mask | None = None
) -> Loss:
  """Squared error on normalized coordinates, in frames with the object.

  Objects that are absent from frame 0, where they are queried, do not count.

  Args:
    outputs: of the box head.
    labels: `boxes`, `box_mask`, `object_mask`.
    example_mask: False for clips that only fill the batch.

  Returns:
    The loss and its term `squared_error`.
  """
  target = jnp.asarray(labels["boxes"], jnp.float32)
  present = jnp.asarray(labels["box_mask"])
  kept = jnp.asarray(labels["object_mask"]) & present[:, 0]
  mask = jnp.broadcast_to((present & kept[:, None])[..., None], target.shape)
  return _squared_error(outputs["boxes"], target, mask, example_mask)


def points_loss(
  outputs: Batch,
  labels: Batch,
  example_mask: Mask | None = None,
  *,
  position_weight: float = POSITION_WEIGHT,
  certain_within: float = CERTAIN_WITHIN,
) -> Loss:
  """Huber on positions, cross-entropy on visibility and certainty.

  Tracks that are not visible in frame 0, where they are queried, do not count.
  Positions and certainty count where the point is truly visible; the target of
  certainty is whether the predicted point is near the true one.

  Args:
    outputs: of the point head.
    labels: `tracks`, `visible`, `track_mask` and, after `subset_tracks`,
      `track_weight`.
    example_mask: False for clips that only fill the batch.
    position_weight: of the Huber term.
    certain_within: how near, in pixels of a 256 x 256 frame.

  Returns:
    The loss and its terms `position` (not yet weighted), `visibility` and
    `certainty`.
  """
  visible = jnp.asarray(labels["visible"])
  kept = jnp.asarray(labels["track_mask"]) & visible[:, 0]
  kept = jnp.broadcast_to(kept[:, None], visible.shape)
  kept = _with_examples(kept, example_mask)
  seen = kept & visible
  weight = jnp.ones(kept.shape)
  if "track_weight" in labels:
    weight = weight * labels["track_weight"][:, None]

  target = jnp.where(seen[..., None], labels["tracks"], 0.5)
  offset = (outputs["tracks"] - target) * RASTER
  squared = jnp.sum(jnp.square(offset), axis=-1)
  certain = jax.lax.stop_gradient(squared) <= certain_within**2
  terms = {
    "position": _masked_mean(_huber(squared), seen, weight),
    "visibility": _masked_mean(
      _cross_entropy(outputs["visible_logit"], visible), kept, weight
    ),
    "certainty": _masked_mean(
      _cross_entropy(outputs["certainty_logit"], certain), seen, weight
    ),
  }
  loss = position_weight * terms["position"]
  return loss + terms["visibility"] + terms["certainty"], terms


def subset_tracks(labels: Batch, key: PRNGKey, num: int) -> dict[str, Array]:
  """Draws the point tracks of one training step: a cheaper batch of labels.

  Every clip keeps `num` of its tracks, valid ones first, each valid one with
  the same probability. A clip of V valid tracks gives those it keeps the
  weight V / min(V, num), so numerator and denominator of every term of
  `points_loss` have the full batch's as their expectation. For visibility the
  denominator does not vary and the loss is unbiased; position and certainty
  are ratios of two unbiased sums, as their denominators depend on how often
  the drawn tracks are visible.

  Args:
    labels: a batch of clips. If it has `example_id`, a clip's draw depends on
      that and not on its place in the batch.
    key: of the step.
    num: tracks kept per clip; 0, or at least Q, stands for all.

  Returns:
    The labels with `tracks`, `visible` and `track_mask` reduced, and
    `track_weight` [B num].

  Source: our choice.
  """
  track_mask = jnp.asarray(labels["track_mask"])
  batch, total = track_mask.shape
  if not 0 < num < total:
    return dict(labels)
  visible, tracks = jnp.asarray(labels["visible"]), labels["tracks"]
  valid = track_mask & visible[:, 0]
  ids = jnp.asarray(labels.get("example_id", jnp.arange(batch)))
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, ids)
  scores = jax.vmap(lambda k: jax.random.uniform(k, (total,)))(keys)
  _, index = jax.lax.top_k(jnp.where(valid, scores, -1.0), num)
  count = jnp.sum(valid, axis=1, dtype=jnp.float32)
  weight = jnp.maximum(count / num, 1.0)
  take = jax.vmap(lambda x, i: jnp.take(x, i, axis=-1))
  return {
    **labels,
    "tracks": jax.vmap(lambda x, i: x[:, i])(jnp.asarray(tracks), index),
    "visible": take(visible, index),
    "track_mask": take(valid, index),
    "track_weight": jnp.broadcast_to(weight[:, None], (batch, num)),
  }


def _dense_pair(
  outputs: Batch, labels: Batch, name: str, patch: tuple[int, int, int]
) -> tuple[JaxArray, Array]:
  """Returns the prediction and the labels it is to be compared with."""
  target = jnp.asarray(labels[name])
  if "patches" not in outputs:
    return outputs[name], target
  # Gathered before any conversion: uint8 is a quarter of the traffic.
  index = outputs["query_index"]
  return outputs["patches"], gather_patches(target, index, patch)


def _squared_error(
  prediction: Float[Array, "B *X"],
  target: Float[Array, "B *X"],
  mask: Bool[Array, "B *X"],
  example_mask: Bool[Array, "B"] | None,
) -> Loss:
  mask = _with_examples(mask, example_mask)
  error = jnp.square(prediction - jnp.where(mask, target, 0.0))
  loss = _masked_mean(error, mask, 1.0)
  return loss, {"squared_error": loss}


def _with_examples(
  mask: Bool[Array, "B *X"], example_mask: Bool[Array, "B"] | None
) -> Bool[Array, "B *X"]:
  if example_mask is None:
    return mask
  axes = " ".join(["1"] * (mask.ndim - 1))
  return mask & einops.rearrange(example_mask, f"B -> B {axes}")


def _masked_mean(
  values: Float[Array, "*X"],
  mask: Bool[Array, "*X"],
  weight: Float[Array, "*X"] | float,
) -> Float[JaxArray, ""]:
  weight = jnp.where(mask, weight, 0.0)
  total = jnp.sum(weight)
  # Not values * weight: NaN times zero is NaN.
  summed = jnp.sum(jnp.where(mask, values, 0.0) * weight)
  return summed / jnp.where(total > 0, total, 1.0)


def _huber(squared: Float[Array, "*X"]) -> Float[Array, "*X"]:
  """Huber of a distance, given its square (both in pixels)."""
  distance = jnp.sqrt(squared + HUBER_EPS)
  far = HUBER_DELTA * (distance - HUBER_DELTA / 2)
  return jnp.where(distance < HUBER_DELTA, squared / 2, far)


def _cross_entropy(
  logits: Float[Array, "*X"], target: Bool[Array, "*X"]
) -> Float[Array, "*X"]:
  return jax.nn.softplus(jnp.where(target, -logits, logits))
