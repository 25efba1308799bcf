"""What all pretraining objectives have in common."""

import abc
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.backbones.encode import build_network
from forecasting.backbones.spec import BackboneSpec
from forecasting.shapes import Array, Params, PRNGKey

Losses = tuple[Float[Array, ""], dict[str, Float[Array, ""]]]


class Objective(abc.ABC):
  """A pretraining task: initial parameters and loss.

  Subclasses set `init` and `loss`, and the class attributes where they differ.
  Parameters are a dict whose entry 'encoder' is the backbone's.

  Attributes:
    keys: arrays of a clip that the loss reads: 'video', and 'text', the words
      of its caption.
    uses_average: whether `loss` takes the averaged parameters as its fourth
      argument, for a teacher that follows its student.
    compares_clips: whether the loss is more than a mean over clips, so that a
      batch cannot be taken in parts.
    spec: of the backbone.
    cfg: fields of `config.objective`.
    network: the backbone, without parameters.
  """

  keys: tuple[str, ...] = ("video",)
  uses_average: bool = False
  compares_clips: bool = False

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      spec: of the backbone to pretrain.
      cfg: fields of `config.objective`.
    """
    self.spec = spec
    self.cfg = cfg
    self.network = build_network(spec)

  @abc.abstractmethod
  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters."""

  @abc.abstractmethod
  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> Losses:
    """Returns the mean loss over clips, and its parts to be logged.

    Args:
      params: as `init` makes them.
      batch: uint8 'video' [B T H W 3], what else is in `keys`, and 'place'.
      key: randomness of the step; a clip's draws depend on it and on the
        clip's place in the batch alone.
      average: averaged parameters, if `uses_average`.
    """

  def encoder(self, average: Params) -> Params:
    """Returns what is exported as the backbone's weights."""
    return average["encoder"]

  def init_encoder(self, key: PRNGKey) -> Params:
    """Returns random parameters of the backbone."""
    spec = self.spec
    video = jnp.zeros((1, spec.num_frames, *spec.frame_size, 3))
    return self.network.init(key, video, spec.depth, method="latents")["params"]

  def latents(
    self, params: Params, video: Float[Array, "B T H W 3"]
  ) -> Float[Array, "B t h w D"]:
    """Encodes whole clips with given parameters of the backbone."""
    return self.network.apply(
      {"params": params}, video, self.spec.depth, method="latents"
    )


def clip_keys(key: PRNGKey, batch: Mapping[str, Any]) -> Key[Array, "B"]:
  """Returns one key per clip, which does not depend on how many there are.

  Args:
    key: randomness of the step.
    batch: 'place' is that of every clip in the step's batch, of which this may
      be a part; without it, it is the whole.
  """
  place = batch.get("place", jnp.arange(len(batch["video"])))
  return jax.vmap(jax.random.fold_in, (None, 0))(key, place)


def pixels(batch: Mapping[str, Any]) -> Float[Array, "B T H W 3"]:
  """Returns the frames of a batch in [0, 1]."""
  return jnp.asarray(batch["video"], jnp.float32) / 255.0


def flipped(
  batch: Mapping[str, Any], keys: Key[Array, "B"], flip: bool
) -> Float[Array, "B T H W 3"]:
  """Returns the frames of a batch, each clip mirrored or not if `flip`."""
  is_flipped = jax.vmap(jax.random.bernoulli)(keys) & flip
  return flip_some(pixels(batch), is_flipped)


def flip_some(
  video: Float[Array, "B T H W 3"], is_flipped: Array
) -> Float[Array, "B T H W 3"]:
  """Mirrors the marked clips left to right."""
  return jnp.where(
    is_flipped[:, None, None, None, None], jnp.flip(video, axis=3), video
  )
