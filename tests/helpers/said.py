"""What a program said to its user, apart from what libraries print of themselves."""


def only_error(stderr: str) -> str:
    """Return the one line that begins with `error:`; libraries may warn beside it, a traceback may not stand there."""
    assert "Traceback" not in stderr, stderr
    (sentence,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    return sentence
