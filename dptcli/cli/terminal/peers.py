"""What the scripts of other programs call their options, and our word for each. Loads nothing.

Somebody who comes with a command line of MiDaS, Depth Anything, Video Depth Anything, Depth Pro,
MoGe, Marigold, mmsegmentation or Ultralytics is told what to write instead. None of these words is
accepted silently: what looks the same may mean something else there.
"""

from collections.abc import Mapping, Sequence

# A sentence for each command, or one for both. Spelt with hyphens; underscores are the same.
_BOTH: Mapping[tuple[str, ...], str] = {
    (
        *("-i", "--input", "--input-path", "--input-dir", "--input-video", "--input-rgb-dir"),
        *("--img-path", "--img-dir", "--image-path", "--image-dir", "--image", "--images"),
        *("--source", "--video-path"),
    ): "inputs stand without an option, e.g. dpt {command} photos/ -o out/",
    (
        *("--output-dir", "--output-path", "--out", "--outdir", "--out-dir", "--out-file"),
        *("--save-dir", "--save-path", "--export-dir"),
    ): "say -o",
    (
        *("--input-size", "--imgsz", "--img-size", "--infer-size", "--max-res"),
        *("--processing-res", "--process-res"),
    ): "say --size",
    ("--height", "--width", "--resolution"): "say --size HEIGHTxWIDTH",
    ("--fp16", "--half", "--half-precision", "--float16"): "say --dtype float16",
    ("--bf16",): "say --dtype bfloat16",
    ("--fp32", "--no-half"): "say --dtype float32",
    (
        *("--encoder", "-t", "--model-type", "--model-name", "--model-size"),
        *("--model-weights", "--weights", "--checkpoint", "--ckpt", "--load-from"),
        *("--pretrained", "--model-dir", "--model-path"),
    ): "say -m with a name of `dpt models`, a folder or a file",
    ("--gpu", "--gpu-id", "--cuda"): "say --device cuda or cuda:1",
    ("--cpu", "--no-cuda", "--no-gpu"): "say --device cpu",
    ("--batch", "--bs"): "say --batch-size",
    ("--max-len", "--max-frames"): "say --frames :N",
    ("-r", "--recursive"): "leave it out: folders are read with all below them",
    ("--resume",): "leave it out: the same command again does what is missing",
    ("--no-display", "--skip-display"): "leave it out: no window is opened",
}
_DEPTH: Mapping[tuple[str, ...], str] = {
    ("--pred-only",): "leave it out: the result is depth alone, unless --side-by-side",
    ("-s", "--side"): "say --side-by-side",
    ("--color-map", "--cmap"): "say --colormap",
    ("--save-numpy", "--save-npy", "--npy"): "say -f npy",
    ("--save-npz",): "say -f npz",
    ("--save-exr",): "say -f exr",
    ("--save-16bit", "--png16", "--depth-16bit"): "say --bits 16 for a grey picture, or -f png16",
    ("--ply", "--save-ply", "--pointcloud", "--point-cloud"): "say -f ply",
    ("--glb", "--mesh", "--save-mesh"): "say -f glb",
    ("--export-format", "--output-format"): "say -f",
    ("--fov-x", "--hfov"): "say --fov",
    ("--focal-length", "--focal-length-x"): "say --focal (on 35 mm film) or --fov",
    ("--threshold",): "say --edge-cut",
    ("--metric",): "say -m with a model that `dpt models` says gives metres",
    ("--max-depth",): "a model has its own; dpt convert FILE FOLDER --max-depth N changes it",
    ("--display",): "say --preview; for a camera --camera 0 --show",
}
_SEGMENT: Mapping[tuple[str, ...], str] = {
    ("--opacity", "--alpha"): "say --overlay",
    ("--with-labels", "--legend"): "say --also legend",
    ("--show", "--display"): "say --overlay, and look at the result",
}
_ALONE: Mapping[str, Mapping[tuple[str, ...], str]] = {"depth": _DEPTH, "segment": _SEGMENT}

# What follows --encoder, -t and the like, where the same weights have a name here.
_MODELS: Mapping[str, str] = {
    "vits": "depth-anything-v2-small",
    "vitb": "depth-anything-v2-base",
    "vitl": "depth-anything-v2-large",
    "dpt_large": "dpt-large",
    "dpt_large_384": "dpt-large",
    "dpt_hybrid": "hybrid-midas",
    "dpt_hybrid_384": "hybrid-midas",
    "dpt_beit_large_512": "beit-large-512",
    "dpt_beit_large_384": "beit-large-384",
    "dpt_beit_base_384": "beit-base-384",
    "dpt_swin2_large_384": "swinv2-large",
    "dpt_swin2_base_384": "swinv2-base",
    "dpt_swin2_tiny_256": "swinv2-tiny",
}


def answers(command: str) -> dict[str, str]:
    """{another program's option: what to write instead} of `dpt COMMAND`; empty for most."""
    if command not in _ALONE:
        return {}
    rows = {**_BOTH, **_ALONE[command]}
    return {name: said.format(command=command) for names, said in rows.items() for name in names}


def our_word(option: str, arguments: Sequence[str], *, command: str) -> str | None:
    """Return what to write instead of an option that `dpt COMMAND` has not; None for unknown ones.

    arguments: the whole line, which may name a model that has a name here.
    """
    said = answers(command).get(option.replace("_", "-"))
    if said is None or not said.startswith("say -m with a name"):
        return said
    model = _MODELS.get(_value_of(option, arguments).lower()) if command == "depth" else None
    return said if model is None else f"say -m {model}"


def _value_of(option: str, arguments: Sequence[str]) -> str:
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return ""
