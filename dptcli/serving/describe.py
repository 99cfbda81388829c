"""What the server's OpenAPI page says of a request: the command line's options, one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dptcli.serving.orders import Task
from dptcli.serving.uploads import IMAGE, ZIP

_ERRORS = {
    "401": "The token is missing or wrong",
    "408": "The upload came too slowly",
    "413": "Too many bytes or pixels",
    "422": "The image cannot be read, or an option is wrong",
    "503": "No room, or not done in time: come again after Retry-After seconds",
}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One option of a request. kind: "string", "boolean", or "file" for one that is uploaded."""

    name: str
    help: str
    kind: str = "string"
    repeated: bool = False
    panel: str = ""


def describe(task: Task, fields: Sequence[Field]) -> dict[str, Any]:
    """The part of the OpenAPI document about a task: its options in a form, or in the query."""
    zipped = Field(name=ZIP, kind="boolean", help="Send all files in a ZIP, with their facts")
    image = Field(name=IMAGE, kind="file", help="The photograph")
    form = {field.name: _schema(field) for field in (image, *fields, zipped)}
    query = [
        {
            "name": field.name,
            "in": "query",
            "description": field.help,
            "schema": _schema(field),
        }
        for field in (*fields, zipped)
        if field.kind != "file"
    ]
    results: dict[str, Any] = {
        "image/png": {},
        "application/octet-stream": {},
        "application/zip": {},
    }
    error = {"type": "object", "properties": {"error": {"type": "string"}}}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": form, "required": [IMAGE]}
                },
                "image/*": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "parameters": query,
        "responses": {
            "200": {
                "description": f"What `dpt {task}` writes: one file, or several in a ZIP; the "
                "header X-Dpt-Facts says kind, range and size",
                "content": results,
            },
            **{
                status: {"description": text, "content": {"application/json": {"schema": error}}}
                for status, text in _ERRORS.items()
            },
        },
    }


def _schema(field: Field) -> Mapping[str, Any]:
    if field.kind == "file":
        return {"type": "string", "format": "binary", "description": field.help}
    one = {"type": field.kind}
    schema: dict[str, Any] = {"type": "array", "items": one} if field.repeated else dict(one)
    return {**schema, "description": field.help, "x-panel": field.panel}
