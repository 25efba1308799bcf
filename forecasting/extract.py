"""Binary: frames -> latents on disk.

python -m forecasting.extract --config=configs/quickstart.py \
  --workdir=runs/quickstart --split=train,eval

Encodes every clip twice with the frozen backbone, the context alone and the
whole clip, and stores both beside the clip's labels. May be killed and run
again at any time; running it on a finished store verifies every checksum and
writes damaged shards again. With several processes, each writes its share; one
with several devices splits the parameters of a large backbone over them.
"""

import dataclasses
import functools
import itertools
import shlex
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from absl import app, flags, logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from forecasting import validation
from forecasting.backbones.encode import num_blocks
from forecasting.encoders import Encode, FrozenEncoder, load
from forecasting.frames.pipeline import SPLITS, ClipSource, open_source
from forecasting.latents import manifest as manifest_lib
from forecasting.latents import space
from forecasting.latents import store as store_lib
from forecasting.latents.encoding import PREPROCESSING, Encoder
from forecasting.latents.manifest import Manifest
from forecasting.latents.records import example_id
from forecasting.latents.store import LatentStore
from forecasting.training import distributed, preemption
from forecasting.training.allocation import keep_freed_memory
from forecasting.training.steps import enable_compilation_cache


def ensure_store(
  config: ConfigDict,
  split: str,
  workdir: Path,
  encoder: FrozenEncoder | None = None,
  source: ClipSource | None = None,
) -> LatentStore:
  """Opens the latents that a config asks for, extracting them if allowed.

  Args:
    config: of the run.
    split: 'train', 'eval', 'futures' or 'horizon'.
    workdir: of the run.
    encoder: if it is loaded already.
    source: of the clips, if it is open already.

  Returns:
    The store.

  Raises:
    FileNotFoundError: the latents are missing and
      `config.latents.extract_if_missing` is False; gives the command.
    ManifestError: other latents lie there.
    StoreError: damaged shards; says how to mend them.
  """
  encoder = encoder or load(config)
  if source is None:
    source = _source(config, split, workdir)
  wanted = describe(config, encoder, source)
  path = store_path(config, encoder.backbone, source, workdir)
  # Another run may finish them just now: processes must not see both.
  if distributed.first_says(_num_stored(path, wanted) >= len(source)):
    return LatentStore(path, num_clips=len(source))
  if not config.latents.extract_if_missing:
    raise FileNotFoundError(
      f"no latents of {len(source)} {split} clips in {path}. Extract them:\n  "
      f"{_command(workdir, split)}\nor set latents.extract_if_missing=True."
    )
  return _extract(config, encoder, source, path, wanted)


def extract(
  config: ConfigDict,
  split: str,
  workdir: Path,
  encoder: FrozenEncoder | None = None,
  source: ClipSource | None = None,
) -> LatentStore:
  """Writes what is missing or damaged of the latents of a split.

  Args:
    config: of the run.
    split: 'train', 'eval', 'futures' or 'horizon'.
    workdir: of the run.
    encoder: if it is loaded already.
    source: of the clips, if it is open already.

  Returns:
    The store.

  Raises:
    ManifestError: other latents lie there.
    StoreError: disk full or folder not writable.
  """
  encoder = encoder or load(config)
  if source is None:
    source = _source(config, split, workdir)
  path = store_path(config, encoder.backbone, source, workdir)
  manifest = describe(config, encoder, source)
  return _extract(config, encoder, source, path, manifest)


def open_sources(
  config: ConfigDict,
  splits: Sequence[str],
  workdir: Path,
  encoder: FrozenEncoder,
) -> dict[str, ClipSource]:
  """Opens clips; says how many lack latents, and how large these will be.

  Args:
    config: of the run.
    splits: as of `ensure_store`.
    workdir: of the run.
    encoder: frozen model.

  Returns:
    The clips of each split.

  Raises:
    ManifestError: other latents lie where these would.
    StoreError: all splits together do not fit on the disk.
  """
  sources, total = {}, 0
  for split in splits:
    sources[split] = source = _source(config, split, workdir)
    manifest = describe(config, encoder, source)
    path = store_path(config, encoder.backbone, source, workdir)
    if _num_stored(path, manifest) >= len(source):
      continue
    missing = store_lib.num_missing(path, manifest)
    needed = missing * space.clip_bytes(manifest, source[0])
    total += needed
    if jax.process_index() == 0:
      print(
        f"{split}: latents of {missing:,} clips to be written, "
        f"{space.readable(needed)}, {path}"
      )
  remedy = (
    "free some, choose another disk with latents.root, fewer clips with "
    "data.train_clips and data.eval_clips, or latents.dtype='int8'"
  )
  space.check_space(_root(config.latents, workdir, "latents"), total, remedy)
  return sources


def store_path(
  config: ConfigDict, backbone: Encoder, source: ClipSource, workdir: Path
) -> Path:
  """Returns the folder of a store.

  Args:
    config: of the run.
    backbone: frozen model.
    source: of the clips.
    workdir: of the run, parent of `latents` unless `latents.root` is set.
  """
  spec, digest = backbone.spec, backbone.weights_digest
  name = [spec.name, digest if digest.startswith("random") else digest[:8]]
  if backbone.num_blocks != num_blocks(spec, "default"):
    name.append(f"block{backbone.num_blocks}")
  if backbone.context_mode != spec.context_mode:
    name.append(backbone.context_mode)
  if not _has_layernorm(backbone):
    name.append("no_layernorm")
  if config.latents.dtype != "bfloat16":
    name.append(config.latents.dtype)
  root = _root(config.latents, workdir, "latents")
  data = f"{source.name}-{source.fingerprint[:8]}"
  return root / "-".join(name) / data / source.split


def _has_layernorm(backbone: Encoder) -> bool:
  """Whether latents are normalized, as those of an encoder that is silent."""
  return getattr(backbone, "layernorm", True)


def describe(
  config: ConfigDict, encoder: FrozenEncoder, source: ClipSource
) -> Manifest:
  """Returns the manifest that the latents of a source are to have."""
  backbone, data, clip = encoder.backbone, config.data, source[0]
  spec = backbone.spec
  context_shape, clip_shape = encoder.latent_shapes(clip["video"].shape)
  return Manifest(
    backbone=spec.name,
    weights_digest=backbone.weights_digest,
    layer=f"block {backbone.num_blocks} of {spec.depth}"
    + ("" if _has_layernorm(backbone) else ", no LayerNorm"),
    context_mode=backbone.context_mode,
    dtype=config.latents.dtype,
    context_shape=context_shape,
    clip_shape=clip_shape,
    dataset=source.name,
    fingerprint=source.fingerprint,
    split=source.split,
    resolution=spec.resolution,
    preprocessing=PREPROCESSING,
    num_frames=len(clip["video"]),
    num_context=data.num_context,
    tubelet=spec.tubelet,
    labels=store_lib.label_names(clip),
    num_clips=len(source),
    clips_per_shard=config.latents.clips_per_shard,
    skipped=dict(source.skipped),
  )


def _num_stored(path: Path, wanted: Manifest) -> int:
  """Returns how many clips a store has, 0 if there is none.

  Raises:
    ManifestError: other latents lie there.
  """
  if not (path / manifest_lib.FILE_NAME).exists():
    return 0
  found = manifest_lib.load(path)
  fields = dataclasses.asdict(wanted)
  # How the records are spread over files does not matter.
  for free in ("num_clips", "clips_per_shard", "shards", "skipped"):
    del fields[free]
  del fields["created_by"]
  found.verify(fields, path)
  return found.num_clips


def _extract(
  config: ConfigDict,
  encoder: FrozenEncoder,
  source: ClipSource,
  path: Path,
  manifest: Manifest,
) -> LatentStore:
  """Writes what is missing or damaged."""
  num_threads = max(1, config.data.workers)

  def examples(shards: Sequence[range]) -> Iterator[Mapping[str, Any]]:
    count = sum(map(len, shards))
    slow = {} if sys.stderr.isatty() else {"mininterval": 10}
    title = f"latents {source.name} {source.split}"
    with tqdm(total=count, desc=title, unit="clip", **slow) as progress:
      for example in encode_shards(
        source, shards, encoder, encoder.batch_size, num_threads
      ):
        progress.update()  # before: nobody asks for more after the last one
        yield example

  hosts = jax.process_count()
  barrier = functools.partial(
    multihost_utils.sync_global_devices, f"latents {path}"
  )
  sharing = {
    "host": (jax.process_index(), hosts),
    "barrier": barrier if hosts > 1 else None,
  }
  with store_lib.exclusive(path, **sharing):
    if _num_stored(path, manifest) > len(source):
      # Shrinking would throw latents away.
      return LatentStore(path, verify=True, num_clips=len(source))
    return store_lib.write_store(path, manifest, examples, **sharing)


def encode_shards(
  source: ClipSource,
  shards: Sequence[range],
  encode: Encode,
  batch_size: int,
  num_threads: int,
) -> Iterator[dict[str, Any]]:
  """Encodes clips in batches that do not reach over the border of a shard.

  So the latents of a clip do not depend on which shards were there before.

  Args:
    source: of the clips.
    shards: clip indices of each shard.
    encode: video uint8 and example ids of a full batch -> context and clip
      latents.
    batch_size: clips of one call; the last of a shard is filled up.
    num_threads: that read clips ahead.

  Yields:
    The clips in order, with `context` and `clip`.
  """
  indices = [i for shard in shards for i in shard]
  options = grain.ReadOptions(
    num_threads=num_threads, prefetch_buffer_size=2 * batch_size
  )
  clips = iter(
    grain.MapDataset.source(indices)
    .map(source.__getitem__)
    .to_iter_dataset(options)
  )
  sizes = [
    min(batch_size, len(shard) - start)
    for shard in shards
    for start in range(0, len(shard), batch_size)
  ]
  # One batch is on the device while the one before is being written.
  pending = deque()
  for size in sizes:
    batch = list(itertools.islice(clips, size))
    filled = batch + batch[-1:] * (batch_size - size)
    video = np.stack([clip["video"] for clip in filled])
    ids = [example_id(str(clip["clip_id"]).encode()) for clip in filled]
    pending.append((batch, encode(video, np.stack(ids))))
    if len(pending) > 1:
      yield from _unstack(*pending.popleft())
  while pending:
    yield from _unstack(*pending.popleft())


def _unstack(
  clips: Sequence[dict[str, np.ndarray]], latents: tuple[jax.Array, jax.Array]
) -> Iterator[dict[str, Any]]:
  context, clip_latents = map(np.asarray, latents)
  for i, clip in enumerate(clips):
    yield {**clip, "context": context[i], "clip": clip_latents[i]}


def _source(config: ConfigDict, split: str, workdir: Path) -> ClipSource:
  """Opens the clips of a split; one process makes what is missing."""
  data = config.data
  if split == "horizon":
    # Scenes to score on, longer than those of training.
    data, split = ConfigDict(data.to_dict()), "eval"
    data.update(num_frames=data.horizon_frames, eval_clips=data.horizon_clips)
  with distributed.first_process_first(f"clips {split}"):
    return open_source(data, split, _root(data, workdir, "data"))


def _root(config: ConfigDict, workdir: Path, name: str) -> Path:
  return Path(config.root) if config.root else Path(workdir) / name


def _command(workdir: Path, split: str) -> str:
  """Returns the command that extracts what the running one misses."""
  config = [arg for arg in sys.argv[1:] if arg.startswith("--config")]
  return shlex.join(
    [
      *("python", "-m", "forecasting.extract"),
      *(config or ["--config=<config of this run>"]),
      f"--workdir={workdir}",
      f"--split={split}",
    ]
  )


def main(argv: Sequence[str]) -> None:
  """Parses flags and extracts split by split."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  preemption.exit_when_terminated()
  distributed.initialize()
  config = _CONFIG.value
  validation.validate(config)
  splits = _SPLIT.value or ["train", "eval"]
  known = (*SPLITS, "horizon")
  if unknown := set(splits) - set(known):
    raise app.UsageError(
      f"--split={','.join(sorted(unknown))}: choose from {', '.join(known)}"
    )
  workdir = Path(_WORKDIR.value)
  keep_freed_memory()
  enable_compilation_cache(config.compiled, workdir)
  encoder = load(config)
  for split, source in open_sources(config, splits, workdir, encoder).items():
    latents = extract(config, split, workdir, encoder, source)
    if jax.process_index() == 0:
      print(f"{split}: {len(latents)} clips in {latents.path}")


if __name__ == "__main__":
  _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
  _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
  _SPLIT = flags.DEFINE_list(
    "split", None, "Of train, eval, futures, horizon; default train,eval."
  )
  flags.mark_flags_as_required(["config", "workdir"])
  # Libraries log every file they touch; --verbosity=0 shows it.
  logging.set_verbosity(logging.WARNING)
  app.run(main)
