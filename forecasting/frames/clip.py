"""A clip: a video, its labels and where it came from, as plain arrays.

| key         | type and shape       | meaning                                 |
|-------------|----------------------|-----------------------------------------|
| video       | uint8 [T H W 3]      | RGB                                     |
| seconds     | float32 [T]          | time of each frame                      |
| clip_id     | unicode []           | which recording or scene                |
| start_frame | int32 []             | first frame, in the recording's frames  |
| stride      | int32 []             | recording frames per clip frame         |
| depth       | float16/32 [T H W 1] | meters along the optical axis, 0 unknown|
| tracks      | float32 [T Q 2]      | normalized (x, y)                       |
| visible     | bool [T Q]           | in view and not occluded                |
| track_mask  | bool [Q]             | False: padding                          |
| boxes       | float32 [T N 4]      | normalized (ymin, xmin, ymax, xmax)     |
| box_mask    | bool [T N]           | object present in that frame            |
| object_mask | bool [N]             | False: padding                          |
| object_ids  | int32 [N]            | which object                            |

The first five are in every clip; a label's keys only where the data has it.
Queries are frame 0: kept tracks are visible and kept objects present there.
"""

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

Clip = dict[str, np.ndarray]

# Key: (allowed dtypes, shape by axis letter or size).
_ALWAYS = {
  "video": (("uint8",), ("T", "H", "W", 3)),
  "seconds": (("float32",), ("T",)),
  "clip_id": (("str",), ()),
  "start_frame": (("int32",), ()),
  "stride": (("int32",), ()),
}
LABEL_KEYS = {
  "depth": {"depth": (("float16", "float32"), ("T", "H", "W", 1))},
  "points": {
    "tracks": (("float32",), ("T", "Q", 2)),
    "visible": (("bool",), ("T", "Q")),
    "track_mask": (("bool",), ("Q",)),
  },
  "boxes": {
    "boxes": (("float32",), ("T", "N", 4)),
    "box_mask": (("bool",), ("T", "N")),
    "object_mask": (("bool",), ("N",)),
    "object_ids": (("int32",), ("N",)),
  },
}
_PER_FRAME = (
  "video",
  "seconds",
  "depth",
  "tracks",
  "visible",
  "boxes",
  "box_mask",
)


def clip_labels(clip: Clip) -> tuple[str, ...]:
  """Names the labels that a clip carries, of 'depth', 'points', 'boxes'."""
  return tuple(
    name
    for name, keys in LABEL_KEYS.items()
    if any(key in clip for key in keys)
  )


def validate_clip(clip: Clip) -> Clip:
  """Checks keys, types, shapes and the rules for queries.

  Args:
    clip: the clip.

  Returns:
    The clip itself.

  Raises:
    ValueError: if anything differs from the table above; names the key, what
      was found and what was expected.
  """
  expected = dict(_ALWAYS)
  for name in clip_labels(clip):
    expected |= LABEL_KEYS[name]
  missing, extra = expected.keys() - clip.keys(), clip.keys() - expected.keys()
  if missing or extra:
    raise ValueError(
      f"clip: missing keys {sorted(missing)}, unknown keys {sorted(extra)}; "
      f"a clip with these labels has {sorted(expected)}"
    )
  axes: dict[str, int] = {}
  for key, (dtypes, shape) in expected.items():
    _validate_array(key, clip[key], dtypes, shape, axes)
  if np.any(np.diff(clip["seconds"]) <= 0):
    raise ValueError("clip['seconds'] must increase from frame to frame")
  _validate_queries(clip)
  return clip


def _validate_array(
  key: str,
  array: np.ndarray,
  dtypes: tuple[str, ...],
  shape: tuple[str | int, ...],
  axes: dict[str, int],
) -> None:
  """Checks one array; `axes` remembers the sizes of the letters."""
  array = np.asarray(array)
  kind = "str" if array.dtype.kind == "U" else array.dtype.name
  sizes = [
    axes.setdefault(axis, size) if isinstance(axis, str) else axis
    for axis, size in zip(shape, array.shape)
  ]
  if (
    kind not in dtypes
    or array.ndim != len(shape)
    or (list(array.shape) != sizes)
  ):
    raise ValueError(
      f"clip[{key!r}] is {kind} {list(array.shape)}; expected "
      f"{' or '.join(dtypes)} [{' '.join(map(str, shape))}]"
      + (f" where {axes}" if shape else "")
    )
  if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
    raise ValueError(f"clip[{key!r}] holds values that are not finite")


def _validate_queries(clip: Clip) -> None:
  """Frame 0 is the query frame."""
  if "depth" in clip and np.any(clip["depth"] < 0):
    raise ValueError("clip['depth'] is negative somewhere; unknown is 0")
  for mask, seen in (("track_mask", "visible"), ("object_mask", "box_mask")):
    if mask in clip and np.any(clip[mask] & ~clip[seen][0]):
      raise ValueError(
        f"clip[{mask!r}] keeps entries whose {seen!r} is False in frame 0; "
        "frame 0 is the query, so mask them out"
      )


def split_context(clip: Clip, num_context: int) -> tuple[Clip, Clip]:
  """Splits a clip into what is observed and what is to be forecast.

  Args:
    clip: the clip.
    num_context: frames of the context.

  Returns:
    Context and future; arrays without a time axis are in both.

  Raises:
    ValueError: if one of the two would be empty.
  """
  num_frames = len(clip["video"])
  if not 0 < num_context < num_frames:
    raise ValueError(
      f"num_context={num_context} must lie between 1 and {num_frames - 1} "
      f"for a clip of {num_frames} frames"
    )
  context, future = dict(clip), dict(clip)
  for key in _PER_FRAME:
    if key in clip:
      context[key] = clip[key][:num_context]
      future[key] = clip[key][num_context:]
  return context, future


def encode_clip(clip: Clip) -> bytes:
  """Serializes a clip as safetensors; equal clips give equal bytes."""
  arrays = {key: np.ascontiguousarray(clip[key]) for key in sorted(clip)}
  for key, array in clip.items():
    arrays[key] = arrays[key].reshape(array.shape)
  name = str(clip["clip_id"]).encode()
  arrays["clip_id"] = np.frombuffer(name, np.uint8)
  return save(arrays)


def decode_clip(record: bytes) -> Clip:
  """Reads a clip back.

  Args:
    record: from `encode_clip`.

  Returns:
    The clip.

  Raises:
    ValueError: if the bytes are no clip.
  """
  try:
    clip = load(record)
    clip["clip_id"] = np.array(clip["clip_id"].tobytes().decode())
  except (SafetensorError, KeyError, UnicodeDecodeError) as error:
    raise ValueError(
      f"not a clip record ({len(record)} bytes): {error}"
    ) from error
  return clip
