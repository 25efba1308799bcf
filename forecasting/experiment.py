"""A run put together from its config: stores, heads, forecasters, predictors.

`main` and `eval` build the same experiment, so that both score a checkpoint
alike.
"""

import dataclasses
import itertools
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from forecasting import (
  compression,
  encoders,
  evaluator,
  extract,
  held_out,
  readouts_from,
  same_run,
  scoring,
  trainees,
)
from forecasting.backbones.encode import load_backbone
from forecasting.forecaster import baselines, registry, rollout
from forecasting.forecaster.base import FittedForecaster, LatentSpec
from forecasting.latents import normalize, pipeline, scales
from forecasting.latents.store import LatentStore
from forecasting.readouts.heads import Head
from forecasting.report import results
from forecasting.report.results import Row
from forecasting.samples import decode, predict
from forecasting.samples.panels import Panels
from forecasting.shapes import Params
from forecasting.tasks import TASKS
from forecasting.training.steps import Trainee

_OUTPUT_BASELINES = {
  "persistence_output": baselines.persistence_output,
  "constant_velocity": baselines.constant_velocity,
}
# Those that forecast any number of frames.
_LONG_BASELINES = (*_OUTPUT_BASELINES, "persistence_latent", "oracle_future")


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What a config describes, with its latents on disk.

  Attributes:
    config: of the run.
    stores: split to latents; `futures` and `horizon` only if the data has them.
    spec: shape of the latents of a clip.
    stats: of the training latents.
    trained: trainee name to parameters that another run trained.
  """

  config: ConfigDict
  stores: Mapping[str, LatentStore]
  spec: LatentSpec
  stats: normalize.LatentStats | scales.Scales
  trained: Mapping[str, Params] = dataclasses.field(default_factory=dict)

  @property
  def tubelet(self) -> int:
    """Frames per latent slot."""
    return self.stores["train"].manifest.tubelet

  def trainees(self) -> list[Trainee]:
    """Returns everything the run trains."""
    config, spec = self.config, self.spec
    all_trainees = [
      *(
        trainees.readout_trainee(
          task,
          self._head(task),
          config.readout,
          spec.h * spec.w,
          spec.channels,
        )
        for task in self._own_readouts()
      ),
      *(
        trainees.forecaster_trainee(
          registry.make_forecaster(name, config.forecaster, spec, self.stats),
          config.forecaster,
          spec.tc,
          self.tubelet,
        )
        for name in config.forecasters
      ),
    ]
    accumulate = config.train.accumulate
    return [
      dataclasses.replace(trainee, accumulate=accumulate)
      for trainee in all_trainees
    ]

  def _head(self, task: str) -> Head:
    """Builds the readout head of a task."""
    grid = (self.spec.h, self.spec.w)
    return trainees.make_head(task, self.config.readout, self.config.data, grid)

  def _own_readouts(self) -> tuple[str, ...]:
    """Returns the tasks whose readouts this run trains."""
    return () if self.trained else tuple(self.config.tasks)

  def batch_keys(self) -> tuple[str, ...]:
    """Returns the tensors that training reads."""
    tasks = self._own_readouts()
    labels = {name for task in tasks for name in TASKS[task].labels}
    return tuple(sorted({"context", "clip", "seconds"} | labels))

  def readouts(self, params: Mapping[str, Params]) -> dict[str, Any]:
    """Returns the trained readouts, by task.

    Args:
      params: trainee name to averaged parameters.
    """
    params = {**params, **self.trained}
    return {
      task: predict.Readout(
        self._head(task),
        params[trainees.readout_name(task)],
        TASKS[task].labels,
        decode.Window(self.spec.tc + self.spec.tf, self.spec.tc),
      )
      for task in self.config.tasks
    }

  def predictors(
    self, params: Mapping[str, Params], step: int, windows: int = 1
  ) -> Iterator[predict.Predictor]:
    """Yields all that is compared: forecasters, baselines, oracle.

    Args:
      params: trainee name to averaged parameters.
      step: of the checkpoint they are from.
      windows: of the training's length that are forecast; what only knows one
        is left out of more.
    """
    config = self.config
    readouts = self.readouts(params)
    common = {
      "readouts": readouts,
      "key": jax.random.key(config.seed),
      "num_samples": config.eval.num_samples,
      "num_context_slots": self.spec.tc,
      "tubelet": self.tubelet,
    }
    for name in config.forecasters:
      forecaster = self._forecaster(name, windows)
      yield predict.latent_predictor(
        forecaster,
        params[trainees.forecaster_name(name)],
        calls=forecaster.calls,
        step=min(step, config.forecaster.steps),
        members=config.forecaster.ensemble,
        **common,
      )
    for name in config.baselines:
      if windows > 1 and name not in _LONG_BASELINES:
        continue
      if name in _OUTPUT_BASELINES:
        yield predict.output_predictor(
          name, _OUTPUT_BASELINES[name], config.data.num_context
        )
      elif name == "oracle_future":
        yield predict.oracle_predictor(readouts, self.spec.tc)
      elif name == "native":
        yield predict.native_predictor(
          load_backbone(**config.backbone),
          readouts,
          key=jax.random.key(config.seed),
          num_samples=config.eval.num_samples,
          num_context=config.data.num_context,
        )
      else:
        forecaster = self._forecaster(name, windows)
        is_fitted = isinstance(forecaster, FittedForecaster)
        fitted = forecaster.fit(self._bank()) if is_fitted else {}
        yield predict.latent_predictor(
          forecaster, fitted, calls=forecaster.calls, **common
        )

  def evaluate(
    self, params: Mapping[str, Params], step: int, panels: Panels | None
  ) -> Iterator[Row]:
    """Yields the result rows of a checkpoint, with what run they are from."""
    config = self.config
    manifest = self.stores["eval"].manifest
    about = {
      "name": config.name,
      "backbone": manifest.backbone,
      "weights_digest": manifest.weights_digest,
      "layer": manifest.layer,
      "context_mode": manifest.context_mode,
      "dataset": manifest.dataset,
      "dataset_train": self.stores["train"].manifest.dataset,
      "skipped_train": dict(self.stores["train"].manifest.skipped),
      "seed": config.seed,
      "weights": "ema",
      "git_revision": git_revision(),
      "device": f"{jax.devices()[0].device_kind} x {jax.device_count()}",
      "host": platform.machine(),
    }
    readouts = self.readouts(params)
    oracle = predict.oracle_predictor(readouts, self.spec.tc)
    settings = self.settings()
    beyond = self._beyond(params, step)
    rows = evaluator.evaluate(
      self.predictors(params, step),
      predict.perception_predictor(readouts),
      self.stores["eval"],
      settings,
      futures=self.stores.get("futures"),
      readout_futures=oracle,
      dress=held_out.dresser(config, self.stores, oracle, settings),
      panels=panels,
    )
    for row in rows:
      yield about | row | beyond.get((row["task"], row["forecaster"]), {})

  def settings(self, num_frames: int | None = None) -> scoring.Settings:
    """Returns how forecasts are scored.

    Args:
      num_frames: of a clip; None for those of training.
    """
    config, has_futures = self.config, "futures" in self.stores
    return scoring.Settings(
      tasks=tuple(config.tasks),
      num_context=config.data.num_context,
      num_frames=num_frames or config.data.num_frames,
      batch_size=config.eval.batch_size,
      bootstrap=config.eval.bootstrap,
      bootstrap_frechet=config.eval.bootstrap_frechet,
      futures_per_context=config.data.futures_per_context if has_futures else 0,
    )

  def _beyond(
    self, params: Mapping[str, Params], step: int
  ) -> dict[tuple[str, str], dict[str, Any]]:
    """Scores longer clips: (task, forecaster) to a row's `horizon`."""
    store = self.stores.get("horizon")
    if store is None:
      return {}
    data, num_frames = self.config.data, store.manifest.num_frames
    added = data.num_frames - data.num_context
    rows = evaluator.evaluate(
      self.predictors(params, step, (num_frames - data.num_context) // added),
      predict.perception_predictor(self.readouts(params)),
      store,
      self.settings(num_frames),
    )
    return {
      (row["task"], row["forecaster"]): {"horizon": results.of_horizon(row)}
      for row in rows
    }

  def _forecaster(self, name: str, windows: int = 1):
    spec = self.spec
    if name in registry.TRAINING_FREE:
      spec = rollout.long_spec(spec, windows)
    return registry.make_forecaster(
      name, self.config.forecaster, spec, self.stats, windows
    )

  def _bank(self) -> dict[str, np.ndarray]:
    """Returns contexts and futures of training clips, evenly spread."""
    store = self.stores["train"]
    rows = pipeline.evenly_spread(store, self.config.eval.bank_clips)
    clips = [store.read(row, ("context", "clip")) for row in rows]
    return {
      "context": np.stack([clip["context"] for clip in clips]),
      "future": np.stack([clip["clip"][self.spec.tc :] for clip in clips]),
    }


def open_experiment(config: ConfigDict, workdir: Path) -> Experiment:
  """Opens the latents of a run, making what is missing if it may.

  Args:
    config: validated.
    workdir: of the run.

  Raises:
    ValueError: a task whose labels the data does not have, readouts of
      another run that do not fit or are not trained yet, or checkpoints that
      were trained on other latents.
  """
  trained = readouts_from.load(config)
  stores = _open_stores(config, workdir)
  manifest = stores["train"].manifest
  # Training and evaluation may use different data.
  for task, split in itertools.product(config.tasks, ("train", "eval")):
    found = stores[split].manifest
    missing = set(TASKS[task].labels) - set(found.labels)
    if missing:
      raise ValueError(
        f"tasks: {task!r} needs the labels {sorted(missing)}, which "
        f"{found.dataset} ({split}) does not have; choose other tasks or data"
      )
  stores = held_out.split(stores, config.data.held_out_clips)
  same_run.check_latents(same_run.identity(stores["train"]), workdir)
  readouts_from.check_latents(config, stores["train"])
  slots, h, w, channels = manifest.clip_shape
  context_slots = manifest.context_shape[0]
  return Experiment(
    config=config,
    stores=stores,
    spec=LatentSpec(context_slots, slots - context_slots, h, w, channels),
    stats=compression.statistics(config, stores["train"], workdir),
    trained=trained,
  )


def _open_stores(config: ConfigDict, workdir: Path) -> dict[str, LatentStore]:
  """Opens the latents of every split, extracting what is missing.

  Raises:
    ValueError: stores written elsewhere are not what the config says.
    StoreError: the disk has no room for the latents.
  """
  if config.latents.path is None:
    encoder = encoders.load(config)
    backbone = encoder.backbone
    # Before latents are extracted that no checkpoint belongs to.
    same_run.check_latents(
      {
        "backbone": backbone.spec.name,
        "weights_digest": backbone.weights_digest,
        "context_mode": backbone.context_mode,
      },
      workdir,
    )
    splits = ["train", "eval"]
    if config.data.name == "mujoco_scenes" and config.data.future_contexts:
      splits.append("futures")
    if config.data.horizon_frames:
      splits.append("horizon")
    sources = dict.fromkeys(splits)
    if config.latents.extract_if_missing:
      sources = extract.open_sources(config, splits, workdir, encoder)
    return {
      split: extract.ensure_store(config, split, workdir, encoder, source)
      for split, source in sources.items()
    }
  stores = {}
  for split in ("train", "eval"):
    stores[split] = store = LatentStore(Path(config.latents.path) / split)
    size = store[0]["video"].shape[1] if "video" in store[0] else None
    for field, wanted, found in (
      ("num_frames", config.data.num_frames, store.manifest.num_frames),
      ("num_context", config.data.num_context, store.manifest.num_context),
      ("size", config.data.size, size or config.data.size),
    ):
      if wanted != found:
        raise ValueError(
          f"data.{field} = {wanted}, but {store.path} has {found}; set "
          f"data.{field}={found}"
        )
  return stores


def git_revision() -> str:
  """Returns the commit of this checkout, or 'unknown' outside of one."""
  here = Path(__file__).parent
  try:
    run = subprocess.run(
      ["git", "-C", str(here), "describe", "--always", "--dirty"],
      capture_output=True,
      text=True,
      check=True,
    )
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
  return run.stdout.strip()
