"""One example as bytes: a safetensors file with latents and labels.

bfloat16 latents are stored as their uint16 bits and int8 latents with one
float32 scale per token (`<name>_scale`); the manifest names the type. Reading
parses the header only and touches just the tensors asked for.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy
from jaxtyping import Float, Int8

from forecasting.latents import manifest as manifest_lib

LATENTS = ("context", "clip")
# Made on reading (`example_id`) or a string on reading (`clip_id`).
IDENTITIES = ("clip_id", "example_id")

_SAFETENSORS = {
  "BOOL": np.bool_,
  "U8": np.uint8,
  "I8": np.int8,
  "U16": np.uint16,
  "I16": np.int16,
  "U32": np.uint32,
  "I32": np.int32,
  "U64": np.uint64,
  "I64": np.int64,
  "F16": np.float16,
  "F32": np.float32,
  "F64": np.float64,
}


def pack(example: Mapping[str, Any], manifest: manifest_lib.Manifest) -> bytes:
  """Makes a record.

  Args:
    example: `context`, `clip` (latents, any float type), `clip_id` (string)
      and the labels that the manifest names.
    manifest: of the store; gives storage type, shapes and labels.

  Returns:
    The bytes of the record.

  Raises:
    ValueError: a tensor missing, unknown, misshapen or not finite.
  """
  clip_id = str(example["clip_id"])
  wanted = {*LATENTS, "clip_id", *manifest.labels}
  if set(example) != wanted:
    raise ValueError(
      f"clip {clip_id}: tensors missing {sorted(wanted - set(example))}, not "
      f"in the manifest {sorted(set(example) - wanted)}; every clip of a store "
      "has the same tensors"
    )
  tensors = {name: np.asarray(example[name]) for name in manifest.labels}
  tensors["clip_id"] = np.frombuffer(clip_id.encode(), np.uint8)
  shapes = (manifest.context_shape, manifest.clip_shape)
  for name, shape in zip(LATENTS, shapes):
    latents = np.asarray(example[name])
    if latents.shape != tuple(shape):
      raise ValueError(
        f"clip {clip_id}: {name} has shape {latents.shape}, the manifest says "
        f"{tuple(shape)}"
      )
    if not np.isfinite(latents.astype(np.float32)).all():
      raise ValueError(
        f"clip {clip_id}: {name} holds NaN or infinity; check the backbone's "
        "weights and the range of its input"
      )
    tensors.update(_store_latents(name, latents, manifest.dtype))
  return safetensors.numpy.save(tensors)


def unpack(
  record: bytes, dtype: str, keys: Collection[str] | None = None
) -> dict[str, np.ndarray]:
  """Reads a record.

  Args:
    record: its bytes.
    dtype: storage type of the latents.
    keys: tensors wanted; None is all of them.

  Returns:
    Name to array; latents are float32, `clip_id` a 0-d string, `example_id`
    a uint32 derived from it. Labels are read-only views of the record.

  Raises:
    KeyError: a key that the record does not have.
  """
  start = 8 + int.from_bytes(record[:8], "little")
  header = json.loads(record[8:start])
  header.pop("__metadata__", None)

  def tensor(name: str) -> np.ndarray:
    about = header[name]
    begin, end = about["data_offsets"]
    kind = np.dtype(_SAFETENSORS[about["dtype"]])
    count = (end - begin) // kind.itemsize
    flat = np.frombuffer(record, kind, count, start + begin)
    return flat.reshape(about["shape"])

  scales = {f"{name}_scale" for name in LATENTS}
  if keys is None:
    keys = [*(set(header) - scales), "example_id"]
  example = {}
  for name in keys:
    if name == "clip_id":
      example[name] = np.array(tensor("clip_id").tobytes().decode())
    elif name == "example_id":
      example[name] = example_id(tensor("clip_id").tobytes())
    elif name not in header:
      known = sorted({*header, "example_id"} - scales)
      raise KeyError(f"the store has no tensor {name!r}; it has {known}")
    elif name not in LATENTS:
      example[name] = tensor(name)
    elif dtype == "int8":
      example[name] = dequantize(tensor(name), tensor(f"{name}_scale"))
    elif dtype == "bfloat16":
      bits = tensor(name).astype(np.uint32)
      example[name] = np.left_shift(bits, 16, out=bits).view(np.float32)
    else:
      example[name] = tensor(name)
  return example


def example_id(clip_id: bytes) -> np.ndarray:
  """Returns the 0-d uint32 that seeds every random draw for this clip."""
  digest = hashlib.blake2b(clip_id, digest_size=4).digest()
  return np.array(int.from_bytes(digest, "little"), np.uint32)


def quantize(
  latents: Float[np.ndarray, "*N C"],
) -> tuple[Int8[np.ndarray, "*N C"], Float[np.ndarray, "*N"]]:
  """Rounds to 8 bits with one scale per token.

  Source: our choice.

  Args:
    latents: any range; tokens on the last axis but one.

  Returns:
    Integers in [-127, 127], and the scale that gives the values back; the
    error is at most half a scale.
  """
  latents = np.asarray(latents, np.float32)
  scale = np.abs(latents).max(axis=-1) / np.float32(127)
  scale = np.where(scale > 0, scale, np.float32(1))
  return np.rint(latents / scale[..., None]).astype(np.int8), scale


def dequantize(
  values: Int8[np.ndarray, "*N C"], scale: Float[np.ndarray, "*N"]
) -> Float[np.ndarray, "*N C"]:
  """Inverts `quantize` up to rounding."""
  return values.astype(np.float32) * scale[..., None]


def _store_latents(
  name: str, latents: np.ndarray, dtype: str
) -> dict[str, np.ndarray]:
  if dtype == "int8":
    values, scale = quantize(latents)
    return {name: values, f"{name}_scale": scale}
  if dtype == "bfloat16":
    return {name: latents.astype(ml_dtypes.bfloat16).view(np.uint16)}
  return {name: latents.astype(np.float32)}
