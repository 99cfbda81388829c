"""A small Depth Anything 3 nested in its authors' layout: the two small ones beside it together.

`depth_anything_3_nested.npz` beside the test holds what the authors' own code gives with them.
"""

import json
from pathlib import Path

import depth_anything_3_folder as metric
import depth_anything_3_views_folder as views
from safetensors.torch import save_file
from torch import Tensor

MODEL_NAME = "da3nested-giant-large"


def weights() -> dict[str, Tensor]:
    """Every tensor, those of the networks alone under the names of parts."""
    return {
        name.replace("model.", prefix, 1): tensor
        for prefix, network in (("model.da3.", views), ("model.da3_metric.", metric))
        for name, tensor in network.weights().items()
    }


def save_authors_nested(folder: Path) -> Path:
    """Write the model as its authors do: config.json with model_name, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_name": MODEL_NAME, "config": {}}))
    save_file(weights(), folder / "model.safetensors")
    return folder
