"""From a prediction to its files: every format that was asked for, and the sidecar."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.depth.anchors import FITS, Anchors, apply_fit, sample_at
from dptcli.depth.boxes import Boxes
from dptcli.depth.camera import Camera, lens_of
from dptcli.depth.colormaps import finite_range
from dptcli.depth.confidence import confidence_at, confidence_facts, normals_at
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.facts import meaning, value_facts
from dptcli.depth.formats import FORMATS, Format
from dptcli.depth.lens import Lens
from dptcli.depth.picture import Look
from dptcli.depth.rawfiles import RAW_WRITERS
from dptcli.depth.shapes import DEFAULT_MAX_POINTS, SHAPE_WRITERS
from dptcli.depth.sparse import Sparse
from dptcli.depth.sphere import along_rays, refined
from dptcli.depth.splat import FACT, fit_facts, fit_to_sparse
from dptcli.depth.stereo import Stereo, write_stereo
from dptcli.depth.things import describe_boxes, describe_things, draw_things
from dptcli.errors import UsageError
from dptcli.inputs.find import ImageSource
from dptcli.kinds import MEANINGS, Kind, near_is_large
from dptcli.remote.places import RemotePath
from dptcli.results.plan import Job, photo_facts
from dptcli.results.sidecar import FILES_KEY, earlier_files, sidecar_bytes
from dptcli.results.writers import write_picture, write_whole
from dptcli.segments.maskfiles import Style, write_label_mask
from dptcli.segments.masks import describe_segments

if TYPE_CHECKING:
    from dptcli.pipeline import Prediction
    from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

Sky = Literal["far", "mask", "keep"]
Range = tuple[float, float]
TOLD = ("kind", "min", "max", "anchors", "segments", "things", "boxes", "shot_change", FACT)
"""The facts of an image that its line of --json holds."""


@dataclass(frozen=True, kw_only=True)
class DepthOutputs:
    """What to write of a photograph's depth.

    refine: move depth's edges to the photograph's, in every format. max_points, edge_cut_deg: of a
    point cloud or a mesh, as their writers have it. run_limits: the range of the whole
    run, where `look` wants it. anchors: known distances, which turn depth into metres.
    stereo: how far apart two views are. boxes: a detector's, whose distances are told.
    shows_things: draw them, or the classes' regions, into pictures.
    mirrored: how sure the depth is comes from a second pass, of the mirrored photograph.
    on_picture: takes each image's name and picture, whatever the formats, in the writer's thread.
    names: class id -> name, where classes are predicted too. mask_style: write their masks, each to
    the last of a job's files. sky: what becomes of it, None is "far" where the network knows it.
    sparse: a COLMAP model, to whose points each photograph's depth is fitted.
    """

    formats: tuple[Format, ...] = (FORMATS["color"],)
    look: Look = field(default_factory=Look)
    camera: Camera = field(default_factory=Camera)
    refine: bool = False
    max_points: int = DEFAULT_MAX_POINTS
    edge_cut_deg: float | None = None
    stereo: Stereo = field(default_factory=Stereo)
    boxes: Boxes | None = None
    shows_things: bool = False
    run_limits: tuple[float, float] | None = None
    anchors: Anchors | None = None
    on_picture: Callable[[str, Image.Image], None] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    mask_style: Style | None = None
    sky: Sky | None = None
    mirrored: bool = False
    sparse: Sparse | None = None

    @property
    def confidence(self) -> Literal["network", "mirrored"] | None:
        """Whose word is wanted on how sure the depth is, where a format has a place for it."""
        if not any(item.needs_sure or item.name == "npz" for item in self.formats):
            return None
        return "mirrored" if self.mirrored else "network"

    @property
    def needs_photo(self) -> bool:
        """Whether the decoded photograph is needed beside its depth."""
        pictures = any(item.group == "picture" for item in self.formats)
        textured = any(item.name in {"ply", "glb"} for item in self.formats)
        stereo = any(item.group == "stereo" for item in self.formats)
        return self.refine or textured or stereo or (pictures and self.look.side_by_side)

    def check_model(self, loaded: "LoadedModel") -> None:
        """Raise UsageError when the model lacks what a format or an option needs."""
        knows = hasattr(loaded.model.config, "sky_threshold") or self._sky_class is not None
        if self.sky is not None and not knows:
            raise UsageError(
                f"--sky: model {loaded.name!r} does not tell where the sky is; take "
                "--with-segments, or a model that `dpt models` says knows the sky"
            )
        tells = self.mirrored or getattr(loaded.model.config, "gives_confidence", False)
        if not tells and any(item.needs_sure for item in self.formats):
            raise UsageError(
                f"--format confidence: model {loaded.name!r} does not say how sure it is; add "
                "--confidence, which asks it twice, or take one that `dpt models` says knows it"
            )
        if loaded.kind == "height_m":
            self._check_heights(loaded.name)
        if self.stereo.ipd_mm is not None and not loaded.is_metric and self.anchors is None:
            raise UsageError(
                f"--ipd is in millimetres, and model {loaded.name!r} gives "
                f"{MEANINGS[loaded.kind].title}, without a unit; give --strength, take a metric "
                "model, or give --anchor"
            )
        needy = [item.name for item in self.formats if item.needs_metres]
        if needy and not loaded.is_metric and self.anchors is None:
            raise UsageError(
                f"--format {needy[0]} stores metres, and model {loaded.name!r} gives "
                f"{MEANINGS[loaded.kind].title}, without a unit; take a metric model, give "
                "--anchor, --gives metres for one that is, or --format png16"
            )

    def _check_heights(self, name: str) -> None:
        """Raise UsageError where heights above the ground are not what is asked for."""
        wrong = [
            f"--format {item.name}"
            for item in self.formats
            if item.needs_metres or item.group in {"shape", "stereo"} or item.name == "splat"
        ]
        wrong += [] if self.anchors is None else ["--anchor"]
        if wrong:
            raise UsageError(
                f"{wrong[0]} is for distances from a camera, and model {name!r} gives heights "
                "above the ground, in metres; take tiff, npy, npz, pfm, exr, png16 or a picture"
            )

    def save(
        self, job: Job, prediction: "Prediction", model_facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write every file of one image and return what a program wants to know about it."""
        depth = self.depth_map(job, prediction, model_facts)
        if self.on_picture is not None:
            self.on_picture(job.source.name, self.look.draw(depth, self.run_limits)[0])
        about: dict[str, dict[str, Any]] = {}
        files: tuple[Path | None, ...] = job.files or (job.path,)
        if self.mask_style is not None:
            files, mask = files[:-1], files[-1]
            self._write_mask(mask, job, prediction, depth.facts)
        for item, path in zip(self.formats, files, strict=True):
            if path is not None and path in job.keep:
                continue

            def write(stream: BinaryIO, item: Format = item) -> None:
                about[item.name] = self._write(item, stream, depth)

            write_whole(path, write)
        named = {
            path.name: {"format": item.name, **about[item.name]}
            for item, path in zip(self.formats, files, strict=True)
            if path is not None and item.name in about
        }
        if job.sidecar is not None:
            _write_sidecar(job.sidecar, depth.facts, named, keep=job.keep)
        told = {key: depth.facts[key] for key in TOLD if key in depth.facts}
        return {**told, FILES_KEY: [str(path) for path in job.files]}

    def depth_map(
        self, job: Job, prediction: "Prediction", model_facts: Mapping[str, Any]
    ) -> DepthMap:
        """Return a prediction with its meaning, its facts and its camera."""
        values = np.asarray(prediction.values, np.float32)
        kind: Kind = model_facts["kind"]
        own_kind = kind
        sky = self._sky_of(prediction, values.shape)
        if self.refine and prediction.rgb is not None:
            apart = None if self.sky == "keep" else sky
            values = refined(values, prediction, kind=kind, apart=apart)
            model_facts = {**model_facts, "edges": "moved to the photograph's by a guided filter"}
        if self.anchors is not None:
            prediction, fitted = _to_metres(
                replace(prediction, values=values), self.anchors, kind, name=job.source.name
            )
            values = prediction.values
            kind = "depth_m"
            model_facts = {**model_facts, **meaning(kind), "anchors": fitted}
        if sky is not None:
            values, ends, told = self._with_sky(values, prediction.frame_limits, sky, kind)
            if prediction.own_limits is None:
                prediction = replace(prediction, limits=ends)
            else:
                prediction = replace(prediction, own_limits=ends)
            model_facts = {**model_facts, "sky": told}
        if prediction.extent is not None:
            model_facts = {**model_facts, "values": along_rays(kind)}
        facts = {
            **model_facts,
            "source": job.source.given,
            "source_hw": list(prediction.source_hw),
            "network_hw": list(prediction.network_hw),
            **photo_facts(job),
            **value_facts(values),
            **prediction.facts,
        }
        sparse_fit = None
        if self.sparse is not None:
            seen = self.sparse.of(job.source)
            sparse_fit = fit_to_sparse(values, kind, seen, prediction.source_hw)
            facts[FACT] = fit_facts(sparse_fit, self.sparse)
        if prediction.labels is not None:
            facts["segments"] = describe_segments(values, prediction.labels, self.names)
            facts["things"] = describe_things(
                values, prediction.labels, self.names, near_is_large=near_is_large(kind)
            )
        if self.boxes is not None:
            boxes = self.boxes.of(job.source.relative, prediction.source_hw)
            facts["boxes"] = describe_boxes(values, boxes, near_is_large=near_is_large(kind))
        lens = self._lens(prediction, job.source, (values.shape[0], values.shape[1]))
        if lens is not None:
            facts |= {**lens.focal_facts(), "camera": lens.facts()}
            if prediction.extrinsics is not None:
                # Rounded as exactly as they are known: a given place may be far from the origin.
                decimals = 6 if prediction.extrinsics.dtype == np.float32 else 12
                facts["camera"]["extrinsics"] = (
                    prediction.extrinsics.astype(float).round(decimals).tolist()
                )
        sure = None
        if prediction.confidence is not None:
            sure = confidence_at(prediction.confidence, (values.shape[0], values.shape[1]))
            facts["confidence"] = confidence_facts(sure, own_kind, mirrored=self.mirrored)
        return DepthMap(
            values,
            kind,
            prediction.limits,
            prediction.rgb,
            lens=lens,
            extrinsics=prediction.extrinsics,
            confidence=sure,
            normals=None
            if prediction.normals is None
            else normals_at(prediction.normals, (values.shape[0], values.shape[1])),
            facts=facts,
            place=prediction.about.place,
            sparse_fit=sparse_fit,
            extent=prediction.extent,
            own_limits=prediction.own_limits,
        )

    def _lens(
        self, prediction: "Prediction", source: ImageSource, hw: tuple[int, int]
    ) -> Lens | None:
        """The camera in pixels of a map of `hw`, where it is known already or a format needs it."""
        if prediction.extent is not None:
            return None
        lens = prediction.lens
        by_eyes = self.stereo.ipd_mm is not None
        if lens is None and (by_eyes or any(item.needs_camera for item in self.formats)):
            lens = lens_of(self.camera, prediction.source_hw, source)
        return None if lens is None else lens.at(hw)

    @property
    def _sky_class(self) -> int | None:
        """The id of the class that is the sky, where classes are predicted too."""
        named = (label for label, name in self.names.items() if name.casefold() == "sky")
        return next(named, None)

    def _sky_of(self, prediction: "Prediction", hw: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Where the sky is, bool `hw`: by the network, or where it is asked for by the classes."""
        if prediction.sky is not None:
            import torch  # not for a run that has nothing to do

            from dptcli.processing.sky import mask_at

            return mask_at(torch.from_numpy(prediction.sky), (hw[0], hw[1]))
        if self.sky in (None, "keep") or prediction.labels is None:
            return None
        return np.asarray(prediction.labels == self._sky_class)

    def _with_sky(
        self,
        values: NDArray[np.float32],
        limits: Range,
        sky: NDArray[np.bool_],
        kind: Kind,
    ) -> tuple[NDArray[np.float32], Range, dict[str, Any]]:
        """Depth with its sky as it is wanted, its limits, and what to say about it."""
        told = {"share": round(float(sky.mean()), 6), "values": self.sky or "far"}
        if self.sky == "mask" and sky.any():
            values = np.where(sky, np.float32(np.nan), values)
            limits = finite_range(values)
        elif self.sky == "far" and self._sky_class is not None:
            import torch

            from dptcli.processing.sky import sky_far

            placed = sky_far(
                torch.from_numpy(values), torch.from_numpy(sky), near_is_large=near_is_large(kind)
            )
            values = placed.numpy()
        return values, limits, told

    def _write_mask(
        self, path: Path | None, job: Job, prediction: "Prediction", facts: Mapping[str, Any]
    ) -> None:
        labels, style = prediction.labels, self.mask_style
        if path is None or path in job.keep or labels is None or style is None:
            return
        said = {**photo_facts(job), "model": facts["model"], "kind": "labels"}
        write_whole(path, lambda to: write_label_mask(to, labels, style=style, facts=said))

    def _write(self, item: Format, stream: BinaryIO, depth: DepthMap) -> dict[str, Any]:
        if item.group == "map":
            return RAW_WRITERS[item.name](stream, depth)
        if item.name in {"ply", "glb"}:
            return SHAPE_WRITERS[item.name](
                stream, depth, max_points=self.max_points, edge_cut_deg=self.edge_cut_deg
            )
        if item.group == "stereo":
            return write_stereo(stream, depth, layout=item.name, stereo=self.stereo)
        if item.group == "shape":
            return SHAPE_WRITERS[item.name](stream, depth)
        picture, facts = self.look.draw(depth, self.run_limits, indexed=True)
        if self.shows_things:
            picture = draw_things(
                picture,
                depth.facts["things" if self.boxes is None else "boxes"],
                unit="m" if depth.kind.endswith("_m") else "",
                left=depth.values.shape[1] if self.look.side_by_side else 0,
            )
        write_picture(stream, picture, kind=item.name, facts={**depth.facts, **facts})
        return facts


def _to_metres(
    prediction: "Prediction", anchors: Anchors, kind: Kind, *, name: str
) -> tuple["Prediction", dict[str, Any]]:
    """Fit a map to its anchors: metres (H, W) with limits, and what to say about the fit."""
    values, own = prediction.values, prediction.own_limits
    inverse = near_is_large(kind)
    at_anchors = sample_at(values, anchors, prediction.source_hw)
    fit = FITS[kind](at_anchors, anchors.metres)
    facts = {"of": kind, **fit.facts()}
    if inverse:
        share = float((values * fit.scale + fit.shift <= 0).mean())
        facts["share_behind_infinity"] = round(share, 6)
        if share > 0.01:
            facts["warnings"].append(f"{share:.0%} of the pixels come out behind infinity")
    for warning in facts["warnings"]:
        logger.warning("%s: metres are not trustworthy: %s", name, warning)

    def in_metres(limits: Range) -> Range:
        ends = apply_fit(np.array(limits, np.float32), fit, inverse=inverse)
        return float(ends.min()), float(ends.max())

    metres = replace(
        prediction,
        values=apply_fit(values, fit, inverse=inverse),
        limits=in_metres(prediction.limits),
        own_limits=None if own is None else in_metres(own),
    )
    return metres, facts


def _write_sidecar(
    path: Path,
    facts: Mapping[str, Any],
    files: dict[str, dict[str, Any]],
    *,
    keep: frozenset[Path],
) -> None:
    """Write NAME.json; what an earlier run made and this one left as it is stays described."""
    if keep or (not isinstance(path, RemotePath) and path.is_file()):
        files = {**earlier_files(path, facts, keep=keep), **files}
    content = sidecar_bytes(facts, files)
    write_whole(path, lambda stream: stream.write(content))
