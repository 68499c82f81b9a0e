"""Write the pages of this folder that are made from the code: config.md, detectors.md and datasets.md.

    python docs/make.py            all three
    python docs/make.py config     one of them

A test compares them with what this makes, so they cannot fall behind the schema, the cards and the records.
"""

import argparse
import ast
import csv
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common.cli import add_common, run
from common.io import atomic_write

HERE = Path(__file__).parent
ROOT = HERE.parent
_MADE = "<!-- made by `python docs/make.py {}`; edit what it is made from -->\n"


def page(name: str) -> str:
    """Return the text of the page `name`."""
    return _MADE.format(name) + PAGES[name]()


# --- keys ---------------------------------------------------------------------------------------------------------------


def config_page() -> str:
    """Return every key of the configuration: type, default, meaning; shared ones, each detector's, each recipe's."""
    from training.config.schema import Config
    from training.dataset.recipes.recipe import available_recipes, recipe_class
    from training.detectors.registry import available_detectors, config_class

    text = [
        "# Configuration\n",
        "Precedence, weakest first: the defaults below, `training/config/train_config.yaml` or `test_config.yaml`, the "
        "detector's YAML, the command line (`--set optimizer.adam.lr=1e-4`). `python training/train.py --detector_path YAML "
        "--print_config` "
        "prints what comes of it, each value with where it comes from.\n",
        "## Keys of every detector\n",
        *_key_table(Config),
        "\n## Keys of single detectors\n",
        "Beside the shared keys, or with another default than theirs.\n",
    ]
    for name in available_detectors():
        own = list(_key_table(config_class(name), Config))
        if len(own) > 2:
            text += [f"### `{name}`\n", *own, ""]
    text += ["## Keys of recipes\n", "Under `recipe`; `dataset_type` names the recipe.\n"]
    for name in available_recipes():
        plain = Config(model_name="xception", dataset_type=name)
        own = list(_key_table(recipe_class(plain).Options))
        text += [f"### `{name}`\n", *(own if len(own) > 2 else ["No keys of its own."]), ""]
    return "\n".join(text).rstrip() + "\n"


def _key_table(model: Any, beside: Any = None) -> Iterator[str]:
    yield "| key | values | default | meaning |"
    yield "|---|---|---|---|"
    known = dict(_keys(beside)) if beside else {}
    for key, row in _keys(model):
        if known.get(key) != row:
            yield f"| `{key}` | {row[0]} | {row[1]} | {row[2]} |"


def _keys(model: Any) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yield (dotted key, (values, default, meaning)) of a pydantic model, sections key by key."""
    schema = model.model_json_schema()
    yield from _walk(schema, schema.get("$defs", {}), _defaults(model), "")


def _defaults(model: Any) -> dict[str, Any]:
    fields = {name: field for name, field in model.model_fields.items() if not field.is_required()}
    values = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    return {name: value.model_dump() if hasattr(value, "model_dump") else value for name, value in values.items()}


def _walk(
    schema: dict[str, Any], named: dict[str, Any], defaults: Any, prefix: str
) -> Iterator[tuple[str, tuple[str, str, str]]]:
    for key, entry in schema.get("properties", {}).items():
        inner = _section(entry, named)
        default = defaults.get(key, ...) if isinstance(defaults, dict) else ...
        if inner is not None and isinstance(default, dict):
            yield from _walk(inner, named, default, f"{prefix}{key}.")
        else:
            shown = "–" if default is ... else f"`{_yaml(default)}`"
            yield f"{prefix}{key}", (_values(entry, named), shown, _cell(entry.get("description", "")))


def _section(entry: dict[str, Any], named: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of a group of keys, None for anything else."""
    reference = entry.get("$ref") or next((part["$ref"] for part in entry.get("allOf", []) if "$ref" in part), None)
    return named[reference.rpartition("/")[2]] if reference else None


def _values(entry: dict[str, Any], named: dict[str, Any]) -> str:
    """Say in a word or two which values a key takes."""
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_values(part, named) for part in entry["anyOf"]))
    if "$ref" in entry:
        return "keys: " + ", ".join(f"`{key}`" for key in _section(entry, named)["properties"])  # type: ignore[index]
    if "enum" in entry or "const" in entry:
        return " \\| ".join(f"`{_yaml(value)}`" for value in entry.get("enum", [entry.get("const")]))
    kind = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true \\| false",
        "null": "null",
    }
    if entry.get("type") == "array":
        inside = entry.get("items") or next(iter(entry.get("prefixItems", [])), {})
        count = f"{entry['minItems']} of" if entry.get("minItems") == entry.get("maxItems") is not None else "list of"
        return f"{count}: {_values(inside, named)}"
    if entry.get("type") == "object":
        return "mapping"
    return kind.get(entry.get("type", ""), "any") + _bounds(entry)


def _bounds(entry: dict[str, Any]) -> str:
    words = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    said = [f"{sign} {entry[word]:g}" for word, sign in words if word in entry and abs(entry[word]) < 1e6]
    return f" {', '.join(said)}" if said else ""


def _yaml(value: Any) -> str:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# --- detectors ----------------------------------------------------------------------------------------------------------


def detectors_page() -> str:
    """Return the table of all detectors, and what the file of each says of it."""
    from training.detectors.registry import available_detectors

    text = [
        "# Detectors\n",
        "`python -m training.detectors` prints this table. *Agreement* is what the comparison with the reference implementation, "
        "for known weights, rests on: outputs within 1e-3 (most within 1e-5), losses and the norm of their gradient on a batch. "
        "A detector is one file and one YAML: [extending.md](extending.md).\n",
        "| detector | paper | type | parameters | input | agreement |",
        "|---|---|---|---:|---|---|",
        *(detector_row(name) for name in available_detectors()),
        "",
    ]
    for name in available_detectors():
        text += [f"## {name}\n", docstring(name), ""]
    return "\n".join(text).rstrip() + "\n"


def detector_row(name: str) -> str:
    """Return a detector's row of the table."""
    from training.detectors.__main__ import describe, shown_count

    row = describe(name)
    paper = (
        f"[{_cell(row['paper'])}]({row['url']}), {row['year']}"
        if row["url"]
        else f"{_cell(row['paper'])}, {row['year']}"
    )
    cells = (f"[`{name}`](#{name.lower()})", paper, row["type"], shown_count(row["parameters"]), row["input"])
    return f"| {' | '.join(cells)} | {_cell(row['parity']) or '–'} |"


def docstring(name: str) -> str:
    """Return what the file of a detector says of it."""
    path = ROOT / "training" / "detectors" / f"{name}_detector.py"
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


# --- datasets -----------------------------------------------------------------------------------------------------------


def datasets_page() -> str:
    """Return the published facts of the field's datasets, and what this project knows of each."""
    from common.datasets import DATASETS, names_people

    text = [
        "# Datasets\n",
        "Rights stay with the datasets' owners; get the data from them. How each is preprocessed: "
        "[preprocessing/README.md](../preprocessing/README.md). A dataset without an entry works by its index and the YAML's "
        "`label_dict`.\n",
        "## As published\n",
        "Sizes, subjects and links as the benchmark's paper lists them (arXiv 2307.01426; `analysis/reference/datasets.csv`).\n",
        *_facts(),
        "\n## What the project knows of them\n",
        "One entry each in `common/datasets.yaml`: labels, published numbers of videos, whether a video's name tells people.\n",
        "| dataset | short | same people as | real | fake | videos published (real, fake) | people by name |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in DATASETS:
        if record.methods:
            continue
        labels = [
            " ".join(f"`{label}`" for label, fake in record.labels.items() if fake == wanted) for wanted in (0, 1)
        ]
        cells = (", ".join(f"`{name}`" for name in record.names), record.short or "–",
                 "–" if record.family == record.name else record.family, *(each or "–" for each in labels),
                 _published(record) or "–", "yes" if names_people(record.name) else "–")  # fmt: skip
        text.append(f"| {' | '.join(cells)} |")
    for record in (record for record in DATASETS if record.methods):
        methods = ", ".join(f"`{name}`" for row in record.methods for name in row)
        text.append(f"\n**{record.name}**: labels `<method>_Real` and `<method>_Fake` for {methods}.")
    return "\n".join(text).rstrip() + "\n"


def _facts() -> Iterator[str]:
    with (ROOT / "analysis" / "reference" / "datasets.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    yield "| dataset | real | fake | total | rights cleared | subjects | methods | perturbations | source |"
    yield "|---|---:|---:|---:|---|---:|---:|---:|---|"
    for row in rows:
        *cells, link = row.values()
        yield f"| {' | '.join(cells)} | [link]({link}) |"


def _published(record: Any) -> str:
    splits: dict[str, list[int]] = {}
    for label, counts in record.counts.items():
        fake = record.labels.get(label, 0)
        for split, number in counts.items():
            splits.setdefault(split, [0, 0])[fake] += number
    return "; ".join(f"{split} {real}, {fake}" for split, (real, fake) in splits.items())


PAGES: dict[str, Callable[[], str]] = {"config": config_page, "detectors": detectors_page, "datasets": datasets_page}


def main(argv: typing.Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python docs/make.py", description="Write the pages that are made from the code."
    )
    parser.add_argument(
        "names", nargs="*", choices=[*PAGES, []], metavar="NAME", help=f"{', '.join(PAGES)} (default: all)"
    )
    add_common(parser)
    for name in parser.parse_args(argv).names or PAGES:
        atomic_write(HERE / f"{name}.md", page(name))
        print(f"written: docs/{name}.md")


if __name__ == "__main__":
    run(main)
