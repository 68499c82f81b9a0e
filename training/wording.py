"""Sentences that several commands and pages say, so that they say the same."""


def about_training(note: str | None) -> str:
    """Return a run's `data_note` as what it is, a sentence on the training data; empty where there is none.

    Unsaid, "nobody in them exists" would be read of the videos under judgement.
    """
    return f"About the training data: {note}" if note else ""
