"""Models: their names, where they lie, their files, loading. Importing this alone loads nothing."""

DEFAULT_MODEL = "dpt-small"
