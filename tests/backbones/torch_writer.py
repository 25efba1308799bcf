"""Writes `.pth` files as torch does, opcode by opcode, without torch.

`write_torch(path, tree)`: nested dicts of arrays, numbers, text and `View`s.
"""

import dataclasses
import struct
import zipfile

import ml_dtypes
import numpy as np

STORAGES = {
  np.dtype(np.float32): "Float",
  np.dtype(np.float64): "Double",
  np.dtype(np.float16): "Half",
  np.dtype(ml_dtypes.bfloat16): "BFloat16",
  np.dtype(np.int64): "Long",
  np.dtype(np.uint8): "Byte",
  np.dtype(np.bool_): "Bool",
}


@dataclasses.dataclass(frozen=True)
class View:
  """A tensor that is part of a storage; the storage may be shared."""

  storage: np.ndarray
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Raw:
  """Opcodes put into the program as they are."""

  program: bytes


def text(value):
  data = value.encode()
  return b"X" + struct.pack("<I", len(data)) + data


def integer(value):
  return b"\x8a\x08" + struct.pack("<q", value)  # LONG1


def named(module, name):
  return f"c{module}\n{name}\n".encode()


def integers(values):
  return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(view, storages):
  """`_rebuild_tensor_v2(storage, offset, shape, strides, False, {})`."""
  key = next((k for k, s in storages.items() if s is view.storage), None)
  if key is None:
    key = str(len(storages))
    storages[key] = view.storage
  kind = STORAGES[view.storage.dtype] + "Storage"
  identity = (
    b"("
    + text("storage")
    + named("torch", kind)
    + text(key)
    + text("cpu")
    + integer(view.storage.size)
    + b"tQ"
  )
  arguments = (
    b"("
    + identity
    + integer(view.offset)
    + integers(view.shape)
    + integers(view.strides)
    + b"\x89"
    + named("collections", "OrderedDict")
    + b")Rt"
  )
  return named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def dump(value, storages):
  """Returns the opcodes that put a value on the stack."""
  if isinstance(value, Raw):
    return value.program
  if isinstance(value, dict):
    items = (dump(k, storages) + dump(v, storages) for k, v in value.items())
    return b"}(" + b"".join(items) + b"u"
  if isinstance(value, str):
    return text(value)
  if isinstance(value, int):
    return integer(value)
  if isinstance(value, float):
    return b"G" + struct.pack(">d", value)
  if not isinstance(value, View):
    steps = np.cumprod([1, *value.shape[:0:-1]])[::-1] if value.ndim else ()
    value = View(value, 0, value.shape, tuple(map(int, steps)))
  return tensor(value, storages)


def write_torch(path, tree):
  """Writes a file; see the module."""
  storages = {}
  program = b"\x80\x02" + dump(tree, storages) + b"."
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
    archive.writestr("archive/data.pkl", program)
    archive.writestr("archive/byteorder", "little")
    for key, storage in storages.items():
      with archive.open(f"archive/data/{key}", "w", force_zip64=True) as member:
        numbers = np.ascontiguousarray(storage).reshape(-1)
        member.write(numbers.view(np.uint8).data)
    archive.writestr("archive/version", "3\n")
