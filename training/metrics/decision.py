"""When a fake probability is called fake: one rule for the accuracy of a test and for the verdict on a user's file."""

from typing import Any

HALF = 0.5  # the threshold of whoever has chosen none


def called_fake(prob: Any, threshold: float = HALF) -> Any:
    """Return whether `prob`, a number or an array, is called fake: above the threshold, not at it.

    So half is real, as by the argmax of two logits, which takes the first of two equal ones, and as the field counts.
    """
    return prob > threshold
