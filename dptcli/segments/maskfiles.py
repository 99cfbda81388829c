"""Label maps as files: masks, pictures for the eye, legends, class scores. One writer each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dptcli.results.writers import save_png
from dptcli.segments.lettering import Font, lettering
from dptcli.segments.masks import class_table, is_kept, outlines

# A legend's measures in pixels: for reading beside a photograph, sharp on dense screens.
_ROW, _SWATCH, _MARGIN, _FONT_SIZE, _MOST_ROWS = 40, 24, 28, 20, 24
_INK, _SOFT, _PAPER = (29, 28, 26), (112, 108, 102), (255, 255, 255)


@dataclass(frozen=True)
class Style:
    """How classes are shown.

    colors: RGB uint8 (num_labels, 3). kept: the ids to show, None for all. alpha: how strongly
    classes cover the photograph, 0 … 1. outlined: draw their borders at full strength. first_id:
    the pixel value of class 0 in masks.
    """

    colors: NDArray[np.uint8]
    kept: tuple[int, ...] | None = None
    alpha: float = 0.5
    outlined: bool = False
    first_id: int = 0

    def coverage(self, labels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return how strongly each pixel shows its class, uint8 (H, W), 0 … 255."""
        shown = is_kept(len(self.colors), self.kept)
        cover = (shown * round(255 * self.alpha)).astype(np.uint8)[labels]
        if self.outlined:
            # Borders of what is left out are drawn by the classes that stay.
            merged = np.where(shown, np.arange(len(shown)), -1)[labels]
            cover[outlines(merged) & shown[labels]] = 255
        return cover


def write_label_mask(
    stream: BinaryIO,
    labels: NDArray[np.integer],
    *,
    style: Style,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Write labels as a PNG whose pixel value is the class id plus style.first_id.

    labels: integers (H, W), 0 … num_labels-1. Values up to 255 are an indexed PNG in the classes'
    colours; larger ones are 16-bit grey, for an index has one byte. Classes that are left out have
    the value that the text's "left_out" says.
    """
    table, left_out = class_table(len(style.colors), style.kept, first_id=style.first_id)
    image = Image.fromarray(table[labels])
    if table.dtype == np.uint8:
        # All 256 entries, or Pillow would pack a short palette into fewer bits and cut off 255.
        palette = np.zeros((256, 3), np.uint8)
        palette[style.first_id : style.first_id + len(style.colors)] = style.colors
        image.putpalette(palette.tobytes())
    said = {"first_id": style.first_id}
    if left_out is not None:
        said["left_out"] = left_out
    save_png(stream, image, {**(facts or {}), **said})


def write_overlay(
    stream: BinaryIO,
    labels: NDArray[np.integer],
    *,
    rgb: NDArray[np.uint8],
    style: Style,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Write the photograph with its classes drawn over it as a colour PNG.

    labels: integers (H, W); rgb: uint8 of any size, resized to the labels.
    """
    photo = Image.fromarray(rgb)
    if photo.size != labels.shape[::-1]:
        photo = photo.resize(labels.shape[::-1], Image.Resampling.BILINEAR)
    classes = Image.fromarray(style.colors[labels])
    if style.kept is None and not style.outlined:
        picture = Image.blend(photo, classes, style.alpha)
    else:
        picture = Image.composite(classes, photo, Image.fromarray(style.coverage(labels)))
    save_png(stream, picture, facts or {})


def write_layer(
    stream: BinaryIO,
    labels: NDArray[np.integer],
    *,
    style: Style,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Write the classes' colours alone as an RGBA PNG, to be laid over the photograph elsewhere."""
    pixels = np.concatenate((style.colors[labels], style.coverage(labels)[..., None]), axis=2)
    save_png(stream, Image.fromarray(pixels), facts or {})


def write_class_mask(
    stream: BinaryIO,
    labels: NDArray[np.integer],
    label: int,
    *,
    first_id: int = 0,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Write where one class is as an 8-bit grey PNG, 255 there and 0 elsewhere.

    first_id: what the text calls class 0.
    """
    mask = (labels == label).astype(np.uint8) * 255
    said = {"kind": "class_mask", "id": label + first_id}
    save_png(stream, Image.fromarray(mask), {**(facts or {}), **said})


def write_scores(
    stream: BinaryIO,
    scores: NDArray[np.floating],
    names: Mapping[int, str],
    *,
    kept: Sequence[int] | None = None,
    first_id: int = 0,
) -> None:
    """Write class probabilities as NPZ: scores float16 (C, h, w), ids (C,), names (C,).

    first_id: the id of class 0, as in masks.

    scores: float (num_labels, h, w) at the network's own size, of which the mask is the enlarged
    argmax: at the photograph's size 150 classes of 12 megapixels would take 3.6 GB.
    """
    ids = np.array(sorted(names) if kept is None else kept, np.int64)
    np.savez_compressed(
        stream,
        scores=scores[ids].astype(np.float16),
        ids=ids + first_id,
        names=np.array([names[int(label)] for label in ids]),
    )


def write_names_json(
    stream: BinaryIO,
    names: Mapping[int, str],
    *,
    colors: NDArray[np.uint8],
    model: str,
    first_id: int = 0,
) -> None:
    """Write what the pixel values of a model's masks mean: {"model", "labels", "colors"}."""
    content: dict[str, object] = {
        "model": model,
        "labels": {str(label + first_id): names[label] for label in sorted(names)},
        "colors": {
            str(label + first_id): "#" + colors[label].tobytes().hex() for label in sorted(names)
        },
    }
    if first_id:
        content["first_id"] = first_id
    stream.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_legend(
    stream: BinaryIO,
    shares: Mapping[int, float],
    names: Mapping[int, str],
    *,
    style: Style,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Write a picture of the classes in an image: colour, name and share of the area.

    shares: id -> 0 … 1, in the order to show; classes that style leaves out are summed up.
    """
    shown = is_kept(len(style.colors), style.kept)
    given = [names.get(label, str(label)) for label in shares]
    written = lettering(dict.fromkeys(given), _FONT_SIZE)
    rows: list[_Row] = []
    for (label, share), name in zip(shares.items(), given, strict=True):
        if shown[label]:
            text, font = written[name]
            # The id tells what letters cannot: names without a font, and two classes of one name.
            is_unclear = text != name or given.count(name) > 1
            text = f"{label + style.first_id}: {text}" if is_unclear else text
            rows.append(_Row(tuple(style.colors[label].tolist()), text, font, share))
    rest = sum(share for label, share in shares.items() if not shown[label])
    if rest > 0:
        rows.append(_Row(None, "left out", ImageFont.load_default(_FONT_SIZE), rest))
    save_png(stream, _draw_legend(rows), {**(facts or {}), "kind": "legend"})


class _Row(NamedTuple):
    color: tuple[int, ...] | None
    name: str
    font: Font
    share: float


def _draw_legend(rows: Sequence[_Row]) -> Image.Image:
    plain = ImageFont.load_default(_FONT_SIZE)
    widest = max((row.font.getlength(row.name) for row in rows), default=0.0)
    share_width = plain.getlength("100.0 %")
    column = round(_SWATCH + 14 + widest + 28 + share_width)
    num_columns = max(1, -(-len(rows) // _MOST_ROWS))
    per_column = max(1, -(-len(rows) // num_columns))
    width = 2 * _MARGIN + num_columns * column + (num_columns - 1) * 2 * _MARGIN
    image = Image.new("RGB", (width, 2 * _MARGIN + per_column * _ROW), _PAPER)
    draw = ImageDraw.Draw(image)
    for index, row in enumerate(rows):
        left = _MARGIN + (index // per_column) * (column + 2 * _MARGIN)
        middle = _MARGIN + (index % per_column) * _ROW + _ROW // 2
        box = (left, middle - _SWATCH // 2, left + _SWATCH, middle + _SWATCH // 2)
        draw.rectangle(box, fill=row.color, outline=row.color or _SOFT)
        draw.text((left + _SWATCH + 14, middle), row.name, _INK, row.font, anchor="lm")
        text = f"{100 * row.share:.1f} %" if row.share >= 0.0005 else "< 0.1 %"
        draw.text((left + column, middle), text, _SOFT, plain, anchor="rm")
    return image
