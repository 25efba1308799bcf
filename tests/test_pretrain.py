"""The pretraining binary: order of clips, resuming, export."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from forecasting import pretrain
from forecasting.backbones.encode import load_spec
from forecasting.backbones.zoo import get_spec
from forecasting.training.checkpoint import restore_ema

CONFIG = Path(__file__).parents[1] / "configs" / "pretrain" / "4ds_tiny.py"


class Clips:
  """A source in memory whose clips tell their index."""

  name, split, fingerprint = "made", "train", "f00d"
  labels, skipped = (), {}

  def __init__(self, count):
    self._count = count

  def __len__(self):
    return self._count

  def __getitem__(self, index):
    rng = np.random.default_rng(index)
    video = rng.integers(0, 256, (16, 64, 64, 3), np.uint8)
    video[0, 0, 0, 0] = index
    return {"video": video, "seconds": np.zeros(16, np.float32)}


@pytest.fixture
def get_config():
  spec = importlib.util.spec_from_file_location("config_file", CONFIG)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config


def indices(batches, count):
  return [next(batches)["video"][:, 0, 0, 0, 0].tolist() for _ in range(count)]


def test_batches_visit_every_clip_in_each_epoch():
  batches = indices(pretrain.clip_batches(Clips(8), 4, seed=0), 4)
  first, second = batches[0] + batches[1], batches[2] + batches[3]
  assert sorted(first) == sorted(second) == list(range(8))
  assert first != second


def test_batches_follow_the_seed_and_resume():
  batches = pretrain.clip_batches(Clips(8), 4, seed=0)
  start = indices(batches, 3)
  state = batches.get_state()
  rest = indices(batches, 3)
  again = pretrain.clip_batches(Clips(8), 4, seed=0)
  assert indices(again, 3) == start
  again.set_state(state)
  assert indices(again, 3) == rest
  assert indices(pretrain.clip_batches(Clips(8), 4, seed=1), 3) != start
  assert set(next(again)) == {"video"}


def test_unknown_variant_is_refused(get_config):
  with pytest.raises(ValueError, match="smoke"):
    get_config("tiny")


def test_exported_weights_are_the_averaged_encoder(
  tmp_path, get_config, monkeypatch
):
  config = get_config("smoke")
  config.steps = 2
  monkeypatch.setattr(pretrain, "open_source", lambda *_: Clips(8))
  spec = dataclasses.replace(
    get_spec("4ds_tiny"), width=24, depth=1, mlp_dim=48
  )
  monkeypatch.setattr(pretrain, "get_spec", lambda _: spec)
  path = pretrain.run(config, tmp_path)
  loaded = load_spec(spec, checkpoint=path)
  averaged = restore_ema(tmp_path)[1][pretrain.TRAINEE]["encoder"]
  random = load_spec(spec, random_init=True).params
  # bfloat16 keeps 8 bits.
  for ours, want, drawn in zip(
    *map(jax.tree.leaves, (loaded.params, averaged, random)), strict=True
  ):
    np.testing.assert_allclose(ours, want, rtol=2**-8, atol=1e-30)
    assert ours.shape == drawn.shape
  record = json.loads(path.with_suffix(".json").read_text())
  assert record["sha256"] == loaded.weights_digest
  assert record["clips"] == "f00d"
  assert record["config"]["seed"] == config.seed
  assert [row["step"] for row in record["curve"]] == [1, 2]
  assert record["curve"][1]["loss"] > 0

  # Run again: nothing is left to train, and the same weights come out.
  assert path.read_bytes() == pretrain.run(config, tmp_path).read_bytes()
