"""Compares backbones with outputs of their reference implementations.

python tests/parity/check_backbones.py DIR

DIR is a folder of goldens: NAME.json (sizes), NAME.npz (frames and latents),
and the weights under the official names. One line per case with the largest
error relative to the spread of the reference; exits non-zero above 2e-4.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from forecasting.backbones.encode import load_spec
from forecasting.backbones.zoo import BackboneSpec

TOLERANCE = 2e-4  # float32 against float32, in another order of operations


def golden_spec(name: str, sizes: Mapping[str, Any]) -> BackboneSpec:
  """Returns the spec of a golden's network."""
  tubelet, patch, _ = sizes["patch_size"]
  return BackboneSpec(
    name=name,
    family="4ds",
    resolution=sizes["input_hw"][0],
    num_frames=sizes["checkpoint_frames"],
    tubelet=tubelet,
    patch=patch,
    width=sizes["embed_dim"],
    depth=sizes["depth"],
    heads=sizes["num_heads"],
    mlp_dim=sizes["mlp_hidden"],
    mean=tuple(map(float, sizes["mean"])),
    std=tuple(map(float, sizes["std"])),
    layer=str(sizes["readout_depth"]),
  )


def relative_error(folder: Path, name: str, sizes: Mapping[str, Any]) -> float:
  """Runs one case through loading and encoding.

  Args:
    folder: of the goldens.
    name: of the case.
    sizes: the case's JSON.

  Returns:
    Largest difference of latents before normalization, over their standard
    deviation.
  """
  backbone = load_spec(
    golden_spec(name, sizes), checkpoint=folder / f"{name}_ckpt.npz"
  )
  with np.load(folder / f"{name}.npz") as arrays:
    frames = jnp.asarray(arrays["frames_u8"], jnp.float32) / 255.0
    expected = arrays["latents"].astype(np.float64)
  with jax.default_matmul_precision("highest"):
    latents = jax.jit(backbone.raw_latents)(backbone.params, frames)
  if latents.shape != expected.shape:
    raise ValueError(f"{name}: {latents.shape}, reference {expected.shape}")
  return float(np.abs(np.asarray(latents) - expected).max() / expected.std())


def main(argv: list[str]) -> int:
  """Checks every case of a folder; returns the exit status."""
  if len(argv) != 2 or not Path(argv[1]).is_dir():
    print(__doc__)
    return 2
  folder = Path(argv[1])
  folder = folder / "backbones" if (folder / "backbones").is_dir() else folder
  failures = checked = 0
  for path in sorted(folder.glob("*.json")):
    sizes = json.loads(path.read_text())
    if sizes.get("backbone") != "4ds":
      print(f"{path.stem:20s} not yet supported")
      continue
    error = relative_error(folder, path.stem, sizes)
    ok = error <= TOLERANCE
    checked += 1
    failures += not ok
    print(f"{path.stem:20s} {error:.2e} {'ok' if ok else 'FAIL'}")
  if not checked:
    print(f"no case of a supported family in {folder}")
  return int(failures > 0 or checked == 0)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
