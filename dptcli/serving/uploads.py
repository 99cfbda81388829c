"""From a request's body to files: counted and timed while it comes."""

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from dptcli.serving.limits import GoneError, Limits, RefusedError
from dptcli.serving.orders import Task, Upload, safe_name

IMAGE = "image"  # the field of the photograph
ZIP = "zip"
FILES = ("anchors", "prompt", "palette", "intrinsics")  # options that take a file
_MOST_FIELDS = 200
_FLUSH_S = 5.0


class Body:
    """The body of a request as it comes. Raises RefusedError (413, 408) and GoneError."""

    def __init__(self, request: Request, limits: Limits, *, deadline_s: float) -> None:
        self._receive: Receive = request.receive
        self._limits, self._deadline_s = limits, deadline_s
        self._num_bytes = 0
        self._is_whole = False
        stated = request.headers.get("content-length", "")
        self._stated = int(stated) if stated.isdecimal() else None
        self._expects = request.headers.get("expect", "").lower() == "100-continue"

    def check_stated(self) -> None:
        """Refuse what is too large by its own words."""
        if self._stated is not None:
            self._check(self._stated)

    async def receive(self) -> Message:
        """The next part, as ASGI has it."""
        left_s = self._deadline_s - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, left_s))
        except TimeoutError:
            raise RefusedError(
                408,
                f"the upload was not whole after {self._limits.max_s:g} s, {self._num_bytes:,} "
                "bytes of it came; send a smaller file, or over a faster connection",
            ) from None
        if message["type"] == "http.disconnect":
            raise GoneError
        self._is_whole = not message.get("more_body", False)
        self._num_bytes += len(message.get("body", b""))
        self._check(self._num_bytes)
        return message

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._limits.max_bytes:
            raise RefusedError(
                413,
                f"an upload of {num_bytes:,} bytes or more is above the limit of "
                f"{self._limits.max_bytes:,}; send a smaller file",
            )

    async def flush(self) -> None:
        """Read what is still coming to a refused request, else the client may not see the answer.

        For a moment, and up to the limit: beyond it the connection is closed on them.
        """
        if self._expects and not self._num_bytes:
            return  # it waits for our word before it sends
        deadline_s = asyncio.get_running_loop().time() + _FLUSH_S
        num_bytes = self._num_bytes
        while not self._is_whole and num_bytes <= 2 * self._limits.max_bytes:
            left_s = deadline_s - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(self._receive(), max(0.0, left_s))
            except TimeoutError:
                return
            if message["type"] == "http.disconnect":
                return
            num_bytes += len(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)


async def read_upload(request: Request, body: Body, task: Task, folder: Path) -> Upload:
    """Write the files of a request into a folder and return what it asks for.

    A form has the image in the field `image` and options as further fields; any other body is the
    image itself, with the options in the address's query. Raises RefusedError and GoneError.
    """
    body.check_stated()
    options = list(request.query_params.multi_items())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    files: dict[str, Path] = {}
    name = "image"
    if kind == "multipart/form-data":
        name = await _read_form(Request(request.scope, body.receive), folder, options, files)
    elif kind == "application/x-www-form-urlencoded":
        raise RefusedError(
            422,
            "a form without files came; send multipart/form-data, e.g. curl -F image=@photo.jpg, "
            "or curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'",
        )
    else:
        files[IMAGE] = folder / "image"
        with files[IMAGE].open("wb") as stream:
            more = True
            while more:
                message = await body.receive()
                stream.write(message.get("body", b""))
                more = message.get("more_body", False)
    if IMAGE not in files or not files[IMAGE].stat().st_size:
        raise RefusedError(
            422, f"no image came; send one in the field {IMAGE!r}, e.g. curl -F image=@photo.jpg"
        )
    as_zip = [value for key, value in options if key == ZIP]
    return Upload(
        task=task,
        options=[(key, value) for key, value in options if key != ZIP],
        image=files.pop(IMAGE),
        name=name,
        files=files,
        as_zip=any(is_true(ZIP, value) for value in as_zip),
    )


async def _read_form(
    request: Request, folder: Path, options: list[tuple[str, str]], files: dict[str, Path]
) -> str:
    """Add a form's options and files; returns the image's name."""
    name = "image"
    try:
        form = await request.form(max_files=1 + len(FILES), max_fields=_MOST_FIELDS)
    except HTTPException as error:  # broken, or too many parts
        raise RefusedError(422, f"the form cannot be read: {error.detail}; send it again") from None
    try:
        for key, value in form.multi_items():
            if isinstance(value, str):
                if value:  # an empty field of a page's form
                    options.append((key, value))
                continue
            if not value.filename and not value.size:
                continue
            if key not in (IMAGE, *FILES) or key in files:
                raise RefusedError(
                    422,
                    f"the form has a file in the field {key!r}; there are one each in "
                    f"{', '.join((IMAGE, *FILES))}",
                )
            files[key] = folder / f"{key}{_ending(value.filename)}"
            if key == IMAGE:
                name = safe_name(value.filename or "image")
            await run_in_threadpool(_copy, value, files[key])
    finally:
        await form.close()
    return name


def _copy(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as stream:
        shutil.copyfileobj(upload.file, stream, 1 << 20)


def _ending(name: str | None) -> str:
    suffix = PurePosixPath(name or "").suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""


_SWITCH: Mapping[str, bool] = {
    **dict.fromkeys(("", "1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def is_true(name: str, value: str) -> bool:
    """Read a switch. Raises RefusedError."""
    found = _SWITCH.get(value.lower())
    if found is None:
        raise RefusedError(422, f"{name} {value!r} must be true or false")
    return found
