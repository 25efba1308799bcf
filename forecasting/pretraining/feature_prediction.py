"""V-JEPA: prediction of features, not pixels (arXiv 2404.08471).

The encoder sees a clip without some blocks of places, hidden in all slots. A
narrow predictor guesses, for every hidden token, what a target encoder makes
of the whole clip; the target encoder is the running average of the encoder.
The error is the absolute difference to the layer-normalized target.

Of a masking with 'slots' the encoder sees the first slots only, and what comes
next is hidden too: the published code's `max_context_frames_ratio`.

Several maskings, few large blocks and many small ones, share one pass of the
target encoder.

With a `visible_weight`, visible tokens are to tell their own targets too, after
V-JEPA 2.1 (arXiv 2603.14482); here by one dense layer and with equal weights,
not through the predictor and by their distance to what is hidden.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float, Int

from forecasting.backbones.encode import layer_norm, to_model_range
from forecasting.backbones.spec import BackboneSpec
from forecasting.pretraining import masks, objective
from forecasting.pretraining.mask_decoder import Decoder
from forecasting.pretraining.tokens import encode_visible, take_tokens
from forecasting.shapes import Array, Params, PRNGKey


class FeaturePrediction(objective.Objective):
  """Prediction of features; see the module.

  Parameters are {'encoder', 'predictor'}.
  """

  uses_average = True

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      spec: of a backbone whose tokens can be encoded in part.
      cfg: the fields of `objective` in `configs/pretrain/vjepa_tiny.py`.
    """
    super().__init__(spec, cfg)
    self.predictor = Decoder(
      spec.grid,
      spec.width,
      cfg["width"],
      cfg["depth"],
      cfg["heads"],
      reconstructs=cfg["visible_weight"] > 0,
    )

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters of encoder and predictor."""
    encoder_key, predictor_key = jax.random.split(key)
    index = jnp.zeros((1, 1), jnp.int32)
    tokens = jnp.zeros((1, 1, self.spec.width))
    predictor = self.predictor.init(predictor_key, tokens, index, index)
    return {
      "encoder": self.init_encoder(encoder_key),
      "predictor": predictor["params"],
    }

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the error, averaged over the maskings, and its parts.

    The parts are the errors on 'hidden' tokens and, if they count, on 'visible'
    ones. Logged beside them: the 'spread' of the targets over clips, at each
    token. It falls to 0 if the target encoder forgets what it sees.
    """
    keys = objective.clip_keys(key, batch)
    video = objective.flipped(batch, keys, self.cfg["flip"])
    video = to_model_range(video, self.spec)
    target = layer_norm(self.latents(average["encoder"], video))
    target = rearrange(target, "B t h w D -> B (t h w) D")
    target = jax.lax.stop_gradient(target)
    errors = {"hidden": [], "visible": []}
    for number, masking in enumerate(self.cfg["maskings"]):
      drawn = jax.vmap(jax.random.fold_in, (0, None))(keys, number + 1)
      visible, hidden = masks.draw_tubes(
        drawn, self.spec.grid, masking, self.cfg["aspect"]
      )
      own, guess = self.predict(params, video, visible, hidden)
      errors["hidden"].append(_distance(guess, take_tokens(target, hidden)))
      if self.predictor.reconstructs:
        errors["visible"].append(_distance(own, take_tokens(target, visible)))
    parts = {name: sum(x) / len(x) for name, x in errors.items() if x}
    total = parts["hidden"]
    if self.predictor.reconstructs:
      total = total + self.cfg["visible_weight"] * parts["visible"]
    return total, parts | {"spread": target.std(axis=0).mean()}

  def predict(
    self,
    params: Params,
    video: Float[Array, "B T H W 3"],
    visible: Int[Array, "B v"],
    hidden: Int[Array, "B m"],
  ) -> tuple[Float[Array, "B n D"], Float[Array, "B m D"]]:
    """Guesses features from visible tokens.

    Returns:
      Those of visible tokens, none without a `visible_weight`, and of hidden
      ones.
    """
    tokens = encode_visible(self.network, params["encoder"], video, visible)
    guess = self.predictor.apply(
      {"params": params["predictor"]}, tokens, visible, hidden
    )
    count = guess.shape[1] - hidden.shape[1]
    return guess[:, :count], guess[:, count:]


def _distance(
  guess: Float[Array, "B n D"], target: Float[Array, "B n D"]
) -> Float[Array, ""]:
  """Returns the mean absolute difference."""
  return jnp.abs(guess - target).mean()
