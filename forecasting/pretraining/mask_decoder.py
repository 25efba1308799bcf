"""The light network that guesses hidden tokens from visible ones."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float, Int

from forecasting.backbones.encode import layer_norm
from forecasting.backbones.vit import BlockConfig, Transformer, wave_positions
from forecasting.shapes import Array, PRNGKey


class Decoder(nn.Module):
  """Predicts something of tokens from the encoder's visible tokens.

  Attributes:
    grid: slots, rows and columns of a whole clip.
    outputs: numbers predicted per token.
    width: features.
    depth: number of blocks.
    heads: number of attention heads.
    reconstructs: whether visible tokens are predicted too, each from itself by
      one dense layer; otherwise the output has guessed tokens only.
  """

  grid: tuple[int, int, int]
  outputs: int
  width: int
  depth: int
  heads: int
  reconstructs: bool = False

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "B v D"],
    visible: Int[Array, "B v"],
    decoded: Int[Array, "B m"],
  ) -> Float[Array, "B n p"]:
    """Returns visible tokens reconstructed, then decoded ones guessed."""
    positions = self.param("positions", self._initial_positions)
    mask_token = self.param(
      "mask_token", nn.initializers.normal(0.02), (self.width,)
    )
    tokens = layer_norm(tokens)
    own = []
    if self.reconstructs:
      own = [nn.Dense(self.outputs, name="reconstruction")(tokens)]
    tokens = nn.Dense(self.width, name="input")(tokens) + positions[visible]
    tokens = jnp.concatenate([tokens, mask_token + positions[decoded]], axis=1)
    block = BlockConfig(self.heads, 4 * self.width)
    tokens = Transformer(self.depth, block, final_norm=True, name="processor")(
      tokens
    )
    guessed = nn.Dense(self.outputs, name="output")(
      tokens[:, visible.shape[1] :]
    )
    return jnp.concatenate([*own, guessed], axis=1)

  def _initial_positions(self, key: PRNGKey) -> Float[Array, "n D"]:
    """Returns waves; draws nothing."""
    del key
    waves = jnp.array(wave_positions(self.grid, self.width))
    return rearrange(waves, "t h w D -> (t h w) D")
