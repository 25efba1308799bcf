"""The cross-attention trunk shared by all readout heads.

Queries read the latents of all frames once and never each other, so any subset
of queries gives exactly the rows of the full result and queries may be
processed in chunks. Parameter names are those of the official checkpoints.

Source: the official code of 4D representations; paper 4.1 keeps that design.
"""

import dataclasses
import math

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array as JaxArray
from jaxtyping import Float, Int

from forecasting.readouts.positions import stamps, token_places
from forecasting.shapes import Array

EMBEDDING_INIT = nn.initializers.normal(0.02)
KERNEL_INIT = nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2))
MLP_RATIO = 4
PLACE_SCALE = 1.4  # of the waves, beside features of variance 1
PLACE_GAIN = 1.2  # initial, of a query's own waves


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


class AffineParams(nn.Module):
  """Scale and bias of a LayerNorm, for the caller to apply.

  Attributes:
    channels: C.
  """

  channels: int

  @nn.compact
  def __call__(self) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
    """Returns scale and bias."""
    shape = (self.channels,)
    scale = self.param("scale", nn.initializers.ones_init(), shape)
    return scale, self.param("bias", nn.initializers.zeros_init(), shape)


class DenseParams(nn.Module):
  """Kernel and bias of a Dense layer from C to heads, for the caller to apply.

  Attributes:
    channels: C.
    heads: number and width of the heads.
  """

  channels: int
  heads: tuple[int, int]

  @nn.compact
  def __call__(self) -> tuple[Float[Array, "C K d"], Float[Array, "K d"]]:
    """Returns kernel and bias."""
    shape = (self.channels, *self.heads)
    kernel = self.param("kernel", KERNEL_INIT, shape)
    return kernel, self.param("bias", nn.initializers.zeros_init(), self.heads)


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
  # Shared queries are copied for each clip: a product that has heads as its
  # only batch axis would make XLA transpose the logits.
  query = jnp.broadcast_to(query, (key.shape[0], *query.shape[1:]))
  out = _softmax_product(
    einops.rearrange(query, "B Q K d -> B K Q d"),
    einops.rearrange(key, "B M K d -> B K d M"),
    einops.rearrange(value, "B M K d -> B K M d"),
  )
  return einops.rearrange(out, "B K Q d -> B Q K d")


# The derivative is written out because the automatic one transposes and
# rereads the logits: on a CPU it takes a quarter longer. The softmax is divided
# by its sum after the product with the values, whose result is far smaller.
@jax.custom_vjp
def _softmax_product(
  query: Float[Array, "B K Q d"],
  key: Float[Array, "B K d M"],
  value: Float[Array, "B K M d"],
) -> Float[Array, "B K Q d"]:
  return _softmax_product_forward(query, key, value)[0]


def _softmax_product_forward(
  query: Array, key: Array, value: Array
) -> tuple[JaxArray, tuple[Array, ...]]:
  logits = _product(query, key)
  unscaled = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
  total = jnp.sum(unscaled, axis=-1, keepdims=True)
  out = _product(unscaled.astype(value.dtype), value) / total
  return out.astype(value.dtype), (query, key, value, unscaled, total, out)


def _softmax_product_backward(
  residuals: tuple[Array, ...], out_grad: JaxArray
) -> tuple[JaxArray, JaxArray, JaxArray]:
  query, key, value, unscaled, total, out = residuals
  grad = out_grad / total
  mean = jnp.sum(grad * out, axis=-1, keepdims=True)
  grad = grad.astype(value.dtype)
  value_grad = _product(grad.mT, unscaled.astype(value.dtype)).mT
  logits_grad = unscaled * (_product(grad, value.mT) - mean)
  logits_grad = logits_grad.astype(value.dtype)
  query_grad = _product(logits_grad, key.mT)
  key_grad = _product(query.mT, logits_grad)
  return (
    query_grad.astype(query.dtype),
    key_grad.astype(key.dtype),
    value_grad.astype(value.dtype),
  )


_softmax_product.defvjp(_softmax_product_forward, _softmax_product_backward)


def _product(left: Array, right: Array) -> JaxArray:
  return jnp.matmul(left, right, preferred_element_type=jnp.float32)


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
    chunk: most queries at a time, also in the backward pass, which computes the
      logits anew; 0 for all at once.

  Returns:
    What `attend` returns.

  Source: our choice; 6272 queries on 3136 keys do not fit otherwise.
  """
  num_queries = query.shape[1]
  if not 0 < chunk < num_queries:
    return attend(query, key, value)
  # Equal chunks, so that almost nothing is padded.
  chunk = math.ceil(num_queries / math.ceil(num_queries / chunk))
  pad = -num_queries % chunk
  query = jnp.pad(query, ((0, 0), (0, pad), (0, 0), (0, 0)))
  chunks = einops.rearrange(query, "B (n q) K d -> n B q K d", q=chunk)
  chunks = jax.lax.map(
    jax.checkpoint(lambda part: attend(part, key, value)), chunks
  )
  out = einops.rearrange(chunks, "n B q K d -> B (n q) K d")
  return out[:, :num_queries]


@dataclasses.dataclass(frozen=True)
class Trunk:
  """What the readouts of all tasks have in common.

  Attributes:
    width: D, split over the heads.
    num_heads: K.
    query_chunk: queries whose logits are held at a time; 0 for all.
    dtype: of the matrix products; parameters, norms and softmax are float32.
    grid: rows and columns of tokens, if tokens and queries carry waves of their
      places (`positions.py`); None for the official readout.
    output_scale: of the initial last kernel, over Flax's default.
    output_mean: initial last bias.
  """

  width: int
  num_heads: int
  query_chunk: int = 0
  dtype: DTypeLike = jnp.float32
  grid: tuple[int, int] | None = None
  output_scale: float = 1.0
  output_mean: float = 0.0


class AttentionReadout(nn.Module):
  """Queries attend to the features of a clip once; one vector per query.

  Attributes:
    num_classes: size of the vector.
    trunk: sizes and choices.
    num_queries: learned queries; 0 if queries are given to each call.
  """

  num_classes: int
  trunk: Trunk
  num_queries: int = 0

  @nn.compact
  def __call__(
    self,
    features: Float[Array, "B T N C"],
    queries: Float[Array, "B Q E"] | None = None,
    query_index: Int[Array, "Q"] | None = None,
    places: Float[Array, "#B Q 3"] | None = None,
  ) -> Float[Array, "B Q O"]:
    """Reads `features`.

    Args:
      features: of every frame; T is fixed by the parameters.
      queries: for a module without learned queries.
      query_index: the learned queries to compute; None for all.
      places: frame, row and column at which each query looks first; used with
        a `grid`.

    Returns:
      float32 vectors, one per query (also if there is just one).

    Raises:
      ValueError: if `width` does not divide into heads, or queries are given
        to a module that learns its own, or none to one that does not.
    """
    self._check(queries, query_index)
    query = self._query(queries, query_index)
    key, value, to_key = self._keys_and_values(features)
    looking = query
    if self.trunk.grid is not None:
      looking = query + self._look(places, to_key)
    attended = attend_in_chunks(
      looking.astype(self.trunk.dtype), key, value, self.trunk.query_chunk
    )

    # The residual carries the query, not the features.
    token = einops.rearrange(query, "B Q K d -> B Q (K d)")
    attended = einops.rearrange(attended, "B Q K d -> B Q (K d)")
    token = token + nn.Dense(self.trunk.width, dtype=self.trunk.dtype)(attended)
    mlp = MLP(
      MLP_RATIO * self.trunk.width,
      self.trunk.width,
      self.trunk.dtype,
      name="MLP_0",
    )
    token = token + mlp(nn.LayerNorm(name="LayerNorm_1")(token))
    out = nn.Dense(
      self.num_classes,
      dtype=self.trunk.dtype,
      kernel_init=nn.initializers.variance_scaling(
        self.trunk.output_scale**2, "fan_in", "truncated_normal"
      ),
      bias_init=nn.initializers.constant(self.trunk.output_mean),
    )(token)
    return out.astype(jnp.float32)

  def _look(
    self, places: Array | None, to_key: Float[Array, "C K d"]
  ) -> Float[Array, "_ Q K d"]:
    """Returns what a key at the place of each query would be, times a gain."""
    if places is None:
      raise ValueError("a readout with a grid needs the places of its queries")
    gain = nn.initializers.constant(PLACE_GAIN)
    gain = self.param("place_gain", gain, (self.trunk.num_heads, 1))
    stamped = stamps(places, to_key.shape[0])
    return gain * jnp.einsum("BQC,CKd->BQKd", stamped, to_key)

  def _keys_and_values(
    self, features: Float[Array, "B T N C"]
  ) -> tuple[
    Float[Array, "B M K d"], Float[Array, "B M K d"], Float[Array, "C K d"]
  ]:
    """Returns the projections of the normalized, stamped features.

    The norm's scale goes into the kernels, its bias and the embeddings into one
    offset per frame (or token), so that the backward pass needs no derivative
    by the features, which would be a third of its products.

    Returns:
      Keys, values, and the kernel that makes a key of a wave.
    """
    _, num_frames, _, channels = features.shape
    heads = (self.trunk.num_heads, self.trunk.width // self.trunk.num_heads)
    norm = nn.LayerNorm(use_scale=False, use_bias=False, name="standardize")
    x = norm(features).astype(self.trunk.dtype)
    scale, shift = AffineParams(channels, name="LayerNorm_0")()
    shape = (num_frames, 1, channels)
    shift = shift + LearnedEmbedding(shape, name="temporal_posenc")()
    if self.trunk.grid is not None:
      shift = shift + PLACE_SCALE * stamps(
        token_places(num_frames, self.trunk.grid), channels
      )
    projections, kernels = [], []
    for name in ("key_embedding", "value_embedding"):
      kernel, bias = DenseParams(channels, heads, name=name)()
      offset = jnp.einsum("TNC,CKd->TNKd", shift, kernel) + bias
      kernels.append(kernel)
      kernel = (kernel * scale[:, None, None]).astype(self.trunk.dtype)
      out = jnp.einsum("BTNC,CKd->BTNKd", x, kernel)
      out = out + offset.astype(self.trunk.dtype)
      projections.append(einops.rearrange(out, "B T N K d -> B (T N) K d"))
    return (*projections, kernels[0])

  def _query(
    self, queries: Array | None, query_index: Array | None
  ) -> Float[Array, "_ Q K d"]:
    """Returns the queries by head; a leading axis of 1 if they are learned."""
    heads = (self.trunk.num_heads, self.trunk.width // self.trunk.num_heads)
    if queries is not None:
      query = nn.Dense(self.trunk.width, dtype=self.trunk.dtype)(queries)
      return einops.rearrange(
        query, "B Q (K d) -> B Q K d", K=self.trunk.num_heads
      )
    query = self.param("query", EMBEDDING_INIT, (self.num_queries, *heads))
    if query_index is not None:
      query = jnp.asarray(query)[query_index]
    return query[None]

  def _check(self, queries: Array | None, query_index: Array | None) -> None:
    width, num_heads = self.trunk.width, self.trunk.num_heads
    if width % num_heads:
      raise ValueError(
        f"readout width {width} does not divide into {num_heads} heads: choose"
        " readout.width as a multiple of readout.heads"
      )
    if (queries is None) != (self.num_queries > 0):
      raise ValueError(
        f"a readout with {self.num_queries} learned queries was called "
        f"{'without' if queries is None else 'with'} queries: give queries "
        "exactly if none are learned"
      )
    if query_index is not None and queries is not None:
      raise ValueError("query_index selects learned queries: give no queries")
