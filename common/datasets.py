"""Whose head and whose face a video shows, read from its name, dataset by dataset.

A face swap has two identities: the *target*, in whose video and on whose head the result is seen, and the *source*, whose
face was put there. For reenactment (Face2Face, NeuralTextures) the source drives the expression. For a real video both are
the person shown. An index that states `target_id` or `source_id` wins over these rules; where neither knows, the identity is
unknown, which is -1 in a batch, and left out of every loss that needs it.

Names are unique within a *family* of datasets that show the same people, and written `<family>:<person>`.

==================== ============================================================================ =======================
family               names                                                                         origin of the rule
==================== ============================================================================ =======================
FaceForensics++      real `033`; fake `033_097` = target_source. One person a video, so the         naming given with the
(FF-*, FaceShifter,  video's number is the person. FaceShifter was made on the same pairs, DF40's   dataset's download page
*_ff of DF40)        methods on the same videos.
DeepFakeDetection    real `01__scene`; fake `01_02__scene__code` = target_source; numbers are       same page, section on
                     paid actors, not the YouTube videos of FaceForensics++.                        Google's actors
Celeb-DF (v1, v2,    real `id1_0001`; fake `id1_id2_0003` = original_swapped; YouTube-real          the authors' answer to
*_cdf of DF40)       (`00123`) shows other people, who have no name.                                a question on their page
DeeperForensics-1.0  fake `033_W101` = target (a FaceForensics++ video) and source (a paid          the dataset's readme
                     actor); real: the actor's folder under `source_videos`.
DFDCP                real `1001_A…`; fake `1001_1002_A…`, taken as target_source (the order of      `dataset.json` of the
                     `target_id`, `swapped_id` in its `dataset.json`).                              preview release
UADFV                real `0001`; fake `0001_fake` on the head of `0001`; the source is not told.   the file names
DFDC                 random letters; its metadata tells the original video, not the person.         none
==================== ============================================================================ =======================
"""

import re
from collections.abc import Callable

Identities = tuple[str | None, str | None]
UNKNOWN: Identities = (None, None)
FFPP = frozenset({"FaceForensics++", "FaceShifter", "FF-DF", "FF-F2F", "FF-FS", "FF-NT", "FF-FH", "FF-SH"})
_LEVEL = re.compile(r"_(c23|c40|raw)$")
# DF40's datasets, `<method>_ff` and `<method>_cdf`, were made from the videos of two others and hold their real ones.
_DF40 = re.compile(r"(?P<method>.+)_(?P<domain>ff|cdf)")
_DOMAINS = {"ff": "FaceForensics++", "cdf": "Celeb-DF"}
_VERSION = re.compile(r"v\d+(?=_|$)")


# Names of one dataset, any of which its files may carry.
_ONE_DATASET = (("FFIW-10K", "FFIW"),)


def plain_name(dataset: str) -> str:
    """Return a dataset's name without a compression at its end (`_c23`), the first of those that mean the same."""
    base = _LEVEL.sub("", dataset)
    return next((names[0] for names in _ONE_DATASET if base in names), base)


def other_names(dataset: str) -> tuple[str, ...]:
    """Return the further names of a dataset: `FFIW` is `FFIW-10K`."""
    return next((tuple(n for n in names if n != dataset) for names in _ONE_DATASET if dataset in names), ())


def family(dataset: str) -> str:
    """Return the family of a dataset: within it a name means one person, and a video's name one video."""
    base = plain_name(dataset)
    if base in FFPP:
        return "FaceForensics++"
    if base.startswith("Celeb-DF"):
        return "Celeb-DF"
    derived = _DF40.fullmatch(base)
    return _DOMAINS[derived["domain"]] if derived else base


def same_video_key(dataset: str, label: str, fake: bool, video: str) -> str:
    """Return `family/real/video` or `family/manipulation/video`: equal for one video, whatever its dataset is called.

    What a dataset adds to its labels is left out: Celeb-DF's version, DF40's one label for all methods.
    """
    derived = _DF40.fullmatch(_LEVEL.sub("", dataset))
    manipulation = derived["method"] if derived else _VERSION.sub("", label)
    return f"{family(dataset)}/{manipulation if fake else 'real'}/{video}"


def identities(dataset: str, video: str, folder: str = "") -> Identities:
    """Return (target, source) of a video, None where its name does not tell.

    Args:
        dataset: name of the index. video: name of the video. folder: where its frames lie, for datasets that name the
            person there.
    """
    rule = _RULES.get(family(dataset))
    return rule(video, folder) if rule else UNKNOWN


def _ffpp(video: str, folder: str) -> Identities:
    found = re.fullmatch(r"(\d{3})(?:_(\d{3}))?", video)
    return (found.group(1), found.group(2) or found.group(1)) if found else UNKNOWN


def _dfd(video: str, folder: str) -> Identities:
    found = re.match(r"(\d{2})(?:_(\d{2}))?__", video)
    return (found.group(1), found.group(2) or found.group(1)) if found else UNKNOWN


def _celeb(video: str, folder: str) -> Identities:
    found = re.fullmatch(r"(id\d+)(?:_(id\d+))?_\d+", video)
    return (found.group(1), found.group(2) or found.group(1)) if found else UNKNOWN


def _deeper(video: str, folder: str) -> Identities:
    fake = re.fullmatch(r"(\d{3})_([MW]\d{3})", video)
    if fake:
        return f"FaceForensics++:{fake.group(1)}", fake.group(2)
    actor = re.search(r"source_videos/([MW]\d{3})(?:/|$)", folder)
    return (actor.group(1), actor.group(1)) if actor else UNKNOWN


def _dfdcp(video: str, folder: str) -> Identities:
    found = re.match(r"(\d{3,7})(?:_(\d{3,7}))?_", video)
    return (found.group(1), found.group(2) or found.group(1)) if found else UNKNOWN


def _uadfv(video: str, folder: str) -> Identities:
    found = re.fullmatch(r"(\d{4})(_fake)?", video)
    return (found.group(1), None if found.group(2) else found.group(1)) if found else UNKNOWN


_RULES: dict[str, Callable[[str, str], Identities]] = {
    "FaceForensics++": _ffpp,
    "Celeb-DF": _celeb,
    "DeepFakeDetection": _dfd,
    "DeeperForensics-1.0": _deeper,
    "DFDCP": _dfdcp,
    "UADFV": _uadfv,
}
