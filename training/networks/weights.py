"""Find weight files and read them safely: nothing in them is executed, and what is no weight file is told what it is."""

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from common.errors import WeightsError
from common.io import read_json
from training.networks.file_kinds import told_by_its_bytes
from training.networks.states import State, assign_state, rename, unwrap_state, without_shared_prefix
from training.networks.torch_archive import RefusedError, is_script, read_tensors

__all__ = [
    "PRETRAINED_DIR",
    "State",
    "assign_state",
    "find_weights",
    "read_state",
    "refusal",
    "rename",
    "unwrap_state",
    "without_shared_prefix",
]
PRETRAINED_DIR = Path(__file__).parents[1] / "pretrained"
# The file of weights in a folder of Hugging Face's, whole or in shards that an index names, by preference.
_IN_FOLDER = tuple(
    f"{stem}{suffix}"
    for suffix in ("", ".index.json")
    for stem in ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
)


def find_weights(name: str | os.PathLike) -> Path | None:
    """Return the file that `name` means: itself, or a file of that name in `training/pretrained/`; None when neither is.

    A folder means the weights that Hugging Face keeps under its usual names there, also inside its cache's folders.
    """
    for candidate in (Path(name), PRETRAINED_DIR / Path(name).name):
        try:
            found = candidate if candidate.is_file() else _in_folder(candidate) if candidate.is_dir() else None
        except (OSError, ValueError):  # a name that no file can have
            found = None
        if found:
            return found
    return None


def _in_folder(folder: Path) -> Path | None:
    kept = sorted(folder.glob("snapshots/*"), key=lambda path: path.stat().st_mtime, reverse=True)
    places = (place / name for place in (folder, *kept) for name in _IN_FOLDER)
    return next((path for path in places if path.is_file()), None)


def read_state(path: str | os.PathLike) -> State:
    """Return the tensors of a weight file, unwrapped and without the marks of wrapping modules.

    Read are `.safetensors`, files of `torch.save` and `torch.jit.save`, and folders and shard indexes of Hugging Face's. Nothing
    in them is executed.

    Raises:
        WeightsError: missing, truncated, something else, or a pickle that holds more than tensors and plain data.
    """
    path = Path(path)
    if path.is_dir() and (inside := _in_folder(path)):
        path = inside
    if not path.is_file():
        what = "holds none of " + ", ".join(_IN_FOLDER[:4]) if path.is_dir() else "is no file"
        raise WeightsError(
            f"no such weight file: {path} {what}; give the path of a .pth, .pt, .bin or .safetensors file"
        )
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    if kind := None if _is_safetensors(path) else told_by_its_bytes(path):
        raise WeightsError(f"{path} is refused: {kind}")
    return unwrap_state(_content(path), str(path))


def _content(path: Path) -> Any:
    try:
        if _is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        if is_script(path):
            return read_tensors(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on pickles is for those who write them
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, RefusedError) or _is_safetensors(path):
            raise refusal(path, error) from error
        try:
            # torch lets no NumPy number, path or settings object pass; they are data.
            return read_tensors(path)
        except RefusedError as second:
            raise refusal(path, second) from error


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins as that form does, whatever its name says: a length, and a table in braces."""
    if path.suffix == ".safetensors" and told_by_its_bytes(path) is None:
        return True
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


def _read_shards(index: Path) -> State:
    table = read_json(index, WeightsError)
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict) or not names:
        raise WeightsError(f"{index} names no shards (`weight_map`); give the folder as it was downloaded")
    state: State = {}
    for shard in sorted({str(name) for name in names.values()}):
        if Path(shard).name != shard or "\\" in shard:
            raise WeightsError(f"{index} names `{shard}`, which leads out of its folder")
        state |= read_state(index.with_name(shard))
    return state


def refusal(path: str | os.PathLike, error: Exception) -> WeightsError:
    """Return the sentence on why a file is not read: what it is, that it holds code, or that it is damaged."""
    kind = told_by_its_bytes(Path(path))
    if isinstance(error, RefusedError):
        reason = kind or str(error)
    elif "weights_only" in str(error) or "Unsupported global" in str(error):
        reason = kind or "it is a pickle that may run code; save its state_dict alone, or convert it to .safetensors"
    else:
        reason = kind or f"it cannot be read ({type(error).__name__}); it may be truncated: copy or download it again"
    return WeightsError(f"{path} is refused: {reason}")
