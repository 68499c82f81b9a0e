"""A detector as one graph, uint8 images (or clips) → fake probability, normalisation inside: `torch.export` and ONNX."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, DataError
from common.io import atomic_path, write_json
from prediction.judge import Judge
from prediction.operating_point import LEVELS, OperatingPoint, limits_as_json, limits_from_json
from prediction.predictor import Predictor
from prediction.sight import Sight

TOLERANCE = 1e-4
ONNX, PROGRAM, INT8, CARD, PARITY = "detector.onnx", "detector.pt2", "detector.int8.onnx", "export.json", "parity.json"
BATCHES = (1, 2, 3)
"""Sizes at which an exported graph is compared with its detector."""
_MISSING = "{} needs the package {}; run `pip install -e '.[export]'`"


def trial(judge: Judge, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return noise of the network's input, `(N, 3, H, W)` or `(N, T, 3, H, W)`, of several contrasts."""
    shape = (count, *((judge.clip_size,) if judge.clip_size else ()), 3, judge.resolution, judge.resolution)
    rng = np.random.default_rng(seed)
    contrast = rng.uniform(0.1, 1, (count, *[1] * (len(shape) - 1)))
    return (rng.integers(0, 256, shape) * contrast).astype(np.uint8)


def program_of(predictor: Predictor) -> Any:
    """Return a detector as an exported program with a batch of any size.

    Raises:
        ConfigError: one of its operators cannot be exported; the message says which.
    """
    import torch

    class Whole(torch.nn.Module):
        def __init__(self, detector: Any):
            super().__init__()
            self.detector = detector

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.detector(self.detector.prepare({"image": image}), inference=True)["prob"]

    example = torch.from_numpy(trial(predictor, 2))
    batch = torch.export.Dim("batch", min=1, max=4096)
    whole = Whole(predictor.detector).eval()
    fast = torch.backends.mha.get_fastpath_enabled()
    # Attention's fast path for inference is one operator that fixes the batch, and has no ONNX form.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            return torch.export.export(whole, (example,), dynamic_shapes={"image": {0: batch}}, strict=False)
    except Exception as error:  # torch raises whatever its tracer meets
        raise ConfigError(f"{predictor.name} cannot be exported: {cause(error)}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def cause(error: BaseException) -> str:
    """Return the first sentence of what torch says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def write_onnx(program: Any, name: str, path: Path) -> None:
    """Write a program as ONNX; ConfigError where an operator has no ONNX form, or the packages are not there."""
    import torch

    for package in ("onnx", "onnxscript", "onnxruntime"):
        _needed("ONNX", package)
    try:
        made = torch.onnx.export(program, dynamo=True, verbose=False)
    except Exception as error:
        raise ConfigError(f"{name} cannot be written as ONNX: {cause(error.__cause__ or error)}") from error
    assert made is not None
    with atomic_path(path) as temporary:
        made.save(str(temporary))


def _needed(what: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(_MISSING.format(what, package)) from error


def compare(judge: Judge, other: Any) -> float:
    """Return the largest difference of two judges' probabilities over batches of several sizes."""
    most = 0.0
    for size in BATCHES:
        images = trial(judge, size, size)
        most = max(most, float(np.abs(judge.probabilities(images) - other(images)).max()))
    return most


def seconds(call: Any, images: NDArray[np.uint8], repeats: int = 3) -> float:
    """Return the median seconds of a call, after one that does not count."""
    taken = []
    call(images)
    for _ in range(repeats):
        start = time.perf_counter()
        call(images)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def export(predictor: Predictor, folder: Path, int8: bool = False) -> dict[str, Any]:
    """Write a detector's program and ONNX graph, compare both with it, and write what came out beside them.

    Returns:
        The content of `parity.json`: by file the largest difference of a probability and milliseconds for a batch of 3.

    Raises:
        ConfigError: an operator cannot be exported, or a graph answers otherwise by more than 1e-4; then no card is written, so
            that nothing predicts with it.
    """
    import torch

    program = program_of(predictor)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    with atomic_path(folder / PROGRAM) as temporary:
        torch.export.save(program, str(temporary.with_suffix(".pt2")))
        temporary.with_suffix(".pt2").replace(temporary)
    write_onnx(program, predictor.name, folder / ONNX)
    module = program.module()

    def run_program(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return module(torch.from_numpy(images)).double().numpy()

    images = trial(predictor, max(BATCHES))
    session = Session(folder / ONNX)
    calls = {"detector": predictor.probabilities, PROGRAM: run_program, ONNX: session}
    if int8:
        write_int8(folder / ONNX, folder / INT8)
        calls[INT8] = Session(folder / INT8)
    told: dict[str, Any] = {
        name: {"difference": compare(predictor, call), "ms": 1000 * seconds(call, images)}
        for name, call in calls.items()
    }
    found = {"tolerance": TOLERANCE, "batches": list(BATCHES), "files": told}
    write_json(folder / PARITY, found)
    for name in (PROGRAM, ONNX):  # int8 rounds, which the file tells and nothing forbids
        if not told[name]["difference"] <= TOLERANCE:
            raise ConfigError(
                f"{folder / name} answers otherwise than {predictor.name} by {told[name]['difference']:.2g}, more than "
                f"{TOLERANCE:g}; it is not to be used"
            )
    write_json(folder / CARD, card(predictor))
    return found


def write_int8(source: Path, target: Path) -> None:
    """Write a graph with its matrices in 8 bits; activations are scaled as they come."""
    _needed("int8", "onnx")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with atomic_path(target) as temporary:
        quantize_dynamic(source, temporary, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])


def card(predictor: Predictor) -> dict[str, Any]:
    """Return what a graph alone does not tell, and prediction needs."""
    points = {
        level: asdict(point) | {"limits": None if point.limits is None else limits_as_json(point.limits)}
        for level, point in predictor.points.items()
    }
    return {
        "detector": predictor.name,
        "weights": str(predictor.weights),
        "trained_on": predictor.trained_on,
        "data_note": predictor.data_note,
        "points": points,
        "remark": predictor.remark,
        "resolution": predictor.resolution,
        "clip_size": predictor.clip_size,
        "batch_size": predictor.batch_size,
        "finder": predictor.sight.finder,
        "max_pixels": predictor.sight.max_pixels,
    }


class Session:
    """A graph in ONNX Runtime on the CPU."""

    def __init__(self, path: Path):
        runtime = _needed("--onnx", "onnxruntime")
        try:
            self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise DataError(f"{path} cannot be loaded ({cause(error)}); export it again") from error
        self._name = self._session.get_inputs()[0].name

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return self._session.run(None, {self._name: np.ascontiguousarray(images)})[0].astype(np.float64)


class OnnxPredictor(Judge):
    """A detector that `export` wrote, at work without torch.

    Args:
        source: the folder of an export, or one of its `.onnx` files. rendered_files: as in `Predictor`.

    Raises:
        DataError: there is no such export, or it is damaged. ConfigError: ONNX Runtime is not installed.
    """

    def __init__(self, source: str | Path, rendered_files: bool | None = None):
        from common.io import read_json

        path = Path(source) / ONNX if Path(source).is_dir() else Path(source)
        if not path.is_file():
            raise DataError(f"there is no {path}; `clipdeepfake export` writes one")
        told = read_json(path.parent / CARD)
        try:
            self.name, self.trained_on, self.data_note = told["detector"], told["trained_on"], told["data_note"]
            self.points = {level: _point(told["points"][level]) for level in LEVELS}
            self._sizes = (int(told["resolution"]), told["clip_size"], int(told["batch_size"]))
            self.remark, self.sight = told["remark"], Sight(told["finder"], told["max_pixels"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path.parent / CARD} is no card of an export ({error}); export again") from error
        self.weights, self.rendered_files = path, rendered_files
        self._session = Session(path)

    @property
    def resolution(self) -> int:
        """Side of the network's input in pixels."""
        return self._sizes[0]

    @property
    def clip_size(self) -> int | None:
        """Faces of a clip; None for a detector of images."""
        return self._sizes[1]

    @property
    def batch_size(self) -> int:
        """Images or clips at once."""
        return self._sizes[2]

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the fake probability `(N,)` of images `(N, 3, H, W)` or clips `(N, T, 3, H, W)`."""
        parts = [
            self._session(images[start : start + self.batch_size]) for start in range(0, len(images), self.batch_size)
        ]
        return np.concatenate(parts)


def _point(stored: dict[str, Any]) -> OperatingPoint:
    limits = stored["limits"]
    return OperatingPoint(**{**stored, "limits": None if limits is None else limits_from_json(limits)})


def told(found: dict[str, Any]) -> str:
    """Return a parity file as a table."""
    lines = [f"{'file':<20}{'difference':>12}{'ms':>9}   (largest of a probability; a batch of {max(BATCHES)}, CPU)"]
    lines += [f"{name:<20}{row['difference']:>12.1e}{row['ms']:>9.1f}" for name, row in found["files"].items()]
    return "\n".join(lines)
