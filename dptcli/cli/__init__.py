"""The command line: `main` alone turns errors into messages and exit codes.

0 all done; 1 some images failed, the others are written; 2 wrong usage or an unusable model,
nothing was started; 130 interrupted with Ctrl-C (143 by SIGTERM, 129 by a closed terminal), no half
file is left.
"""

import atexit
import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from dptcli import __version__
from dptcli.cli.commands import COMMANDS, LazyGroup
from dptcli.cli.terminal.argv import normalize_argv
from dptcli.cli.terminal.peers import our_word
from dptcli.cli.terminal.signals import SIGHUP, Stopped, signals_raise
from dptcli.cli.terminal.streams import (
    failed_output,
    is_of_stream,
    is_reader_gone,
    open_missing,
    refuse_lost_folder,
)
from dptcli.errors import DptError, ImageError
from dptcli.running.machine import brief_waits, steady_sums

EXIT_DONE = 0
EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="dpt",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            torch_version = version("torch")  # from its metadata: importing it takes seconds
        except PackageNotFoundError:
            torch_version = "missing"
        python = ".".join(str(part) for part in sys.version_info[:3])
        print(f"dpt {__version__} (torch {torch_version}, Python {python})")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 all done, 1 some images failed, 2 wrong usage, 130 interrupted."
)
def about(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            metavar="",
            help="Show the versions of dpt, torch and Python, e.g. [cyan]dpt --version[/]",
        ),
    ] = False,
) -> None:
    """Depth and segmentation of photographs, with Dense Prediction Transformers.

    [cyan]dpt depth photo.jpg -o depth.png[/]
    [cyan]dpt depth photos/ -o depth/[/]
    [cyan]dpt segment photos/ -o masks/[/]
    [cyan]dpt gallery depth/[/]
    [cyan]dpt depth --help[/]
    [cyan]dpt --install-completion[/]
    """


def run() -> NoReturn:
    """End the process with `main`'s exit code: the installed `dpt`.

    torch's modules are left to the system: Python would take them down object by object, half a
    second in which nobody gets anything. All else is done as Python does it: threads end, and what
    was registered for the end runs, also by who came before us (coverage, a sitecustomize).
    """
    code = EXIT_INTERRUPTED  # of Ctrl-C before and after main's work
    with contextlib.suppress(KeyboardInterrupt):
        code = main()
        threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing ends processes
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


# What a command did not foresee and people can mend: permissions, a full or read-only disk.
_OF_THE_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dpt` with the arguments given (the process's by default) and return its exit code."""
    open_missing()
    arguments = normalize_argv(sys.argv[1:] if argv is None else argv)
    steady_sums()
    brief_waits()
    with signals_raise():
        try:
            refuse_lost_folder()
            code = app(arguments, prog_name="dpt", standalone_mode=False)
        except DptError as error:
            _complain(str(error))
            return EXIT_SOME_FAILED if isinstance(error, ImageError) else EXIT_USAGE
        except typer.TyperException as error:
            _complain_of_usage(error, arguments)
            return EXIT_USAGE
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
        except Stopped as stop:
            code = 128 + stop.signal_number
        except Exception as error:
            if isinstance(error, OSError) and is_of_stream(error):
                failed_output()
                return _complain_of_output(error)
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK and error.filename:
                _complain(f"cannot use {str(error.filename)!r}: {error.strerror}")
                return EXIT_USAGE
            return _report_bug(error)
        if code in {EXIT_INTERRUPTED, 128 + signal.SIGTERM, 128 + SIGHUP}:
            _complain("interrupted; finished results are kept")
            _leave_now(code)
    if (lost := failed_output()) is not None:
        return code or _complain_of_output(lost)
    return code or EXIT_DONE


def _leave_now(code: int) -> NoReturn:
    """End without waiting for threads, which may hang in a pipe or a slow disk."""
    if (files := sys.modules.get("dptcli.results.files")) is not None:
        files.discard_unfinished()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):  # the exit code says it too
        print(f"dpt: {message}", file=sys.stderr, flush=True)


def _complain_of_output(error: OSError) -> int:
    if not is_reader_gone(error):  # `| head` has what it wanted
        _complain(f"cannot write standard output: {error.strerror}; finished results are kept")
    return EXIT_SOME_FAILED


def _complain_of_usage(error: typer.TyperException, arguments: Sequence[str]) -> None:
    """Say the parser's own words in one line and not in a box."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    if message.startswith("No such option"):
        for word in arguments:
            if word.startswith("-") and os.path.lexists(word):
                _complain(f"{word!r} is taken for an option; the file of that name is ./{word}")
                return
        option = getattr(error, "option_name", "")
        command = context.command_path.removeprefix("dpt ") if context else ""
        if said := our_word(option, arguments, command=command):
            _complain(f"{option} is no option of dpt {command}: {said}")
            return
    if message:  # empty where a bare `dpt` has shown its help
        _complain(f"{message}; see {_command_of(context, arguments)} --help")


def _command_of(context: Any, arguments: Sequence[str]) -> str:
    """The command that went wrong, as it is called; the parser does not always say which."""
    if context is not None:
        return str(context.command_path)
    first = arguments[0] if arguments else ""
    return f"dpt {first}" if first in COMMANDS else "dpt"


def _report_bug(error: Exception) -> int:
    if logging.getLogger("dptcli").isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    first_line = (str(error).splitlines() or [""])[0]
    _complain(f"unexpected {type(error).__name__}: {first_line}; run with -v for the traceback")
    return EXIT_USAGE
