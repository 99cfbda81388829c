"""What the authors' own files call each tensor -> our names (the hub's), as tables.

In a name, `{n}` and `{m}` are numbers that stay as they are, `{q}` the rest of the name; `{s}`
counts from 1 there and from 0 here; `{r}` counts refinement blocks from the shallow end there and
from the deep end here; `{qkv}` here means that one tensor there holds query, key and value.
An empty name leaves a tensor out: nothing in the network uses it.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

NUM_STAGES = 4
QKV = ("query", "key", "value")

Table = tuple[tuple[str, str], ...]

# isl-org/DPT: what both of its networks share. Its encoder is timm's.
_DPT: Table = (
    ("pretrained.model.cls_token", "dpt.embeddings.cls_token"),
    ("pretrained.model.pos_embed", "dpt.embeddings.position_embeddings"),
    ("pretrained.model.blocks.{n}.norm1.{q}", "dpt.encoder.layer.{n}.layernorm_before.{q}"),
    ("pretrained.model.blocks.{n}.norm2.{q}", "dpt.encoder.layer.{n}.layernorm_after.{q}"),
    (
        "pretrained.model.blocks.{n}.attn.qkv.{q}",
        "dpt.encoder.layer.{n}.attention.attention.{qkv}.{q}",
    ),
    (
        "pretrained.model.blocks.{n}.attn.proj.{q}",
        "dpt.encoder.layer.{n}.attention.output.dense.{q}",
    ),
    ("pretrained.model.blocks.{n}.mlp.fc1.{q}", "dpt.encoder.layer.{n}.intermediate.dense.{q}"),
    ("pretrained.model.blocks.{n}.mlp.fc2.{q}", "dpt.encoder.layer.{n}.output.dense.{q}"),
    ("pretrained.model.norm.{q}", "dpt.layernorm.{q}"),
    ("pretrained.model.head.{q}", ""),  # the classifier of ImageNet
    (
        "pretrained.act_postprocess{s}.0.project.0.{q}",
        "neck.reassemble_stage.readout_projects.{s}.0.{q}",
    ),
    ("pretrained.act_postprocess{s}.3.{q}", "neck.reassemble_stage.layers.{s}.projection.{q}"),
    ("pretrained.act_postprocess{s}.4.{q}", "neck.reassemble_stage.layers.{s}.resize.{q}"),
    ("scratch.layer{s}_rn.{q}", "neck.convs.{s}.{q}"),
    ("scratch.refinenet{r}.out_conv.{q}", "neck.fusion_stage.layers.{r}.projection.{q}"),
    (
        "scratch.refinenet{r}.resConfUnit{n}.conv{m}.{q}",
        "neck.fusion_stage.layers.{r}.residual_layer{n}.convolution{m}.{q}",
    ),
    (
        "scratch.refinenet{r}.resConfUnit{n}.bn{m}.{q}",
        "neck.fusion_stage.layers.{r}.residual_layer{n}.batch_norm{m}.{q}",
    ),
    ("scratch.output_conv.{n}.{q}", "head.head.{n}.{q}"),
    ("auxlayer.{n}.{q}", "auxiliary_head.head.{n}.{q}"),
)
DPT_VIT: Table = (
    *_DPT,
    (
        "pretrained.model.patch_embed.proj.{q}",
        "dpt.embeddings.patch_embeddings.projection.{q}",
    ),
)
DPT_HYBRID: Table = (
    *_DPT,
    ("pretrained.model.patch_embed.proj.{q}", "dpt.embeddings.projection.{q}"),
    (
        "pretrained.model.patch_embed.backbone.stem.conv.{q}",
        "dpt.embeddings.backbone.bit.embedder.convolution.{q}",
    ),
    (
        "pretrained.model.patch_embed.backbone.stem.norm.{q}",
        "dpt.embeddings.backbone.bit.embedder.norm.{q}",
    ),
    (
        "pretrained.model.patch_embed.backbone.stages.{n}.blocks.{m}.{q}",
        "dpt.embeddings.backbone.bit.encoder.stages.{n}.layers.{m}.{q}",
    ),
)
# Depth-Anything v1 and V2. Its encoder is DINOv2's own code.
DEPTH_ANYTHING: Table = (
    ("pretrained.cls_token", "backbone.embeddings.cls_token"),
    ("pretrained.mask_token", "backbone.embeddings.mask_token"),
    ("pretrained.pos_embed", "backbone.embeddings.position_embeddings"),
    ("pretrained.patch_embed.proj.{q}", "backbone.embeddings.patch_embeddings.projection.{q}"),
    ("pretrained.blocks.{n}.norm{m}.{q}", "backbone.encoder.layer.{n}.norm{m}.{q}"),
    (
        "pretrained.blocks.{n}.attn.qkv.{q}",
        "backbone.encoder.layer.{n}.attention.attention.{qkv}.{q}",
    ),
    (
        "pretrained.blocks.{n}.attn.proj.{q}",
        "backbone.encoder.layer.{n}.attention.output.dense.{q}",
    ),
    ("pretrained.blocks.{n}.ls{m}.gamma", "backbone.encoder.layer.{n}.layer_scale{m}.lambda1"),
    ("pretrained.blocks.{n}.mlp.fc{m}.{q}", "backbone.encoder.layer.{n}.mlp.fc{m}.{q}"),
    ("pretrained.blocks.{n}.mlp.w12.{q}", "backbone.encoder.layer.{n}.mlp.weights_in.{q}"),
    ("pretrained.blocks.{n}.mlp.w3.{q}", "backbone.encoder.layer.{n}.mlp.weights_out.{q}"),
    ("pretrained.norm.{q}", "backbone.layernorm.{q}"),
    ("depth_head.projects.{n}.{q}", "neck.reassemble_stage.layers.{n}.projection.{q}"),
    ("depth_head.resize_layers.{n}.{q}", "neck.reassemble_stage.layers.{n}.resize.{q}"),
    ("depth_head.scratch.layer{s}_rn.{q}", "neck.convs.{s}.{q}"),
    ("depth_head.scratch.refinenet{r}.out_conv.{q}", "neck.fusion_stage.layers.{r}.projection.{q}"),
    (
        "depth_head.scratch.refinenet{r}.resConfUnit{n}.conv{m}.{q}",
        "neck.fusion_stage.layers.{r}.residual_layer{n}.convolution{m}.{q}",
    ),
    ("depth_head.scratch.output_conv1.{q}", "head.conv1.{q}"),
    ("depth_head.scratch.output_conv2.0.{q}", "head.conv2.{q}"),
    ("depth_head.scratch.output_conv2.2.{q}", "head.conv3.{q}"),
)

_FIELDS = {"n": r"\d+", "m": r"\d+", "q": r"[\w.]+", "s": r"[1-4]", "r": r"[1-4]"}


def rename(tensors: Mapping[str, Tensor], table: Table) -> tuple[dict[str, Tensor], list[str]]:
    """{our name: tensor}, and the names in the file that the table does not know."""
    rules = [(_pattern(theirs), ours) for theirs, ours in table]
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        matches = ((pattern.fullmatch(name), ours) for pattern, ours in rules)
        found = next(((match, ours) for match, ours in matches if match), None)
        if found is None:
            unknown.append(name)
        elif found[1]:
            renamed.update(_placed(_filled(found[1], found[0].groupdict()), tensor))
    return renamed, unknown


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    named = (f"(?P<{part}>{_FIELDS[part]})" for part in parts[1::2])
    fixed = map(re.escape, parts[::2])
    return re.compile("".join(_interleaved(fixed, named)))


def _interleaved(fixed: Iterable[str], named: Iterable[str]) -> Iterable[str]:
    rest = iter(named)
    for text in fixed:
        yield text
        yield next(rest, "")


def _filled(template: str, found: Mapping[str, str]) -> str:
    values = dict(found)
    if "s" in values:
        values["s"] = str(int(values["s"]) - 1)
    if "r" in values:
        values["r"] = str(NUM_STAGES - int(values["r"]))
    return template.format(**values, qkv="{qkv}")


def _placed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if "{qkv}" not in name:
        return {name: tensor}
    parts = tensor.chunk(len(QKV), dim=0)
    return {name.format(qkv=part): value for part, value in zip(QKV, parts, strict=False)}
