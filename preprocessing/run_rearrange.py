"""The indexing of one dataset: find it, build its index, write the files, say what was left out."""

from pathlib import Path

from common.errors import ConfigError
from common.io import make_folder
from preprocessing.frame_index import IndexReport, build_index, write_indexes
from preprocessing.layouts import find_layout
from preprocessing.options import dataset_folder
from preprocessing.output_lock import hold
from preprocessing.run_preprocess import chosen_groups, say


def rearrange(
    dataset_name: str,
    dataset_root_path: str,
    output_file_path: str,
    layout: str | None = None,
    comp: str | None = None,
    perturbation: str | None = None,
    as_deepfakebench: bool = False,
    check: bool = False,
) -> IndexReport:
    """Index a dataset and write `<dataset>.json`, its companions and their coverage; returns what was written.

    With `check` nothing is written: it says how many videos of each label and split are here, and what is missing.

    Raises:
        ConfigError: an option is wrong. DataError: no frames, or a split file is missing.
    """
    if not dataset_name:
        raise ConfigError("dataset_name is not set; give --dataset_name, for example FaceForensics++")
    if check and as_deepfakebench:
        raise ConfigError("--check counts what our own index holds; leave --as-deepfakebench out")
    if not output_file_path:
        raise ConfigError("output_file_path is not set; give --output_file_path, the folder for the JSON index")
    rules = find_layout(dataset_name, layout)
    folder = rules.folder(dataset_name)
    root = dataset_folder(dataset_root_path, folder, rules.recognises)
    say(f"dataset: {root}")
    groups = chosen_groups(rules, root, dataset_name, comp, perturbation)
    given = str(dataset_root_path).rstrip("/")
    prefix = f"{given}/{folder}" if (Path(given) / folder).is_dir() else given
    given_prefix = prefix if as_deepfakebench else None
    report = build_index(rules, root, dataset_name, groups, given_prefix, as_deepfakebench, may_be_empty=check)
    if check:
        for line in [*report.counted, *(f"note: {note}" for note in report.summary())]:
            say(line)
        say("some expected videos are missing" if report.missing else "every expected video has frames")
        return report
    output = make_folder(Path(output_file_path).expanduser(), "--output_file_path")
    busy = f"another rearrange.py is writing {dataset_name}'s index in {output} now; wait for it"
    # The index and its companions are of one run.
    with hold(output / f".{dataset_name.replace('/', '_')}.lock", busy, "--output_file_path"):
        paths = write_indexes(report, output)
    for note in report.summary():
        say(f"note: {note}")
    for line in report.missing:
        say(f"coverage: {line}")
    people = f" and {report.people} more people of them" if report.people else ""
    say(f"{report.videos} videos{people}, {report.frames} frames -> {', '.join(str(path) for path in paths)}")
    return report
