"""A picture of any mode as RGB: transparency laid over a ground, deep grey scaled, Lab read."""

import numpy as np
from PIL import Image, ImageCms

from dptcli.inputs.levels import Meaning, poorly_used, to_levels
from dptcli.inputs.reading import WHITE, Colour, Reading

_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}

# Alpha of a cut-out is nearly always 0 or 255, near infrared hardly ever, and takes every value.
_FEWEST_LEVELS_OF_A_BAND = 64


def to_rgb(
    image: Image.Image,
    background: Colour = WHITE,
    *,
    reading: Reading | None = None,
    meaning: Meaning | None = None,
) -> Image.Image:
    """A Pillow image of any mode as mode RGB, transparency laid over `background`.

    Alpha that is 0 everywhere is none: the colours are shown. Greyscale of more than 8 bits (I;16,
    I, F) is scaled as levels.py says. reading, meaning: what to tell, what the file says.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return deep_grey(image, reading=reading, meaning=meaning)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode == "La":  # Pillow knows no direct way from here to RGBA
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A").getextrema()
    has_alpha = image.mode in _WITH_ALPHA or isinstance(image.info.get("transparency"), bytes)
    if alpha == (0, 0) and has_alpha:
        if reading is not None:
            reading.say("is transparent everywhere: its colours are taken without that")
    elif alpha != (255, 255):
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, (*background, 255)), rgba)
    return rgba.convert("RGB")


def deep_grey(
    image: Image.Image, *, reading: Reading | None, meaning: Meaning | None
) -> Image.Image:
    """Grey of more than 8 bits (I;16, I, F) as RGB."""
    ends = None if reading is None else reading.wanted.levels
    scaled = to_levels(np.asarray(image), meaning, ends=ends)
    if reading is not None and (note := poorly_used(scaled)) is not None:
        reading.say(note)
    return Image.fromarray(scaled.levels).convert("RGB")


def is_fourth_band(alpha: Image.Image) -> bool:
    """Whether what should be alpha (mode L) looks like another colour, such as near infrared."""
    counts = alpha.histogram()
    ends, total = counts[0] + counts[255], sum(counts)
    return ends * 2 < total and sum(1 for count in counts if count) >= _FEWEST_LEVELS_OF_A_BAND


def without_fourth_band(image: Image.Image, reading: Reading) -> Image.Image:
    """Take an RGBA picture's colours alone where its alpha looks like a fourth band."""
    if image.mode not in ("RGBA", "RGBa") or not is_fourth_band(image.getchannel("A")):
        return image
    reading.say("has a fourth band that looks like no transparency (near infrared?): left out")
    # Pillow would take RGBa's colours times alpha, which here they never were.
    return Image.merge("RGB", image.split()[:3])
