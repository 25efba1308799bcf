"""The steps of a run as shapes: no weights, no data, no device.

What `main` and `extract` compile, with `jax.ShapeDtypeStruct` for every array,
for the devices of any mesh. `tpu_check.py` compiles them.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from forecasting import trial_build
from forecasting.backbones import encode, zoo
from forecasting.encoders import encoding_mesh
from forecasting.experiment import Experiment
from forecasting.forecaster import registry
from forecasting.forecaster.base import LatentSpec
from forecasting.latents.encoding import PREPROCESSING, encode_clips
from forecasting.latents.manifest import Manifest
from forecasting.latents.pipeline import batch_keys
from forecasting.latents.store import LatentStore
from forecasting.samples import predict
from forecasting.tasks import TASKS
from forecasting.trainees import forecaster_name
from forecasting.training.mesh import AXES, make_mesh, state_shardings
from forecasting.training.steps import Trainee, compile_step


class DescribedStore(LatentStore):
  """A store of which only the manifest is there."""

  def __init__(self, manifest: Manifest):
    """Opens nothing."""
    self.manifest = manifest


def abstract_backbone(settings: ConfigDict) -> encode.Backbone:
  """Returns the backbone of `config.backbone` with shapes for weights."""
  spec = encode.with_options(
    zoo.get_spec(settings.name), settings.options.to_dict()
  )
  dtype, mode = encode.DTYPES[settings.dtype], settings.context_mode
  return encode.Backbone(
    spec,
    jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, dtype),
      encode.parameter_shapes(spec),
    ),
    "abstract",
    encode.num_blocks(spec, settings.layer),
    spec.context_mode if mode == "default" else mode,
    dtype,
  )


def abstract_experiment(
  config: ConfigDict, backbone: encode.Backbone
) -> Experiment:
  """Returns the experiment of a config, as if its latents were there."""
  data = config.data
  video = (1, data.num_frames, data.size, data.size, 3)
  context, clip = jax.eval_shape(
    functools.partial(encode_clips, backbone, data.num_context),
    backbone.params,
    jax.ShapeDtypeStruct(video, jnp.uint8),
  )
  labels = {name for task in TASKS.values() for name in task.labels}
  manifest = Manifest(
    backbone=backbone.spec.name,
    weights_digest=backbone.weights_digest,
    layer=f"block {backbone.num_blocks} of {backbone.spec.depth}",
    context_mode=backbone.context_mode,
    dtype=config.latents.dtype,
    context_shape=context.shape[1:],
    clip_shape=clip.shape[1:],
    dataset=data.name,
    fingerprint="abstract",
    split="train",
    resolution=backbone.spec.resolution,
    preprocessing=PREPROCESSING,
    num_frames=data.num_frames,
    num_context=data.num_context,
    tubelet=backbone.spec.tubelet,
    labels=tuple(sorted(labels | {"seconds"})),
    num_clips=1,
    clips_per_shard=1,
  )
  (tc, h, w, channels), t = manifest.context_shape, manifest.clip_shape[0]
  spec = LatentSpec(tc, t - tc, h, w, channels)
  stats = trial_build.statistics(config.forecaster, spec)
  return Experiment(
    config=config,
    stores={"train": DescribedStore(manifest)},
    spec=spec,
    stats=jax.tree.map(lambda x: np.ones(x.shape, x.dtype), stats),
  )


def abstract_batch(
  run: Experiment, names: Sequence[str], size: int, sharding: NamedSharding
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shapes of a batch of latents and labels.

  Args:
    run: whose batch.
    names: tensors wanted.
    size: examples over all chips.
    sharding: of the batch.

  Raises:
    ValueError: the chips cannot share the batch.
  """
  if size % sharding.num_devices:
    raise ValueError(
      f"a batch of {size} cannot be split over {sharding.num_devices} chips; "
      "set train.batch_size or latents.batch_size to a multiple, or choose a "
      "smaller slice"
    )
  data, manifest = run.config.data, run.stores["train"].manifest
  frames, points, boxes = data.num_frames, data.num_points, data.num_boxes
  pixels = (frames, data.size, data.size)
  shapes = {
    "context": (manifest.context_shape, jnp.float32),
    "clip": (manifest.clip_shape, jnp.float32),
    "example_id": ((), jnp.uint32),
    "seconds": ((frames,), jnp.float32),
    "video": ((*pixels, 3), jnp.uint8),
    "depth": ((*pixels, 1), jnp.float16),
    "tracks": ((frames, points, 2), jnp.float32),
    "visible": ((frames, points), jnp.bool_),
    "track_mask": ((points,), jnp.bool_),
    "boxes": ((frames, boxes, 4), jnp.float32),
    "box_mask": ((frames, boxes), jnp.bool_),
    "object_mask": ((boxes,), jnp.bool_),
    "object_ids": ((boxes,), jnp.int32),
  }
  return {
    name: jax.ShapeDtypeStruct(
      (size, *shapes[name][0]), shapes[name][1], sharding=sharding
    )
    for name in names
  }


def placed(tree: Any, sharding: NamedSharding) -> Any:
  """Returns the shapes of a tree with another sharding."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )


@dataclasses.dataclass(frozen=True)
class Step:
  """One program to compile.

  Attributes:
    name: of the step.
    jitted: the function, jitted.
    args: shapes of its arguments.
    forward: the function whose matrix products are counted.
    times: how often they are counted.
    chips: that share its work.
    state: of the trainee that it steps, else None.
  """

  name: str
  jitted: Callable[..., Any]
  args: tuple[Any, ...]
  forward: Callable[..., Any]
  times: int
  chips: int
  state: Any = None


def train_step(run: Experiment, trainee: Trainee, mesh: Mesh) -> Step:
  """Returns the train step that `training.loop.fit` compiles."""
  state = trainee.abstract_state(mesh)
  names = batch_keys(run.stores["train"], run.batch_keys())
  size = run.config.train.batch_size
  batch = abstract_batch(run, names, size, NamedSharding(mesh, P(AXES)))
  key = jax.eval_shape(lambda: trainee.key(0))
  key = placed(key, NamedSharding(mesh, P()))

  def forward(state, batch, key):
    return trainee.loss(state.params, batch, key)

  step = compile_step(trainee, mesh)
  args = (state, batch, key)
  return Step(f"train {trainee.name}", step, args, forward, 3, mesh.size, state)


def sample_step(run: Experiment, name: str, params: Any, mesh: Mesh) -> Step:
  """Returns the sampling of an evaluation batch, on one chip as in `eval`."""
  config, spec = run.config, run.spec
  forecaster = registry.make_forecaster(
    name, config.forecaster, spec, run.stats
  )
  sample = predict.latent_sampling(
    forecaster,
    key=jax.random.key(0),
    num_samples=config.eval.num_samples,
    num_context_slots=spec.tc,
    tubelet=run.tubelet,
  )
  names = ("context", "clip", "seconds", "example_id")
  return _sample_step(f"sample {name}", sample, run, params, names, mesh)


def native_step(run: Experiment, backbone: encode.Backbone, mesh: Mesh) -> Step:
  """Returns the sampling of a batch by the backbone itself (N-W.A.L.T.)."""
  config = run.config
  sample = predict.native_sampling(
    backbone,
    key=jax.random.key(0),
    num_samples=config.eval.num_samples,
    num_context=config.data.num_context,
  )
  names = ("video", "example_id")
  return _sample_step(
    "sample native", sample, run, backbone.params, names, mesh
  )


def _sample_step(
  name: str,
  sample: predict.Sampling,
  run: Experiment,
  params: Any,
  batch_names: Sequence[str],
  mesh: Mesh,
) -> Step:
  """Returns a sampling on the first chip: each has batches of its own."""
  alone = Mesh(mesh.devices[:1, :1], AXES, axis_types=mesh.axis_types)
  sharding = NamedSharding(alone, P())
  size = run.config.eval.batch_size
  batch = abstract_batch(run, batch_names, size, sharding)
  args = (placed(params, sharding), batch)
  return Step(name, jax.jit(sample), args, sample, 1, 1)


def extract_step(
  run: Experiment, backbone: encode.Backbone, mesh: Mesh
) -> Step:
  """Returns the encoding of a batch on every host at once."""
  devices = list(mesh.devices.flat)
  local = len(devices) // len({device.process_index for device in devices})
  size = -(-run.config.latents.batch_size // local) * mesh.size
  leaves = jax.tree.leaves(backbone.params)
  num_bytes = sum(x.size * x.dtype.itemsize for x in leaves)
  mesh = encoding_mesh(num_bytes, devices, local)
  split = NamedSharding(mesh, P(AXES))
  encode_fn = functools.partial(
    encode_clips, backbone, run.config.data.num_context
  )
  batch = abstract_batch(run, ("video", "example_id"), size, split)
  args = (
    jax.tree.map(
      placed, backbone.params, state_shardings(backbone.params, mesh)
    ),
    batch["video"],
    batch["example_id"],
  )
  jitted = jax.jit(encode_fn, out_shardings=split)
  return Step("extract", jitted, args, encode_fn, 1, mesh.size)


def all_steps(config: ConfigDict, devices: Sequence[Any]) -> list[Step]:
  """Returns every step of a run: training, sampling, extraction.

  Args:
    config: of the run.
    devices: of the slice.

  Raises:
    ValueError: the devices cannot share the work.
  """
  mesh = make_mesh(config.train.fsdp, devices)
  backbone = abstract_backbone(config.backbone)
  run = abstract_experiment(config, backbone)
  training = [train_step(run, trainee, mesh) for trainee in run.trainees()]
  params = {step.name: step.state.ema for step in training}
  sampling = [
    sample_step(run, name, params[f"train {forecaster_name(name)}"], mesh)
    for name in config.forecasters
  ]
  if "native" in config.baselines:
    sampling.append(native_step(run, backbone, mesh))
  return [*training, *sampling, extract_step(run, backbone, mesh)]
