import errno
import json
import math

import pytest

from rcnn_tutorial.app.console import causes, duration, not_writable, plain, space, write_json


@pytest.mark.parametrize(
    "seconds, said",
    [(0.034, "0.034 s"), (1.26, "1.3 s"), (46.4, "46 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"),
     (3599.6, "1 h 00 min"), (7500, "2 h 05 min"), (300_000, "3 days 11 h")],
)  # fmt: skip
def test_times(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    "count, said",
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (12_682_557, "13 MB"), (3.4e9, "3.4 GB"), (2e15, "2000 TB")],
)
def test_bytes(count, said):
    assert space(count) == said


def test_json_has_no_numbers_that_are_none(tmp_path):
    write_json({"a": (1, math.nan), "b": math.inf, 3: [None, "ß"]}, tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [1, None], "b": "inf", "3": [None, "ß"]}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert plain(True) is True


def test_the_causes_of_an_error():
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        assert [str(cause) for cause in causes(error)] == ["second", "'first'"]


def test_only_what_cannot_be_written_gets_advice(tmp_path):
    folders = {tmp_path / "data": "set a variable"}
    inside = OSError(errno.EROFS, "Read-only file system", str(tmp_path / "data" / "x"))
    assert str(not_writable(inside, folders)).endswith(
        "data/x cannot be written (Read-only file system): set a variable."
    )
    beside = OSError(errno.EACCES, "Permission denied", str(tmp_path / "database"))
    assert "choose a folder where you may write" in str(not_writable(beside, folders))
    assert not_writable(OSError(errno.ENOENT, "none", "x"), folders) is None
    assert not_writable(OSError(errno.EACCES, "no name"), folders) is None
