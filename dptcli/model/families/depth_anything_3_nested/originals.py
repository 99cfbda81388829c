"""The folder of Depth-Anything-3's authors with both networks: config.json, model.safetensors."""

from pathlib import Path
from typing import Any

from dptcli.model.families.depth_anything_3 import originals as metric
from dptcli.model.families.depth_anything_3_nested import ARCHITECTURE, MODEL_NAME, WITH_POSES
from dptcli.model.families.depth_anything_3_views import WITH_POSES as VIEWS_WITH_POSES
from dptcli.model.families.depth_anything_3_views import originals as views
from dptcli.model.families.original import Kind, OriginalFormat, Table, Tensors

_ALONE, _VIEWS, _METRIC = "model.", "model.da3.", "model.da3_metric."
KINDS = (Kind(name=MODEL_NAME, network_hw=(504, 504), metric={}, hint="da3nested", taps={}),)
_METRES = next(kind for kind in metric.KINDS if kind.metric["depth_estimation_type"] == "metric")


def _under(table: Table, theirs: str, ours: str) -> Table:
    """The table of a network alone, for the same network as a part of two."""
    return tuple(
        (theirs + name.removeprefix(_ALONE), f"{ours}.{other}" if other else "")
        for name, other in table
    )


def _part(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors of one of the networks, named as if it were alone."""
    start = len(prefix)
    return {
        _ALONE + name[start:]: found for name, found in tensors.items() if name[:start] == prefix
    }


TABLE: Table = (
    *_under(metric.TABLE, _METRIC, "metric"),
    *_under(views.TABLE, _VIEWS, "views"),
)


def _config(tensors: Tensors, _kind: Kind, path: Path) -> dict[str, Any]:
    first = views.config_of_views(_part(tensors, _VIEWS), views.KINDS[0], path)
    second = metric.config_of_metric(_part(tensors, _METRIC), _METRES, path)
    takes_poses = first.pop("architectures") == [VIEWS_WITH_POSES]
    second.pop("architectures")
    return {
        "model_type": "depth_anything_3_nested",
        "architectures": [WITH_POSES if takes_poses else ARCHITECTURE],
        "depth_estimation_type": "metric",
        "views_config": first,
        "metric_config": second,
    }


FORMATS = (
    OriginalFormat(
        title="Depth-Anything-3 nested",
        fits=lambda tensors: f"{_METRIC}head.scratch.sky_output_conv2.0.weight" in tensors,
        kinds=KINDS,
        config=_config,
        table=lambda _: TABLE,
        processor=metric.PROCESSOR,
    ),
)
