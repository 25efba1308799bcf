"""DINOv2: self-distillation of single frames (arXiv 2304.07193).

Of some frames of each clip a student sees two large views, some patches of
which are masked, and small views; a teacher, the running average of the
student, sees the large views whole. Both tell, for a view and for every patch,
which of many learned prototypes it is nearest to, and the student is to agree
with the teacher:

  view   on another view of the same frame (DINO);
  patch  on the patches that the student could not see (iBOT);
  even   student's views are spread out evenly (KoLeo).

The teacher's answers are centered by three steps of the Sinkhorn-Knopp
algorithm over the batch, which keeps all prototypes in use and needs no state.
One head serves views and patches (DINOv2 has two).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Bool, Float, Key

from forecasting.backbones.encode import to_model_range
from forecasting.backbones.spec import BackboneSpec
from forecasting.pretraining import objective
from forecasting.pretraining.views import draw_view
from forecasting.shapes import Array, Params, PRNGKey

SINKHORN_STEPS = 3


class Head(nn.Module):
  """Tokens -> how near they are to each prototype.

  Attributes:
    hidden: features of the hidden layers.
    bottleneck: features of what prototypes are compared with.
    prototypes: their number.
  """

  hidden: int
  bottleneck: int
  prototypes: int

  @nn.compact
  def __call__(self, tokens: Float[Array, "*n D"]) -> Float[Array, "*n k"]:
    """Returns cosines."""
    tokens = nn.gelu(nn.Dense(self.hidden, name="dense_0")(tokens))
    tokens = nn.gelu(nn.Dense(self.hidden, name="dense_1")(tokens))
    tokens = nn.Dense(self.bottleneck, name="dense_2")(tokens)
    prototypes = self.param(
      "prototypes",
      nn.initializers.normal(1.0),
      (self.bottleneck, self.prototypes),
    )
    return _unit(tokens) @ _unit(prototypes, axis=0)


def _unit(x: Array, axis: int = -1) -> jax.Array:
  """Returns vectors of length 1."""
  return x * jax.lax.rsqrt(jnp.square(x).sum(axis, keepdims=True) + 1e-8)


def sinkhorn(
  cosines: Float[Array, "n k"], temperature: float
) -> Float[Array, "n k"]:
  """Returns probabilities of prototypes that all are used equally.

  Args:
    cosines: of tokens and prototypes.
    temperature: of the softmax that is balanced.

  Returns:
    Rows that sum to 1, with columns that sum to about n / k.

  Source: arXiv 2006.09882.
  """
  logits = cosines / temperature
  for _ in range(SINKHORN_STEPS):
    logits = logits - jax.nn.logsumexp(logits, axis=0, keepdims=True)
    logits = logits - jax.nn.logsumexp(logits, axis=1, keepdims=True)
  return jnp.exp(logits)


def cross_entropy(
  teacher: Float[Array, "*n k"],
  cosines: Float[Array, "*n k"],
  temperature: float,
) -> Float[Array, "*n"]:
  """Returns the student's cross-entropy with the teacher's probabilities."""
  return -(teacher * jax.nn.log_softmax(cosines / temperature)).sum(-1)


def evenness(features: Float[Array, "n D"]) -> Float[Array, ""]:
  """Returns the KoLeo loss: minus the log distance to the nearest other one.

  Source: arXiv 1806.03198.
  """
  unit = _unit(features)
  similar = unit @ unit.T - 2.0 * jnp.eye(len(unit))
  nearest = jax.lax.stop_gradient(jnp.argmax(similar, axis=1))
  distance = jnp.sqrt(jnp.square(unit - unit[nearest]).sum(-1) + 1e-8)
  return -jnp.log(distance + 1e-8).mean()


class SelfDistillation(objective.Objective):
  """Self-distillation of single frames; see the module.

  Parameters are {'encoder', 'head', 'mask_token'}.
  """

  uses_average = True
  compares_clips = True

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      spec: of a backbone of the family dinov2.
      cfg: the fields of `objective` in `configs/pretrain/dinov2_tiny.py`.
    """
    super().__init__(spec, cfg)
    self.head = Head(cfg["hidden"], cfg["bottleneck"], cfg["prototypes"])

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters of encoder, head and mask token."""
    encoder, head, token = jax.random.split(key, 3)
    features = jnp.zeros((1, self.spec.width))
    return {
      "encoder": self.init_encoder(encoder),
      "head": self.head.init(head, features)["params"],
      "mask_token": 0.02 * jax.random.normal(token, (self.spec.width,)),
    }

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the weighted sum of the parts that the module names."""
    cfg = self.cfg
    keys = objective.clip_keys(key, batch)
    large, small, is_masked = jax.vmap(self._draw)(
      keys, objective.pixels(batch)
    )
    large = rearrange(large, "B f v h w c -> v (B f) h w c")
    is_masked = rearrange(is_masked, "B f v n -> v (B f) n")
    teacher = [self._answer(average, view) for view in large]
    teacher = [
      [jax.lax.stop_gradient(self._center(part)) for part in parts]
      for parts in teacher
    ]
    student = [
      self._answer(params, *pair) for pair in zip(large, is_masked, strict=True)
    ]
    cold = cfg["student_temperature"]
    patch = [
      jnp.where(mask, cross_entropy(theirs[1], ours[1], cold), 0.0).sum()
      / jnp.maximum(mask.sum(), 1)
      for theirs, ours, mask in zip(teacher, student, is_masked, strict=True)
    ]
    seen = [ours[0] for ours in student]
    seen += self._small_views(params, small)
    views = [
      cross_entropy(theirs[0], ours, cold).mean()
      for number, theirs in enumerate(teacher)
      for other, ours in enumerate(seen)
      if number != other
    ]
    parts = {
      "view": sum(views) / len(views),
      "patch": sum(patch) / len(patch),
      "even": evenness(student[0][2]),
      "in_use": jnp.exp(_entropy(teacher[0][0].mean(axis=0))),
    }
    total = parts["view"] + cfg["patch_weight"] * parts["patch"]
    return total + cfg["even_weight"] * parts["even"], parts

  def _small_views(self, params: Params, small: Array) -> list[jax.Array]:
    """Returns the student's answers on small views."""
    if not self.cfg["small_views"]:
      return []
    small = rearrange(small, "B f v h w c -> v (B f) h w c")
    return [self._answer(params, view)[0] for view in small]

  def _draw(
    self, key: Key[Array, ""], video: Float[Array, "T H W 3"]
  ) -> tuple[Array, Array, Array]:
    """Draws frames, views and masked patches of one clip."""
    cfg = self.cfg
    frame_key, view_key, mask_key = jax.random.split(key, 3)
    order = jax.random.permutation(frame_key, len(video))
    frames = video[order[: cfg["frames"]]]
    rows, columns = self.spec.grid[1:]

    def views(key, count, size, scale):
      keys = jax.random.split(key, (len(frames), count))
      draw = jax.vmap(draw_view, (0, None, None, None))
      draw = jax.vmap(draw, (0, 0, None, None))
      return draw(keys, frames, size, tuple(scale))[0]

    large_key, small_key = jax.random.split(view_key)
    large = views(large_key, 2, self.spec.frame_size, cfg["large_scale"])
    small = large[:, :0]
    if cfg["small_views"]:
      size = (cfg["small_size"],) * 2
      small = views(small_key, cfg["small_views"], size, cfg["small_scale"])
    chance, which = jax.random.split(mask_key)
    shape = (len(frames), 2, rows * columns)
    # Half of the views are masked, each by its own share.
    low, high = cfg["mask_fraction"]
    share = jax.random.uniform(chance, (*shape[:2], 2), maxval=1.0)
    fraction = low + (high - low) * share[..., :1]
    fraction = jnp.where(share[..., 1:] < 0.5, fraction, 0.0)
    is_masked = jax.random.uniform(which, shape) < fraction
    return large, small, is_masked

  def _answer(
    self,
    params: Params,
    frames: Float[Array, "n h w 3"],
    is_masked: Bool[Array, "n p"] | None = None,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns cosines of the view and of its patches, and its features."""
    tokens = self.encode(params, frames, is_masked)
    first = 1 + self.spec.sizes.get("registers", 0)
    head = {"params": params["head"]}
    return (
      self.head.apply(head, tokens[:, 0]),
      self.head.apply(head, tokens[:, first:]),
      tokens[:, 0],
    )

  def encode(
    self,
    params: Params,
    frames: Float[Array, "n h w 3"],
    is_masked: Bool[Array, "n p"] | None = None,
  ) -> Float[Array, "n t D"]:
    """Encodes views of any size that patches divide.

    Args:
      params: as `init` makes them.
      frames: pixels in [0, 1].
      is_masked: patches whose place is kept and whose pixels are not seen.

    Returns:
      The class token, the registers, the patches.
    """
    frames = to_model_range(frames, self.spec)
    side = self.spec.patch
    network = self.network.clone(
      grid=(frames.shape[1] // side, frames.shape[2] // side)
    )

    def hide(embedded: jax.Array) -> jax.Array:
      return jnp.where(is_masked[..., None], params["mask_token"], embedded)

    change = None if is_masked is None else hide
    return network.apply({"params": params["encoder"]}, frames, None, change)

  def _center(self, cosines: Array) -> jax.Array:
    """Returns the teacher's probabilities."""
    flat = rearrange(cosines, "... k -> (...) k")
    centered = sinkhorn(flat, self.cfg["teacher_temperature"])
    return centered.reshape(cosines.shape)


def _entropy(probabilities: Float[Array, "k"]) -> Float[Array, ""]:
  return -(probabilities * jnp.log(probabilities + 1e-12)).sum()
