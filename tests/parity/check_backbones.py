"""Compares backbones with outputs of their reference implementations.

python tests/parity/check_backbones.py DIR

DIR is a folder of goldens: NAME.json (sizes), NAME.npz (frames and latents),
and the weights under the official names in every format that NAME has. One line
per case and weights file: largest absolute error, and the same over the spread
of the reference; exits non-zero above 2e-4 relative.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from golden_specs import GOLDEN_SPECS

from forecasting.backbones.encode import load_spec
from forecasting.backbones.spec import BackboneSpec

TOLERANCE = 2e-4  # float32 against float32, in another order of operations
WEIGHTS = ("_ckpt.npz", ".safetensors", ".pth", ".pth.tar")


def golden_spec(folder: Path, name: str) -> BackboneSpec:
  """Returns the spec of a golden's network.

  Raises:
    ValueError: nothing here knows its family.
  """
  sizes = json.loads((folder / f"{name}.json").read_text())
  family = sizes["backbone"]
  if family not in GOLDEN_SPECS:
    raise ValueError(f"{name}: no family {family!r} in golden_specs.py")
  return GOLDEN_SPECS[family](name, sizes)


def errors(
  folder: Path, name: str, spec: BackboneSpec, weights: Path
) -> tuple[float, float]:
  """Runs one case through loading and encoding.

  Args:
    folder: of the goldens.
    name: of the case.
    spec: of its network.
    weights: file to load.

  Returns:
    Largest difference of latents before normalization, and the same over their
    standard deviation.
  """
  backbone = load_spec(spec, checkpoint=weights)
  with np.load(folder / f"{name}.npz") as arrays:
    frames = jnp.asarray(arrays["frames_u8"], jnp.float32) / 255.0
    expected = arrays["latents"].astype(np.float64)
  with jax.default_matmul_precision("highest"):
    latents = jax.jit(backbone.raw_latents)(backbone.params, frames)
  if latents.shape != expected.shape:
    raise ValueError(f"{name}: {latents.shape}, reference {expected.shape}")
  error = float(np.abs(np.asarray(latents) - expected).max())
  return error, error / expected.std()


def main(argv: list[str]) -> int:
  """Checks every case of a folder; returns the exit status."""
  if len(argv) != 2 or not Path(argv[1]).is_dir():
    print(__doc__)
    return 2
  folder = Path(argv[1])
  folder = folder / "backbones" if (folder / "backbones").is_dir() else folder
  failures = checked = 0
  for path in sorted(folder.glob("*.json")):
    name = path.stem
    files = [p for s in WEIGHTS if (p := folder / f"{name}{s}").is_file()]
    if not files:
      print(f"{name:20s} FAIL no weights beside {path.name}")
      failures += 1
    for weights in files:
      checked += 1
      title = f"{name:20s} {weights.name.removeprefix(name):14s}"
      try:
        absolute, relative = errors(
          folder, name, golden_spec(folder, name), weights
        )
      except (ValueError, KeyError, OSError) as error:
        print(f"{title} FAIL {error}")
        failures += 1
        continue
      ok = relative <= TOLERANCE  # False for NaN
      failures += not ok
      verdict = "ok" if ok else "FAIL"
      print(f"{title} abs {absolute:.2e} rel {relative:.2e} {verdict}")
  if not checked:
    print(f"no case in {folder}")
  return int(failures > 0 or checked == 0)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
