"""The errors a user can cause, each answered with one sentence and exit code 2.

A message says what is wrong, where (file, key or flag) and what to do about it. Entry points turn these into a single
line on stderr (see :mod:`common.cli`); library users catch them by type.
"""


class ProjectError(Exception):
    """Base of every error that is the input's fault rather than the program's."""


class ConfigError(ProjectError):
    """A configuration file, key or command-line flag is wrong."""


class DataError(ProjectError):
    """A dataset, index, image, mask or landmark file is missing or unreadable, or cannot answer the question asked."""


class WeightsError(ProjectError):
    """A weight file is missing, unsafe, or belongs to another network."""
