"""Captions as vectors, and pictures as vectors to compare with them.

The words of the generator's captions are few and their order says little, so
the text model is a mean of learned word vectors and a small network.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Int

from forecasting.backbones.vit import BlockConfig
from forecasting.frames.scenes.captions import NUM_WORDS
from forecasting.pretraining.blocks import AttentionPool
from forecasting.shapes import Array


class BagOfWords(nn.Module):
  """Mean of word vectors, then an MLP.

  Attributes:
    width: features of a word and of the hidden layer.
    outputs: features of the text.
  """

  width: int
  outputs: int

  @nn.compact
  def __call__(self, words: Int[Array, "B m"]) -> Float[Array, "B E"]:
    """Embeds texts; word 0 fills up and does not count."""
    vectors = nn.Embed(
      NUM_WORDS, self.width, embedding_init=nn.initializers.normal(1.0)
    )(words)
    is_word = (words > 0)[..., None]
    count = jnp.maximum(is_word.sum(axis=1), 1)
    mean = (vectors * is_word).sum(axis=1) / count
    # Repeated words differ little from one text to the next.
    hidden = nn.LayerNorm()(mean)
    hidden = nn.gelu(nn.Dense(self.width, name="dense_in")(hidden))
    return nn.Dense(self.outputs, name="dense_out")(hidden)


class Gather(nn.Module):
  """Tokens -> one vector to compare with texts.

  Attributes:
    block: of the attention.
    outputs: features of the vector.
  """

  block: BlockConfig
  outputs: int

  @nn.compact
  def __call__(self, tokens: Float[Array, "B n D"]) -> Float[Array, "B E"]:
    """Returns one vector per picture."""
    pooled = AttentionPool(self.block, name="pool")(tokens)
    return nn.Dense(self.outputs, name="projection")(pooled)
