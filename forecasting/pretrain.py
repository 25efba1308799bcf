r"""Binary: clips -> weights of a backbone.

python -m forecasting.pretrain --config=configs/pretrain/4ds_tiny.py \
  --workdir=runs/pretrain_4ds_tiny

Running it again resumes. The workdir then holds the weights as safetensors
under the network's own names, beside a JSON file that says how they were made.
"""

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from forecasting.backbones.weights import file_digest, save_weights
from forecasting.backbones.zoo import get_spec
from forecasting.frames.pipeline import (
  ClipSource,
  data_root,
  open_source,
  scene_config,
)
from forecasting.frames.scenes import captions
from forecasting.frames.scenes.physics import Course
from forecasting.pretraining.objective import Objective
from forecasting.pretraining.registry import make_objective
from forecasting.shapes import Batch
from forecasting.training.allocation import keep_freed_memory
from forecasting.training.loop import fit
from forecasting.training.mesh import make_mesh
from forecasting.training.steps import Trainee
from forecasting.training.workdir import held
from forecasting.validation import train_problems

TRAINEE = "pretraining"
READ_THREADS = 2
# Flags that say where things are, which does not change what is made.
_PLACES = ("--workdir", "--config.data.root")


def clip_batches(
  source: ClipSource,
  batch_size: int,
  seed: int,
  keys: Sequence[str] = ("video",),
  course: Course | None = None,
) -> grain.DatasetIterator:
  """Returns endless shuffled batches of frames.

  Args:
    source: the clips.
    batch_size: clips per batch.
    seed: of the order, which differs in every epoch.
    keys: arrays of a clip; 'text', the words of its caption, among them.
    course: how simulated clips unfold, for their captions.

  Returns:
    Iterator of {'video': uint8 [B T H W 3], ..., 'place': int32 [B]}, the place
    of a clip in its batch; checkpointable.
  """
  select = functools.partial(_select, keys=tuple(keys), course=course)
  return iter(
    grain.MapDataset.source(source)
    .seed(seed)
    .shuffle()
    .map(select)
    .repeat()
    .batch(batch_size, drop_remainder=True)
    .map(_with_place)
    .to_iter_dataset(
      grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=4)
    )
  )


def _select(
  clip: Mapping[str, Any], keys: Sequence[str], course: Course | None
) -> dict[str, np.ndarray]:
  """Returns some of a clip's arrays, and its caption if it is asked for."""
  arrays = {key: clip[key] for key in keys if key != "text"}
  if "text" in keys:
    text = captions.caption_of(course, str(clip["clip_id"]))
    arrays["text"] = captions.words(text)
  return arrays


def _with_place(batch: Batch) -> Batch:
  """Returns the batch with the place of every clip in it."""
  return {**batch, "place": np.arange(len(batch["video"]), dtype=np.int32)}


def read_curve(workdir: Path) -> list[dict[str, int | float]]:
  """Returns the rows of a run's metrics, rounded, with the loss's parts."""
  drop = ("trainee", "grad_norm", "param_norm", "learning_rate")
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [
    {key: round(row[key], 5) for key in row if key not in drop}
    for row in rows
    if "loss" in row
  ]


def export(
  workdir: Path, config: ConfigDict, encoder: Any, fingerprint: str
) -> Path:
  """Writes the encoder, and how it was made; where it was made is left out.

  Args:
    workdir: of the run.
    config: its fields.
    encoder: averaged parameters of the encoder.
    fingerprint: of the clips.

  Returns:
    The path of the weights.
  """
  given = [f for f in sys.argv[1:] if not f.startswith(_PLACES)]
  fields = json.loads(config.to_json_best_effort())
  fields["data"]["root"] = None
  notes = {
    "command": " ".join(["python -m forecasting.pretrain", *given]),
    "config": fields,
    "clips": fingerprint,
  }
  path = workdir / f"{config.backbone}.safetensors"
  save_weights(path, encoder, notes, jnp.bfloat16)
  record = {**notes, "sha256": file_digest(path), "curve": read_curve(workdir)}
  path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
  return path


def check(config: ConfigDict, task: Objective) -> None:
  """Refuses what would fail, or mean something else, once clips are made.

  Raises:
    ValueError: names the fields.
  """
  train = config.train
  if train.accumulate > 1 and task.compares_clips:
    raise ValueError(
      f"train.accumulate = {train.accumulate}: objective.name ="
      f" {config.objective.name!r} compares the clips of a batch, which"
      " cannot be taken in parts; set it to 1"
    )
  if problems := list(train_problems(train)):
    raise ValueError("; ".join(problems))


def run(config: ConfigDict, workdir: Path) -> Path:
  """Pretrains, or resumes, and exports.

  Args:
    config: as from `configs/pretrain/4ds_tiny.py`.
    workdir: holds data, checkpoints, metrics and the weights.

  Returns:
    The path of the weights.

  Raises:
    OSError: another run is in the workdir.
    ValueError: fields that do not go together.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  with held(workdir):
    keep_freed_memory()
    return _run(config, workdir)


def _run(config: ConfigDict, workdir: Path) -> Path:
  task = make_objective(get_spec(config.backbone), config.objective.to_dict())
  check(config, task)
  source = open_source(config.data, "train", data_root(config.data, workdir))
  trainee = Trainee(
    name=TRAINEE,
    init=task.init,
    loss=task.loss,
    optimizer=config.optimizer,
    steps=config.steps,
    ema_decay=config.ema_decay,
    ema_warm_up=config.ema_warm_up,
    accumulate=config.train.accumulate,
    uses_average=task.uses_average,
  )
  states = fit(
    [trainee],
    clip_batches(
      source,
      config.train.batch_size,
      config.seed,
      task.keys,
      scene_config(config.data) if "text" in task.keys else None,
    ),
    workdir=workdir,
    seed=config.seed,
    mesh=make_mesh(config.train.fsdp),
    log_every=config.train.log_every,
    checkpoint_every=config.train.checkpoint_every,
    keep=config.train.keep,
    keep_every=config.train.keep_every,
    profile_steps=config.train.profile_steps,
    tensorboard=config.train.tensorboard,
  )
  encoder = task.encoder(states[TRAINEE].ema)
  return export(workdir, config, encoder, source.fingerprint)


def main(argv: Sequence[str]) -> None:
  """Parses flags and runs."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  path = run(_CONFIG.value, Path(_WORKDIR.value))
  print(f"weights: {path}")


if __name__ == "__main__":
  _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
  _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
  flags.mark_flags_as_required(["config", "workdir"])
  # Libraries log every file they touch; --verbosity=0 shows it.
  logging.set_verbosity(logging.WARNING)
  app.run(main)
