"""Compares the readouts with golden outputs of the official modules.

    python tests/parity/check_readouts.py DIR

DIR holds any of `pixels.npz`, `depth.npz`, `points.npz`, `boxes.npz` and
`frames_and_fourier.npz` (a name may go on after the task, as in
`points_b.npz`). All sizes are read off the weights and outputs. One line per
compared array: case, array, largest absolute error, and that error relative
to the largest expected magnitude. Exits with 1 if a relative error is above
1e-4, or if there is nothing to compare.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from forecasting.readouts import heads, patches, queries
from forecasting.readouts.attention import Trunk
from forecasting.readouts.temporal import to_frames

TOLERANCE = 1e-4
# Of the list of activations an official 4DS readout chooses its layer from.
RELATIVE_DEPTH = 0.95

Arrays = Mapping[str, np.ndarray]
Pair = tuple[str, np.ndarray, np.ndarray]


def nested_params(arrays: Arrays) -> dict:
  """Returns the official weights of a golden file as a parameter tree."""
  flat = {
    name.removeprefix("p__").replace("__", "/"): value
    for name, value in arrays.items()
    if name.startswith("p__")
  }
  return traverse_util.unflatten_dict(flat, sep="/")


def dense_patch(
  numbers: int, num_queries: int, size: tuple[int, int, int]
) -> tuple[int, int, int]:
  """Returns the patch of a dense head: the official one if it fits."""
  volume = math.prod(size) // num_queries
  if volume != numbers:
    raise ValueError(
      f"{num_queries} queries of {numbers} numbers do not fill {size}"
    )
  sides = [[n for n in range(1, s + 1) if s % n == 0] for s in size]
  fitting = [p for p in itertools.product(*sides) if math.prod(p) == volume]
  return min(
    fitting,
    key=lambda p: (p != patches.PATCH, p[1] != p[2], abs(p[0] - 2)),
  )


def check_dense(task: str, arrays: Arrays) -> Iterator[Pair]:
  """Yields name, result and expectation of a pixels or depth case."""
  params = nested_params(arrays)
  num_queries, num_heads, head_width = params["query"].shape
  _, num_frames, height, width, channels = arrays["output"].shape
  numbers = params["Dense_1"]["bias"].size // channels
  head = heads.DenseHead(
    output=task,
    channels=channels,
    num_frames=num_frames,
    frame_size=(height, width),
    trunk=Trunk(num_heads * head_width, num_heads),
    patch=dense_patch(numbers, num_queries, (num_frames, height, width)),
  )
  out = jax.jit(head.apply)({"params": params}, arrays["inputs"])[task]
  yield "output", out, arrays["output"]


def query_sizes(params: Mapping) -> dict[str, Any]:
  """Returns the widths of a head that embeds points or boxes."""
  embed = params["query_initializer"]["layers_1"]
  key = params["attention_readout"]["key_embedding"]["bias"]
  return {
    "trunk": Trunk(key.size, num_heads=key.shape[0]),
    "query_hidden": embed["Dense_0"]["bias"].size,
    "query_width": embed["Dense_1"]["bias"].size,
  }


def check_points(arrays: Arrays) -> Iterator[Pair]:
  """Yields name, result and expectation of a points case."""
  params = nested_params(arrays)
  head = heads.PointHead(
    num_frames=arrays["out_values"].shape[1], **query_sizes(params)
  )
  out = jax.jit(head.apply)(
    {"params": params}, arrays["inputs"], arrays["queries"]
  )
  visible, certain = out["visible_logit"], out["certainty_logit"]
  yield "values", out["tracks"], arrays["out_values"]
  yield "visible_logit", visible[..., None], arrays["out_logits_visible"]
  yield "certainty_logit", certain[..., None], arrays["out_logits_certainty"]
  product = jax.nn.sigmoid(visible) * jax.nn.sigmoid(certain)
  if set(np.unique(arrays["out_visible"])) <= {0.0, 1.0}:
    product = product > 0.5
  yield "visible", product[..., None], arrays["out_visible"]


def check_boxes(arrays: Arrays) -> Iterator[Pair]:
  """Yields name, result and expectation of a boxes case."""
  params = nested_params(arrays)
  head = heads.BoxHead(
    num_frames=arrays["out_values"].shape[1], **query_sizes(params)
  )
  out = jax.jit(head.apply)(
    {"params": params}, arrays["inputs"], arrays["queries"]
  )
  yield "values", out["boxes"], arrays["out_values"]


def check_frames_and_fourier(arrays: Arrays) -> Iterator[Pair]:
  """Yields name, result and expectation of the pieces without weights."""
  for suffix in ("", "4"):
    latents, resized = arrays[f"latents{suffix}"], arrays[f"resized{suffix}"]
    batch, num_frames, num_tokens, channels = resized.shape
    grid = latents.reshape(batch, -1, 1, num_tokens, channels)
    yield f"resized{suffix}", to_frames(grid, num_frames), resized
  for size in ("2", "4"):
    expected = arrays[f"fourier{size}"]
    bases = expected.shape[-1] // (2 * int(size))
    fourier = jax.jit(queries.fourier_features, static_argnums=1)
    out = fourier(arrays[f"coords{size}"], bases)
    yield f"fourier{size}", out, expected
  index = int(int(arrays["n_activations"]) * RELATIVE_DEPTH) - 1
  yield "chosen_index", np.asarray(index), arrays["chosen_index"]


def check_file(path: Path) -> Iterator[Pair]:
  """Yields name, result and expectation of all arrays of a golden file."""
  arrays = dict(np.load(path))
  checks = {
    "pixels": lambda: check_dense("pixels", arrays),
    "depth": lambda: check_dense("depth", arrays),
    "points": lambda: check_points(arrays),
    "boxes": lambda: check_boxes(arrays),
    "frames_and_fourier": lambda: check_frames_and_fourier(arrays),
  }
  for case, check in checks.items():
    if path.stem.startswith(case):
      yield from check()


def errors(result: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
  """Returns the largest error and its ratio to the largest magnitude."""
  result = np.asarray(result, np.float64)
  expected = np.asarray(expected, np.float64)
  if result.shape != expected.shape:
    return math.inf, math.inf
  worst = float(np.max(np.abs(result - expected)))
  # NaN compares as small; a NaN is as wrong as can be.
  worst = math.inf if math.isnan(worst) else worst
  return worst, worst / max(1e-6, float(np.max(np.abs(expected))))


def check_folder(folder: Path) -> bool:
  """Prints one line per compared array; returns whether all agree."""
  num, agree = 0, True
  # Float32 products also where the hardware's default is lower.
  with jax.default_matmul_precision("highest"):
    for path in sorted(folder.glob("*.npz")):
      for name, result, expected in check_file(path):
        absolute, relative = errors(result, expected)
        ok = relative <= TOLERANCE
        num, agree = num + 1, agree and ok
        print(
          f"{path.stem + '/' + name:36s} max abs {absolute:.2e}  "
          f"max rel {relative:.2e}  {'ok' if ok else 'DIFFERS'}"
        )
  if not num:
    print(f"no golden files of readouts in {folder}")
  return agree and num > 0


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  parser.add_argument("folder", type=Path, metavar="DIR")
  sys.exit(0 if check_folder(parser.parse_args().folder) else 1)


if __name__ == "__main__":
  main()
