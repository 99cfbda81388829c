"""What can go wrong, in words for people: each message names the thing, the value, the remedy."""


class DptError(Exception):
    """Base of every error that `dpt` reports in one line instead of a traceback."""


class UsageError(DptError):
    """The command cannot run as asked: wrong options, clashing outputs. Nothing was started."""


class ConfigError(DptError, ValueError):
    """A configuration value is wrong; the message names the field and what is allowed."""


class ShapeError(DptError, ValueError):
    """A tensor given to a model has the wrong shape; the message says which shape would do."""


class ModelError(DptError):
    """A model cannot be found, read or used: unknown name, bad checkpoint, wrong task."""


class MissingModelError(ModelError, OSError):
    """A model, or a file of it, is not there or cannot be fetched; an OSError like the system's."""


class ImageError(DptError, ValueError):
    """One image cannot be read, processed or written; the run goes on with the others."""


class PixelLimitError(ImageError):
    """An image of more pixels than are allowed."""


class TooLargeError(ImageError):
    """An image that the network has no memory for; its name is for the caller to add."""
