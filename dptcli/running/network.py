"""The network on batches, calm where a device gives out.

Where memory ends, the batch is halved; where one image alone is too large, it is cut into tiles;
where even those don't fit, that image fails. Where half precision overflows, the batch runs once
more in float32.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dptcli.errors import TooLargeError
from dptcli.fast.memory import release_reserve, settle_memory, share_heap
from dptcli.model.pretrained import Pretrained
from dptcli.running.answer import Answer, answers_of
from dptcli.running.batches import BatchSizes, free_memory, is_out_of_memory, spoils_thread
from dptcli.running.ending import reference_focal
from dptcli.running.room import check_room, check_size
from dptcli.running.seen import Pixels, Seen, hw_of, seen_of
from dptcli.running.tiles import predict_tiled, shrunk, smaller_tile
from dptcli.weights.load import LoadedModel, load_model, require_finite

logger = logging.getLogger(__name__)

Size = int | tuple[int, int] | None
"""What a network sees: (height, width), one number, or the model's own."""


class Network:
    """Runs a loaded model.

    sizes: how many images at once. in_float32: gives the same model in float32; it is called once,
    and only where half precision overflowed. num_redone: images that took float32.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        sizes: BatchSizes,
        *,
        in_float32: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.loaded = loaded
        self.sizes = sizes
        self.num_redone = 0
        self._in_float32 = in_float32 or (lambda: load_in_float32(loaded))
        self._float32: nn.Module | None = None
        self._thread: ThreadPoolExecutor | None = None  # see spoils_thread
        self._tiles: dict[tuple[int, ...], tuple[int, int]] = {}  # (C, H, W) -> a tile that fits

    def run(self, images: Sequence[Pixels | Seen]) -> list[Answer]:
        """Images (3, H, W) of one shape, float32, on the CPU -> for each depth or logits, and more.

        With a Seen comes what a prompted model is told beside the pixels. Raises TooLargeError
        where one image does not fit into memory, not even in tiles.
        """
        views = [seen_of(image) for image in images]
        shape = views[0].shape
        if shape in self._tiles:
            return [self._in_tiles(view) for view in views]
        most = self.sizes.of(shape)
        if len(views) > most:
            parts = (views[start : start + most] for start in range(0, len(views), most))
            return [found for part in parts for found in self.run(part)]
        try:
            return self._run_whole(views)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            spoiled = spoils_thread(error)
        # Outside of `except`, whose error holds every tensor of the attempt.
        self._start_over(spoiled=spoiled)
        if len(views) == 1:
            return [self._in_tiles(views[0])]
        self.sizes.failed(shape, len(views))
        logger.warning(
            "memory ended at a batch of %d; going on with %d, as --batch-size %d would",
            len(views),
            self.sizes.of(shape),
            self.sizes.of(shape),
        )
        return self.run(views)

    def run_window(self, views: Sequence[Seen]) -> list[Tensor]:
        """Frames (3, H, W) of a clip, seen together -> depth (h, w) each, float32, on the CPU.

        Raises TooLargeError where they do not fit into memory.
        """
        return [found.maps for found in self._run_together(views, "frames")]

    def run_scene(self, views: Sequence[Seen]) -> list[Answer]:
        """Views (3, H, W) of one scene, seen together -> what the network says of each.

        Raises TooLargeError where they do not fit into memory.
        """
        check_room(self.loaded, len(views), hw_of(views[0]))
        return self._run_together(views, "photographs")

    def _run_together(self, views: Sequence[Seen], named: str) -> list[Answer]:
        try:
            return self._run_whole(views, together=True)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            spoiled = spoils_thread(error)
        self._start_over(spoiled=spoiled)
        height, width = hw_of(views[0])
        raise TooLargeError(
            f"{len(views)} {named} at {height}×{width}, which the network sees together, do not "
            "fit into memory; take a smaller --size or model"
        )

    def run_tiled(
        self, canvas: Pixels | Seen, whole: Answer, *, tile_hw: tuple[int, int]
    ) -> Answer:
        """The maps of a canvas (3, H, W) from tiles; whole: those of the same picture, smaller."""
        view = seen_of(canvas)
        maps = predict_tiled(
            lambda tiles: [found.maps for found in self.run(tiles)],
            view,
            whole.maps,
            tile_hw=tile_hw,
            fit=self.loaded.task == "depth",
            batch_size=self.sizes.of((view.shape[0], *tile_hw)),
        )
        return replace(whole, maps=maps)

    def _in_tiles(self, view: Seen) -> Answer:
        """One image (3, H, W) that memory cannot hold whole, in the largest tiles that it can."""
        shape = view.shape
        multiple = grid_of(self.loaded)
        known = self._tiles.get(shape)
        tile_hw = known or smaller_tile(hw_of(view), multiple=multiple)
        while tile_hw is not None:
            try:
                found = self._tiled_once(view, tile_hw, multiple)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                spoiled = spoils_thread(error)
            else:
                self._tiles[shape] = tile_hw
                return found
            self._start_over(spoiled=spoiled)
            tile_hw = smaller_tile(tile_hw, multiple=multiple)
        height, width = hw_of(view)
        raise TooLargeError(
            f"the network does not fit into memory at {height}×{width}, not even in tiles; "
            "take a smaller --size or model"
        )

    def _tiled_once(self, view: Seen, tile_hw: tuple[int, int], multiple: int) -> Answer:
        height, width = tile_hw
        if view.shape not in self._tiles:
            logger.warning(
                "memory ended at %d×%d; trying tiles of %d×%d (a smaller --size needs none)",
                *(*hw_of(view), height, width),
            )
        small = shrunk(view.pixels, pixels=height * width, multiple=multiple)
        [whole] = self._run_whole([Seen(small, view.prompt)])
        if reference_focal(self.loaded) is not None:  # of a smaller picture, a shorter one
            share = (small.shape[-1] / hw_of(view)[1] + small.shape[-2] / hw_of(view)[0]) / 2
            whole.depth.mul_(share)
        maps = predict_tiled(
            lambda tiles: [found.maps for found in self._run_whole(tiles)],
            view,
            whole.maps,
            tile_hw=tile_hw,
            fit=self.loaded.task == "depth",
        )
        return replace(whole, maps=maps)

    def _start_over(self, *, spoiled: bool) -> None:
        """Give all back that a failed attempt took, and go on in another thread where it must be.

        Blocks that malloc keeps are no use to oneDNN, which maps its code.
        """
        free_memory()
        settle_memory()
        release_reserve()
        if spoiled:
            share_heap()
            if self._thread is not None:
                self._thread.shutdown()
            self._thread = ThreadPoolExecutor(1, "dpt-network")

    def _run_whole(self, views: Sequence[Seen], *, together: bool = False) -> list[Answer]:
        shape = views[0].shape
        pinned = self.loaded.device.type == "cuda"
        batch = Seen(
            stacked([view.pixels for view in views], pinned=pinned),
            torch.stack([view.prompt for view in views if view.prompt is not None])
            if views[0].prompt is not None
            else None,
            {name: torch.stack([view.camera[name] for view in views]) for name in views[0].camera},
        )
        started = time.perf_counter()
        watched = self.sizes.watching(shape, len(views))
        with contextlib.nullcontext() if together else watched:
            answers = self._in_thread(self.loaded.model, batch, self.loaded.pixel_dtype, together)
        elapsed_s = time.perf_counter() - started
        logger.debug("network: %d at %d×%d in %.3f s", len(views), *hw_of(views[0]), elapsed_s)
        ends = [torch.stack(torch.aminmax(found.maps)) for found in answers]
        if not torch.stack(ends).isfinite().all():  # NaN shows in both
            # Looked for only now: reading every weight once would make loading 20 times slower.
            require_finite(self.loaded)
            if self.loaded.dtype is not torch.float32 or self.loaded.int8:
                answers = self._redo(batch, together)
        return answers

    def _redo(self, batch: Seen, together: bool) -> list[Answer]:
        """The batch in float32, for values that a narrow dtype cannot hold."""
        if self._float32 is None:
            logger.warning(
                "%s overflows in %s: such images are done again in float32, which takes longer; "
                "--dtype float32 spares the first attempt",
                self.loaded.name,
                self.loaded.dtype_name,
            )
            self._float32 = self._in_float32()
        self.num_redone += len(batch.pixels)
        return self._in_thread(self._float32, batch, torch.float32, together)

    def _in_thread(
        self, model: nn.Module, batch: Seen, dtype: torch.dtype, together: bool
    ) -> list[Answer]:
        if self._thread is None:
            return self._forward(model, batch, dtype, together)
        return self._thread.submit(self._forward, model, batch, dtype, together).result()

    @torch.inference_mode()
    def _forward(
        self, model: nn.Module, batch: Seen, dtype: torch.dtype, together: bool
    ) -> list[Answer]:
        """(B, 3, H, W) on the CPU, prompts (B, 1, h, w), cameras -> what the model says of each.

        together: the images are the frames of one clip, or the views of one scene.
        """
        pixels, device = batch.pixels, self.loaded.device
        beside = {} if batch.prompt is None else {"prompt_depth": batch.prompt.to(device)}
        beside |= {name: each[None] if together else each for name, each in batch.camera.items()}
        x = pixels.to(device, dtype, non_blocking=pixels.is_pinned())
        output = model(x[None] if together else x, **beside)
        if together:
            output = type(output)({name: values[0] for name, values in output.items()})
        maps: Tensor = output.predicted_depth if self.loaded.task == "depth" else output.logits
        return answers_of(output, maps, network_hw=hw_of(pixels))


def stacked(images: Sequence[Pixels], *, pinned: bool) -> Tensor:
    """Images (3, H, W) as a batch (B, 3, H, W); pinned memory reaches a GPU without a detour."""
    first = images[0]
    batch = torch.empty((len(images), *first.shape), dtype=torch.float32, pin_memory=pinned)
    for place, image in zip(batch, images, strict=True):
        place.copy_(torch.as_tensor(image))
    return batch


def grid_of(loaded: LoadedModel) -> int:
    """What the sides of the network's input must be multiples of: its patch, at least."""
    backbone = getattr(loaded.model.config, "backbone_config", None)
    patch = getattr(backbone or loaded.model.config, "patch_size", 1)
    own = loaded.processor.ensure_multiple_of
    return max(int(own) if own >= 1 else 1, patch if isinstance(patch, int) else 1)


def sized(loaded: LoadedModel, size: Size) -> LoadedModel:
    """The model, seeing pictures at another size. UsageError where one alone fills the memory."""
    if size is None:
        return loaded
    check_size(size)
    resized = loaded.processor.with_size(size, multiple_of=grid_of(loaded))
    return replace(loaded, processor=resized)


def load_in_float32(loaded: LoadedModel) -> Pretrained:
    """The model once more, from its files: rounded and packed weights don't go back."""
    path: Path = loaded.folder
    device = str(loaded.device)
    return load_model(
        path,
        task=loaded.task,
        device=device,
        dtype="float32",
        offline=True,
        normals=getattr(loaded.model, "gives_normals", False),
        poses=getattr(loaded.model, "camera_encoder", None) is not None,
    ).model
