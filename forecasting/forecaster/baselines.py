"""Forecasts that need no training.

In latent space: `persistence_latent` and `climatology`, and those of
`fitted.py`. In output space, from the labels of the context frames and nothing
later: `persistence_output` and `constant_velocity`. `oracle_future` (the true
future latents through the readout) needs no code here.

Source: forecaster.md 9.
"""

import dataclasses
from collections.abc import Mapping

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Key

from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.fitted import Bank, Fitted, check_bank
from forecasting.forecaster.objective import fold_each
from forecasting.shapes import Array, Context, Params, PRNGKey, Samples

# Far enough from 0.5 that sigmoid(visible) * sigmoid(certainty) decides alike.
_CERTAIN_LOGIT = 10.0
Labels = Mapping[str, Array]
Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class PersistenceLatent:
  """Repeats the last context slot.

  Attributes:
    spec: shape of the latents.
  """

  spec: LatentSpec
  name: str = dataclasses.field(default="persistence_latent", init=False)
  trainable: bool = dataclasses.field(default=False, init=False)
  deterministic: bool = dataclasses.field(default=True, init=False)
  calls: int = dataclasses.field(default=0, init=False)

  def init(self, key: PRNGKey) -> Params:
    """Returns no parameters."""
    del key
    return {}

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Returns the one future."""
    del params, times, keys, num_samples
    return einops.repeat(
      jnp.asarray(context)[:, -1], "B h w C -> B 1 tf h w C", tf=self.spec.tf
    )


@dataclasses.dataclass(frozen=True)
class Climatology(Fitted):
  """Draws futures at random from the training set, whatever the context.

  Attributes:
    spec: shape of the latents.
  """

  name: str = dataclasses.field(default="climatology", init=False)
  deterministic: bool = dataclasses.field(default=False, init=False)

  def fit(self, bank: Bank) -> Params:
    """Keeps training futures to draw from.

    Args:
      bank: 'context' [M tc h w C] and 'future' [M tf h w C] of training clips.

    Returns:
      Parameters for `sample`.

    Raises:
      ValueError: if the bank is empty or its latents are of another shape.
    """
    check_bank(self.name, bank, self.spec)
    return {"bank": jnp.asarray(bank["future"])}

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures with replacement."""
    del context, times
    bank = params["bank"]
    pick = lambda key: jax.random.randint(key, (), 0, bank.shape[0])  # noqa: E731
    return bank[jax.vmap(jax.vmap(pick))(fold_each(keys, num_samples))]


def _last_seen(
  values: Float[np.ndarray, "B Tc Q D"], seen: Bool[np.ndarray, "B Tc Q"]
) -> Float[np.ndarray, "B Q D"]:
  """Picks the last seen value of each track, the first if none was seen."""
  steps = np.arange(1, seen.shape[1] + 1)[:, None]
  index = np.maximum((seen * steps).max(axis=1) - 1, 0)
  return np.take_along_axis(values, index[:, None, :, None], axis=1)[:, 0]


def _extend(
  observed: np.ndarray, forecast: np.ndarray, num_frames: int
) -> np.ndarray:
  """Appends a forecast, repeated over the future frames, to the context."""
  future = np.repeat(forecast[:, None], num_frames - observed.shape[1], axis=1)
  return np.concatenate([observed, future], axis=1).astype(np.float32)


def _last_valid_depth(depth: Float[np.ndarray, "B Tc H W 1"]) -> np.ndarray:
  """Returns the last valid depth of each pixel.

  A pixel never seen valid takes the mean valid depth of its clip's context, as
  a forecast has to name a distance.
  """
  valid = depth > 0
  steps = np.arange(1, depth.shape[1] + 1)[:, None, None, None]
  index = np.maximum((valid * steps).max(axis=1) - 1, 0)
  last = np.take_along_axis(depth, index[:, None], axis=1)[:, 0]
  axes = (1, 2, 3, 4)
  mean = (depth * valid).sum(axes) / np.maximum(valid.sum(axes), 1)
  return np.where(last > 0, last, mean[:, None, None, None])


def _visibility_logit(visible: Bool[np.ndarray, "..."]) -> np.ndarray:
  return np.where(visible, _CERTAIN_LOGIT, -_CERTAIN_LOGIT).astype(np.float32)


def _observed(labels: Labels, key: str, num_context: int) -> np.ndarray:
  """Returns a label of the context frames: the only way to read one here."""
  if key not in labels:
    raise ValueError(
      f"output baselines: labels lack {key!r}; they have {sorted(labels)}."
    )
  values = np.asarray(labels[key])[:, :num_context]
  return (
    values if values.dtype in (bool, np.uint8) else values.astype(np.float64)
  )


def persistence_output(task: str, labels: Labels, num_context: int) -> Outputs:
  """Repeats the last observed truth in every future frame.

  Args:
    task: 'pixels', 'depth', 'points' or 'boxes'.
    labels: a batch of clips; only their first `num_context` frames are read.
    num_context: observed frames.

  Returns:
    What the task's readout returns, for all frames; the context frames hold the
    observed truth. Boxes: the last frame in which the object is present;
    points: the last visible position, and the last frame's visibility.

  Raises:
    ValueError: on an unknown task or a missing label.
  """
  num_frames = _num_frames(task, labels)
  if task == "pixels":
    video = _observed(labels, "video", num_context) / 255.0
    return {"video": _extend(video, video[:, -1], num_frames)}
  if task == "depth":
    depth = _observed(labels, "depth", num_context)
    return {"depth": _extend(depth, _last_valid_depth(depth), num_frames)}
  if task == "boxes":
    boxes = _observed(labels, "boxes", num_context)
    present = _observed(labels, "box_mask", num_context)
    return {"boxes": _extend(boxes, _last_seen(boxes, present), num_frames)}
  tracks = _observed(labels, "tracks", num_context)
  visible = _observed(labels, "visible", num_context)
  return {
    "tracks": _extend(tracks, _last_seen(tracks, visible), num_frames),
    **_visibility(visible, num_frames),
  }


def constant_velocity(
  task: str, labels: Labels, num_context: int
) -> Outputs | None:
  """Extrapolates boxes and points along a straight line.

  The line is the least-squares fit to the context frames in which the object
  is present or the point visible; with one such frame the velocity is zero.

  Args:
    task: 'pixels', 'depth', 'points' or 'boxes'.
    labels: a batch of clips; only their first `num_context` frames are read,
      and the 'seconds' of all frames.
    num_context: observed frames.

  Returns:
    What the task's readout returns, for all frames, the context frames holding
    the observed truth; None for pixels and depth, which have no velocity.

  Raises:
    ValueError: on an unknown task or a missing label.
  """
  _num_frames(task, labels)
  if task in ("pixels", "depth"):
    return None
  value, seen = {
    "boxes": ("boxes", "box_mask"),
    "points": ("tracks", "visible"),
  }[task]
  observed = _observed(labels, value, num_context)
  mask = _observed(labels, seen, num_context)
  seconds = np.asarray(labels["seconds"], np.float64)
  line = _fit_line(observed, mask, seconds)
  lines = np.concatenate([observed, line[:, num_context:]], axis=1)
  if task == "boxes":
    # A shrinking box ends as a point, not inside out.
    low, high = lines[..., :2], lines[..., 2:]
    middle = (low + high) / 2
    low, high = np.minimum(low, middle), np.maximum(high, middle)
    return {"boxes": np.concatenate([low, high], -1).astype(np.float32)}
  return {
    "tracks": lines.astype(np.float32),
    **_visibility(mask, seconds.shape[1]),
  }


def _visibility(visible: np.ndarray, num_frames: int) -> Outputs:
  logit = _visibility_logit(visible)
  return {
    "visible_logit": _extend(logit, logit[:, -1], num_frames),
    "certainty_logit": np.full(
      (len(logit), num_frames, logit.shape[2]), _CERTAIN_LOGIT, np.float32
    ),
  }


def _fit_line(
  values: Float[np.ndarray, "B Tc Q D"],
  mask: Bool[np.ndarray, "B Tc Q"],
  seconds: Float[np.ndarray, "B T"],
) -> Float[np.ndarray, "B T Q D"]:
  """Least-squares lines through the masked values, evaluated at all times."""
  weight = mask[..., None].astype(np.float64)
  now = seconds[:, : values.shape[1], None, None]
  count = np.maximum(weight.sum(axis=1, keepdims=True), 1)
  mean_time = (weight * now).sum(axis=1, keepdims=True) / count
  mean_value = (weight * values).sum(axis=1, keepdims=True) / count
  elapsed = weight * (now - mean_time)
  spread = np.square(elapsed).sum(axis=1, keepdims=True)
  slope = (elapsed * (values - mean_value)).sum(axis=1, keepdims=True)
  slope = slope / np.where(spread > 0, spread, 1.0)
  unseen = mask.sum(axis=1)[:, None, :, None] == 0
  mean_value = np.where(unseen, values[:, :1], mean_value)
  return mean_value + slope * (seconds[..., None, None] - mean_time)


def _num_frames(task: str, labels: Labels) -> int:
  keys = {
    "pixels": "video",
    "depth": "depth",
    "points": "tracks",
    "boxes": "boxes",
  }
  if task not in keys:
    raise ValueError(f"unknown task {task!r}: one of {tuple(keys)}.")
  if keys[task] not in labels:
    raise ValueError(
      f"output baselines: labels lack {keys[task]!r} of task {task!r}; they"
      f" have {sorted(labels)}."
    )
  return labels[keys[task]].shape[1]
