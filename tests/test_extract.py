"""Extraction stores what the backbone says, once, and can be interrupted."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import fast_compile
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from forecasting import config as config_lib
from forecasting import encoders, extract
from forecasting.backbones import encode, zoo
from forecasting.latents import encoding, space
from forecasting.latents.manifest import ManifestError
from forecasting.latents.store import LatentStore, StoreError

NUM_CLIPS = 7
SPEC = dataclasses.replace(
  zoo.get_spec("4ds_tiny"),
  resolution=16,
  num_frames=8,
  width=16,
  depth=1,
  mlp_dim=32,
  layer="final",
)


class Killed(BaseException):
  """Stands for a signal."""


@dataclasses.dataclass
class NoiseSource:
  """Clips of noise, 12 pixels wide; optionally breaks at one of them."""

  split: str
  length: int = NUM_CLIPS
  killed_at: int = -1
  name: str = "noise"
  fingerprint: str = "f00dbeefcafe"
  labels: tuple[str, ...] = ()
  skipped: dict[str, int] = dataclasses.field(default_factory=dict)
  read: list[int] = dataclasses.field(default_factory=list)

  def __len__(self) -> int:
    return self.length

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    if index == self.killed_at:
      raise Killed
    self.read.append(index)
    rng = np.random.default_rng(index)
    return {
      "video": rng.integers(0, 256, (8, 12, 12, 3), dtype=np.uint8),
      "seconds": np.arange(8, dtype=np.float32),
      "clip_id": np.array(f"noise {index}"),
      "start_frame": np.array(index, np.int32),
      "stride": np.array(1, np.int32),
    }


@pytest.fixture(scope="module")
def backbone():
  return encode.load_spec(SPEC, random_init=True)


def frozen(config, backbone):
  return encoders.FrozenEncoder(
    backbone, config.data.num_context, config.latents.batch_size
  )


@pytest.fixture
def encoder(config, backbone):
  return frozen(config, backbone)


@pytest.fixture
def config() -> ConfigDict:
  config = config_lib.base_config()
  config.data.update({"name": "noise", "num_frames": 8, "num_context": 4})
  config.latents.update(
    {"batch_size": 2, "clips_per_shard": 3, "dtype": "float32"}
  )
  return config


@pytest.fixture(autouse=True)
def source(monkeypatch):
  """Replaces the data by noise; returns the sources handed out."""
  sources = {split: NoiseSource(split) for split in ("train", "eval")}
  monkeypatch.setattr(
    extract, "open_source", lambda data, split, root: sources[split]
  )
  # The zoo's spec says which layer is the default.
  monkeypatch.setitem(zoo.SPECS, SPEC.name, SPEC)
  return sources


def content(path: Path) -> dict[str, bytes]:
  return {file.name: file.read_bytes() for file in path.iterdir()}


def frames(clip):
  """Returns the frames as the backbone wants them, by another route."""
  video = clip["video"].astype(np.float32)[None] / 255
  return jax.image.resize(video, (1, 8, 16, 16, 3), "linear", antialias=True)


def test_latents_and_labels_are_those_of_the_clips(
  config, encoder, backbone, source, tmp_path
):
  latents = extract.extract(config, "train", tmp_path, encoder)
  assert len(latents) == NUM_CLIPS
  encoded = jax.jit(backbone.encode)
  for i in range(NUM_CLIPS):
    example, clip = latents[i], NoiseSource("train")[i]
    for name, value in clip.items():
      np.testing.assert_array_equal(example[name], value)
    video = frames(clip)
    whole = encoded(backbone.params, video)[0]
    alone = encoded(backbone.params, video[:, :4])[0]
    np.testing.assert_allclose(example["clip"], whole, atol=1e-4)
    np.testing.assert_allclose(example["context"], alone, atol=1e-4)
    # Else storing slots of the whole clip would pass as well.
    assert np.abs(np.asarray(whole[:2]) - alone).max() > 1e-3
  manifest = latents.manifest
  assert manifest.context_mode == "crop_pos" and manifest.split == "train"
  assert manifest.context_shape == (2, 2, 2, 16)
  assert manifest.clip_shape == (4, 2, 2, 16)
  assert manifest.labels == ("seconds", "start_frame", "stride", "video")


def test_latents_do_not_depend_on_the_batch(config, backbone, tmp_path):
  stores = []
  for batch_size in (1, 5):
    config.latents.batch_size = batch_size
    workdir = tmp_path / str(batch_size)
    stores.append(
      extract.extract(config, "train", workdir, frozen(config, backbone))
    )
  for i in range(NUM_CLIPS):
    np.testing.assert_allclose(
      stores[0][i]["clip"], stores[1][i]["clip"], atol=1e-5
    )


def test_killed_and_run_again_gives_the_same_bytes(
  config, encoder, backbone, source, tmp_path
):
  whole = extract.extract(config, "train", tmp_path / "whole", encoder)
  source["train"].killed_at = 5
  with pytest.raises(BaseException):  # noqa: B017
    extract.extract(config, "train", tmp_path / "killed", encoder)
  path = extract.store_path(
    config, backbone, source["train"], tmp_path / "killed"
  )
  assert (path / "shard-00000.array_record").exists()
  assert not (path / "manifest.json").exists()
  source["train"].killed_at = -1
  source["train"].read.clear()
  killed = extract.extract(config, "train", tmp_path / "killed", encoder)
  # The first clip shows the shapes; 1 and 2 are in the finished shard.
  assert {1, 2}.isdisjoint(source["train"].read)
  assert content(killed.path) == content(whole.path)


def test_ensure_store_extracts_once(config, encoder, source, tmp_path):
  first = extract.ensure_store(config, "eval", tmp_path, encoder)
  source["eval"].read.clear()
  again = extract.ensure_store(config, "eval", tmp_path, encoder)
  assert set(source["eval"].read) <= {0}
  assert again.path == first.path
  assert again.path.relative_to(tmp_path).parts == (
    "latents",
    "4ds_tiny-random-0-float32",
    "noise-f00dbeef",
    "eval",
  )


def test_clips_of_all_splits_are_traced_and_compiled_once(
  config, backbone, tmp_path, monkeypatch
):
  traced = []

  def encode_clips(backbone, num_context, params, video, ids=None):
    traced.append(video.shape[0])
    return encoding.encode_clips(backbone, num_context, params, video, ids)

  monkeypatch.setattr(encoders, "encode_clips", encode_clips)
  encoder = frozen(config, backbone)
  splits = ("train", "eval")
  opened = extract.open_sources(config, splits, tmp_path, encoder)
  for split in splits:
    extract.ensure_store(config, split, tmp_path, encoder, opened[split])
  assert traced == [1, config.latents.batch_size]


def test_ensure_store_gives_the_command(config, encoder, tmp_path, monkeypatch):
  config.latents.extract_if_missing = False
  monkeypatch.setattr(
    sys,
    "argv",
    ["main", "--config=configs/x.py:smoke", "--config.seed=3", "--workdir=w"],
  )
  with pytest.raises(FileNotFoundError) as error:
    extract.ensure_store(config, "eval", tmp_path, encoder)
  assert (
    "python -m forecasting.extract --config=configs/x.py:smoke "
    f"--config.seed=3 --workdir={tmp_path} --split=eval\n"
  ) in str(error.value)
  assert list(tmp_path.iterdir()) == []


def test_other_latents_in_the_same_place_are_refused_by_field(
  config, backbone, tmp_path
):
  latents = extract.extract(config, "train", tmp_path, frozen(config, backbone))
  before = content(latents.path)
  config.data.num_context = 2
  for function in (extract.ensure_store, extract.extract):
    with pytest.raises(ManifestError, match="num_context: the store has 4"):
      function(config, "train", tmp_path, frozen(config, backbone))
  assert content(latents.path) == before


def test_other_weights_layers_and_modes_have_their_own_place(
  config, backbone, source, tmp_path
):
  changes = [
    {"weights_digest": "0123456789abcdef"},
    {"num_blocks": 0},
    {"context_mode": "pad_last"},
  ]
  paths = {
    extract.store_path(
      config,
      dataclasses.replace(backbone, **change),
      source["train"],
      tmp_path,
    )
    for change in [{}, *changes]
  }
  assert len(paths) == 4
  assert any("4ds_tiny-01234567-float32" in path.parts for path in paths)


def test_more_and_fewer_clips_use_the_same_store(
  config, encoder, source, tmp_path
):
  source["train"].length = 4
  extract.ensure_store(config, "train", tmp_path, encoder)
  source["train"].length = NUM_CLIPS
  source["train"].read.clear()
  grown = extract.ensure_store(config, "train", tmp_path, encoder)
  assert len(grown) == NUM_CLIPS
  assert {1, 2}.isdisjoint(source["train"].read)
  before = content(grown.path)
  source["train"].length = 4
  for function in (extract.ensure_store, extract.extract):
    assert len(function(config, "train", tmp_path, encoder)) == 4
  assert content(grown.path) == before


def test_extract_mends_what_ensure_store_refuses(config, encoder, tmp_path):
  latents = extract.extract(config, "train", tmp_path, encoder)
  before = content(latents.path)
  file = latents.path / "shard-00001.array_record"
  file.write_bytes(file.read_bytes()[:-5])
  with pytest.raises(StoreError, match=r"shard-00001.*forecasting\.extract"):
    extract.ensure_store(config, "train", tmp_path, encoder)
  extract.extract(config, "train", tmp_path, encoder)
  assert content(latents.path) == before
  LatentStore(latents.path, verify=True)


def test_the_leaky_ablation_is_named_in_the_manifest(
  config, backbone, tmp_path
):
  leaky = dataclasses.replace(backbone, context_mode="leaky_full_clip")
  latents = extract.extract(config, "eval", tmp_path, frozen(config, leaky))
  assert latents.manifest.is_leaky
  assert "leaky_full_clip" in str(latents.path)
  example = latents[0]
  np.testing.assert_array_equal(example["context"], example["clip"][:2])


FOUR_DEVICES = """
import dataclasses, jax, numpy as np
from forecasting import config as config_lib, encoders
from forecasting.backbones import zoo

spec = dataclasses.replace(
  zoo.get_spec("4ds_tiny"), name="wide", resolution=16, num_frames=8,
  width=256, depth=1, mlp_dim=1024, layer="final",
)
zoo.SPECS["wide"] = spec
config = config_lib.base_config()
config.backbone.update({"name": "wide", "random_init": True})
video = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 12, 3), np.uint8)
ids = np.arange(4, dtype=np.uint32)
found = {}
for limit in (2**40, 0):
  encoders.SPLIT_BYTES = limit
  config.latents.batch_size = 3
  encoder = encoders.load(config)
  assert encoder.batch_size == 4
  found[limit] = encoder(np.concatenate([video, video[:1]]), ids)
  params = jax.tree.leaves(encoder.backbone.params)
  large = [x for x in params if x.size >= 2**16]
  assert len(large) >= 4
  for array in large:
    assert len(array.addressable_shards) == 4
    share = {shard.data.size / array.size for shard in array.addressable_shards}
    assert share == {1.0 if limit else 0.25}, (array.shape, share)
for whole, split in zip(*found.values()):
  assert len(split.addressable_shards) == 4
  np.testing.assert_allclose(split, whole, atol=1e-5)
  assert np.asarray(whole).std() > 0.5
print("ok")
"""


@pytest.mark.slow
def test_no_device_holds_the_whole_of_a_large_backbone():
  done = subprocess.run(
    [sys.executable, "-c", FOUR_DEVICES],
    env=fast_compile.environment(4),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stdout.endswith("ok\n"), done.stderr[-3000:]


def test_size_is_said_and_a_full_disk_stops_before_anything(
  config, encoder, backbone, source, tmp_path, monkeypatch, capsys
):
  def size(name):
    folder = extract.store_path(config, backbone, source[name], tmp_path)
    return sum(file.stat().st_size for file in folder.glob("*.array_record"))

  free = shutil.disk_usage(tmp_path)._replace(free=10_000)
  monkeypatch.setattr(space.shutil, "disk_usage", lambda path: free)
  splits = ("train", "eval")
  with pytest.raises(StoreError, match=r"need .* 10 kB free: .*latents\.root"):
    extract.open_sources(config, splits, tmp_path, encoder)
  assert not (tmp_path / "latents").exists()
  said = capsys.readouterr().out.splitlines()
  for name, line in zip(splits, said, strict=True):
    assert line.startswith(f"{name}: latents of 7 clips to be written, ")

  free = free._replace(free=10**9)
  opened = extract.open_sources(config, splits, tmp_path, encoder)
  assert opened == source
  capsys.readouterr()
  extract.extract(config, "train", tmp_path, encoder, opened["train"])
  estimate = NUM_CLIPS * space.clip_bytes(
    extract.describe(config, encoder, source["train"]),
    source["train"][0],
  )
  # Files are padded to whole blocks, which counts for small ones only.
  assert estimate <= size("train") <= estimate + 3 * 2**17
  # What is there is not asked for again.
  free = free._replace(free=estimate + 1)
  extract.open_sources(config, splits, tmp_path, encoder)
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith("eval: ")
