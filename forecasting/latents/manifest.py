"""What made a store of latents, and the check that it is the one wanted.

`manifest.json` stands beside the shards and is written last: a folder without
it is an unfinished store. Source: our choice; the refusal of a store without
a context mode is what keeps a leaky store from being read as a clean one.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1
CREATED_BY = "forecasting 0.1.0"
CONTEXT_MODES = ("crop_pos", "pad_last", "leaky_full_clip")
DTYPES = ("bfloat16", "float32", "int8")


class ManifestError(ValueError):
  """A manifest that is missing, damaged, or not the one wanted."""


@dataclasses.dataclass(frozen=True)
class Shard:
  """One file of records.

  Attributes:
    name: file name inside the store.
    num_clips: records in it.
    num_bytes: size of the file.
    checksum: BLAKE2b-128 of the file, hexadecimal.
  """

  name: str
  num_clips: int
  num_bytes: int
  checksum: str


@dataclasses.dataclass(frozen=True)
class Manifest:
  """Everything that determines the content of a store, and its files.

  Attributes:
    backbone: name of the frozen model.
    weights_digest: digest of its weights.
    layer: layer read, as the backbone's spec resolves it.
    context_mode: how the context frames were encoded alone, see
      `CONTEXT_MODES`; 'leaky_full_clip' is an ablation, not a result.
    dtype: storage type of the latents, see `DTYPES`.
    context_shape: tc, h, w, C of one clip's context latents.
    clip_shape: t, h, w, C of one clip's full latents.
    dataset: name of the data.
    fingerprint: hash of everything that determines the clips.
    split: 'train', 'eval' or 'futures'.
    resolution: side in pixels of the frames that the backbone saw.
    preprocessing: in words, how they came from the stored frames.
    num_frames: T.
    num_context: Tc.
    tubelet: frames per latent slot.
    labels: names of the tensors stored beside the latents.
    num_clips: records in the whole store.
    clips_per_shard: records in every shard but the last.
    skipped: reason to number of clips that the source left out.
    shards: the files; empty while they are being written.
    created_by: program and version.
    format_version: of the record layout, raised when it changes.
  """

  backbone: str
  weights_digest: str
  layer: str
  context_mode: str
  dtype: str
  context_shape: tuple[int, ...]
  clip_shape: tuple[int, ...]
  dataset: str
  fingerprint: str
  split: str
  resolution: int
  preprocessing: str
  num_frames: int
  num_context: int
  tubelet: int
  labels: tuple[str, ...]
  num_clips: int
  clips_per_shard: int
  skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)
  shards: tuple[Shard, ...] = ()
  created_by: str = CREATED_BY
  format_version: int = FORMAT_VERSION

  def __post_init__(self) -> None:
    allowed = {
      "context_mode": CONTEXT_MODES,
      "dtype": DTYPES,
      "format_version": (FORMAT_VERSION,),
    }
    for field, values in allowed.items():
      if getattr(self, field) not in values:
        raise ManifestError(
          f"manifest field {field} is {getattr(self, field)!r}; this version "
          f"reads {', '.join(map(repr, values))}. Extract the latents again."
        )

  @property
  def is_leaky(self) -> bool:
    """Whether the context latents were computed from the future too."""
    return self.context_mode == "leaky_full_clip"

  @property
  def identity(self) -> str:
    """Digest of what determines the records: all fields but the files.

    The number of clips is not part of it: a store that grows keeps its full
    shards.
    """
    fields = dataclasses.asdict(self)
    for derived in ("num_clips", "shards", "skipped", "created_by"):
      del fields[derived]
    text = json.dumps(fields, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

  @property
  def digest(self) -> str:
    """Digest of the records themselves, through their shards' checksums."""
    text = " ".join([self.identity, *(s.checksum for s in self.shards)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

  def verify(self, expected: Mapping[str, Any], path: Path) -> None:
    """Compares fields with what the config asks for.

    Args:
      expected: field name to value; fields left out are not compared.
      path: folder of the store, named in the message.

    Raises:
      ManifestError: naming every field that differs.
    """
    wrong = []
    for field, value in expected.items():
      if not hasattr(self, field):
        raise ManifestError(f"a manifest has no field {field!r}")
      found = getattr(self, field)
      if _plain(found) != _plain(value):
        wrong.append(f"  {field}: the store has {found!r}, expected {value!r}")
    if wrong:
      raise ManifestError(
        f"the latents in {path} are not the ones wanted:\n"
        + "\n".join(wrong)
        + "\nEither change the config to what the store has, or extract the "
        "latents wanted into another folder: `python -m forecasting.extract` "
        "with another latents.root."
      )

  def save(self, path: Path) -> None:
    """Writes `manifest.json` into a folder, atomically."""
    text = json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)
    write_atomically(path / FILE_NAME, (text + "\n").encode())


def load(path: Path) -> Manifest:
  """Reads the manifest of a store.

  Args:
    path: folder of the store.

  Raises:
    ManifestError: no manifest, unreadable JSON, a field missing or unknown,
      or a value that this version cannot read.
  """
  file = path / FILE_NAME
  try:
    fields = json.loads(file.read_text())
  except FileNotFoundError:
    raise ManifestError(
      f"{file} does not exist: no latents there, or extraction did not finish. "
      "Run `python -m forecasting.extract`, which continues where it stopped."
    ) from None
  except ValueError as error:
    raise ManifestError(
      f"{file} is not JSON ({error}). Delete it and run "
      "`python -m forecasting.extract`, which keeps the shards."
    ) from error
  known = {field.name for field in dataclasses.fields(Manifest)}
  missing, unknown = known - set(fields), set(fields) - known
  if missing or unknown:
    note = (
      " Without context_mode nobody can know that the context latents were "
      "computed without the future."
      if "context_mode" in missing
      else ""
    )
    raise ManifestError(
      f"{file}: missing fields {sorted(missing)}, unknown fields "
      f"{sorted(unknown)}.{note} Extract the latents again, or write the store "
      "with forecasting.latents.store."
    )
  fields["shards"] = tuple(Shard(**shard) for shard in fields["shards"])
  for name in ("context_shape", "clip_shape", "labels"):
    fields[name] = tuple(fields[name])
  return Manifest(**fields)


def write_atomically(file: Path, content: bytes) -> None:
  """Writes a file that either is there whole or not at all.

  Args:
    file: where; `<file>.tmp` is used on the way.
    content: its bytes.

  Raises:
    OSError: disk full or not writable; nothing is left behind.
  """
  temporary = file.with_name(file.name + ".tmp")
  try:
    with open(temporary, "wb") as stream:
      stream.write(content)
      stream.flush()
      os.fsync(stream.fileno())
    os.replace(temporary, file)
  except OSError:
    temporary.unlink(missing_ok=True)
    raise


def _plain(value: Any) -> Any:
  """Tuples and lists compare equal, as they do after JSON."""
  return list(value) if isinstance(value, tuple | list) else value
