"""Whether a label of an index means real or fake: what `label_dict` says, else what the label's own ending says.

`label_dict` wins. A label that it does not know is understood where its meaning is plain, as the field writes it: it ends in
`_Real` or `_Fake`, in any case (`simswap_Fake`, `Mine_real`, `DFDCP_FakeA`, `simswap_Fake_ff`). Anything else is refused.
"""

import logging
import re
from collections.abc import Iterable, Mapping

from common.datasets import LEVELS, MADE_FROM
from common.errors import DataError

log = logging.getLogger("clipdeepfake.data")

# The end only: `real_esrgan` is a generator of fakes.
_ENDING = re.compile(
    rf".+[_-](?:(?P<real>real)|(?P<fake>fake)(?:[a-z]|\d+)?)(?:_(?:{'|'.join([*MADE_FROM, *LEVELS])}))?", re.IGNORECASE
)


def class_of(label: str, label_dict: Mapping[str, int]) -> int | None:
    """Return 0 (real), 1 (fake), or None where neither `label_dict` nor the label's ending tells."""
    if label in label_dict:
        return label_dict[label]
    found = _ENDING.fullmatch(label)
    if found is None:
        return None
    return {"real": 0, "fake": 1}[found.lastgroup or ""]


def _tell_what_was_read(names: set[str]) -> None:
    """A class that no file states is said, so that a name which means something else is seen."""
    for number, word in enumerate(("real", "fake")):
        if read := sorted(name for name in names if class_of(name, {}) == number):
            log.info("labels that label_dict lacks, %s by their ending: %s", word, ", ".join(read))


def check_labels(labels: Mapping[str, Iterable[str]], label_dict: Mapping[str, int]) -> None:
    """Refuse labels that mean nothing, all of them at once.

    Args:
        labels: dataset → the labels of its videos.

    Raises:
        DataError: names every such label, its dataset, and the lines to add.
    """
    unknown = {
        dataset: missing
        for dataset, names in labels.items()
        if (missing := [name for name in dict.fromkeys(names) if class_of(name, label_dict) is None])
    }
    if not unknown:
        _tell_what_was_read({name for each in labels.values() for name in each} - label_dict.keys())
        return
    names = list(dict.fromkeys(name for missing in unknown.values() for name in missing))
    said = "; ".join(
        f"{', '.join(f'`{name}`' for name in missing)} of the dataset {dataset}" for dataset, missing in unknown.items()
    )
    lines = f"`{names[0]}: 0` (real) or `{names[0]}: 1` (fake)"
    raise DataError(
        f"the label {said} is not in label_dict; add {lines} to label_dict in the YAML"
        if len(names) == 1
        else f"the labels {said} are not in label_dict; add a line for each to label_dict in the YAML: {lines}, and so on"
    )
