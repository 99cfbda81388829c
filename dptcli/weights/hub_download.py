"""Downloading a model from the Hugging Face hub: whole, checked, refused before it is long.

huggingface_hub is imported when a function needs it, since that takes a while.
"""

import logging
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dptcli.errors import MissingModelError, ModelError
from dptcli.model.families.entry import OWN_TERMS
from dptcli.weights.folder import (
    CONFIG_NAME,
    PROCESSOR_NAME,
    authors_architecture,
    files_of,
    original_among,
    originals_among,
    processor_among,
    read_config,
    shards_of,
    task_of,
    tasks_of,
    weights_among,
)
from dptcli.weights.hub_hash import digest_of
from dptcli.weights.hub_name import NEWEST, HubName, cache_of

logger = logging.getLogger(__name__)


def described(name: HubName) -> Any:
    """What the hub says of a repository: its commit, its files with their hashes, its licence."""
    from huggingface_hub import HfApi

    api = HfApi(token=name.access.token)
    return api.model_info(name.repository, revision=name.revision or NEWEST, files_metadata=True)


def download_original(name: HubName, file: Any, *, commit: str, licence: str | None) -> Path:
    show_licence(name, licence)
    _require_space(name, file.size or 0)
    _get_checked(name, file.rfilename, commit=commit, file=file)
    return name.download(file.rfilename)  # which points the branch or tag at the commit


def download(name: HubName, *, task: str | None, licence: str | None, bare: bool) -> Path:
    """Fetch the files that loading reads, in the order in which they can be refused."""
    info = described(name)
    inside = f"{name.access.subfolder}/" if name.access.subfolder else ""
    files = {
        file.rfilename.removeprefix(inside): file
        for file in info.siblings or ()
        if file.rfilename.startswith(inside)
    }
    weights = weights_among(files, name.access)
    foreign = MissingModelError(
        f"{name} does not hold {CONFIG_NAME}, {PROCESSOR_NAME} and weights, so it is no model "
        "of this family; `dpt models` lists those that are"
    )
    if weights is None or CONFIG_NAME not in files:
        original = None if inside or bare else original_among(files)
        if original is None:
            _refuse_several(name, files)
            raise foreign
        licence = licence or _card_licence(info)
        return download_original(name, files[original], commit=str(info.sha), licence=licence)

    def get(file_name: str) -> Path:
        return _get_checked(name, file_name, commit=str(info.sha), file=files[file_name])

    config = read_config(get(CONFIG_NAME).parent)
    processor = processor_among(files)
    if processor is None and authors_architecture(config) is None:
        raise foreign
    if not bare:
        _refuse_other_models(name, config, task=task)
    if processor is not None:
        get(processor)
    show_licence(name, licence or _card_licence(info))
    wanted = [weights]
    if weights.endswith(".json"):
        wanted = sorted(set(shards_of(get(weights)).values()))
        lacking = [shard for shard in wanted if shard not in files]
        if lacking:
            raise ModelError(f"{name}: its index names {lacking[0]!r}, which it does not hold")
    _require_space(name, sum(files[file_name].size or 0 for file_name in wanted))
    for file_name in wanted:
        get(file_name)
    # Last, the branch or tag is pointed at the commit, so that a name never leads to a part.
    folder = name.download(CONFIG_NAME).parent
    files_of(folder, name.access)
    return folder


def _get_checked(name: HubName, file_name: str, *, commit: str, file: Any) -> Path:
    """One file of a commit. What arrives is compared with the hub's hash, and kept if it fits."""
    known = name.find(file_name, revision=commit)
    path = _get_resumed(name, file_name, commit=commit)
    if known is not None and not name.access.force_download:
        return path
    expected = file.lfs["sha256"] if file.lfs else file.blob_id
    actual = digest_of(path, len(expected or ""))
    if actual is not None and actual != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise ModelError(
            f"{name}: {file_name} arrived damaged (its hash is {actual[:12]}…, the hub says "
            f"{expected[:12]}…) and was removed; run it again, or choose another HF_ENDPOINT"
        )
    return path


def _get_resumed(name: HubName, file_name: str, *, commit: str) -> Path:
    """One file, asked for again as long as each cut connection left a longer part of it.

    Clients from 2.x resume by themselves and keep no part; older ones keep it and give up.
    """
    blobs = cache_of(name) / "blobs"
    kept_before = 0
    while True:
        try:
            return name.download(file_name, revision=commit)
        except Exception:
            kept = sum(path.stat().st_size for path in blobs.glob("*.incomplete"))
            if kept <= kept_before:
                raise
            kept_before = kept


def _refuse_several(name: HubName, files: Collection[str]) -> None:
    found = originals_among(files)
    if found:
        raise MissingModelError(
            f"{name} holds several files of its authors' own, {', '.join(found)}; fetch one of "
            "them and give its path"
        )


def _refuse_other_models(name: HubName, config: Mapping[str, Any], *, task: str | None) -> None:
    found = task_of(config)
    if found is None:
        raise ModelError(
            f"{name} is a {config.get('model_type')!r} model with architectures "
            f"{config.get('architectures')}, for neither depth nor segmentation; "
            "`dpt models` lists those that are"
        )
    if task is not None and task not in tasks_of(config):
        raise ModelError(f"model {str(name)!r} is for `dpt {found}`, not for `dpt {task}`")


def _card_licence(info: Any) -> str | None:
    card = info.card_data
    return None if card is None else card.get("license")


def show_licence(name: HubName, licence: str | None) -> None:
    text = licence or "not stated"
    if "-nc" in text.lower():
        logger.warning("%s: licence %s, not for commercial use", name, text)
    elif text in OWN_TERMS:
        terms = "%s: under the %s, the publisher's own terms: %s"
        logger.warning(terms, name, text, OWN_TERMS[text])
    else:
        logger.info("%s: licence %s", name, text)


def _require_space(name: HubName, size: int) -> None:
    """Refuse a download that the disk cannot hold, before it starts."""
    from huggingface_hub import constants

    cache = name.access.cache_dir or Path(constants.HF_HUB_CACHE)
    existing = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise ModelError(
            f"{name} needs {size / 1e6:,.1f} MB, but {existing} has {free / 1e6:,.1f} MB left; "
            "make room, or set HF_HOME to a folder on another disk"
        )
