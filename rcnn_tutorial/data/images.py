"""Reading one image file, whatever a camera, a scanner or a drawing program has made of it.

Every kind of pixel becomes RGB in [0, 1]: grey is repeated, a palette looked up, CMYK converted, 16 bits are
divided by 65,535. Transparency is left out, as in torchvision and OpenCV: the colour stored under it stays.

Cameras store a picture as the sensor lay and note its rotation in EXIF; some labelling programs heed the note,
others do not. The annotation's size tells which raster the boxes are about: the picture is rotated where that
alone makes the sizes agree. A square or mirrored picture cannot be told apart and stays as stored.
"""

import warnings
from os import PathLike

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # the values of EXIF's orientation that exchange width and height


class FileError(ValueError):
    """A file that cannot be used; `file` names it and `reason` says why."""

    def __init__(self, file: str | PathLike, reason: str = ""):
        # One argument suffices, so that a DataLoader's worker can hand the error on.
        super().__init__(f"{file}: {reason}" if reason else str(file))
        self.file, self.reason = str(file), reason


def check_image(path: str | PathLike, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Check an image by its header alone, without decoding it.

    Args:
        path: image file.
        size: (width, height) that the annotation states, pixels; none where it states nothing.
    Returns:
        (width, height) of what `read_image(path, size)` reads.
    Raises:
        FileError: no such file, no image, more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, or not of that size.
    """

    def measure(image):
        return image.size[::-1] if _orientation(path, image, size) in SIDEWAYS else image.size

    return _guarded(path, measure)


def read_image(path: str | PathLike, size: tuple[int, int] | None = None) -> Tensor:
    """Read an image as RGB.

    Args:
        path: image file.
        size: (width, height) that the annotation states, pixels; without it the picture is read as a viewer shows it.
    Returns:
        (3, H, W) float32 in [0, 1].
    Raises:
        FileError: what `check_image` finds, a truncated file, or pixels in floating point or 32 bits.
    """

    def decode(image):
        stored = _orientation(path, image, size) == 1
        return _to_rgb(path, image if stored else ImageOps.exif_transpose(image))

    return _guarded(path, decode)


def as_viewed(image: Image.Image) -> Tensor:
    """Turn an open picture of Pillow into RGB, rotated as its EXIF says and a viewer shows it.

    Args:
        image: of any kind of pixels that `read_image` reads.
    Returns:
        (3, H, W) float32 in [0, 1].
    Raises:
        FileError: a truncated file, or pixels in floating point or 32 bits.
    """
    name = getattr(image, "filename", "") or "the picture"
    try:
        return _to_rgb(name, ImageOps.exif_transpose(image))
    except OSError as error:
        raise FileError(name, f"not a readable image ({error})") from error


def read_numbers(path: str | PathLike, size: tuple[int, int]) -> np.ndarray:
    """Read a picture whose pixels are numbers, such as those of objects: with a palette, or grey.

    Args:
        path: image file.
        size: (width, height) that is expected, pixels.
    Returns:
        (H, W) integers.
    Raises:
        FileError: what `check_image` finds, or pixels with colours of their own.
    """

    def decode(image):
        stored = _orientation(path, image, size) == 1
        if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
            raise FileError(path, f"expected numbers or a palette, got pixels of {image.mode}")
        return np.array(image if stored else ImageOps.exif_transpose(image)).astype(np.int64)

    return _guarded(path, decode)


def _guarded(path, use):
    """`use` on the open image, with every failure turned into a FileError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return use(image)
    except FileError:
        raise
    except FileNotFoundError:
        raise FileError(path, "no such file") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise FileError(path, f"too many pixels to be meant ({error})") from None
    except UnidentifiedImageError:
        raise FileError(path, "not a readable image (of no known format)") from None
    except MemoryError:
        raise
    except Exception as error:  # the decoders raise a dozen types on broken files
        raise FileError(path, f"not a readable image ({error})") from error


def _orientation(path, image, size):
    """EXIF's orientation where it is to be heeded; 1 is the picture as stored."""
    if image.size == size:
        return 1
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    if size is None or (image.size[::-1] == size and orientation in SIDEWAYS):
        return orientation
    stored, stated = ("x".join(map(str, s)) for s in (image.size, size))
    raise FileError(path, f"the image is {stored} pixels, its annotation says {stated}")


def _to_rgb(path, image):
    if image.mode.startswith("I"):
        return _from_16_bits(path, np.asarray(image))
    if image.mode == "F":
        raise FileError(path, "floating-point pixels have no stated range; expected 8 or 16 bits")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)  # (H, W, 3) -> (3, H, W)


def _from_16_bits(path, pixels):
    if pixels.min() < 0 or pixels.max() > 65535:
        raise FileError(path, f"pixels from {pixels.min()} to {pixels.max()}; expected 8 or 16 bits")
    return torch.from_numpy(pixels.astype(np.float32)).div_(65535).expand(3, -1, -1).contiguous()
