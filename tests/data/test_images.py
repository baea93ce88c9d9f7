import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from rcnn_tutorial.data.images import FileError, check_image, read_image

WIDTH, HEIGHT = 6, 4
RAMP = np.linspace(0, 255, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint8)


def saved(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_rgb_comes_as_channels_first_in_0_to_1(tmp_path):
    pixels = np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 51)], axis=-1)
    image = read_image(saved(tmp_path, Image.fromarray(pixels)))
    assert image.shape == (3, HEIGHT, WIDTH) and image.dtype == torch.float32 and image.is_contiguous()
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_is_repeated(tmp_path, mode):
    image = read_image(saved(tmp_path, Image.fromarray(RAMP // 128 * 255).convert(mode)))
    assert torch.equal(image, torch.from_numpy(RAMP // 128).float().expand(3, -1, -1))


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\x80\xff"])
def test_a_palette_is_looked_up_whatever_its_transparency(tmp_path, transparency):
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    assert torch.equal(read_image(saved(tmp_path, palette, **options))[:, 0], torch.eye(3))


def test_alpha_is_left_out(tmp_path):
    assert torch.equal(read_image(saved(tmp_path, Image.new("RGBA", (2, 2), (255, 0, 0, 7))))[:, 0, 0], torch.eye(3)[0])


def test_cmyk_becomes_rgb(tmp_path):
    pure = {
        (0, 255, 255, 0): (1, 0, 0),
        (255, 0, 255, 0): (0, 1, 0),
        (0, 0, 0, 255): (0, 0, 0),
        (0, 0, 0, 0): (1, 1, 1),
    }
    for ink, light in pure.items():
        image = read_image(saved(tmp_path, Image.new("CMYK", (8, 8), ink), "a.jpg"))
        assert torch.allclose(image[:, 4, 4], torch.tensor(light).float(), atol=0.02)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, name):
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    image = read_image(saved(tmp_path, Image.fromarray(values), name))
    assert torch.allclose(image, torch.tensor([0, 255, 256, 32768, 65535]).div(65535).expand(3, 1, 5))


@pytest.mark.parametrize(
    "pixels", [np.full((2, 2), 70_000, np.int32), np.full((2, 2), -1, np.int32), np.ones((2, 2), "f")]
)
def test_pixels_without_a_known_range_are_refused(tmp_path, pixels):
    path = saved(tmp_path, Image.fromarray(pixels), "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif.*expected 8 or 16 bits"):
        read_image(path)


def rotated(tmp_path, orientation):
    """A picture whose EXIF asks for a rotation, and what a viewer shows."""
    picture = Image.fromarray(np.stack([RAMP] * 3, axis=-1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, picture, exif=exif)
    method = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    shown = picture if method is None else picture.transpose(Image.Transpose(method))
    return path, *(torch.from_numpy(np.array(p)).permute(2, 0, 1) / 255 for p in (picture, shown))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_annotated_size_decides_on_exif_rotation(tmp_path, orientation):
    path, stored, shown = rotated(tmp_path, orientation)
    assert torch.equal(read_image(path), shown)
    assert torch.equal(read_image(path, (WIDTH, HEIGHT)), stored)
    assert check_image(path, (WIDTH, HEIGHT)) == (WIDTH, HEIGHT)
    assert check_image(path) == shown.shape[:0:-1]
    if orientation >= 5:
        assert torch.equal(read_image(path, (HEIGHT, WIDTH)), shown)
        assert check_image(path, (HEIGHT, WIDTH)) == (HEIGHT, WIDTH)
    else:
        with pytest.raises(ValueError, match="the image is 6x4 pixels, its annotation says 4x6"):
            check_image(path, (HEIGHT, WIDTH))


def test_another_size_than_annotated_is_an_error(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (WIDTH, HEIGHT)))
    for use in (check_image, read_image):
        with pytest.raises(ValueError, match=r"a\.png.*6x4.*7x4"):
            use(path, (7, 4))


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("text.jpg", "empty.jpg", "folder.jpg", "missing.jpg"):
        for use in (check_image, read_image):
            with pytest.raises(ValueError, match=name):
                use(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_image_passes_its_header_only(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[:-2000])
    assert check_image(path, (64, 64)) == (64, 64)
    with pytest.raises(ValueError, match=rf"{name}: not a readable image"):
        read_image(path)


@pytest.mark.parametrize(
    "limit", [15, 5]
)  # Pillow itself warns beyond the limit, and raises beyond twice as many pixels
def test_an_image_too_large_to_be_meant_is_not_decoded(tmp_path, monkeypatch, limit):
    path = saved(tmp_path, Image.new("RGB", (5, 5)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for use in (check_image, read_image):
        with pytest.raises(ValueError, match=r"a\.png: too many pixels"):
            use(path)


def test_the_error_survives_its_way_from_a_worker():
    error = FileError("a.jpg", "no such file")
    assert (error.file, error.reason) == ("a.jpg", "no such file")
    assert str(pickle.loads(pickle.dumps(error))) == "a.jpg: no such file"
    assert str(FileError("what a DataLoader makes of it")) == "what a DataLoader makes of it"
