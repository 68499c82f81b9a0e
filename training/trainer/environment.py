"""What a result depends on besides the configuration: code, libraries, machine."""

import platform
import subprocess
from pathlib import Path


def describe_environment() -> dict[str, str]:
    """Return the commit, the libraries' versions and the machine, as text."""
    import torch

    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})",
        "system": f"{platform.system()} {platform.release()}",
    }


def _commit() -> str:
    """Return the checkout's commit, marked where files differ from it; `unknown` outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True)
        if head.returncode:
            return "unknown"
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True)
        return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
    except OSError:
        return "unknown"
