"""What can go wrong, in words for people: every message names the thing, the value and the remedy."""


class DptError(Exception):
    """Base of every error that `dpt` reports in one line instead of a traceback."""


class UsageError(DptError):
    """The command cannot run as asked: wrong options, clashing outputs. Nothing was started."""


class ConfigError(DptError, ValueError):
    """A configuration value is wrong; the message names the field, the value and what is allowed."""


class ModelError(DptError):
    """A model cannot be found, read or used: unknown name, bad checkpoint, wrong task."""


class ImageError(DptError):
    """One image cannot be read, processed or written; the run goes on with the others."""
