"""The optimizer of every trained part: AdamW, warm-up, cosine, clipping."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def make_schedule(cfg: ConfigDict, steps: int) -> optax.Schedule:
  """Returns the learning rate as a function of the updates already done.

  Linear warm-up reaches `learning_rate` at update `warmup_steps` (at most a
  tenth of all steps), then a cosine falls towards `end_factor` of it. Where
  there are `points`, pairs of an update and its rate, lines between them
  replace all this.

  Args:
    cfg: fields of `config.optimizer_config`, with or without `points`.
    steps: number of updates in the whole run.
  """
  if cfg.get("points"):
    return _through(cfg.points)
  warmup = min(cfg.warmup_steps, steps // 10)

  def schedule(count):
    rise = (count + 1) / max(warmup, 1)
    progress = jnp.clip((count - warmup) / max(steps - warmup, 1), 0.0, 1.0)
    cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    fall = cfg.end_factor + (1.0 - cfg.end_factor) * cosine
    return cfg.learning_rate * jnp.where(count < warmup, rise, fall)

  return schedule


def _through(points: Sequence[tuple[int, float]]) -> optax.Schedule:
  """Returns the piecewise linear rate through points."""
  updates, rates = zip(*points, strict=True)
  return lambda count: jnp.interp(
    count, jnp.array(updates, jnp.float32), jnp.array(rates, jnp.float32)
  )


def kernels_only(params: Any) -> Any:
  """Returns the tree of booleans that marks the parameters called `kernel`."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: getattr(path[-1], "key", None) == "kernel", params
  )


def make_optimizer(cfg: ConfigDict, steps: int) -> optax.GradientTransformation:
  """Returns clipped AdamW with weight decay on kernels only.

  Args:
    cfg: fields of `config.optimizer_config`, with or without `points`, and
      `parts`: points of their own for some top-level entries of the parameters.
    steps: number of updates in the whole run, for the schedule.

  Source: tasks.md section 2, forecaster.md section 7.4.
  """
  return optax.chain(
    optax.clip_by_global_norm(cfg.clip_norm)
    if cfg.clip_norm
    else optax.identity(),
    optax.scale_by_adam(b1=cfg.b1, b2=cfg.b2),
    optax.add_decayed_weights(cfg.weight_decay, mask=kernels_only),
    _scale_by_rate(cfg, steps),
  )


def _scale_by_rate(cfg: ConfigDict, steps: int) -> optax.GradientTransformation:
  """Returns the last step: every part by its own rate."""
  all_others = optax.scale_by_learning_rate(make_schedule(cfg, steps))
  parts = cfg.get("parts") or {}
  if not parts:
    return all_others
  scales = {
    name: optax.scale_by_learning_rate(_through(points))
    for name, points in parts.items()
  }

  def label(params):
    return {
      name: jax.tree.map(lambda _, name=name: name if name in parts else "", x)
      for name, x in params.items()
    }

  return optax.multi_transform({**scales, "": all_others}, label)
