"""A model's folder in the hub's layout: which files it has, what config.json says. Needs no torch.

config.json is data from outside: sizes that no real model has are refused here, before anything
is built from them.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from dptcli.errors import MissingModelError, ModelError
from dptcli.model.access import Access
from dptcli.model.families import families
from dptcli.model.families.family import DEPTH, SEGMENT

CONFIG_NAME = "config.json"
PROCESSOR_NAME = "preprocessor_config.json"
# A model's whole processing, of images among others: what newer files may hold instead.
WHOLE_PROCESSOR_NAME = "processor_config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
PICKLE_NAME = "pytorch_model.bin"
PICKLE_INDEX_NAME = "pytorch_model.bin.index.json"
# Where a repository holds several, the first of these is read.
WEIGHT_NAMES = (WEIGHTS_NAME, INDEX_NAME, PICKLE_NAME, PICKLE_INDEX_NAME)
# The authors' own files, which hold the weights alone.
ORIGINAL_SUFFIXES = (".pt", ".pth", ".ckpt")

HERE = Access()  # nothing special asked for

TASKS = (DEPTH, SEGMENT)
# How the name of an architecture ends -> the task.
TASK_SUFFIXES = {
    "ForDepthEstimation": DEPTH,
    "ForSemanticSegmentation": SEGMENT,
    "ForDensePrediction": DEPTH,  # and more, see tasks_of
}

# The largest value that is believed for each key of a config.json, several times what any
# published model has: a file that asks for more is broken, and building it would take the
# machine's time and memory.
LARGEST = {
    "hidden_size": 16_384,
    "num_hidden_layers": 512,
    "num_attention_heads": 512,
    "intermediate_size": 131_072,
    "mlp_ratio": 64,
    "image_size": 16_384,
    "patch_size": 1_024,
    "num_channels": 1_024,
    "neck_hidden_sizes": 16_384,
    "fusion_hidden_size": 16_384,
    "pooler_output_size": 131_072,
    "reassemble_factors": 64,
    "reassemble_hidden_size": 16_384,
    "head_hidden_size": 16_384,
    "num_labels": 100_000,
    "embed_dim": 16_384,
    "embedding_size": 16_384,
    "hidden_sizes": 65_536,
    "depths": 512,
    "sr_ratios": 1_024,
    "strides": 1_024,
    "patch_sizes": 1_024,
    "mlp_ratios": 64,
    "decoder_hidden_size": 16_384,
    "num_heads": 512,
    "window_size": 16_384,
    "pretrained_window_sizes": 16_384,
    "pretrain_image_size": 16_384,
    "num_groups": 65_536,
    "num_register_tokens": 16_384,
    "bottleneck_features": 65_536,
    "bin_embedding_dim": 65_536,
    "n_bins": 65_536,
    "num_attractors": 65_536,
    "num_relative_features": 65_536,
    "num_patch_transformer_layers": 512,
    "patch_transformer_hidden_size": 16_384,
    "patch_transformer_intermediate_size": 131_072,
    "patch_transformer_num_attention_heads": 512,
}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelError when it is missing or not one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingModelError(
            f"{path}: no such file; a model is a folder with {CONFIG_NAME} and {WEIGHTS_NAME}"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); fetch it again") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds a {type(values).__name__}, not an object; fetch it again")
    return values


def read_config(folder: str | Path, name: str = CONFIG_NAME) -> dict[str, Any]:
    """The dictionary in a folder's config.json. ModelError also for sizes beyond belief."""
    path = Path(folder) / name
    values = read_json(path)
    check_sizes(values, path=path)
    return values


def check_sizes(values: Mapping[str, Any], *, path: Path) -> None:
    """Raise ModelError for a size above `LARGEST`, in the dictionary or one nested in it."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            check_sizes(value, path=path)
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                check_sizes(item, path=path)
            elif isinstance(item, int | float) and item > LARGEST.get(key, float("inf")):
                raise ModelError(
                    f"{path}: {key} {item} is beyond the {LARGEST[key]} that any model has; "
                    "the file is broken: fetch it again"
                )


def task_of(values: Mapping[str, Any]) -> str | None:
    """The task that the architectures of a config.json name; None when they name none."""
    architectures = values.get("architectures")
    named = architectures if isinstance(architectures, list) else []
    known = {name: task for family in families() for name, task in family.tasks.items()}
    for name in (*named, authors_architecture(values)):
        if name in known:
            return known[name]
        for suffix, task in TASK_SUFFIXES.items():
            if str(name).endswith(suffix):
                return task
    return None


def tasks_of(values: Mapping[str, Any]) -> set[str]:
    """All tasks that a model of this config.json does."""
    first = task_of(values)
    names = values.get("architectures")
    names = names if isinstance(names, list) else []
    others = {
        task
        for family in families()
        for name in names
        for task in family.parts.get(str(name), {})
        if task in (DEPTH, SEGMENT)
    }
    return others if first is None else {first, *others}


def authors_architecture(values: Mapping[str, Any]) -> str | None:
    """The architecture that a config.json in a layout of the authors' own means, else None."""
    if "architectures" in values or "model_type" in values:
        return None
    found = (family.authors_layout(values) for family in families())
    return next((name for name in found if name is not None), None)


def authors_processor(values: Mapping[str, Any]) -> str | None:
    """The image processor of a model in a layout of the authors' own, which has no file of it."""
    name = authors_architecture(values)
    found = (family.processor for family in families() if name in family.tasks)
    return next(found, None)


def is_authors_folder(folder: Path) -> bool:
    """Whether a folder holds a model in a layout of its authors' own, without our processor."""
    path = folder / CONFIG_NAME
    return path.is_file() and authors_architecture(read_json(path)) is not None


def weights_among(names: Collection[str], access: Access = HERE) -> str | None:
    """Which of the files with `names` the weights are read from: a whole file or an index."""
    kinds = {True: WEIGHT_NAMES[:2], False: WEIGHT_NAMES[2:], None: WEIGHT_NAMES}
    wanted = (variant_name(name, access.variant) for name in kinds[access.use_safetensors])
    return next((name for name in wanted if name in names), None)


def processor_among(names: Collection[str]) -> str | None:
    """Which of the files with `names` the image processor is read from."""
    return next((name for name in (PROCESSOR_NAME, WHOLE_PROCESSOR_NAME) if name in names), None)


def variant_name(name: str, variant: str | None) -> str:
    """The name of a file of weights, or an index of such, in a variant: model.fp16.safetensors."""
    if variant is None:
        return name
    base, _, suffix = name.rpartition(".")
    return f"{base}.{variant}.{suffix}"


def shards_of(index: Path) -> dict[str, str]:
    """{tensor: file} from an index. Raises ModelError when it is not one."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: has no weight_map; fetch it again")
    return {str(name): str(file_name) for name, file_name in weight_map.items()}


def originals_among(names: Iterable[str]) -> list[str]:
    """Those of the names that are of authors' own files."""
    return [name for name in names if name.lower().endswith(ORIGINAL_SUFFIXES)]


def original_among(names: Iterable[str]) -> str | None:
    """The file of the authors' own, where just one of the names is of one."""
    found = originals_among(names)
    return found[0] if len(found) == 1 else None


def files_of(folder: Path, access: Access = HERE) -> list[Path]:
    """The files that loading reads, shards included. Raises ModelError when one is missing."""
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    weights = weights_among(present, access)
    if CONFIG_NAME not in present or weights is None:
        lacking = CONFIG_NAME if CONFIG_NAME not in present else "weights"
        raise MissingModelError(
            f"{folder}: has no {lacking}; a model is a folder with {CONFIG_NAME}, "
            f"{PROCESSOR_NAME} and {WEIGHTS_NAME}"
        )
    needed = [CONFIG_NAME, weights]
    processor = processor_among(present)
    if processor is not None:
        needed.insert(1, processor)
    elif not is_authors_folder(folder):
        # No default: a wrong size or normalisation gives wrong depth without a sign of it.
        raise MissingModelError(
            f"{folder}: has no {PROCESSOR_NAME}, which says how images are resized and "
            "normalised; copy it from the model's repository"
        )
    paths = [folder / name for name in needed]
    if weights.endswith(".json"):
        paths += [folder / name for name in sorted(set(shards_of(folder / weights).values()))]
    for path in paths:
        if not path.is_file():
            raise MissingModelError(
                f"{path}: no such file, though the index names it; fetch it again"
            )
    return paths
