"""Backbones against transformers' PyTorch models: full width, two blocks.

Weights are random and written by transformers itself; nothing is downloaded.
Needs the [parity] extra and is skipped without it.
"""

import dataclasses

import jax
import numpy as np
import pytest

from forecasting.backbones import encode
from forecasting.backbones.resampling import (
  torch_bicubic,
  torch_bicubic_antialiased,
)
from forecasting.backbones.zoo import get_spec

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

BLOCKS = 2
TOLERANCE = 2e-5  # of the spread of the latents; float32 in another order


def shape_of(spec):
  """Returns what the configs of transformers call alike."""
  return {
    "hidden_size": spec.width,
    "num_hidden_layers": spec.depth,
    "num_attention_heads": spec.heads,
    "patch_size": spec.patch,
    "image_size": spec.resolution,
    "layer_norm_eps": 1e-6,
    "attn_implementation": "eager",
  }


def dinov2(spec):
  registers = spec.sizes.get("registers", 0)
  kind = "Dinov2WithRegisters" if registers else "Dinov2"
  extra = {"num_register_tokens": registers} if registers else {}
  config = getattr(transformers, f"{kind}Config")(
    **shape_of(spec) | {"image_size": spec.sizes["table"] * spec.patch},
    use_swiglu_ffn=spec.sizes["mlp"] == "swiglu",
    **extra,
  )
  model = getattr(transformers, f"{kind}Model")(config)
  return model, lambda images: model(images)[0][:, 1 + registers :]


def siglip(spec):
  config = transformers.SiglipVisionConfig(
    **shape_of(spec), intermediate_size=spec.mlp_dim
  )
  model = transformers.SiglipVisionModel(config)
  return model, lambda images: model(images)[0]


def videomae(spec):
  config = transformers.VideoMAEConfig(
    **shape_of(spec), intermediate_size=spec.mlp_dim, use_mean_pooling=False
  )
  model = transformers.VideoMAEModel(config)
  return model, lambda video: model(video)[0]


def vjepa2(spec):
  config = transformers.VJEPA2Config(
    **shape_of(spec),
    mlp_ratio=spec.mlp_dim / spec.width,
    crop_size=spec.resolution,
    frames_per_clip=spec.num_frames,
    pred_num_hidden_layers=1,
  )
  model = transformers.VJEPA2Model(config)
  return model, lambda video: model(video, skip_predictor=True)[0]


def randomize(model):
  """Draws weights of which none is zero or one."""
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, array in model.named_parameters():
      noise = torch.randn(array.shape, generator=generator)
      if array.ndim == 1:
        array.add_(0.3 * noise)
      elif "position" in name or "token" in name:
        array.copy_(0.5 * noise)
      else:
        array.copy_(1.3 * noise / array[0].numel() ** 0.5)
  model.eval()


CASES = {
  "dinov2_b": (dinov2, 2),
  "dinov2_g": (dinov2, 1),
  "dinov2_l": (dinov2, 2),
  "dinov2_l_reg": (dinov2, 2),
  "siglip_l16": (siglip, 2),
  "siglip_so400m": (siglip, 2),
  "siglip_g_opt": (siglip, 1),
  "videomae_b": (videomae, 16),
  "videomae_h": (videomae, 16),
  "videomaev2_g": (videomae, 16),
  "vjepa2_l": (vjepa2, 4),
  "vjepa2_g": (vjepa2, 4),
}


def compare(spec, make, frames, folder):
  """Returns the largest difference of latents over their spread."""
  model, run = make(spec)
  randomize(model)
  model.save_pretrained(folder)
  rng = np.random.default_rng(0)
  video = rng.random((1, frames, *spec.frame_size, 3), np.float32)
  normalized = torch.from_numpy(
    ((video - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32)
  ).permute(0, 1, 4, 2, 3)
  with torch.no_grad():
    expected = run(normalized[0] if spec.tubelet == 1 else normalized)
  backbone = encode.load_spec(spec, checkpoint=folder / "model.safetensors")
  with jax.default_matmul_precision("highest"):
    latents = jax.jit(backbone.raw_latents)(backbone.params, video)
  expected = expected.numpy().reshape(latents.shape)
  return np.abs(latents - expected).max() / expected.std()


@pytest.mark.parametrize("name", sorted(CASES))
def test_agrees_with_transformers(name, tmp_path):
  make, frames = CASES[name]
  spec = dataclasses.replace(get_spec(name), depth=BLOCKS)
  if spec.family == "dinov2":
    spec = encode.with_options(spec, {"pos_interp": "hf"})
  error = compare(spec, make, frames, tmp_path)
  print(f"{name}: {error:.1e}")
  assert error < TOLERANCE


@pytest.mark.parametrize("name", ["dinov2_s", "dinov2_s_reg"])
def test_agrees_on_frames_that_are_not_square(name, tmp_path):
  spec = dataclasses.replace(
    get_spec(name), depth=BLOCKS, resolution=(140, 196)
  )
  spec = encode.with_options(spec, {"pos_interp": "hf"})
  assert compare(spec, dinov2, 2, tmp_path) < TOLERANCE


@pytest.mark.parametrize("offset", [0.0, 0.1])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("sizes", [(37, 16), (9, 14)])
def test_resampling_agrees_with_torch(offset, antialias, sizes):
  num_in, num_out = sizes
  signal = np.random.default_rng(0).normal(size=(num_in, num_in))
  scale = (num_out + offset) / num_in
  expected = torch.nn.functional.interpolate(
    torch.from_numpy(signal)[None, None],
    scale_factor=(scale, scale),
    mode="bicubic",
    antialias=antialias,
  )[0, 0]
  rule = torch_bicubic_antialiased if antialias else torch_bicubic
  matrix = rule(num_in, num_out, scale)
  np.testing.assert_allclose(matrix @ signal @ matrix.T, expected, atol=1e-9)
