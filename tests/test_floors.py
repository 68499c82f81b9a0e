"""The house has floors: nothing imports what stands above it, not inside a function and not for type checking either."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room may import those of lower floors, and its neighbours where no circle comes of it.
ROOMS = {"common": 0, "preprocessing": 1, "training": 1, "prediction": 2, "analysis": 3, "benchmarks": 4, "figures": 4}
WITHIN_TRAINING = {
    "config": 0,
    "batch": 1,
    "ops": 2,
    "loss": 3,
    "modules": 3,
    "networks": 3,
    "dataset": 4,
    "metrics": 4,
    "detectors": 5,
    "optimizer": 6,
    "trainer": 7,
    "session": 8,
    "generate_map_basis": 8,
    "demo_tower": 8,
    "test": 9,
    "train": 9,
}
# The entry points end with the run's report, and `from training import Predictor` stays as an alias.
ALLOWED_UPWARD = {
    ("training.session", "analysis.report"),
    ("training.train", "analysis.report"),
    ("training.test", "analysis.report"),
    ("training", "prediction.predictor"),
}


def modules() -> dict[str, Path]:
    """Return every module of the project by its dotted name."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(module: str) -> Iterator[str]:
    """Yield the project's modules that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in MODULES:
                    yield inner
                elif node.module in MODULES:
                    yield node.module


def floor(module: str) -> tuple[int, int]:
    """Return on which floor a module stands: of the house, and within `training`."""
    room, *rest = module.split(".")
    return ROOMS[room], WITHIN_TRAINING[rest[0]] if room == "training" and rest else 0


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_goes_up(room):
    upward = [
        f"{module} → {target}"
        for module in MODULES
        if module.split(".")[0] == room
        for target in imports(module)
        if target.split(".")[0] != module.split(".")[0] or target.count(".")
        if (module, target) not in ALLOWED_UPWARD and _goes_up(module, target)
    ]
    assert not upward, "\n".join(upward)


def _goes_up(module: str, target: str) -> bool:
    here, there = floor(module), floor(target)
    if module.split(".")[0] == target.split(".")[0]:
        return there > here
    return there[0] >= here[0]


def test_no_circle():
    """Importing one module leads to no chain that comes back to it (a package and its own files count as one place)."""
    arrows = {
        module: {target for target in imports(module) if (module, target) not in ALLOWED_UPWARD} - {module}
        for module in MODULES
    }
    for module, targets in arrows.items():
        # A package's `__init__` that hands on what its files hold is no circle with them.
        arrows[module] = {target for target in targets if not target.startswith(module + ".")}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module in done:
            return
        for target in sorted(arrows[module]):
            visit(target, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())
