"""The readers hold against the fuzzer; what it found has tests of its own in `test_fuzz_findings`."""

import logging
import sys
from collections import Counter

import pytest

from tests.data.fuzz import Wrong, make, place, run
from tests.data.fuzz_folders import LAYOUTS, layout_of, write
from tests.data.fuzz_mutations import MUTATIONS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes pipes, links and names that it does not have")


def fuzz(seed, cases):
    counts, wrong = Counter(), []
    with place() as folder:
        for index in range(cases):
            try:
                counts[run(seed, index, folder)] += 1
            except Wrong as error:
                wrong.append(str(error))
    assert not wrong, "\n".join(map(ascii, wrong[:5]))
    return counts


@pytest.fixture(autouse=True)
def without_log():
    """What is logged names files whose names are no text, and several processes of tests could not tell each other."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_readers_read_or_name_the_file():
    counts = fuzz(0, 400)
    assert counts["read"] > 100 and counts["refused"] > 150  # neither all is refused nor all read


@pytest.mark.whole
def test_readers_read_or_name_the_file_in_10000_cases():
    counts = fuzz(1, 10_000)
    assert counts["read"] > 2_500 and counts["refused"] > 4_000


def test_a_case_depends_on_its_seed_and_number_alone():
    first, again, other = make(3, 7), make(3, 7), make(4, 7)
    assert first[0].files == again[0].files and first[1] == again[1]
    assert first[0].files != other[0].files
    used = Counter(name for index in range(3000) for name in make(0, index)[1])
    assert set(used) == {mutation.__name__ for mutation in MUTATIONS} and min(used.values()) >= 10


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("public", [False, True])
def test_the_folders_are_valid_before_they_are_changed(name, public):
    from tests.data.fuzz import _compare, _read

    layout = layout_of(name)
    with place() as folder:
        write(layout.files, folder)
        items, problem = _read(layout, folder, "raise", public)
        assert problem is None and [item[0] for item in items] == ["a", "b", "c"]
        for item in items:
            _compare(layout, *item)
        files = {path: content for path, content in layout.files.items() if path != layout.annotations["a"]}
        layout.files = files | {layout.annotations["a"]: layout.files[layout.annotations["b"]]}
        if name != "coco":  # the independent reading has something to say
            with pytest.raises(Wrong, match="by another reading"):
                _compare(layout, *items[0])
