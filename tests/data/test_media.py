import pytest
import torch
from PIL import Image

from rcnn_tutorial.data.media import Media


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.jpg", "a/2.PNG", "b/1.jpg", "b/deep/3.webp", "b/.hidden/4.jpg", "b/._5.jpg"):
        save(tmp_path / name) if name != "a/2.PNG" else save(tmp_path / "a/2.png").rename(tmp_path / name)
    (tmp_path / "a/notes.txt").write_text("no picture")
    return tmp_path


def names(media):
    return [media.name(path) for path in media.items]


def test_folders_files_and_patterns_name_pictures_from_what_they_have_in_common(folder):
    assert names(Media(folder)) == ["a/1.jpg", "a/2.PNG", "b/1.jpg", "b/deep/3.webp"]
    assert names(Media(folder / "a")) == ["1.jpg", "2.PNG"]
    assert names(Media([folder / "a", folder / "b/1.jpg"])) == ["a/1.jpg", "a/2.PNG", "b/1.jpg"]
    assert names(Media([folder / "b", folder / "b/deep"])) == ["1.jpg", "deep/3.webp"]
    assert names(Media(str(folder / "*/1.*"))) == ["a/1.jpg", "b/1.jpg"]
    assert names(Media(str(folder / "**/*"))) == ["a/1.jpg", "a/2.PNG", "b/1.jpg", "b/deep/3.webp"]
    assert names(Media(folder / "a/1.jpg")) == ["1.jpg"]


def test_a_file_that_is_met_twice_counts_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    media = Media(["a/1.jpg", folder / "a", "b/../a/2.PNG", "a/*.jpg"])
    assert names(media) == ["1.jpg", "2.PNG"] and media.count() == 2 and media.folder == folder / "a"


def test_a_folder_of_drawn_results_is_left_out_unless_it_is_named(folder):
    save(folder / "runs/detect/a/1.jpg")
    (folder / "runs/detect/detections.json").write_text("[]")
    assert [name for name in names(Media(folder)) if name.startswith("runs")] == []
    assert names(Media(folder / "runs/detect")) == ["a/1.jpg"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(folder):
    save(folder / "c/photo[1].jpg")
    assert names(Media(folder / "c/photo[1].jpg")) == ["photo[1].jpg"]


def test_pixels_are_read_as_they_are():
    grey = torch.full((3, 10, 20), 0.5)
    frames = list(Media([grey, (grey * 256).to(torch.uint8), Image.new("L", (20, 10), 128)]))
    for frame in frames:
        assert frame.path is None and frame.number is None and frame.image.shape == (3, 10, 20)
        assert torch.allclose(frame.image, grey, atol=1 / 255)


def test_files_that_cannot_be_read_are_listed(folder):
    (folder / "a/3.jpg").write_bytes(b"nothing")
    Image.new("RGB", (20, 4)).save(folder / "a/4.jpg")
    media = Media(folder / "a")
    assert [frame.path.name for frame in media] == ["1.jpg", "2.PNG"]
    assert media.skipped == {
        str(folder / "a/3.jpg"): "not a readable image (of no known format)",
        str(folder / "a/4.jpg"): "20x4 pixels, expected at least 8 on each side",
    }


@pytest.mark.parametrize("given", [3, torch.zeros(10, 20), torch.zeros(4, 10, 20), torch.zeros(10, 20, 3), b"1.jpg"])
def test_what_is_no_picture_is_refused(given):
    with pytest.raises(ValueError, match="pictures: expected a path, a picture of Pillow or a tensor"):
        Media(given)


def test_a_place_without_pictures_is_refused(folder):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no picture and no video, of .jpg"):
        Media(folder / "empty")
    with pytest.raises(FileNotFoundError, match="9.jpg: no such file or folder"):
        Media([folder, folder / "9.jpg"])
    with pytest.raises(ValueError, match="no picture or video has a name like .*9"):
        Media(str(folder / "9*"))
    with pytest.raises(ValueError, match="at least one picture or video, got none"):
        Media([])
