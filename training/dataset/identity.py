"""Whose face and whose head a video shows, read from its name, dataset by dataset.

Two identities belong to a face swap: the *target*, on whose head and in whose video the result is seen, and the *source*,
whose face was put there. For a real video both are the person shown. An index file that states `target_id` or `source_id`
wins over these rules; where neither knows, the identity is unknown and left out of every loss that needs it.
"""

import re
from collections.abc import Callable

Identities = tuple[str | None, str | None]

# FaceForensics++ and its relatives number their 1000 YouTube videos, one person each; a fake is `<target>_<source>`.
FFPP = {"FaceForensics++", "FaceShifter", "FF-DF", "FF-F2F", "FF-FS", "FF-NT", "FF-FH", "FF-SH"}


def family(dataset: str) -> str:
    """Return the dataset within which identity names mean the same person."""
    base = re.sub(r"_(c23|c40|raw)$", "", dataset)
    if base in FFPP:
        return "FaceForensics++"
    if base.startswith("Celeb-DF"):
        return "Celeb-DF"
    return base


def identities(dataset: str, video: str) -> Identities:
    """Return (target, source) of a video, None where the name does not tell."""
    rule = _RULES.get(family(dataset))
    return rule(video) if rule else (None, None)


def _ffpp(video: str) -> Identities:
    found = re.fullmatch(r"(\d{3})(?:_(\d{3}))?", video)
    if not found:
        return None, None
    target, source = found.groups()
    return target, source or target


def _celeb(video: str) -> Identities:
    # Real: `idA_nnnn`. Fake: `idA_idB_nnnn`, idA's video with idB's face (the Celeb-DF paper's naming). YouTube-real
    # videos (`00123`) show people who are not among the 59 subjects and have no name.
    fake = re.fullmatch(r"(id\d+)_(id\d+)_\d+", video)
    if fake:
        return fake.group(1), fake.group(2)
    real = re.fullmatch(r"(id\d+)_\d+", video)
    return (real.group(1), real.group(1)) if real else (None, None)


def _dfd(video: str) -> Identities:
    # DeepFakeDetection: real `01__scene`, fake `01_02__scene__code`: actor 01's video with actor 02's face.
    fake = re.match(r"(\d{2})_(\d{2})__", video)
    if fake:
        return fake.group(1), fake.group(2)
    real = re.match(r"(\d{2})__", video)
    return (real.group(1), real.group(1)) if real else (None, None)


def _deeper(video: str) -> Identities:
    # DeeperForensics-1.0 puts the face of paid actors (`M101`, `W003`) on FaceForensics++ targets: `<target>_<actor>`.
    fake = re.fullmatch(r"(\d{3})_([MW]\d{3})", video)
    return (f"FaceForensics++:{fake.group(1)}", fake.group(2)) if fake else (None, None)


def _dfdcp(video: str) -> Identities:
    # DFDC preview: `<target>_<source>_<take…>` for fakes, `<person>_<take…>` for originals; subjects have 3-7 digits.
    fake = re.match(r"(\d{3,7})_(\d{3,7})_", video)
    if fake:
        return fake.group(1), fake.group(2)
    real = re.match(r"(\d{3,7})_", video)
    return (real.group(1), real.group(1)) if real else (None, None)


_RULES: dict[str, Callable[[str], Identities]] = {
    "FaceForensics++": _ffpp,
    "Celeb-DF": _celeb,
    "DeepFakeDetection": _dfd,
    "DeeperForensics-1.0": _deeper,
    "DFDCP": _dfdcp,
}
