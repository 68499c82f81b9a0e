"""The field's table as data: detectors by test sets, averages within and across domains, how often in the top three."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.datasets import DATASETS, columns_of, domain, short_name
from common.rundir import RunDir, has_auc
from common.standing import Standing, is_few, standing
from common.wording import about_training

PUBLISHED = Path(__file__).parents[1] / "reference" / "published_auc.csv"
SOURCE = "arXiv 2307.01426"
OURS = "this repository"
TRAINED = "FaceForensics++"  # what the benchmark trained on, and a run that does not say
# The benchmark's columns in its order, and those of them that it calls within-domain.
ORDER = tuple(column for record in DATASETS for column in columns_of(record))
WITHIN = tuple(column for record in DATASETS if record.domain == TRAINED for column in columns_of(record))
DOMAINS = ("within-domain", "cross-domain")
Interval = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class Entry:
    """One detector: AUC (value, low, high) by test set, and where the figures come from.

    Attributes:
        seeds: training runs behind a figure; of several it is their mean, and low and high are the mean ∓ their deviation.
        within: test sets of the domain that it was trained in, by their short names.
        stands: what the figures of a test set stand on, of our own runs. few: test sets with so few videos of a class that the
            interval comes first.
    """

    name: str
    figures: dict[str, Interval]
    source: str = OURS
    kind: str = ""
    seeds: int = 1
    within: frozenset[str] = frozenset(WITHIN)
    stands: dict[str, Standing] = field(default_factory=dict)
    few: frozenset[str] = frozenset()


@dataclass
class Table:
    """Entries and the columns' order.

    Attributes:
        level: `frame` or `video`.
        within, cross: test sets of the training domain of every row, and those of no row's.
        mixed: test sets that are within the training domain of some rows, by what each was trained on.
        notes: sentences for under the table.
    """

    level: str
    entries: list[Entry]
    within: list[str]
    cross: list[str]
    mixed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _top: dict[str, set[str]] = field(default_factory=dict)

    @property
    def datasets(self) -> list[str]:
        """Test sets in the order of the columns."""
        return self.within + self.mixed + self.cross

    @property
    def summary(self) -> list[str]:
        """The summary columns: an average and a top-three count for each domain that has test sets."""
        having = [domain for domain, names in zip(DOMAINS, (self.within, self.cross)) if names or self.mixed]
        return [f"{what} {domain}" for domain in having for what in ("Avg.", "Top3")]

    def members(self, entry: Entry, column: str) -> list[str]:
        """Return the test sets that a summary column is about in the row of an entry, by what that was trained on."""
        wanted = column.endswith(DOMAINS[0])
        return [name for name in self.datasets if (name in entry.within) == wanted]

    def value(self, entry: Entry, column: str) -> float | int | None:
        """Return an entry's figure in a column; None where it has none.

        An average is over all test sets of the domain, and None when one is missing: averages over different sets do not
        compare. So is that of a domain without test sets. Top3 counts the sets on which the entry is among the three best.
        """
        if column in self.datasets:
            return entry.figures[column][0] if column in entry.figures else None
        members = self.members(entry, column)
        if not members:
            return None
        if column.startswith("Top3"):
            return sum(entry.name in self.top_three(name) for name in members)
        values = [entry.figures[name][0] for name in members if name in entry.figures]
        return sum(values) / len(values) if len(values) == len(members) else None

    def top_three(self, dataset: str) -> set[str]:
        """Return the names of the three best on a test set; ties with the third are in."""
        if dataset not in self._top:
            having = [(e.figures[dataset][0], e.name) for e in self.entries if dataset in e.figures]
            limit = sorted((value for value, _ in having), reverse=True)[:3]
            self._top[dataset] = {name for value, name in having if value >= limit[-1]} if limit else set()
        return self._top[dataset]

    def is_best(self, entry: Entry, column: str) -> bool:
        """Return whether no other entry has a better figure in this column; a summary's must be over the same test sets."""
        own = self.value(entry, column)
        rivals = self.entries
        if column in self.summary:
            rivals = [e for e in rivals if self.members(e, column) == self.members(entry, column)]
        others = [value for e in rivals if (value := self.value(e, column)) is not None]
        return own is not None and len(others) > 1 and own == max(others) and own > 0


def run_entry(source: RunDir, name: str, level: str) -> Entry:
    """Return the AUCs of a run at a level; a test set of one class has none."""
    figures, stands, few = {}, {}, set()
    for dataset, metrics in source.datasets.items():
        if not has_auc(metrics):
            continue
        auc = metrics[level]["auc"]
        figures[short_name(dataset)] = (auc["value"], auc.get("low"), auc.get("high"))
        stands[short_name(dataset)] = standing(metrics)
        if is_few(metrics):
            few.add(short_name(dataset))
    note = OURS if source.data_note is None else f"{OURS}; {about_training(source.data_note)}"
    return Entry(name, figures, note, within=_domain_of([source]), stands=stands, few=frozenset(few))


def seeds_entry(sources: Sequence[RunDir], name: str, level: str) -> Entry:
    """Return one detector trained with several seeds as one entry: mean AUC, and mean ∓ standard deviation; see `Entry`.

    A test set that not every run has is left out. One run alone is `run_entry`, with its interval over videos.
    """
    entries = [run_entry(source, name, level) for source in sources]
    if len(entries) == 1:
        return entries[0]
    figures: dict[str, Interval] = {}
    for dataset in entries[0].figures:
        if all(dataset in entry.figures for entry in entries):
            values = [entry.figures[dataset][0] for entry in entries]
            mean, deviation = statistics.fmean(values), statistics.stdev(values)
            figures[dataset] = (mean, mean - deviation, mean + deviation)
    first = entries[0]
    within = _domain_of(sources)
    return Entry(name, figures, first.source, seeds=len(entries), within=within, stands=first.stands, few=first.few)


def within_of(sources: Sequence[RunDir]) -> list[str]:
    """Return the test sets of the domain that all these runs were trained in: what they were trained on, and its family.

    The parts and compressions of FaceForensics++ are one domain, and so are the versions of Celeb-DF; FaceShifter is none of
    FaceForensics++, as in the benchmark's table.
    """
    named = [run.summary.get("train_dataset") or [] for run in sources]
    trained = [{domain(name) for name in ([names] if isinstance(names, str) else names)} for names in named]
    names = dict.fromkeys([*WITHIN, *(name for run in sources for name in run.datasets)])
    return [name for name in names if all(domain(name) in domains for domains in trained)]


def _domain_of(sources: Sequence[RunDir]) -> frozenset[str]:
    return frozenset(short_name(name) for name in within_of(sources))


def published_entries() -> list[Entry]:
    """Return the benchmark's fifteen detectors, trained on FaceForensics++ c23; frame-level AUC without intervals."""
    with open(PUBLISHED, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Entry(row["Detector"], {name: (float(row[name]), None, None) for name in ORDER}, SOURCE, row["Type"])
        for row in rows
    ]


def build_table(
    entries: Sequence[Entry], level: str, within: Sequence[str] | None = None, notes: Sequence[str] = ()
) -> Table:
    """Sort test sets into columns: known ones in the benchmark's order, others after them by name.

    Args:
        within: the test sets of the training domain of every row; None: each row's own, by what it was trained on.
        notes: sentences for under the table.
    """
    if within is not None:
        own = frozenset(short_name(name) for name in within)
        entries = [replace(entry, within=own) for entry in entries]
    present = {name for entry in entries for name in entry.figures}
    ordered = [name for name in ORDER if name in present] + sorted(present - set(ORDER))
    counts = {name: sum(name in entry.within for entry in entries) for name in ordered}
    return Table(
        level,
        list(entries),
        within=[name for name in ordered if counts[name] == len(entries)],
        cross=[name for name in ordered if not counts[name]],
        mixed=[name for name in ordered if 0 < counts[name] < len(entries)],
        notes=list(notes),
    )
