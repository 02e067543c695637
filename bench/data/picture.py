"""An image file's bytes -> its pixels, 8 bits a channel; what would lose part of them is refused."""

import io
import warnings
from collections import Counter

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from bench import BenchError

# Of Pillow's formats those of photographs and drawings; others start programs (EPS) or mean no single image.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")


def decode(name: str, content: bytes, size: int, mode: str, square: bool, notes: Counter) -> np.ndarray | None:
    """Pixels (size, size, channels) uint8 in `mode`, L or RGB; None where the bytes are of no image format.

    BenchError, which begins with `name`, for what is damaged, of another shape than square (squeezed unless `square`), has
    several frames, transparent pixels or more than 8 bits a channel, or is too large to be an image. What a user might not
    expect of a usable image is counted in `notes`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            why = _unusable(image, square)
            pixels = None if why else image.convert(mode)
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except UnidentifiedImageError:
        return None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BenchError(f"{name}: not decoded ({error}); remove it or make it smaller") from None
    except Exception as error:  # Pillow passes on whatever its decoders raise
        raise BenchError(f"{name}: not a readable image ({error}); copy the dataset again") from None
    if why:
        raise BenchError(f"{name}: {why}")
    notes["with an EXIF orientation, which is not applied"] += turned
    notes["in CMYK"] += image.mode == "CMYK"
    if pixels.size != (size, size):
        notes["resized"] += 1
        pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(pixels).reshape(size, size, -1)


def _unusable(image: Image.Image, square: bool) -> str | None:
    if square and image.width != image.height:
        return f"{image.width} x {image.height} pixels; square images are expected"
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a photograph with its preview
        return f"{frames} frames; one image a file is expected, so save one of them"
    if image.mode == "F" or image.mode.startswith("I"):
        return f"more than 8 bits a channel (mode {image.mode}), which would be cut; save it with 8 bits"
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        return "transparent pixels, whose colour nobody sees; put it onto a background"
    return None
