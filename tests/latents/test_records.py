"""Records give back what was packed, up to their storage type."""

import hashlib

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from noise_store import make_example, make_manifest

from forecasting.latents import records


def test_labels_and_ids_survive():
  example = make_example(3)
  read = records.unpack(records.pack(example, make_manifest()), "float32")
  assert set(read) == {*example, "example_id"}
  for name, value in example.items():
    np.testing.assert_array_equal(read[name], value)
    assert read[name].dtype == value.dtype and read[name].shape == value.shape
  digest = hashlib.blake2b("clip 3, é".encode(), digest_size=4).digest()
  assert read["example_id"] == np.frombuffer(digest, "<u4")[0]
  assert read["example_id"].shape == ()


def test_records_are_plain_safetensors():
  manifest = make_manifest(dtype="bfloat16")
  example = make_example(0)
  tensors = safetensors.numpy.load(records.pack(example, manifest))
  clip = tensors["clip"].view(ml_dtypes.bfloat16)
  np.testing.assert_array_equal(clip, example["clip"].astype(clip.dtype))


def test_bfloat16_is_rounded_to_nearest():
  example = make_example(0)
  record = records.pack(example, make_manifest(dtype="bfloat16"))
  read = records.unpack(record, "bfloat16")
  for name in records.LATENTS:
    expected = example[name].astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(read[name], expected)
    assert read[name].dtype == np.float32
    assert np.any(read[name] != example[name])


def test_only_the_keys_asked_for_are_read():
  record = records.pack(make_example(0), make_manifest())
  read = records.unpack(record, "float32", ("clip", "example_id"))
  assert set(read) == {"clip", "example_id"}
  with pytest.raises(KeyError, match=r"no tensor 'tracks'; it has .*'clip'"):
    records.unpack(record, "float32", ("tracks",))


@given(
  seed=st.integers(0, 99), magnitude=st.sampled_from([1e-3, 1.0, 30.0, 1e4])
)
def test_int8_error_is_half_a_scale_per_token(seed, magnitude):
  rng = np.random.default_rng(seed)
  latents = magnitude * rng.standard_t(2, size=(3, 4, 16)).astype(np.float32)
  values, scale = records.quantize(latents)
  assert values.dtype == np.int8 and scale.shape == (3, 4)
  largest = np.abs(latents).max(-1)
  np.testing.assert_allclose(scale, largest / 127, rtol=1e-6)
  error = np.abs(records.dequantize(values, scale) - latents).max(-1)
  assert np.all(error <= 0.5 * scale * (1 + 1e-4))


def test_int8_record_uses_a_scale_per_token():
  example = make_example(0)
  example["clip"][0, 0, 0] *= 1000  # must not spoil the other tokens
  record = records.pack(example, make_manifest(dtype="int8"))
  read = records.unpack(record, "int8")
  assert "clip_scale" not in read
  bound = 0.51 * np.abs(example["clip"]).max(-1, keepdims=True) / 127
  assert np.all(np.abs(read["clip"] - example["clip"]) <= bound)


def test_a_token_of_zeros_stays_zero():
  values, scale = records.quantize(np.zeros((2, 4), np.float32))
  np.testing.assert_array_equal(records.dequantize(values, scale), 0)


def _nan(example):
  example["clip"][1, 0, 0, 0] = np.nan


def _misshapen(example):
  example["context"] = example["context"][:1]


def _missing(example):
  del example["depth"]


def _extra(example):
  example["tracks"] = np.zeros(3)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (_nan, "clip holds NaN or infinity"),
    (_misshapen, r"context has shape \(1, 2, 3, 5\)"),
    (_missing, r"missing \['depth'\]"),
    (_extra, r"not in the manifest \['tracks'\]"),
  ],
)
def test_an_example_that_does_not_fit_is_refused(change, message):
  example = make_example(7)
  change(example)
  with pytest.raises(ValueError, match=f"clip 7, é.*{message}"):
    records.pack(example, make_manifest())
