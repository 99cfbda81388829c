"""What the network says of a picture, brought to the size that was asked for."""

from dataclasses import replace

from dptcli.depth.colormaps import finite_range
from dptcli.inputs.reading import read_facts
from dptcli.processing.postprocess import label_map
from dptcli.processing.sky import mask_at
from dptcli.processing.target_size import target_hw
from dptcli.running.answer import Answer
from dptcli.running.ending import at_size, end_depth, lens_by, lens_for, told_of, without_padding
from dptcli.running.options import Options
from dptcli.running.seen import Prediction, Sample
from dptcli.running.sphere import finish_sphere
from dptcli.weights.load import LoadedModel


def finish(output: Answer, sample: Sample, loaded: LoadedModel, options: Options) -> Prediction:
    """Bring a network's map to the size that was asked for: crop, resize, argmax."""
    if sample.sphere is not None:
        wanted = options.target_size
        return finish_sphere(output, sample, kind=loaded.kind, target_size=wanted)
    prepared = sample.prepared
    is_depth = loaded.task == "depth"
    cropped = without_padding(output.maps, prepared, loaded)
    sky = sure = None
    lens = normals = None
    if is_depth:
        if sample.lens is None:  # an array's
            lens = lens_for(loaded, options.camera, prepared.source_hw, None)
            sample = replace(sample, lens=lens)
        lens = lens_by(output, sample, options.camera)
        seen = replace(output, maps=cropped)
        normals = seen.normals
        if options.confidence is not None:
            sure = seen.named("confidence")
        cropped, sky = end_depth(
            seen,
            loaded,
            keep_sky=options.sky == "keep",
            lens=lens,
            network_hw=(sample.overview or prepared).network_hw,  # tiles are fitted to it
        )
    height, width = cropped.shape[-2:]
    limits = (0.0, 0.0)
    if is_depth:
        limits = finite_range(at_size(cropped, (height, width), loaded).numpy())
    hw = target_hw(prepared.source_hw, (height, width), options.target_size)
    placed = None if options.sky == "keep" else sky
    values = at_size(cropped, hw, loaded, sky=placed) if is_depth else label_map(cropped, hw)
    return Prediction(
        values.numpy(),
        sample.rgb,
        source_hw=prepared.source_hw,
        network_hw=prepared.network_hw,
        limits=limits,
        sky=None if sky is None else mask_at(sky, hw),
        scores=cropped.softmax(0).half().numpy() if options.keep_scores else None,
        confidence=None if sure is None else sure.numpy(),
        normals=None if normals is None else normals.numpy(),
        lens=lens,
        extrinsics=None if output.camera is None else output.camera.extrinsics,
        facts=read_facts(sample.about) | told_of(loaded, sample.prompt, lens),
        about=sample.about,
    )
