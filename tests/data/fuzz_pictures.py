"""Mutations of pictures: other formats, other pixels, metadata, and headers that promise what is not there."""

import io
import struct
import zlib
from functools import cache

from PIL import Image

from tests.data.fuzz_folders import HEIGHT, OBJECTS, WIDTH, Outcome, picture


@cache
def _pictures():
    """What lies in place of a JPEG of 16 x 12 pixels: {name: (content, expected)}."""
    grey16 = io.BytesIO()
    Image.new("I;16", (WIDTH, HEIGHT), 4000).save(grey16, "PNG")
    moved = io.BytesIO()
    frames = [Image.new("P", (WIDTH, HEIGHT), i) for i in range(3)]
    frames[0].save(moved, "GIF", save_all=True, append_images=frames[1:], duration=10)
    floats = io.BytesIO()
    Image.new("F", (WIDTH, HEIGHT), 0.5).save(floats, "TIFF")
    colours = io.BytesIO()
    palette = Image.new("P", (WIDTH, HEIGHT), 1)
    palette.putpalette([0, 0, 0, 255, 255, 0])
    palette.save(colours, "PNG", transparency=b"\x80\x40")
    png, jpeg, gif = picture(kind="PNG"), picture(), picture("P", kind="GIF")
    bomb = zlib.compress(b"x" * 100_000_000, 9)
    app1 = b"\xff\xe1" + struct.pack(">H", 30) + b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(12)
    return {
        "png": (png, "read"),
        "bmp": (picture(kind="BMP"), "read"),
        "webp": (picture(kind="WEBP"), "read"),
        "tiff": (picture(kind="TIFF"), "read"),
        "cmyk": (picture("CMYK"), "read"),
        "grey": (picture("L"), "read"),
        "bits": (picture("1", kind="PNG"), "read"),
        "alpha": (picture("RGBA", kind="PNG"), "read"),
        "grey and alpha": (picture("LA", kind="PNG"), "read"),
        "16 bits": (grey16.getvalue(), "read"),
        "palette": (colours.getvalue(), "read"),
        "gif": (gif, "read"),
        "animation": (moved.getvalue(), "read"),
        "floats": (floats.getvalue(), "refused"),
        "text chunk": (_with_chunk(png, b"tEXt", b"Comment\0hello"), "read"),
        "text bomb": (_with_chunk(png, b"zTXt", b"Comment\0\0" + bomb), "either"),
        "profile bomb": (_with_chunk(png, b"iCCP", b"x\0\0" + bomb), "either"),
        "unknown chunk": (_with_chunk(png, b"abCd", bytes(99)), "read"),
        "wrong profile": (_with_chunk(png, b"iCCP", b"x\0\0junk"), "either"),
        "odd exif chunk": (_with_chunk(png, b"eXIf", b"MM\0*\xff\xff\xff\xff"), "either"),
        "animation chunk": (_with_chunk(png, b"acTL", bytes(8)), "either"),
        "comment": (jpeg[:2] + b"\xff\xfe\0\x07hello" + jpeg[2:], "read"),
        "corrupt exif": (jpeg[:2] + app1 + jpeg[2:], "either"),
        "xmp": (jpeg[:2] + b"\xff\xe1\0\x24http://ns.adobe.com/xap/1.0/\0<x/>" + jpeg[2:], "either"),
        "two pictures": (jpeg + jpeg, "read"),
        "behind": (jpeg + b"x" * 99, "read"),
        "turned by half": (picture(exif=_turned(3)), "read"),
        "turned by 99": (picture(exif=_turned(99)), "read"),
        "turned by words": (picture(exif=_turned(b"up")), "read"),
        "sideways": (picture(exif=_turned(6)), "sideways"),
        "progressive": (picture(progressive=True), "read"),
        "empty": (b"", "refused"),
        "text": (b"hello", "refused"),
        "html": (b"<!DOCTYPE html><html>404</html>", "refused"),
        "svg": (b"<svg xmlns='http://www.w3.org/2000/svg' width='16' height='12'/>", "refused"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 12\n%%EndComments\nshowpage\n", "refused"),
        "zeros": (bytes(5000), "refused"),
        "start alone": (jpeg[:4], "refused"),
        "one pixel": (picture(size=(1, 1)), "refused"),
        "flat": (picture(size=(2000, 7), kind="PNG"), "refused"),
        "long": (picture(size=(8, 2000), kind="PNG"), "another size"),
        "bomb header": (_resized(png, 60_000, 60_000), "refused"),
        "large header": (_resized(png, 9_000, 9_000), "refused"),
        "negative header": (_resized(png, 2**32 - 1, 12), "refused"),
        "no width": (_resized(png, 0, 12), "refused"),
        "gif header": (gif[:6] + struct.pack("<HH", 65535, 65535) + gif[10:], "refused"),
        "jpeg header": (_resized_jpeg(jpeg, 65_500, 65_500), "refused"),
    }


def _turned(orientation):
    """EXIF with an orientation: a number, or a word."""
    words = isinstance(orientation, bytes)
    entry = (2, 3, orientation) if words else (3, 1, struct.pack("<H", orientation))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, 0x0112, *entry, 0)


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _with_chunk(png, kind, content):
    return png[:33] + _chunk(kind, content) + png[33:]  # behind the header


def _resized(png, width, height):
    return png[:8] + _chunk(b"IHDR", struct.pack(">II", width, height) + png[24:29]) + png[33:]


def _resized_jpeg(jpeg, width, height):
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


def another_picture(random, layout):
    stem = random.choice(list(OBJECTS))
    name = random.choice(list(_pictures()))
    content, expect = _pictures()[name]
    layout.files[layout.pictures[stem]] = content
    if expect == "sideways":  # the annotation's size tells that it was not turned; YOLO has none
        expect = "either" if layout.name in ("yolo", "polygons") else "read"
    if expect == "another size":
        expect = "either" if layout.name in ("yolo", "polygons") else "refused"
    return Outcome(expect, stem)


def cut_picture(random, layout):
    return _change_picture(random, layout, lambda c: c[: random.randrange(len(c))], "either")


def flipped_picture(random, layout):
    def flip(content):
        changed = bytearray(content)
        for _ in range(random.choice((1, 5))):
            changed[random.randrange(min(len(changed), random.choice((30, 5000))))] ^= 1 << random.randrange(8)
        return bytes(changed)

    return _change_picture(random, layout, flip, "either")


def _change_picture(random, layout, change, expect):
    stem = random.choice(list(OBJECTS))
    path = layout.pictures[stem]
    names = [name for name, (content, _) in _pictures().items() if 200 < len(content) < 5000]
    content = _pictures()[random.choice(names)][0]
    layout.files[path] = change(content)
    return Outcome(expect, stem)
