"""What a cell of a study is: its settings and the content of its weights.

Two commands may be the same cell, as when weights were moved, and one command
may be two, as when they were replaced or a config file was edited.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from forecasting.backbones.encode import find_checkpoint
from forecasting.backbones.weights import file_digest
from forecasting.backbones.zoo import get_spec
from forecasting.same_run import flat

# Places that say nothing about what is there, or whose content is told apart.
# The folders of data and latents made elsewhere remain: nothing else names
# them.
_PLACES = ("backbone.checkpoint", "data.root", "latents.root", "compiled")


def identify(arguments: Sequence[str]) -> dict[str, Any]:
  """Returns what a cell's numbers depend on.

  Args:
    arguments: of `forecasting.main`.

  Returns:
    Dotted field of the config to value as JSON has it, without places, and in
    `weights` the digest of their file.

  Raises:
    FileNotFoundError: the weights are gone.
  """
  config = _resolve(arguments)
  fields = flat(config)
  for name in _PLACES:
    fields.pop(name, None)
  # The cell of the same study, wherever that lies.
  fields["readout.from_run"] = Path(config.readout.from_run).name
  if config.latents.path is None and not config.backbone.random_init:
    spec = get_spec(config.backbone.name)
    path = find_checkpoint(spec, config.backbone.checkpoint)
    fields["weights"] = _digest(path, _state(path))
  return fields


def _resolve(arguments: Sequence[str]) -> ConfigDict:
  """Reads a config and its overrides as the binary does."""
  chosen = [a for a in arguments if a.lstrip("-").startswith("config")]
  argv, values = ["cell", *chosen], flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    "config", flag_values=values, sys_argv=argv
  )
  values(argv)
  return holder.value


@functools.lru_cache(maxsize=256)
def _digest(path: Path, state: tuple[tuple[str, int, int], ...]) -> str:
  """Returns the digest of weights; large ones are read once for all cells."""
  del state
  return file_digest(path)


def _state(path: Path) -> tuple[tuple[str, int, int], ...]:
  """Returns what changes when files are replaced."""
  files = [path] if path.is_file() else sorted(path.rglob("*"))
  stats = [(str(file), file.stat()) for file in files]
  return tuple((name, s.st_mtime_ns, s.st_size) for name, s in stats)
