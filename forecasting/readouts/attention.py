"""The cross-attention trunk shared by all readout heads.

Queries read the latents of all frames once and never each other, so any subset
of queries gives exactly the rows of the full result and queries may be
processed in chunks. Parameter names are those of the official checkpoints.

Source: the official code of 4D representations; paper 4.1 keeps that design.
"""

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from forecasting.shapes import Array

EMBEDDING_INIT = nn.initializers.normal(0.02)
MLP_RATIO = 4


class LearnedEmbedding(nn.Module):
  """A table of parameters, added by broadcasting.

  Attributes:
    shape: of the table.
  """

  shape: tuple[int, ...]

  @nn.compact
  def __call__(self) -> Float[Array, "..."]:
    """Returns the table."""
    return self.param("embeddings", EMBEDDING_INIT, self.shape)


class MLP(nn.Module):
  """Dense, tanh-approximate GELU, Dense.

  Attributes:
    hidden: width between the layers.
    out: width of the result.
    dtype: of the matrix products.
  """

  hidden: int
  out: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "*X D"]) -> Float[Array, "*X E"]:
    """Applies the two layers to the last axis."""
    x = nn.Dense(self.hidden, dtype=self.dtype)(x)
    return nn.Dense(self.out, dtype=self.dtype)(nn.gelu(x, approximate=True))


def attend(
  query: Float[Array, "#B Q K d"],
  key: Float[Array, "B M K d"],
  value: Float[Array, "B M K d"],
) -> Float[Array, "B Q K d"]:
  """Dot-product attention with the softmax in float32.

  Args:
    query: one row per query; a leading axis of 1 is shared by the batch.
    key: one row per frame and token.
    value: likewise.

  Returns:
    The attended values, in the dtype of `value`.
  """
  query = query * (query.shape[-1] ** -0.5)
  if query.shape[0] == 1:
    logits = jnp.einsum(
      "QKd,BMKd->BKQM", query[0], key, preferred_element_type=jnp.float32
    )
  else:
    logits = jnp.einsum(
      "BQKd,BMKd->BKQM", query, key, preferred_element_type=jnp.float32
    )
  weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
  return jnp.einsum("BKQM,BMKd->BQKd", weights, value)


def attend_in_chunks(
  query: Float[Array, "#B Q K d"],
  key: Float[Array, "B M K d"],
  value: Float[Array, "B M K d"],
  chunk: int,
) -> Float[Array, "B Q K d"]:
  """`attend`, holding the logits of only `chunk` queries at a time.

  Args:
    query: one row per query; a leading axis of 1 is shared by the batch.
    key: one row per frame and token.
    value: likewise.
    chunk: queries at a time, also in the backward pass, which computes the
      logits anew; 0 for all at once.

  Returns:
    What `attend` returns.

  Source: our choice; 6272 queries on 3136 keys do not fit otherwise.
  """
  num_queries = query.shape[1]
  if not 0 < chunk < num_queries:
    return attend(query, key, value)
  pad = -num_queries % chunk
  query = jnp.pad(query, ((0, 0), (0, pad), (0, 0), (0, 0)))
  chunks = einops.rearrange(query, "B (n q) K d -> n B q K d", q=chunk)
  chunks = jax.lax.map(
    jax.checkpoint(lambda part: attend(part, key, value)), chunks
  )
  out = einops.rearrange(chunks, "n B q K d -> B (n q) K d")
  return out[:, :num_queries]


class AttentionReadout(nn.Module):
  """Queries attend to the features of a clip once; one vector per query.

  Attributes:
    num_classes: size of the vector.
    width: D, split over the heads.
    num_heads: K.
    num_queries: learned queries; 0 if queries are given to each call.
    query_chunk: queries whose logits are held at a time; 0 for all.
    dtype: of the matrix products; parameters, norms and softmax are float32.
  """

  num_classes: int
  width: int
  num_heads: int
  num_queries: int = 0
  query_chunk: int = 0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    features: Float[Array, "B T N C"],
    queries: Float[Array, "B Q E"] | None = None,
    query_index: Int[Array, "Q"] | None = None,
  ) -> Float[Array, "B Q O"]:
    """Reads `features`.

    Args:
      features: of every frame; T is fixed by the parameters.
      queries: for a module without learned queries.
      query_index: the learned queries to compute; None for all.

    Returns:
      float32 vectors, one per query (also if there is just one).

    Raises:
      ValueError: if `width` does not divide into heads, or queries are given
        to a module that learns its own, or none to one that does not.
    """
    self._check(queries, query_index)
    _, num_frames, _, channels = features.shape
    x = nn.LayerNorm()(features)
    x = (
      x + LearnedEmbedding((num_frames, 1, channels), name="temporal_posenc")()
    )
    x = einops.rearrange(x, "B T N C -> B (T N) C")

    query = self._query(queries, query_index)
    heads = query.shape[-2:]
    key = nn.DenseGeneral(heads, dtype=self.dtype, name="key_embedding")(x)
    value = nn.DenseGeneral(heads, dtype=self.dtype, name="value_embedding")(x)
    attended = attend_in_chunks(
      query.astype(self.dtype), key, value, self.query_chunk
    )

    # The residual carries the query, not the features.
    token = einops.rearrange(query, "B Q K d -> B Q (K d)")
    attended = einops.rearrange(attended, "B Q K d -> B Q (K d)")
    token = token + nn.Dense(self.width, dtype=self.dtype)(attended)
    mlp = MLP(MLP_RATIO * self.width, self.width, self.dtype, name="MLP_0")
    token = token + mlp(nn.LayerNorm()(token))
    out = nn.Dense(self.num_classes, dtype=self.dtype)(token)
    return out.astype(jnp.float32)

  def _query(
    self, queries: Array | None, query_index: Array | None
  ) -> Float[Array, "_ Q K d"]:
    """Returns the queries by head; a leading axis of 1 if they are learned."""
    heads = (self.num_heads, self.width // self.num_heads)
    if queries is not None:
      query = nn.Dense(self.width, dtype=self.dtype)(queries)
      return einops.rearrange(query, "B Q (K d) -> B Q K d", K=self.num_heads)
    query = self.param("query", EMBEDDING_INIT, (self.num_queries, *heads))
    if query_index is not None:
      query = jnp.asarray(query)[query_index]
    return query[None]

  def _check(self, queries: Array | None, query_index: Array | None) -> None:
    if self.width % self.num_heads:
      raise ValueError(
        f"readout width {self.width} does not divide into {self.num_heads} "
        "heads: choose readout.width as a multiple of readout.heads"
      )
    if (queries is None) != (self.num_queries > 0):
      raise ValueError(
        f"a readout with {self.num_queries} learned queries was called "
        f"{'without' if queries is None else 'with'} queries: give queries "
        "exactly if none are learned"
      )
    if query_index is not None and queries is not None:
      raise ValueError("query_index selects learned queries: give no queries")
