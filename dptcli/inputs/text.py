"""Paths and messages as one printable line."""

from pathlib import Path


def printable(text: str | Path) -> str:
    r"""A path or message as one printable line; bytes beyond UTF-8 as \xNN, controls escaped."""
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
