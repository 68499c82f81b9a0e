"""What is known of the field's datasets, read once from `datasets.yaml`; a dataset without an entry falls back on its own name.

A face swap has two identities: the *target*, in whose video and on whose head the result is seen, and the *source*, whose
face was put there. For reenactment (Face2Face, NeuralTextures) the source drives the expression. For a real video both are
the person shown. An index that states `target_id` or `source_id` wins over what a name tells; where neither knows, the identity
is unknown, which is -1 in a batch, and left out of every loss that needs it.

Names are unique within a *family* of datasets that show the same people, and written `<family>:<person>`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

RECORDS = Path(__file__).with_suffix(".yaml")
Identities = tuple[str | None, str | None]
UNKNOWN: Identities = (None, None)
_PERSON = re.compile(r"(.+)_person([2-9]|[1-9]\d+)", re.DOTALL)
_VERSION = re.compile(r"v\d+(?=_|$)")


@dataclass(frozen=True)
class Identity:
    """Regular expressions that read people out of names; they match a whole name.

    Attributes:
        real: of a real video's name, with the group `person`.
        fake: of a fake's, with the groups `target` and, where the name tells it, `source`.
        folder: found in the folder of a real video's frames, with the group `person`.
        target_family: the family that the targets are people of, if it is another one.
    """

    real: str | None = None
    fake: str | None = None
    folder: str | None = None
    target_family: str | None = None

    def read(self, video: str, folder: str) -> Identities:
        """Return (target, source) of a video; None where they are not told."""
        if self.fake and (found := re.fullmatch(self.fake, video, re.DOTALL)):
            people = found.groupdict()
            prefix = f"{self.target_family}:" if self.target_family else ""
            return prefix + people["target"], people.get("source")
        real = re.fullmatch(self.real, video, re.DOTALL) if self.real else None
        real = real or (re.search(self.folder, folder) if self.folder else None)
        return (real["person"], real["person"]) if real else UNKNOWN


@dataclass(frozen=True)
class Record:
    """A dataset's entry; what it leaves out follows from its name.

    Attributes:
        name: the usual name. also: further names, any of which its files may carry.
        family: datasets of one family show the same people and videos; one's own name where there are no others.
        further: regular expression of names without an entry that belong to the family.
        domain: what a detector trained on it has seen, in the leaderboard's sense; the family, if not said.
        home: the dataset in whose folder and LMDB it lies.
        begins: how the names of its folders begin, wherever people keep them.
        short: its name in the benchmark's table; None where that lacks it. columns: the compressions that have a column each; the
            first is meant where none is named.
        labels: label → 0 real, 1 fake. methods: names that have the labels `<method>_Real` and `<method>_Fake`, in rows.
        keeps_face: labels of fakes that show the target's own face (reenactment).
        counts: label → split → number of videos that were published; splits of which it is not known are left out.
        made_from: ending of a method's dataset (`simswap_ff`) → the family whose videos it was made from, with their real ones.
        identity: how a video's name tells its people; a family's first entry says it for all.
    """

    name: str
    also: tuple[str, ...] = ()
    family: str = ""
    further: str | None = None
    domain: str = ""
    home: str = ""
    begins: str | None = None
    short: str | None = None
    columns: tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    methods: tuple[list[str], ...] = ()
    keeps_face: tuple[str, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    made_from: Mapping[str, str] = field(default_factory=dict)
    identity: Identity | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the usual one first."""
        return (self.name, *self.also)


def _record(name: str, entry: Mapping[str, Any]) -> Record:
    lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    identity = Identity(**entry["identity"]) if "identity" in entry else None
    own = {**entry, **lists, "identity": identity, "family": entry.get("family", name)}
    return Record(**{"name": name, "home": name, "domain": own["family"], **own})


with open(RECORDS, encoding="utf-8") as _file:
    _content = yaml.load(_file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
LEVELS: tuple[str, ...] = tuple(_content["levels"])
SPLITS: tuple[str, ...] = tuple(_content["splits"])
SPLIT_WORDS: dict[str, str] = {**{split: split for split in SPLITS}, **_content["split_words"]}
DATASETS: tuple[Record, ...] = tuple(_record(name, entry) for name, entry in _content["datasets"].items())
_BY_NAME = {name: record for record in DATASETS for name in record.names}
_BY_SHORT = {record.short: record for record in DATASETS if record.short}
# Endings of datasets that were made from the videos of others, and hold their real ones.
MADE_FROM: dict[str, str] = {ending: family for record in DATASETS for ending, family in record.made_from.items()}
_LEVEL = re.compile(rf"(.+)_({'|'.join(LEVELS)})")
_MADE = re.compile(rf"(?P<method>.+)_(?P<ending>{'|'.join(MADE_FROM)})")


def split_level(dataset: str) -> tuple[str, str | None]:
    """Return (name, compression) of a dataset's name, which may end with one (`_c23`), else None."""
    found = _LEVEL.fullmatch(dataset)
    return (found[1], found[2]) if found else (dataset, None)


def record_of(dataset: str) -> Record | None:
    """Return the entry of a dataset under any of its names, with or without a compression; None where it has none."""
    return _BY_NAME.get(split_level(dataset)[0])


def plain_name(dataset: str) -> str:
    """Return a dataset's name without a compression at its end (`_c23`), the first of those that mean the same."""
    record = record_of(dataset)
    return record.name if record else split_level(dataset)[0]


def names_of(dataset: str) -> tuple[str, ...]:
    """Return all names of a dataset, the usual one first."""
    record = _BY_NAME.get(dataset)
    return record.names if record else (dataset,)


def other_names(dataset: str) -> tuple[str, ...]:
    """Return the further names of a dataset: `FFIW` is `FFIW-10K`."""
    return tuple(name for name in names_of(dataset) if name != dataset)


def home(dataset: str) -> str:
    """Return the dataset in whose folder and LMDB a dataset lies; itself, if nobody else's."""
    record = _BY_NAME.get(dataset)
    return dataset if record is None or record.home == record.name else record.home


@cache
def family(dataset: str) -> str:
    """Return the family of a dataset: within it a name means one person, and a video's name one video."""
    record = record_of(dataset)
    if record:
        return record.family
    base = split_level(dataset)[0]
    for known in DATASETS:
        if known.further and re.fullmatch(known.further, base):
            return known.family
    made = _MADE.fullmatch(base)
    return MADE_FROM[made["ending"]] if made else base


def domain(dataset: str) -> str:
    """Return what a detector trained on a dataset has seen, in the leaderboard's sense; it may go by its short name."""
    record = record_of(dataset) or _BY_SHORT.get(split_level(dataset)[0])
    return record.domain if record else family(dataset)


def person_name(video: str, person: int) -> str:
    """Return the name of what shows a video's person (from 1): the first has the video's own, the others `<video>_person2`, …"""
    return video if person == 1 else f"{video}_person{person}"


def split_person(name: str) -> tuple[str, int]:
    """Return (video, person) of a name that `person_name` gives."""
    found = _PERSON.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, 1)


def same_video_key(dataset: str, label: str, fake: bool, video: str) -> str:
    """Return `family/real/video` or `family/manipulation/video`: equal for one video, whatever its dataset is called.

    What a dataset adds to its labels is left out: Celeb-DF's version, DF40's one label for all methods. Several people of one
    video (`person_name`) are one video.
    """
    manipulation = _method(dataset) or _VERSION.sub("", label)
    return f"{family(dataset)}/{manipulation if fake else 'real'}/{split_person(video)[0]}"


@cache
def _method(dataset: str) -> str | None:
    made = _MADE.fullmatch(split_level(dataset)[0])
    return made["method"] if made else None


def identities(dataset: str, video: str, folder: str = "") -> Identities:
    """Return (target, source) of a video, None where its name does not tell.

    Args:
        dataset: name of the index. video: name of the video. folder: where its frames lie, for datasets that name the
            person there.

    They are those of a video's first person; who else is seen in it is not told.
    """
    rule = _rule(dataset)
    return rule.read(video, folder) if rule and split_person(video)[1] == 1 else UNKNOWN


def names_people(dataset: str) -> bool:
    """Return whether the names of a dataset's videos tell who is seen."""
    return _rule(dataset) is not None


@cache
def _rule(dataset: str) -> Identity | None:
    own = family(dataset)
    return next((record.identity for record in DATASETS if record.family == own and record.identity), None)


def default_labels() -> dict[str, int]:
    """Return every known label → 0 real, 1 fake: what `label_dict` starts from."""
    found: dict[str, int] = {}
    for record in DATASETS:
        found |= record.labels
        for method in (name for row in record.methods for name in row):
            found |= zip(method_labels(method), (0, 1))
    return found


def labels_of(dataset: str) -> tuple[str, ...]:
    """Return the labels of a known dataset in their order."""
    return tuple(_BY_NAME[dataset].labels)


def labels_that_keep_the_face(dataset: str) -> tuple[str, ...]:
    """Return the labels of a known dataset whose fakes show the target's own face (reenactment)."""
    return _BY_NAME[dataset].keeps_face


def method_labels(method: str) -> tuple[str, str]:
    """Return the labels (real, fake) of a manipulation that is a dataset of its own, as in DF40."""
    return f"{method}_Real", f"{method}_Fake"


def columns_of(record: Record) -> tuple[str, ...]:
    """Return a dataset's columns in the benchmark's table."""
    levels = tuple(f"{record.short}_{level}" for level in record.columns)
    return levels or ((record.short,) if record.short else ())


def short_name(dataset: str) -> str:
    """Return the benchmark table's name of a test set; its own where it has none there."""
    name, level = split_level(dataset)
    record = _BY_NAME.get(name)
    if record is None or not record.short:
        return dataset
    if record.columns:
        level = level or record.columns[0]
        return f"{record.short}_{level}" if level in record.columns else dataset
    return dataset if level else record.short
