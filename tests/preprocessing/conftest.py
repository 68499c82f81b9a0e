"""Models are read once a session."""

import pytest


@pytest.fixture(scope="session")
def pipeline():
    from preprocessing.faces import FacePipeline

    return FacePipeline()
