"""Training runs that a table needs: which of them are done, and the command that does the others.

A run is one `training/train.py` process with a run directory of its own. It is done when it has results and was run with the
configuration that is asked for now; one that was cut off goes on from its last checkpoint.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from common.errors import ConfigError, ProjectError
from common.rundir import RunDir

if TYPE_CHECKING:
    from training.config import Config

TRAIN = Path(__file__).parents[2] / "training" / "train.py"


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        title: the row of the table that it belongs to. detector: its YAML. overrides: `key=value` texts.
        run_dir: the run directory, of this run alone.
    """

    title: str
    detector: str
    seed: int
    overrides: tuple[str, ...]
    run_dir: Path

    @property
    def tested(self) -> bool:
        """Whether the run has results."""
        return RunDir(self.run_dir).results_file.exists()

    def config(self) -> Config:
        """Return the configuration that is asked for; ConfigError when it is none."""
        from training.config import load_config

        return load_config(self.detector, [*self.overrides, f"manualSeed={self.seed}"], quiet=True)


def command(job: Job, device: str | None = None, gpus: int = 1) -> list[str]:
    """Return the command line that trains and tests a job, with `gpus` processes where that is more than one."""
    line = [sys.executable, str(TRAIN)]
    if gpus > 1:
        line[1:] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus), str(TRAIN), "--ddp"]
    line += [
        "--detector_path",
        job.detector,
        "--log_dir",
        str(job.run_dir),
        "--seed",
        str(job.seed),
        "--resume",
        "auto",
    ]
    for text in job.overrides:
        line += ["--set", text]
    return line + (["--device", device] if device else [])


def is_done(job: Job) -> bool:
    """Return whether a job has results of the configuration asked for.

    Raises:
        ConfigError: its directory holds a run, finished or not, of another configuration; names the first key that differs.
    """
    from training.config import load_config

    kept = RunDir(job.run_dir).config
    if not kept.exists():
        return False
    before, now = (dict(_flat(config)) for config in (load_config(kept, quiet=True), job.config()))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"{job.run_dir} was run with {key}={before.get(key)}, and {key}={now.get(key)} is asked for now; "
                "delete that folder or choose another one with --out"
            )
    return job.tested


def _flat(config: Config) -> Iterator[tuple[str, Any]]:
    from training.config import BOOKKEEPING

    def walk(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            if isinstance(value, Mapping):
                yield from walk(f"{prefix}{key}.", value)
            else:
                yield f"{prefix}{key}", value

    return walk("", {k: v for k, v in config.model_dump(mode="json").items() if k not in BOOKKEEPING})


def execute(line: Sequence[str], log: TextIO) -> int:
    """Run a command, its output going to a file; return its exit code.

    Ctrl-C reaches the command as well, which ends with a checkpoint of its step: it is waited for, until Ctrl-C comes again.
    """
    program = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT)
    try:
        return program.wait()
    except KeyboardInterrupt:
        try:
            program.wait()
        finally:
            program.kill()
        raise


def run_missing(jobs: Sequence[Job], device: str | None = None, gpus: int = 1) -> None:
    """Train and test what is not done yet, one run after the other; the output goes into <run>/console.log.

    Raises:
        ConfigError: see `is_done`; asked of all jobs before the first is run. ProjectError: a run failed; says its last line.
    """
    from common.progress import Progress

    missing = [job for job in jobs if not is_done(job)]
    print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are done", flush=True)
    for job in Progress(missing, "runs", len(missing)):
        print(f"{job.title}, seed {job.seed}: {job.run_dir}", flush=True)
        job.run_dir.mkdir(parents=True, exist_ok=True)
        path = job.run_dir / "console.log"
        with open(path, "w", encoding="utf-8") as log:
            code = execute(command(job, device, gpus), log)
        if code:
            last = path.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no output"]
            raise ProjectError(f"`{job.title}` with seed {job.seed} failed: {last[0]} (see {path})")
