"""One look for every figure: palette, sizes, saving. Nothing here touches matplotlib's global state."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito (2008): told apart with every common colour-vision deficiency; yellow is left out, it is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
REAL, FAKE, NEUTRAL = PALETTE[0], PALETTE[1], "#767676"
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

RC: dict[Any, Any] = {
    "font.size": 9,
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # real fonts in the PDF, as publishers ask
    "svg.fonttype": "none",
    "svg.hashsalt": "figures",  # equal figures give equal files
    "image.interpolation": "nearest",
}


def line_style(number: int) -> dict:
    """Return colour and dashes of line `number`: 28 lines can be told apart."""
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number // len(PALETTE) % len(DASHES)]}


def marker(number: int) -> str:
    """Return the marker of series `number`."""
    return MARKERS[number % len(MARKERS)]


def map_title(name: str) -> str:
    """Return a map's name for readers; a detector's own maps have the names of its code."""
    return {"boundary": "Boundary Mining's W", "fft_energy": "FFT energy", "dwt_energy": "DWT energy"}.get(name, name)


@contextmanager
def figure(width: float = 4.6, height: float = 3.6, rows: int = 1, columns: int = 1, **options) -> Iterator[tuple]:
    """Yield a figure and its axes (as `subplots` gives them), with the style in force for drawing and saving.

    Args:
        width, height: inches.
        options: passed on to `Figure.subplots`.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC):
        drawing = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawing)
        yield drawing, drawing.subplots(rows, columns, **options)


def save(drawing: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` and `<stem>.pdf`, atomically; call it inside the `figure` block. Return both paths."""
    from common.io import atomic_path

    paths = [stem.parent / f"{stem.name}.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        with atomic_path(path) as temporary:
            # A date in the file would make every run a new file.
            drawing.savefig(temporary, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    return paths


def data_uri(drawing: Figure) -> str:
    """Return the figure as an SVG `data:` address for an HTML page; call it inside the `figure` block."""
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
