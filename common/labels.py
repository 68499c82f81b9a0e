"""The words by which annotations and tables of scores say real and fake."""

import math
from typing import Any

_WORDS = {
    "real": ("real", "original", "genuine", "authentic", "bonafide", "pristine", "false"),
    "fake": ("fake", "deepfake", "spoof", "manipulated", "forged", "swapped", "synthetic", "true"),
}
_KIND_OF = {word: kind for kind, words in _WORDS.items() for word in words}


def find_kind(value: Any) -> str | None:
    """Return `real` or `fake` where a label plainly means it, else None.

    Understood in any case: real and fake and a few words that mean the same; 0 and 1 as text or number (`0.0`); false and true,
    which are 0 and 1.
    """
    text = str(value).strip().lower()
    if text in _KIND_OF:
        return _KIND_OF[text]
    try:
        number = float(text)
    except ValueError:
        return None
    return {0.0: "real", 1.0: "fake"}.get(number) if math.isfinite(number) else None
