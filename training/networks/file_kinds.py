"""What a file is that was taken for weights and holds none, told by its first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

_SAMPLE = 1024
_PACKED = {
    b"\x1f\x8b": "a gzip archive", b"BZh": "a bzip2 archive", b"\xfd7zXZ": "an xz archive", b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive", b"\x28\xb5\x2f\xfd": "a zstd archive",
}  # fmt: skip
_FOREIGN = {
    b"\x89HDF": "an HDF5 file, as Keras writes weights", b"GGUF": "a GGUF file", b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"%PDF": "a PDF document",
}  # fmt: skip


def told_by_its_bytes(path: Path) -> str | None:
    """Return what a file is instead of weights, with the remedy, as the rest of a sentence; None where nothing speaks."""
    try:
        with open(path, "rb") as file:
            head = file.read(_SAMPLE)
            file.seek(max(0, path.stat().st_size - 1))
            last = file.read(1)
    except OSError as error:
        return f"it cannot be opened ({error.strerror})"
    return _of_head(head, last) or _of_zip(path, head)


def _of_head(head: bytes, last: bytes) -> str | None:
    if not head:
        return "it is empty (0 bytes); copy or download it again"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "it is a Git-LFS pointer, a note of where the weights are; fetch the file itself with `git lfs pull`"
    if head.count(0) == _SAMPLE:
        return "it begins with zeros alone; its download broke off: do it again"
    for table, remedy in (
        (_PACKED, "unpack it and name the weight file inside"),
        (_FOREIGN, "give torch's or .safetensors"),
    ):
        for magic, name in table.items():
            if head.startswith(magic):
                return f"it is {name}; {remedy}"
    if head[257:262] == b"ustar":
        return "it is a tar archive; unpack it and name the weight file inside"
    return _of_text(head, last)


def _of_text(head: bytes, last: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:15].lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "it is a web page saved in place of the file; open the page's own download link"
    # Pickles of protocol 0 are text too, and end in a full stop.
    if any(byte < 9 or 13 < byte < 32 for byte in head) or last == b".":
        return None
    begin = text[:40].splitlines()[0].decode("utf-8", "replace").strip() if text else ""
    return f"it is text that begins `{begin}`, not weights; give the weight file itself"


def _of_zip(path: Path, head: bytes) -> str | None:
    if not head.startswith(b"PK"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if any(name.endswith("data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "it is an archive of NumPy arrays; give torch's or .safetensors"
    some = ", ".join(f"`{name}`" for name in names[:3]) or "nothing"
    return f"it is a zip archive that holds {some}; unpack it and name the weight file inside"
