"""What is found by the name of its file, and how a wrong name is answered."""

import sys

import pytest

from common.by_name import Folder, nearest
from common.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    package = tmp_path / "zoo_for_a_test"
    package.mkdir()
    for name in ("__init__", "lion_animal", "ant_animal", "_hidden_animal", "keeper"):
        (package / f"{name}.py").write_text(f"NAME = {name!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield Folder("zoo_for_a_test", "animal", "_animal")
    for name in [name for name in sys.modules if name.startswith("zoo_for_a_test")]:
        del sys.modules[name]


def test_names_are_those_of_the_files_and_importing_waits(folder):
    assert folder.names == ("ant", "lion")
    assert not [name for name in sys.modules if name.startswith("zoo_for_a_test.")]
    assert folder.module("lion").NAME == "lion_animal"


def test_a_wrong_name_is_answered_with_the_nearest_or_with_all(folder):
    with pytest.raises(ConfigError, match="there is no animal `lionn`; did you mean `lion`"):
        folder.module("lionn")
    with pytest.raises(ConfigError, match="there is no animal `whale`; known: ant, lion"):
        folder.module("whale")
    assert nearest("x", []) == "there are none here"


def test_a_package_that_is_not_there_is_said(folder):
    with pytest.raises(ConfigError, match="nowhere_at_all is no package"):
        _ = Folder("nowhere_at_all", "thing").names
