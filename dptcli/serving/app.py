"""The server's addresses: results for images, its health, its counts, its page."""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Security
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request

from dptcli import __version__
from dptcli.serving.answers import Answer
from dptcli.serving.describe import Field, describe
from dptcli.serving.desk import Desk, refusal_of
from dptcli.serving.limits import GoneError, Limits, RefusedError
from dptcli.serving.metrics import Metrics
from dptcli.serving.orders import Task, Ticket
from dptcli.serving.uploads import Body, read_upload

logger = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("page.html")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob:; connect-src 'self'; frame-ancestors 'none'"
)
_LEFT = 499  # what nginx calls it
_ADDRESSES = "POST /depth or /segment; GET /docs, /openapi.json, /health or /metrics"


def make_app(
    desk: Desk,
    metrics: Metrics,
    *,
    fields: Mapping[Task, Sequence[Field]],
    models: Mapping[Task, str],
    limits: Limits,
    token: str | None = None,
    hosts: Sequence[str] = (),
) -> FastAPI:
    """The application. fields: each served task's options. models: its model.

    token: what results and counts are given for alone. hosts: the names by which it may be called,
    without a token, so that no page elsewhere calls it through a name of its own; none are all.
    """
    app = FastAPI(
        title="dpt",
        version=__version__,
        description="Depth and classes of photographs, with the options of the command line.",
        docs_url=None,  # its page would be fetched from elsewhere
        redoc_url=None,
    )

    # For the document, by which the page knows whether to ask for a token; see check.
    secured = [] if token is None else [Security(HTTPBearer(auto_error=False))]

    def check(request: Request) -> None:
        """Raise RefusedError for whoever has no right to a result."""
        if token is not None:
            sent = request.headers.get("authorization", "").partition(" ")
            right = sent[0].lower() == "bearer" and hmac.compare_digest(
                sent[2].strip().encode(), token.encode()
            )
            if not right:
                raise RefusedError(
                    401, "the token is missing or wrong; send the header Authorization: Bearer …"
                )
        elif request.headers.get("origin", here := str(request.base_url).rstrip("/")) != here:
            raise RefusedError(
                403, "a page of another address asked; give the server a token to allow that"
            )
        elif hosts and (request.url.hostname or "") not in hosts:
            raise RefusedError(
                403, f"this server is not called {request.url.hostname!r}; ask at {hosts[0]}"
            )

    def serve(task: Task) -> Callable[[Request], Awaitable[Response]]:
        async def result(request: Request) -> Response:
            return await _result(request, task, desk, metrics, limits, check)

        return result

    for task in models:
        app.add_api_route(
            f"/{task}",
            serve(task),
            methods=["POST"],
            summary=f"What `dpt {task}` makes of a photograph",
            openapi_extra=describe(task, fields[task]),
            dependencies=secured,
            response_class=Response,
        )

    @app.get("/health", summary="Whether it serves, which models, how many images it holds")
    async def health() -> JSONResponse:
        return JSONResponse(
            {
                "status": "ok",
                "models": dict(models),
                "images_taken": desk.num_taken,
                "room": limits.room,
            }
        )

    @app.get(
        "/metrics",
        summary="Counts and times, for Prometheus",
        response_class=Response,
        dependencies=secured,
    )
    async def counts(request: Request) -> Response:
        try:
            check(request)
        except RefusedError as refused:
            return _refuse(refused)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        headers = {"Content-Security-Policy": _PAGE_POLICY}
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers=headers)

    @app.exception_handler(HTTPException)
    async def no_such_address(request: Request, error: HTTPException) -> JSONResponse:
        asked = f"{request.method} {request.url.path}"
        return _refuse(RefusedError(error.status_code, f"{asked}: there are {_ADDRESSES}"))

    return app


async def _result(
    request: Request,
    task: Task,
    desk: Desk,
    metrics: Metrics,
    limits: Limits,
    check: Callable[[Request], None],
) -> Response:
    started = time.perf_counter()
    deadline_s = asyncio.get_running_loop().time() + limits.max_s
    body = Body(request, limits, deadline_s=deadline_s)
    ticket: Ticket | None = None
    name = "image"
    try:
        check(request)
        ticket = desk.take()
        upload = await read_upload(request, body, task, ticket.folder)
        name = upload.name
        desk.submit(ticket, upload)
        answer = await _answered(request, ticket, limits)
    except GoneError:
        _let_go(ticket)
        metrics.requests.labels(task, _LEFT).inc()
        return Response(status_code=_LEFT)
    except Exception as error:
        _let_go(ticket)
        refused = refusal_of(error, name=name)
        if ticket is not None:  # files are called as they were sent
            refused.args = (str(refused).replace(f"{ticket.folder}/", ""),)
        if refused.status != 408:  # who is slow, has had the time
            await body.flush()
        metrics.requests.labels(task, refused.status).inc()
        logger.info("%s %d %s", task, refused.status, refused.line)
        return _refuse(refused)
    except BaseException:  # the server is told to end at once
        _let_go(ticket)
        raise
    elapsed_s = time.perf_counter() - started
    metrics.requests.labels(task, 200).inc()
    metrics.seconds.labels(task).observe(elapsed_s)
    logger.info("%s 200 %s (%.2f s)", task, name, elapsed_s)
    return FileResponse(
        answer.path,
        media_type=answer.media_type,
        filename=answer.name,
        content_disposition_type="inline",
        headers={} if answer.facts is None else {"X-Dpt-Facts": answer.facts},
        background=BackgroundTask(ticket.release),
    )


def _let_go(ticket: Ticket | None) -> None:
    if ticket is not None:
        ticket.cancel()
        ticket.release()


async def _answered(request: Request, ticket: Ticket, limits: Limits) -> Answer:
    """Wait for the desk, as long as whoever asked does. Raises RefusedError and GoneError."""
    answer = asyncio.wrap_future(ticket.future)
    # Where it comes after nobody waits any more, its error was looked at too.
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())
    gone = asyncio.ensure_future(_gone(request))
    try:
        either: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(either, timeout=limits.max_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    if answer.done():
        return answer.result()
    if gone.done() and not gone.cancelled():
        raise GoneError
    raise RefusedError(
        503,
        f"not done within {limits.max_s:g} s; come again, or ask for a smaller result",
        retry_s=max(1, round(limits.max_s / 2)),
    )


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refuse(refused: RefusedError) -> JSONResponse:
    headers: dict[str, Any] = {}
    if refused.status in {408, 413}:  # the rest of the body may still come; it is not read
        headers["Connection"] = "close"
    if refused.retry_s is not None:
        headers["Retry-After"] = str(refused.retry_s)
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": refused.line}, status_code=refused.status, headers=headers)
