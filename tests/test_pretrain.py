"""The pretraining binary: order of clips, resuming, export."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from forecasting import pretrain
from forecasting.backbones.encode import load_spec, parameter_shapes
from forecasting.backbones.zoo import get_spec
from forecasting.frames import mirrored
from forecasting.frames.scenes import captions
from forecasting.frames.scenes.physics import Course
from forecasting.pretraining.registry import OBJECTIVES, make_objective
from forecasting.training.checkpoint import restore_ema
from forecasting.training.optimizer import make_optimizer, make_schedule

CONFIGS = Path(__file__).parents[1] / "configs" / "pretrain"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))


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


def load_config(name):
  path = CONFIGS / f"{name}.py"
  spec = importlib.util.spec_from_file_location("config_file", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config


@pytest.fixture
def get_config():
  return load_config("4ds_tiny")


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
  assert set(next(again)) == {"video", "place"}


def test_unknown_variant_is_refused(get_config):
  with pytest.raises(ValueError, match="smoke"):
    get_config("tiny")


@pytest.mark.parametrize("name", NAMES)
def test_configs_name_a_backbone_and_an_objective(name):
  for variant in ("", "smoke"):
    cfg = load_config(name)(variant)
    spec = get_spec(cfg.backbone)
    assert cfg.objective.name in OBJECTIVES
    assert cfg.data.size == spec.resolution
    assert cfg.data.num_frames == spec.num_frames
    if variant:
      assert cfg.backbone.endswith("_tiny")
      assert cfg.data.name == "mujoco_scenes" and cfg.steps == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if "tiny" in n])
def test_objectives_differentiate_and_export_the_backbone(name):
  """By shapes alone: nothing is computed."""
  cfg = load_config(name)("smoke")
  spec = get_spec(cfg.backbone)
  task = make_objective(spec, cfg.objective.to_dict())
  params = jax.eval_shape(task.init, jax.random.key(0))
  shape = (2, spec.num_frames, *spec.frame_size, 3)
  batch = {"video": jax.ShapeDtypeStruct(shape, np.uint8)}
  if "text" in task.keys:
    words = (2, captions.MAX_WORDS)
    batch["text"] = jax.ShapeDtypeStruct(words, np.int32)
  average = (params,) if task.uses_average else ()
  grads, parts = jax.eval_shape(
    jax.grad(task.loss, has_aux=True),
    params,
    batch,
    jax.random.key(0),
    *average,
  )
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  assert parts and all(part.shape == () for part in parts.values())
  exported, expected = (
    jax.tree.map(lambda x: x.shape, dict(tree))
    for tree in (task.encoder(params), parameter_shapes(spec))
  )
  assert exported == expected


def test_unknown_objective_is_refused():
  with pytest.raises(ValueError, match=r"objective\.name is 'masked_pixel'"):
    make_objective(get_spec("4ds_tiny"), {"name": "masked_pixel"})


@pytest.mark.parametrize(
  ("name", "fields", "words"),
  [
    ("siglip_tiny", {"train.accumulate": 2}, "'image_text' compares the clips"),
    ("4ds_tiny", {"train.accumulate": 3}, "is no multiple of train.accumulate"),
    ("4ds_tiny", {"train.keep_every": 3}, "keep_every = 3 is no multiple"),
  ],
)
def test_fields_that_do_not_fit_are_refused_before_clips_are_made(
  name, fields, words, tmp_path
):
  cfg = load_config(name)("smoke")
  cfg.update_from_flattened_dict(fields)
  with pytest.raises(ValueError, match=words):
    pretrain.run(cfg, tmp_path)
  assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
  "name",
  [
    "4ds_tiny",
    *(
      pytest.param(name, marks=pytest.mark.slow)
      for name in (
        "next_vid_tiny",
        "videoprism_tiny",
        "vjepa_tiny",
        "walt_tiny",
      )
    ),
  ],
)
def test_parts_of_a_batch_draw_what_the_whole_draws(name):
  """So that `train.accumulate` does not change a loss."""
  cfg = load_config(name)("smoke")
  task = make_objective(get_spec(cfg.backbone), cfg.objective.to_dict())
  params = task.init(jax.random.key(0))
  average = (params,) if task.uses_average else ()
  rng = np.random.default_rng(0)
  batch = {
    "video": rng.integers(0, 256, (4, 16, 64, 64, 3), np.uint8),
    "text": rng.integers(0, 9, (4, captions.MAX_WORDS), np.int32),
    "place": np.arange(4),
  }
  loss = jax.jit(task.loss)
  whole, halves = (
    [
      loss(
        params,
        {key: x[i::step] for key, x in batch.items()},
        jax.random.key(1),
        *average,
      )[0]
      for i in range(step)
    ]
    for step in (1, 2)
  )
  assert halves[0] != halves[1]
  np.testing.assert_allclose(np.mean(halves), whole[0], rtol=1e-5)


def test_published_recipe_of_next_vid():
  """Sizes and rates against what arXiv 2512.21004 prints."""
  cfg = load_config("next_vid_l")()
  rate = make_schedule(cfg.optimizer, cfg.steps)
  for step, expected in (
    (0, 1e-4),
    (6_000, 3e-4),
    (12_000, 5e-4),
    (40_000, 4.5e-4),
    (80_000, 2.75e-4),
    (120_000, 1e-4),
  ):
    np.testing.assert_allclose(rate(step), expected, rtol=1e-5)
  assert (cfg.train.batch_size, cfg.ema_decay) == (3072, 0.99925)
  task = make_objective(get_spec("next_vid_l"), cfg.objective.to_dict())
  key = jax.random.key(0)
  predictor = jax.eval_shape(
    task.predictor.init,
    key,
    np.zeros((1, 8, 1024), np.float32),
    np.zeros((1, 8), np.int32),
  )
  decoder = jax.eval_shape(
    task.decoder.init,
    key,
    np.zeros((1, 256, 1536), np.float32),
    np.zeros((1, 256, 1024), np.float32),
    np.zeros(1, np.float32),
  )
  sizes = [
    sum(np.prod(x.shape) for x in jax.tree.leaves(tree)) / 1e6
    for tree in (predictor, decoder)
  ]
  np.testing.assert_allclose(sizes, [22, 33], rtol=0.06)


def test_parts_have_rates_of_their_own():
  cfg = load_config("next_vid_l")().optimizer
  cfg.weight_decay = 0.0
  ones = np.ones(3, np.float32)
  params = {"encoder": {"kernel": ones}, "decoder": {"bias": ones}}
  optimizer = make_optimizer(cfg, 120_000)
  state = optimizer.init(params)
  # Adam's first update has the size of the rate.
  state = jax.tree.map(
    lambda x: np.full_like(x, 80_000) if x.dtype == np.int32 else x, state
  )
  grads = jax.tree.map(lambda x: 1e3 * np.ones_like(x), params)
  updates, _ = optimizer.update(grads, state, params)
  ratio = updates["decoder"]["bias"][0] / updates["encoder"]["kernel"][0]
  np.testing.assert_allclose(ratio, 8e-4 / 2.75e-4, rtol=1e-4)


def test_captions_come_with_the_clips():
  class Named(Clips):
    def __getitem__(self, index):
      suffix = mirrored.SUFFIX if index % 2 else ""
      name = f"mujoco_scenes/0/0/{index:06d}/000{suffix}"
      return super().__getitem__(index) | {"clip_id": np.array(name)}

  batches = pretrain.clip_batches(
    Named(4), 2, seed=0, keys=("video", "text"), course=Course()
  )
  batch = next(batches)
  for video, words in zip(batch["video"], batch["text"], strict=True):
    index = int(video[0, 0, 0, 0])
    expected = captions.words(captions.caption(Course(), 0, 0, index))
    if index % 2:
      expected = captions.mirror_words(expected)
    np.testing.assert_array_equal(words, expected)


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
  config.data.root = "here"
  flags = ["--config=mine.py", "--workdir=there", "--config.data.root=here"]
  monkeypatch.setattr(pretrain.sys, "argv", ["pretrain.py", *flags])
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
  # Not where it was made, which is nobody's business.
  assert record["command"] == "python -m forecasting.pretrain --config=mine.py"
  assert record["config"]["data"]["root"] is None
  assert record["config"]["seed"] == config.seed
  assert [row["step"] for row in record["curve"]] == [1, 2]
  assert record["curve"][1]["loss"] > 0

  # Run again: nothing is left to train, and the same weights come out.
  assert path.read_bytes() == pretrain.run(config, tmp_path).read_bytes()
