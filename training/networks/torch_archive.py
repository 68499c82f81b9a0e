"""Read the tensors of a torch file of any kind without running anything that stands in it.

Three kinds are read: zip archives of `torch.save`, those of `torch.jit.save` (OpenAI publishes CLIP so) and torch's old
form without a zip. `torch.load(weights_only=True)` refuses the second kind, and any file with a NumPy number beside its
tensors; `torch.jit.load` runs the archive's own code. Here tensors are rebuilt, and an object of any other known plain type is
an inert bag of its attributes. No class or function that the file names is imported, let alone called.

Archives written to do harm are refused: code, members that are packed or overlap, tensors larger than what is stored.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch


class RefusedError(Exception):
    """Why a file is not read, as the rest of a sentence about it."""


_DTYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
# Packages whose objects are settings, numbers, dates, paths and records. They become bags, so this is a list of what is taken
# for data, not of what is trusted.
_PLAIN_PACKAGES = {
    "__torch__", "addict", "argparse", "collections", "datetime", "decimal", "easydict", "enum", "fractions", "lightning",
    "lightning_fabric", "lightning_utilities", "ml_collections", "mmcv", "mmengine", "munch", "numpy", "omegaconf", "pathlib",
    "pytorch_lightning", "torchmetrics", "typing", "uuid", "yacs", "zoneinfo",
}  # fmt: skip
_PLAIN_NAMES = {
    *(f"builtins.{name}" for name in ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
                                      "object", "range", "set", "slice", "str", "tuple")),
    "_codecs.encode", "array._array_reconstructor", "copyreg._reconstructor", "torch.Size", "torch.device",
    "torch.jit._pickle.build_boollist", "torch.jit._pickle.build_doublelist", "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_tensorlist", "torch.jit._pickle.restore_type_tag", "torch.serialization._get_layout",
    "torch.torch_version.TorchVersion", "types.SimpleNamespace",
    *(f"torch.{str(dtype).removeprefix('torch.')}" for dtype in {*_DTYPES.values(), torch.uint16, torch.uint32}),
}  # fmt: skip
_PICKLE_ERRORS = (pickle.UnpicklingError, struct.error, LookupError, ValueError, TypeError, AttributeError, EOFError,
                  OverflowError)  # fmt: skip
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DEEPEST, _MOST_ITEMS = 100, 1_000_000


class Bag(dict):
    """What stands for an object of a type that is not needed: its items and attributes are kept, and it does nothing.

    Attributes:
        parts: mappings that its items and attributes stand in too; kept, not copied, so that no file can multiply them.
    """

    parts: list[dict]

    def __new__(cls, *content: Any, **_: Any) -> Bag:
        made = super().__new__(cls)
        made.parts = [part for part in content if isinstance(part, dict)]
        return made

    def __init__(self, *_: Any, **__: Any):
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.parts += [part for part in (state if isinstance(state, tuple) else (state,)) if isinstance(part, dict)]

    def append(self, _: Any) -> None:
        """Leave it out: what lists hold is not needed."""

    extend = add = append
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


class _Storage:
    """Numbers that tensors look at; read when a tensor needs them."""

    __slots__ = ("count", "dtype", "read")

    def __init__(self, dtype: torch.dtype, count: int, read: Callable[[_Storage], torch.Tensor]):
        self.dtype, self.count, self.read = dtype, count, read


class _View:
    """A tensor to be: a storage and what of it is seen."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: Any, offset: Any, shape: Any, stride: Any):
        numbers = [offset, *shape, *stride]
        if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise RefusedError("a tensor in it is not described as torch does")
        count, last = 1, offset
        for side, step in zip(shape, stride, strict=True):
            count, last = count * side, last + (side - 1) * step
        if count > storage.count or (count and last >= storage.count):
            raise RefusedError("a tensor in it claims more numbers than the file holds")
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def tensor(self) -> torch.Tensor:
        return self.storage.read(self.storage).as_strided(self.shape, self.stride, self.offset)


_REBUILDING: dict[str, Callable] = {
    "torch._utils._rebuild_tensor": _View,
    "torch._utils._rebuild_tensor_v2": lambda storage, offset, shape, stride, *_: _View(storage, offset, shape, stride),
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "collections.OrderedDict": OrderedDict,
}


class _Unpickler(pickle.Unpickler):
    """Builds plain containers, views and bags; asks `storage(dtype, key, count)` for numbers."""

    def __init__(self, file: BinaryIO, storage: Callable[[torch.dtype, str, int], _Storage] | None = None):
        super().__init__(file, encoding="latin-1")
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        # Python 2's names, which protocols below 3 use.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        if full in _REBUILDING:
            return _REBUILDING[full]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if full in _PLAIN_NAMES or module.partition(".")[0] in _PLAIN_PACKAGES:
            return Bag
        raise RefusedError(
            f"it is a pickle that may run code (it names `{full}`); save its state_dict alone, or convert it to .safetensors"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, *view = pid
        if self.storage is None or kind != "storage" or not isinstance(dtype, torch.dtype) or any(view):
            raise RefusedError("its tensors are not stored as torch does")
        if type(count) is not int or count < 0:
            raise RefusedError("a tensor in it is not described as torch does")
        return self.storage(dtype, str(key), count)


def _unpickle(file: BinaryIO, size: int, storage: Callable[..., _Storage] | None = None) -> Any:
    """Read one pickle from where `file` stands, and leave it behind the pickle."""
    begin = file.tell()
    for code, argument, _ in pickletools.genops(file):
        # Python makes room for as many objects as a pickle says it has.
        if code.name.startswith("EXT") or ("PUT" in code.name and int(argument) > size):  # type: ignore[arg-type]
            raise RefusedError(f"its pickle holds an instruction ({code.name}) that no torch file needs")
    end = file.tell()
    file.seek(begin)
    value = _Unpickler(io.BytesIO(file.read(end - begin)), storage).load()
    file.seek(end)
    return value


def is_script(path: Path) -> bool:
    """Return whether a file is an archive of `torch.jit.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def read_tensors(path: Path) -> Any:
    """Return the nested mappings of a torch file with nothing but tensors in them; of TorchScript, one flat mapping.

    Raises:
        RefusedError: it holds code or is not as torch writes it; says which.
    """
    try:
        if not zipfile.is_zipfile(path):
            return _without_the_rest(_read_legacy(path))
        with zipfile.ZipFile(path) as archive:
            tree = _read_zip(archive, path.stat().st_size)
            return _attributes(tree) if is_script(path) else _without_the_rest(tree)
    except _PICKLE_ERRORS as error:
        raise RefusedError(
            f"it cannot be read ({type(error).__name__}), and may be truncated: copy or download it again"
        ) from error
    except (zipfile.BadZipFile, NotImplementedError, RecursionError, MemoryError) as error:
        raise RefusedError(f"its archive is damaged or truncated ({error}): copy or download it again") from error


def _read_zip(archive: zipfile.ZipFile, size: int) -> Any:
    members = {info.filename: info for info in archive.infolist()}
    root = next(
        (name.removesuffix("data.pkl") for name in members if name.count("/") <= 1 and name.endswith("data.pkl")), None
    )
    if root is None:
        raise RefusedError("it is a zip archive, but not torch's: unpack it and name the weight file inside")
    left = size

    def content(name: str) -> bytearray:
        nonlocal left
        info = members.get(root + name)
        if info is None:
            raise RefusedError(f"it lacks its part `{root + name}`; copy or download it again")
        # torch packs nothing; what is packed or counted twice may unfold to more than memory holds.
        left -= info.file_size
        if info.compress_type != zipfile.ZIP_STORED or left < 0:
            raise RefusedError(f"its part `{root + name}` is packed or overlaps others, which torch never writes")
        return bytearray(archive.read(info))

    if root + "byteorder" in members and content("byteorder") != b"little":
        raise RefusedError("its numbers are big-endian; save it again on a usual machine")
    storages: dict[str, _Storage] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> _Storage:
        def read(own: _Storage) -> torch.Tensor:
            data = content(f"data/{key}")
            if len(data) != own.count * own.dtype.itemsize:
                raise RefusedError(f"its part `{root}data/{key}` is not as long as its tensors say")
            numbers = torch.frombuffer(data, dtype=own.dtype) if data else torch.empty(0, dtype=own.dtype)
            own.read = lambda _: numbers
            return numbers

        found = storages.setdefault(key, _Storage(dtype, count, read))
        if (found.dtype, found.count) != (dtype, count):
            raise RefusedError(f"its part `{root}data/{key}` is described in two ways")
        return found

    data = content("data.pkl")
    return _unpickle(io.BytesIO(data), len(data), storage)


def _read_legacy(path: Path) -> Any:
    size = path.stat().st_size
    storages: dict[str, _Storage] = {}

    def unread(_: _Storage) -> torch.Tensor:
        raise RefusedError("it breaks off before its last tensor; copy or download it again")

    def storage(dtype: torch.dtype, key: str, count: int) -> _Storage:
        return storages.setdefault(key, _Storage(dtype, count, unread))

    with open(path, "rb") as file:
        if _unpickle(file, size) != _LEGACY_MAGIC:
            raise RefusedError("it is a pickle, but not torch's; save a state_dict with torch.save, or as .safetensors")
        _, machine = _unpickle(file, size), _unpickle(file, size)
        if not (isinstance(machine, dict) and machine.get("little_endian", True)):
            raise RefusedError("its numbers are big-endian; save it again on a usual machine")
        tree = _unpickle(file, size, storage)
        for key in _unpickle(file, size):
            (count,), own = struct.unpack("<q", file.read(8)), storages[str(key)]
            length = count * own.dtype.itemsize
            if count != own.count or length > size - file.tell():
                unread(own)
            data = bytearray(file.read(length))
            numbers = torch.frombuffer(data, dtype=own.dtype) if data else torch.empty(0, dtype=own.dtype)
            own.read = lambda _, numbers=numbers: numbers  # type: ignore[misc]
    return tree


class _Walk:
    """Goes through what mappings hold, and gives up on files whose parts stand in each other without end."""

    def __init__(self) -> None:
        self.seen = 0

    def items(self, value: Mapping) -> Iterator[tuple[Any, Any]]:
        """Yield keys and values of a mapping or bag."""
        for part in (value, *(value.parts if isinstance(value, Bag) else ())):
            for item in part.items():
                self.seen += 1
                if self.seen > _MOST_ITEMS:
                    raise RefusedError("its parts stand in each other too often for a weight file")
                yield item


def _without_the_rest(tree: Any) -> Any:
    """Return a tree's mappings with tensors and mappings alone in them. One that stands in several places stays one."""
    if isinstance(tree, _View):
        return tree.tensor()
    if not isinstance(tree, Mapping):
        return None
    walk, made, waiting = _Walk(), {id(tree): {}}, [tree]  # type: ignore[var-annotated]
    while waiting:
        value = waiting.pop()
        for key, item in walk.items(value):
            if not isinstance(key, str | int):
                continue
            if isinstance(item, _View):
                made[id(value)][key] = item.tensor()
            elif isinstance(item, Mapping):
                if id(item) not in made:
                    made[id(item)] = {}
                    waiting.append(item)
                made[id(value)][key] = made[id(item)]
    return made[id(tree)]


def _attributes(script: Any) -> dict[str, torch.Tensor]:
    """Return a script module's parameters and buffers under the names that its state dict would have."""
    found: dict[str, torch.Tensor] = {}
    walk, waiting = _Walk(), [("", script, 0)]
    while waiting:
        prefix, bag, depth = waiting.pop()
        if not isinstance(bag, Bag) or depth > _DEEPEST:
            raise RefusedError("it holds no module, or one that contains itself")
        for name, value in walk.items(bag):
            if isinstance(value, _View):
                found[f"{prefix}{name}"] = value.tensor()
            elif isinstance(value, Bag):
                waiting.append((f"{prefix}{name}.", value, depth + 1))
    return found
