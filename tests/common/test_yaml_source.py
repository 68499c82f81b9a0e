"""Configurations that are small texts and stand for very much, or for themselves."""

import pytest

from analysis.ablation import read_plan
from analysis.reproduction.scale import read_scale
from common.errors import ConfigError
from common.yaml_source import Source
from training.config import load_config

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
EXCESS = {
    "laughs": (LAUGHS, "unfold to more than"),
    "merges": (MERGES, "unfold to more than"),
    "list in itself": ("model_name: meso4\nmean: &a [0.5, *a]\n", "stands for the very thing"),
    "mapping in itself": ("model_name: meso4\ndata: &a {x: *a}\n", "stands for the very thing"),
    "merged into itself": ("model_name: meso4\ndata: &a {<<: *a}\n", "stands for the very thing"),
    "deep": ("model_name: meso4\nmean: " + "[" * 300 + "]" * 300 + "\n", "nested more than 100 deep"),
    "very deep": ("model_name: meso4\nmean: " + "[" * 50_000, "nested more than 100 deep"),
}


@pytest.mark.parametrize("name", EXCESS)
@pytest.mark.parametrize("reader", [load_config, read_plan, lambda path: read_scale(str(path)), Source.from_file])
def test_what_unfolds_without_end_is_one_sentence(tmp_path, name, reader):
    text, said = EXCESS[name]
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        reader(path)
    assert "\n" not in str(caught.value)
    assert "settings.yaml" in str(caught.value)


@pytest.mark.parametrize("value", ["&a [*a]", "[" * 20_000])
def test_on_the_command_line_too(value):
    with pytest.raises(ConfigError, match="not valid YAML"):
        Source.from_override(f"mean={value}")


def test_aliases_and_merges_as_people_use_them():
    source = Source("x", "base: &b {lr: 1e-4, eps: 1}\nadam: {<<: *b, lr: 2}\nnames: [&n one, *n]\n")
    assert source.values["adam"] == {"lr": 2, "eps": 1}
    assert source.values["names"] == ["one", "one"]
