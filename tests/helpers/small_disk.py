"""A quota's double: a command for which the kernel lets no file grow beyond a number of bytes, as a full disk would."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def on_small_disk(limit: int, *words: object) -> subprocess.CompletedProcess:
    """Run a Python script of the project with its arguments where files are at most `limit` bytes long."""
    command = ["prlimit", f"--fsize={limit}", sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
