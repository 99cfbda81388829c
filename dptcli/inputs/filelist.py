"""Lists of images (`--from-file`), as `find` and others write them."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

from dptcli.errors import ImageError, UsageError
from dptcli.inputs.decode import printable
from dptcli.inputs.find import STDIN
from dptcli.remote import is_address, opening, shown


def read_list(source: BinaryIO | str | Path, *, nul: bool = False) -> list[str]:
    """The paths in a list (`--from-file`): one a line, or NUL-separated as `find -print0` writes.

    `source` is a binary stream, a path, an address, or "-" for standard input. Paths are relative
    to the current folder, as `find` prints them. Blank lines and a byte order mark are ignored; a
    line "-" is a file of that name. A list that lies at an address names addresses alone: whoever
    wrote it has no say over this machine's files. Raises UsageError when the list cannot be read.
    """
    name = "the list"
    if isinstance(source, str | Path):
        name = f"the list '{printable(shown(str(source)))}'"
    elsewhere = isinstance(source, str) and is_address(source)
    try:
        if isinstance(source, str) and elsewhere:
            data = opening.read_address(source)
        elif not isinstance(source, str | Path):
            data = source.read()
        elif str(source) == STDIN:
            data = sys.stdin.buffer.read()
        else:
            data = Path(source).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}; check --from-file") from error
    except ImageError as error:
        raise UsageError(f"cannot read {name}: {error}") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # what PowerShell's > writes
        try:
            data = data.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise UsageError(f"{name} is broken UTF-16; save it as UTF-8") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if nul:
        entries = data.split(b"\0")
    elif b"\0" in data:
        raise UsageError(f"{name} holds NUL bytes; read it with -0")
    else:
        entries = [line.removesuffix(b"\r") for line in data.split(b"\n") if line.strip()]
    names = [os.fsdecode(entry) for entry in entries if entry]
    if elsewhere and (own := [given for given in names if not is_address(given)]):
        raise UsageError(
            f"{name} names {printable(own[0])!r}, which is no address; a list from elsewhere may "
            "not name files of this machine"
        )
    return [str(Path.cwd() / name) if name == STDIN else name for name in names]
