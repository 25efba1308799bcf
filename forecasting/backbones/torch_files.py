"""Torch's `.pth` files, read without torch and without running them.

Since torch 1.6 such a file is a zip archive: `<root>/data.pkl` describes nested
containers and tensors, `<root>/data/<key>` are their raw numbers, uncompressed.
The description is a program for a stack machine, and Python's own reader lets
it import and call anything. Here `pickletools.genops` splits the program into
instructions without obeying any, and `_Machine` obeys those that build plain
containers; classes and functions stay names, and what a file calls becomes a
tensor's description, an empty dict or nothing. No number is read before it is
asked for.

Source: torch.serialization and pickletools for the formats.
"""

import dataclasses
import math
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from forecasting.backbones.stored import DamagedError, StoredArray

MAX_PROGRAM = 1 << 28  # bytes of data.pkl; with all of Adam's state it is ~1 MB
MAX_ENTRIES = 100_000  # of nested dicts, with what is no array
MAX_NESTING = 16
MAX_NAME = 1000
MAX_REPEATED = 1 << 24  # numbers of a tensor larger than its storage

# What the file calls a storage of raw numbers, as far as NumPy knows it.
_STORAGES = {
  "torch FloatStorage": np.float32,
  "torch DoubleStorage": np.float64,
  "torch HalfStorage": np.float16,
  "torch BFloat16Storage": ml_dtypes.bfloat16,
  "torch LongStorage": np.int64,
  "torch IntStorage": np.int32,
  "torch ShortStorage": np.int16,
  "torch CharStorage": np.int8,
  "torch ByteStorage": np.uint8,
  "torch BoolStorage": np.bool_,
  "torch ComplexFloatStorage": np.complex64,
  "torch ComplexDoubleStorage": np.complex128,
  "torch.storage UntypedStorage": np.uint8,
}
_NO_ARRAY = object()  # what the file says and nobody here needs


@dataclasses.dataclass(frozen=True)
class _Name:
  """A class or function that the file names, never looked up."""

  name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
  """A member of the archive, full of numbers of one kind."""

  key: str
  dtype: np.dtype
  size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """A view of a storage; offset and strides count numbers."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def read_torch(
  path: Path, containers: Sequence[str]
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
  """Yields the arrays of a `.pth` file.

  Args:
    path: of the file.
    containers: keys under which the weights may lie, best first; without any
      of them the whole file is taken.

  Yields:
    Names, nested ones joined by '.', and functions that read the array. What
    is no array (epoch, arguments) is left out.

  Raises:
    DamagedError: not such a file, or damaged.
    ValueError, LookupError, TypeError, OSError, RuntimeError, BadZipFile: the
      same, as `zipfile` and `pickletools` notice it.
  """
  _refuse_old_formats(path)
  with zipfile.ZipFile(path) as archive:
    program, members = _read_directory(archive)
  root = _Machine(program).run()
  if not isinstance(root, dict):
    raise DamagedError("it holds no dict of arrays")
  chosen = next(
    (root[k] for k in containers if isinstance(root.get(k), dict)), root
  )
  for name, tensor in _flatten(chosen):
    yield name, _locate(path, members, name, tensor).read


def _refuse_old_formats(path: Path) -> None:
  """Raises DamagedError, with a way out, for files of before torch 1.6."""
  with path.open("rb") as file:
    start = file.read(265)
  # The old format is a bare pickle, the oldest a real tar archive.
  if start[:1] == b"\x80" or start[257:262] == b"ustar":
    raise DamagedError(
      "it is of the format before torch 1.6, which cannot be read without"
      " running code; with torch: torch.save(torch.load(path,"
      " weights_only=True), path)"
    )


def _read_directory(
  archive: zipfile.ZipFile,
) -> tuple[bytes, Mapping[str, zipfile.ZipInfo]]:
  """Returns data.pkl, and the members below data/ by their keys."""
  infos = {info.filename: info for info in archive.infolist()}
  programs = [n for n in infos if n.count("/") < 2 and n.endswith("data.pkl")]
  if len(programs) != 1:
    raise DamagedError(f"it has {len(programs)} members data.pkl, expected one")
  root = programs[0].removesuffix("data.pkl")
  info = infos[programs[0]]
  if info.file_size > MAX_PROGRAM or info.compress_type:
    raise DamagedError("its data.pkl is compressed or too long")
  order = infos.get(f"{root}byteorder")
  if order and order.file_size < 16 and archive.read(order) != b"little":
    raise DamagedError("its numbers are big-endian; save it on another machine")
  data = f"{root}data/"
  members = {
    name.removeprefix(data): info
    for name, info in infos.items()
    if name.startswith(data)
  }
  return archive.read(info), members


def _flatten(tree: Mapping[Any, Any]) -> Iterator[tuple[str, _Tensor]]:
  """Yields the tensors of nested dicts, in order.

  Raises:
    DamagedError: there is no end to them: a dict may hold itself, or two dicts
      that hold two each.
  """
  waiting: list[tuple[str, Any, int]] = [("", tree, 0)]
  count = 0
  while waiting:
    name, value, level = waiting.pop()
    count += 1
    if level > MAX_NESTING or count > MAX_ENTRIES or len(name) > MAX_NAME:
      raise DamagedError("its containers are nested without end")
    if isinstance(value, _Tensor):
      yield name, value
    elif isinstance(value, dict):
      below = f"{name}." if name else ""
      waiting += [
        (f"{below}{key}", inner, level + 1)
        for key, inner in reversed(value.items())
        if isinstance(inner, _Tensor | dict)
      ]


def _locate(
  path: Path,
  members: Mapping[str, zipfile.ZipInfo],
  name: str,
  tensor: _Tensor,
) -> StoredArray:
  """Returns where in the file a tensor's numbers are.

  Raises:
    DamagedError: they are not there.
  """
  storage = tensor.storage
  info = members.get(storage.key)
  if info is None:
    raise DamagedError(f"{name}: its numbers (data/{storage.key}) are missing")
  if info.compress_type or info.flag_bits & 1:
    raise DamagedError(f"{name}: its numbers are compressed or encrypted")
  if storage.size * storage.dtype.itemsize > info.file_size:
    raise DamagedError(f"{name}: data/{storage.key} is too short")
  with path.open("rb") as file:
    file.seek(info.header_offset)
    header = file.read(30)
  if len(header) < 30 or header[:4] != b"PK\x03\x04":
    raise DamagedError(f"{name}: data/{storage.key} is not where it should be")
  name_size, extra_size = struct.unpack("<HH", header[26:30])
  start = info.header_offset + 30 + name_size + extra_size
  array = StoredArray(
    path=path,
    start=start + tensor.offset * storage.dtype.itemsize,
    dtype=storage.dtype,
    shape=tensor.shape,
    strides=tensor.strides,
  )
  if math.prod(tensor.shape) > max(storage.size, MAX_REPEATED):
    raise DamagedError(f"{name}: it repeats few numbers too often")
  if tensor.offset + array.span > storage.size:
    raise DamagedError(f"{name}: it reaches beyond data/{storage.key}")
  return array


class _Machine:
  """Obeys the harmless instructions of a pickle program.

  Names of instructions are those of `pickletools`; each method `op_...` takes
  the argument that is part of the instruction.
  """

  def __init__(self, program: bytes):
    self._program = program
    self._stack: list[Any] = []
    self._outer: list[list[Any]] = []  # stacks below the marks
    self._memo: dict[int, Any] = {}

  def run(self) -> Any:
    """Returns what the program builds.

    Raises:
      DamagedError: it has an instruction that torch does not write.
      ValueError, LookupError, TypeError: it is no valid program.
    """
    for op, argument, _ in pickletools.genops(self._program):
      if op.name == "STOP":
        return self._stack.pop()
      self._obey(op.name, argument)
    raise DamagedError("its data.pkl has no end")

  def _obey(self, name: str, argument: Any) -> None:
    """Changes the stack as one instruction says."""
    push = self._stack.append
    if _LITERALS.fullmatch(name):
      push(argument)
    elif name in _CONSTANTS:
      push(_CONSTANTS[name]())
    elif name in _TUPLES:
      push(self._pop(_TUPLES[name]))
    elif name in ("PROTO", "FRAME"):
      pass
    elif name == "GLOBAL":
      push(_Name(argument))
    elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
      self._memo[argument] = self._stack[-1]
    elif name == "MEMOIZE":
      self._memo[len(self._memo)] = self._stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
      push(self._memo[argument])
    elif name == "MARK":
      self._outer.append(self._stack)
      self._stack = []
    elif _ON_MARKED.fullmatch(name):
      items, self._stack = self._stack, self._outer.pop()
      self._on_marked(name, items)
    elif name in _ON_STACK:
      count, function = _ON_STACK[name]
      self._stack.append(function(*self._pop(count)))
    else:
      raise DamagedError(f"its data.pkl has {name}, which torch does not write")

  def _pop(self, count: int) -> tuple[Any, ...]:
    """Removes the topmost values, lowest first."""
    values = tuple(self._stack[len(self._stack) - count :])
    if len(values) < count:
      raise DamagedError("its data.pkl takes from an empty stack")
    del self._stack[len(self._stack) - count :]
    return values

  def _on_marked(self, name: str, items: list[Any]) -> None:
    """Obeys an instruction that uses everything above the last mark."""
    if name == "TUPLE":
      self._stack.append(tuple(items))
    elif name == "LIST":
      self._stack.append(items)
    elif name in ("DICT", "SETITEMS"):
      if name == "DICT":
        self._stack.append({})
      for key, value in zip(items[::2], items[1::2], strict=True):
        _set_item(self._stack[-1], key, value)
    elif name == "APPENDS":
      _extend(self._stack[-1], items)
    elif name == "FROZENSET":
      self._stack.append(_NO_ARRAY)
    # ADDITEMS, POP_MARK: the items are dropped.


def _set_item(target: Any, key: Any, value: Any) -> Any:
  """Adds to a dict; nothing happens to other objects."""
  # Other keys, such as tuples, would not be part of a name.
  if isinstance(target, dict) and isinstance(key, str | int):
    target[key] = value
  return target


def _extend(target: Any, items: Sequence[Any]) -> Any:
  """Adds to a list; nothing happens to other objects."""
  if isinstance(target, list):
    target.extend(items)
  return target


def _storage(identity: Any) -> Any:
  """Returns what the archive keeps under a persistent identity."""
  kind, storage, key, _, size = identity
  if kind != "storage" or storage.name not in _STORAGES:
    return _NO_ARRAY
  dtype = np.dtype(_STORAGES[storage.name])
  return _Storage(str(key), dtype, _natural(size))


def _call(function: Any, arguments: Any) -> Any:
  """Returns what a call stands for; nothing is called."""
  name = function.name if isinstance(function, _Name) else ""
  if name == "collections OrderedDict":
    return dict(arguments[0]) if arguments else {}
  if name in (
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor",
  ):
    return _view(*arguments[:4])
  if name.startswith("torch._utils _rebuild_parameter"):
    return arguments[0]
  if name == "torch._tensor _rebuild_from_type_v2":
    inner, _, inner_arguments, _ = arguments
    return _call(inner, inner_arguments)
  return _NO_ARRAY


def _view(storage: Any, offset: int, shape: Any, strides: Any) -> Any:
  """Returns a tensor, or nothing for storages of kinds unknown to NumPy."""
  if not isinstance(storage, _Storage):
    return _NO_ARRAY
  shape, strides = (tuple(map(_natural, x)) for x in (shape, strides))
  if len(shape) != len(strides):
    raise DamagedError("a tensor has not as many strides as axes")
  return _Tensor(storage, _natural(offset), shape, strides)


def _natural(value: Any) -> int:
  """Returns a size or offset.

  Raises:
    DamagedError: it is none.
  """
  if not isinstance(value, int) or not 0 <= value < 1 << 48:
    raise DamagedError("a size or an offset of a tensor is not plausible")
  return value


# Their argument is the value.
_LITERALS = re.compile(
  r"(SHORT_)?BIN(STRING|UNICODE8?|BYTES8?)|STRING|UNICODE|INT|BININT[12]?"
  r"|LONG[14]?|(BIN)?FLOAT"
)
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
  "NONE": lambda: None,
  "NEWTRUE": lambda: True,
  "NEWFALSE": lambda: False,
  "EMPTY_DICT": dict,
  "EMPTY_LIST": list,
  "EMPTY_SET": lambda: _NO_ARRAY,
}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ON_MARKED = re.compile(
  "TUPLE|LIST|DICT|SETITEMS|APPENDS|ADDITEMS|FROZENSET|POP_MARK"
)
# How many values an instruction takes from the stack, and what it puts back.
_ON_STACK: Mapping[str, tuple[int, Callable[..., Any]]] = {
  "SETITEM": (3, _set_item),
  "APPEND": (2, lambda target, item: _extend(target, [item])),
  "STACK_GLOBAL": (2, lambda module, name: _Name(f"{module} {name}")),
  "BINPERSID": (1, _storage),
  "REDUCE": (2, _call),
  "NEWOBJ": (2, _call),
  "NEWOBJ_EX": (3, lambda kind, arguments, _: _call(kind, arguments)),
  "BUILD": (2, lambda target, _: target),  # attributes are not needed
}
