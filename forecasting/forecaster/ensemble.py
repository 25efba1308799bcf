"""Several trainings of one forecaster, whose samples are pooled.

What the members disagree on is uncertainty of the model, what the samples of
one member disagree on is uncertainty of the future. Members differ in their
initial parameters and their noise; they see the same batches.

Source: forecaster.md 8; four seeds as in FGN (arXiv 2506.10772).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.forecaster.base import Forecaster
from forecasting.forecaster.diffusion import drawing_exactly
from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples

# Tells the keys of the members from those of an example's samples.
_MEMBER_STREAM = 2**22


@dataclasses.dataclass(frozen=True)
class DeepEnsemble:
  """Splits samples equally between members: sample s is of member s mod m.

  Attributes:
    inner: the forecaster that is trained several times.
    members: m; a deterministic forecaster gives so many samples.
  """

  inner: Forecaster
  members: int
  deterministic: bool = dataclasses.field(default=False, init=False)

  def __post_init__(self):
    if self.members < 1:
      raise ValueError(
        f"forecaster.ensemble is {self.members}: expected at least 1 member."
      )

  @property
  def name(self) -> str:
    """Its name in configs and result rows."""
    return self.inner.name

  @property
  def trainable(self) -> bool:
    """Whether it has a loss to descend."""
    return self.inner.trainable

  @property
  def calls(self) -> int:
    """Network calls of one sample."""
    return self.inner.calls

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters; those of member 0 are a single training's."""
    keys = [key, *(self._key(key, i) for i in range(1, self.members))]
    return {
      f"member_{i}": self.inner.init(member) for i, member in enumerate(keys)
    }

  def _key(self, key: PRNGKey, member: int) -> PRNGKey:
    return jax.random.fold_in(key, _MEMBER_STREAM + member)

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns the members' mean loss per example, and mean scalars to log."""
    found = [
      self.inner.loss(params[f"member_{i}"], batch, self._key(key, i))
      for i in range(self.members)
    ]
    return jax.tree.map(lambda *x: sum(x) / self.members, *found)

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures; see `DiffusionForecaster.sample`."""
    fold = jax.vmap(self._key, in_axes=(0, None))
    drawn = []
    # Members beyond the last sample have none to draw.
    for i in range(min(self.members, num_samples)):
      number = len(range(i, num_samples, self.members))
      member = drawing_exactly(self.inner, number)
      drawn.append(
        member.sample(
          params[f"member_{i}"], context, times, fold(keys, i), number
        )
      )
    members = len(drawn)
    # Those of a member that gives a single future are as many as there are.
    total = min(num_samples, sum(x.shape[1] for x in drawn))
    return jnp.stack(
      [drawn[s % members][:, s // members] for s in range(total)], axis=1
    )
