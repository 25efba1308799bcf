"""Parameter names of torch vision transformers -> ours.

V-JEPA, NExT-Vid, DINOv2 and VideoMAE name their arrays alike (`OFFICIAL`);
the other tables of this kind live with their families. A family whose network
has a `vit.Transformer` called `encoder` and a `PatchKernel` called
`patch_embedding` routes an array by

  name = strip(name, "module.", "backbone.")
  return find(name, OFFICIAL, spec.heads)

and adds rows of its own with `|`: `dataclasses.replace(OFFICIAL, outer=
OFFICIAL.outer | {"pos_embed": [("positions", unbatched)]})`. Torch keeps
the outputs of a layer on the first axis, we keep them on the last.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from einops import rearrange

from forecasting.backbones.spec import Route

# (array, number of heads) -> array.
Change = Callable[[np.ndarray, int], np.ndarray]
# Name in the checkpoint -> the parameters it fills; none: known and unused.
Names = Mapping[str, Sequence[tuple[str, Change]]]

ATTENTION = ("attention/query", "attention/key", "attention/value")


def same(array: np.ndarray, heads: int) -> np.ndarray:
  """Returns the array as it is."""
  del heads
  return array


def unbatched(array: np.ndarray, heads: int) -> np.ndarray:
  """Returns the only element of the first axis.

  Raises:
    ValueError: there are several.
  """
  del heads
  return np.squeeze(array, 0)


def transposed(array: np.ndarray, heads: int) -> np.ndarray:
  """Returns a linear weight `(out, in)` as a kernel `(in, out)`."""
  del heads
  return rearrange(array, "o i -> i o")


def convolution(array: np.ndarray, heads: int) -> np.ndarray:
  """Returns a weight `(out, in, [t,] h, w)` as a kernel `(t, h, w, in, out)`.

  One without a time axis becomes a kernel for single frames.
  """
  del heads
  if array.ndim == 4:
    array = array[:, :, None]
  return rearrange(array, "o i t h w -> t h w i o")


def to_heads(array: np.ndarray, heads: int) -> np.ndarray:
  """Returns a projection to heads: weight `(K d, D)` or bias `(K d)`."""
  if array.ndim == 1:
    return rearrange(array, "(K d) -> K d", K=heads)
  return rearrange(array, "(K d) D -> D K d", K=heads)


def from_heads(array: np.ndarray, heads: int) -> np.ndarray:
  """Returns the output projection `(D, K d)` as a kernel `(K, d, D)`."""
  return rearrange(array, "D (K d) -> K d D", K=heads)


def part(index: int, count: int, change: Change) -> Change:
  """Returns a change of one of the parts stacked along the first axis."""

  def apply(array: np.ndarray, heads: int) -> np.ndarray:
    return change(
      rearrange(array, "(s o) ... -> s o ...", s=count)[index], heads
    )

  return apply


def norm(source: str, target: str) -> Names:
  """Returns the names of a LayerNorm."""
  return {
    f"{source}.weight": [(f"{target}/scale", same)],
    f"{source}.bias": [(f"{target}/bias", same)],
  }


def linear(
  source: str, target: str, change: Change = transposed, bias: Change = same
) -> Names:
  """Returns the names of a linear layer.

  Args:
    source: in the checkpoint.
    target: of ours.
    change: of the weight.
    bias: of the bias.
  """
  return {
    f"{source}.weight": [(f"{target}/kernel", change)],
    f"{source}.bias": [(f"{target}/bias", bias)],
  }


def stacked(source: str, targets: Sequence[str], kernel: Change) -> Names:
  """Returns the names of linear layers whose outputs are one array.

  Args:
    source: in the checkpoint.
    targets: of ours, in the order of the stack.
    kernel: change of each weight, and of each bias if it takes one.
  """
  bias = same if kernel is transposed else kernel
  count = len(targets)
  return {
    f"{source}.{leaf}": [
      (f"{target}/{own}", part(i, count, change))
      for i, target in enumerate(targets)
    ]
    for leaf, own, change in (
      ("weight", "kernel", kernel),
      ("bias", "bias", bias),
    )
  }


def projections(*sources: str) -> Names:
  """Returns the names of the queries, keys and values, each an array."""
  names = {}
  for source, target in zip(sources, ATTENTION, strict=True):
    names |= linear(source, target, to_heads, to_heads)
  return names


@dataclasses.dataclass(frozen=True)
class Layout:
  """The names of one kind of checkpoint.

  Attributes:
    outer: of arrays outside the blocks.
    block: of arrays of a block, relative to it.
    blocks: pattern of what precedes the number of a block.
    encoder: our name of the `Transformer`.
  """

  outer: Names
  block: Names
  blocks: str = r"blocks\."
  encoder: str = "encoder"


OFFICIAL = Layout(
  outer=linear("patch_embed.proj", "patch_embedding", convolution)
  | norm("norm", "encoder/norm"),
  block=norm("norm1", "attention_norm")
  | norm("norm2", "mlp_norm")
  | stacked("attn.qkv", ATTENTION, to_heads)
  | linear("attn.proj", "attention/out", from_heads)
  | linear("mlp.fc1", "mlp/dense_in")
  | linear("mlp.fc2", "mlp/dense_out"),
)


def strip(name: str, *prefixes: str) -> str:
  """Returns a name without these prefixes, each removed once if it is there."""
  for prefix in prefixes:
    name = name.removeprefix(prefix)
  return name


def find(name: str, layout: Layout, heads: int) -> list[Route] | None:
  """Returns where an array goes.

  Args:
    name: in the checkpoint, without prefixes.
    layout: of the checkpoint.
    heads: attention heads.

  Returns:
    The parameters that the array fills; none if it is known and unused; None
    if the layout has no such name.
  """
  block = re.fullmatch(rf"{layout.blocks}(\d+)\.(.+)", name)
  if block:
    scope = f"{layout.encoder}/layers_{int(block[1])}/"
    targets = layout.block.get(block[2])
  else:
    scope, targets = "", layout.outer.get(name)
  if targets is None:
    return None
  return [
    (scope + path, functools.partial(change, heads=heads))
    for path, change in targets
  ]
