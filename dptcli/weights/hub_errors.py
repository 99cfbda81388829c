"""What the hub's client raises, in one line that says what to do."""

import contextlib
import errno
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dptcli.errors import MissingModelError, ModelError

if TYPE_CHECKING:
    from dptcli.weights.hub_name import HubName


@contextlib.contextmanager
def quiet_disk_warning() -> Iterator[None]:
    """The client warns of a full disk and goes on; `hub` checks the space itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Not enough free disk space")
        yield


@contextlib.contextmanager
def explained(name: "HubName", *, hint: str) -> Iterator[None]:
    """Turn whatever the client raises into one line that says what to do."""
    try:
        yield
    except ModelError:
        raise
    # The client lets through errors of two HTTP libraries, of the system and its own, which
    # differ from release to release; none of them may reach the user as a traceback.
    except Exception as error:
        raise MissingModelError(_explanation(error, name, hint=hint)) from error


def _explanation(error: Exception, name: "HubName", *, hint: str) -> str:
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{name} is gated: accept its licence at {hub}/{name.repository}, then set HF_TOKEN "
            "to a token of that account (or run `hf auth login`)"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"no folder and no public repository {name.repository!r} on {hub}; {hint}"
            "`dpt models` lists names; a private one needs HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name.repository} has no revision {name.revision!r}; leave out @… for the newest"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        remedy = "check HF_TOKEN" if status in (401, 403) else "try again later"
        return f"{name}: {hub} answered {status}; {remedy}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{name}: the disk of {constants.HF_HUB_CACHE} is full; make room, or set HF_HOME "
            "to a folder on another disk"
        )
    if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
        return (
            f"{name}: cannot write to the cache {constants.HF_HUB_CACHE}; set HF_HOME to a "
            "folder that you may write to"
        )
    if "Consistency check failed" in str(error):
        return f"{name}: a file arrived with a wrong size and was dropped; run it again"
    reason = str(error.__cause__ or error).partition("\n")[0] or type(error).__name__
    return (
        f"{name} is not in the cache and could not be downloaded from {hub} ({reason}); check the "
        "network or HF_ENDPOINT and run it again, or give a folder"
    )
