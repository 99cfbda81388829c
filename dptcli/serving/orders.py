"""What one request asks for, and the folder that holds it while it is worked on."""

import logging
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dptcli.pipeline import Pipeline, Save
    from dptcli.results.plan import Job
    from dptcli.serving.answers import Answer

logger = logging.getLogger(__name__)

Task = str  # "depth" or "segment"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What came with a request: options by name, and the files it sent, the image among them."""

    task: Task
    options: Sequence[tuple[str, str]]
    image: Path
    name: str
    files: Mapping[str, Path] = field(default_factory=dict)
    as_zip: bool = False


@dataclass(frozen=True, kw_only=True)
class Order:
    """An image to do. pipeline: the server's network under this request's options."""

    job: "Job"
    pipeline: "Pipeline"
    save: "Save"


ReadOrder = Callable[[Upload, Path], Order]
"""(what came, a folder for the results) -> the order; raises UsageError."""


class Ticket:
    """One request that was taken in: its folder goes when both the work and the answer are over."""

    def __init__(self, folder: Path, on_end: Callable[[], None]) -> None:
        self.folder = folder
        self.future: Future[Answer] = Future()
        self.is_cancelled = False
        self._on_end = on_end
        self._num_holders = 1  # whoever asked; the desk from `hand_over` on
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Nobody waits for it any more: what is not begun is not done."""
        self.is_cancelled = True

    def hand_over(self) -> None:
        """The desk works with the folder from now on."""
        with self._lock:
            self._num_holders += 1

    def release(self) -> None:
        """One of the two has no more use for the folder."""
        with self._lock:
            self._num_holders -= 1
            if self._num_holders:
                return
        shutil.rmtree(self.folder, ignore_errors=True)
        self._on_end()


def safe_name(sent: str) -> str:
    """The name of an upload as a plain file name, whatever a client calls it."""
    name = PurePosixPath(sent.replace("\\", "/").replace("\0", "_")).name
    name = re.sub(r"[^\w. ()+,=@~-]", "_", name).lstrip(".")
    stem, suffix = PurePosixPath(name).stem[:80], PurePosixPath(name).suffix[:8]
    return f"{stem}{suffix}" if stem else "image"
