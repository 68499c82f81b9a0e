"""A stand-in for a native decoder that takes its process down."""

import os
import signal

from preprocessing.extraction import Job, Outcome, process_video


def crash_on_bad(job: Job) -> Outcome:
    """Do the video, or die when it is called `bad`."""
    if job.name == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    return process_video(job)
