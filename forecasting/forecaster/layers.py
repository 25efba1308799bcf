"""A stack of blocks, applied one after the other or as a compiled loop."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from forecasting.shapes import Array

Block = Callable[..., tuple[Array, Any]]
# (block, x, row of its table, what it reads, is it the last) to (x, what it
# gives).
ApplyBlock = Callable[[Block, Array, Array, Any, bool], tuple[Array, Any]]


class PerBlock(NamedTuple):
  """Something for every block.

  Attributes:
    looped: of the blocks in the loop: what is for each of the blocks that
      differ, stacked over the loop's turns.
    rest: of the others.
  """

  looped: Sequence[Any]
  rest: Sequence[Any]


def apply_blocks(
  apply: ApplyBlock,
  blocks: Sequence[Any],
  tables: Array,
  x: Array,
  inputs: PerBlock | None,
  period: int,
) -> tuple[jax.Array, PerBlock]:
  """Applies blocks in turn.

  With `period`, blocks that many apart differ in nothing but parameters, and
  all before the last are one `jax.lax.scan`: the program is as small as that
  many blocks, and so is the time it takes to compile. Parameters stay apart in
  the state and are stacked on the way in.

  Args:
    apply: calls a block.
    blocks: bound modules with parameters.
    tables: one row for each block.
    x: what goes through.
    inputs: what each block reads beside it, given by another call of this
      function for the same blocks; None for nothing.
    period: after how many blocks the same ones come again; 0 for no loop.

  Returns:
    What comes out, and what each block gives.
  """
  last = len(blocks) - 1
  looped = last // period * period if period else 0
  if looped:
    x, outs = _loop(apply, blocks[:looped], tables, x, inputs, period)
  else:
    outs = []
  rest = []
  for i in range(looped, len(blocks)):
    read = inputs.rest[i - looped] if inputs else None
    x, out = apply(blocks[i], x, tables[i], read, i == last)
    rest.append(out)
  return x, PerBlock(outs, rest)


def _loop(
  apply: ApplyBlock,
  blocks: Sequence[Any],
  tables: Array,
  x: Array,
  inputs: PerBlock | None,
  period: int,
) -> tuple[jax.Array, Sequence[Any]]:
  alike = [block.clone(parent=None, name=None) for block in blocks[:period]]
  params = [block.variables["params"] for block in blocks]

  def turn(x: Array, layers: Sequence[Any]) -> tuple[jax.Array, list[Any]]:
    outs = []
    for block, (weights, table, read) in zip(alike, layers, strict=True):
      bound = functools.partial(block.apply, {"params": weights})
      x, out = apply(bound, x, table, read, False)
      outs.append(out)
    return x, outs

  stacked = [
    (
      jax.tree.map(lambda *leaves: jnp.stack(leaves), *params[i::period]),
      tables[i : len(blocks) : period],
      inputs.looped[i] if inputs else None,
    )
    for i in range(period)
  ]
  return jax.lax.scan(turn, x, stacked)
