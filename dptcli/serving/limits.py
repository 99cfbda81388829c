"""What a server takes in, and how it says no."""

from dataclasses import dataclass

from dptcli.inputs.text import printable


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may cost.

    max_bytes: of an upload, with all that is beside the image. max_pixels: of an image, and of a
    result. max_side: of what the network sees. max_s: for the upload, and until the answer. room:
    images that are taken in at once.
    """

    max_bytes: int = 64 << 20
    max_pixels: int = 50_000_000
    max_side: int = 1036
    max_s: float = 60.0
    room: int = 32


class RefusedError(Exception):
    """A request that gets no result: the status of HTTP, and a line that says what would do.

    retry_s: when it is worth to come again.
    """

    def __init__(self, status: int, message: str, *, retry_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_s = retry_s

    @property
    def line(self) -> str:
        """The reason in one printable line."""
        return printable(str(self))


class GoneError(Exception):
    """Whoever asked has closed the connection."""
