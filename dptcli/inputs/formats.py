"""What a file is, from its first bytes: who reads it, or what to call it. And endings of names."""

import importlib.util
import re
from dataclasses import dataclass
from typing import Literal

How = Literal["pillow", "jpeg", "png", "pnm", "tiff", "heif", "exr", "hdr", "raw", "none"]

BASE_FORMATS = "JPEG, PNG, WebP, AVIF, JPEG 2000, BMP, TIFF, PNM, GIF or Radiance HDR"


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    pattern: of its first 64 bytes. how: who reads it. plugin: Pillow's, as "module.Class" of PIL.
    """

    pattern: bytes
    title: str
    how: How = "none"
    plugin: str = ""


# The first pattern that matches decides.
KINDS = (
    Kind(rb"\xff\xd8\xff", "a JPEG file", "jpeg", "JpegImagePlugin.JpegImageFile"),
    Kind(rb"\x89PNG\r\n\x1a\n", "a PNG file", "png", "PngImagePlugin.PngImageFile"),
    Kind(rb"RIFF.{4}WEBP", "a WebP file", "pillow", "WebPImagePlugin.WebPImageFile"),
    Kind(rb"GIF8[79]a", "a GIF file", "pillow", "GifImagePlugin.GifImageFile"),
    Kind(rb"BM", "a BMP file", "pillow", "BmpImagePlugin.BmpImageFile"),
    Kind(rb"II\x2a\x00.{4}CR|II[*+]\x00|MM\x00[*+]", "a TIFF file", "tiff"),
    Kind(rb"II(RO|RS|U\x00)|MMOR|II\x1a\x00\x00\x00HEAPCCDR", "a camera's raw file", "raw"),
    Kind(rb"FUJIFILMCCD-RAW|FOVb|\x00MRM", "a camera's raw file", "raw"),
    Kind(rb".{4}ftypcrx ", "a Canon raw file (CR3)", "raw"),
    Kind(
        rb".{4}ftyp(avif|avis|mif1.{4}.*?avif|msf1.{4}.*?avis)",
        "an AVIF image",
        "pillow",
        "AvifImagePlugin.AvifImageFile",
    ),
    Kind(rb".{4}ftyp(hei[cxms]|hev[cxms]|mif[12]|msf1)", "a HEIC photograph", "heif"),
    Kind(
        rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51",
        "a JPEG 2000 image",
        "pillow",
        "Jpeg2KImagePlugin.Jpeg2KImageFile",
    ),
    Kind(rb"P[1-6y]\s|P0CMYK\s|Pf\s", "a PNM image", "pnm", "PpmImagePlugin.PpmImageFile"),
    Kind(rb"\x76\x2f\x31\x01", "an OpenEXR picture", "exr"),
    Kind(rb"#\?(RADIANCE|RGBE)\s", "a Radiance HDR picture", "hdr"),
    # What people hand in by mistake, so that the message can say what the file really is.
    Kind(rb".{4}ftypM4A |ID3|OggS|fLaC|RIFF.{4}WAVE", "sound"),
    Kind(rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ", "a video"),
    Kind(rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    Kind(rb"%PDF", "a PDF document"),
    Kind(rb"8BPS", "a Photoshop document"),
    Kind(rb"gimp xcf", "a GIMP document"),
    Kind(rb"DDS ", "a DDS texture"),
    Kind(rb"qoif", "a QOI image"),
    Kind(rb"\x00\x00[\x02\x03\x0a\x0b]\x00{5}", "a TGA image"),  # an icon counts its pictures here
    Kind(rb"\x00\x00[\x01\x02]\x00", "an icon"),
    Kind(rb"SIMPLE  =", "a FITS image"),
    Kind(rb"\s*<svg|\s*<\?xml", "an SVG or XML file"),
    Kind(rb"(?i)\s*<(!doctype )?html", "a web page"),
    Kind(rb"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    Kind(rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive"),
    Kind(rb"P[7F]\s", "a PAM or PFM image"),
    Kind(rb"%!PS", "a PostScript document"),
)


def kind_of(head: bytes) -> Kind | None:
    """The kind of a file by its first 64 bytes; None for what nothing is known of."""
    return next((kind for kind in KINDS if re.match(kind.pattern, head, re.DOTALL)), None)


# --- endings -------------------------------------------------------------------------------------

# What a folder is searched for; a file that is named outright may be called anything.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
)

# Pictures that are read too, by (library, the extra that brings it); often beside a JPEG.
_RAW = frozenset(
    {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".rw2"}
    | {".rwl", ".orf", ".pef", ".srw", ".3fr", ".fff", ".iiq", ".dcr", ".kdc", ".mrw", ".x3f"}
    | {".erf", ".mef", ".mos", ".gpr"}
)
_MORE: dict[tuple[str, str] | None, frozenset[str]] = {
    None: frozenset(
        {".mpo", ".jps", ".apng", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"}
        | {".ppm", ".pgm", ".pbm", ".pnm", ".hdr", ".btf"}
    ),
    ("pillow_heif", "heif"): frozenset({".heic", ".heif", ".hif", ".heics", ".heifs"}),
    ("OpenEXR", "exr"): frozenset({".exr"}),
    ("rawpy", "raw"): _RAW,
}

# What a person calls a picture and nothing here reads.
_UNREAD = frozenset(
    {".psd", ".psb", ".xcf", ".kra", ".tga", ".pcx", ".dds", ".ico", ".icns", ".jxl", ".jxr"}
    | {".svg", ".svgz", ".eps", ".ai", ".qoi", ".sgi", ".pic", ".pict", ".dpx", ".cin"}
    | {".fits", ".fit", ".dcm", ".pam", ".bpg", ".insp", ".lfp", ".cap", ".eip", ".wmf", ".emf"}
)


READ_SUFFIXES = IMAGE_SUFFIXES.union(*_MORE.values())
PICTURE_SUFFIXES = READ_SUFFIXES | _UNREAD


@dataclass(frozen=True)
class Second:
    """A picture that is read where no other has its name: who comes first, the extra it lacks."""

    rank: int
    missing: str | None


def second_choice(suffix: str) -> Second | None:
    """How files of an ending are read in a folder beyond IMAGE_SUFFIXES; None where they aren't."""
    for rank, (needed, suffixes) in enumerate(_MORE.items()):
        if suffix in suffixes:
            is_here = needed is None or importlib.util.find_spec(needed[0]) is not None
            return Second(rank, None if needed is None or is_here else needed[1])
    return None


def is_picture(suffix: str) -> bool:
    """Whether a person would call a file of this ending a picture."""
    return suffix in PICTURE_SUFFIXES
