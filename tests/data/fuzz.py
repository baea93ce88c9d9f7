"""A fuzzer of the readers of data sets: `python -m tests.data.fuzz --cases 10000 --seed 0`.

Case `index` of `seed` is one of the layouts of `fuzz_folders` with one or two mutations of `fuzz_mutations`, and
depends on nothing else. A reader must then either give targets that `check_target` accepts, with finite pictures in
[0, 1], or raise a ValueError or OSError that names the folder; within two seconds, without a warning, without growing
by 300 MB, and without running what a file says. What it gives is compared with an independent reading.
"""

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import numpy as np

from rcnn_tutorial.data.targets import check_target
from tests.data.fuzz_folders import LAYOUTS, OBJECTS, Layout, Outcome, layout_of, write
from tests.data.fuzz_mutations import MUTATIONS

SECONDS, MEGABYTES = 2.0, 300
NOBODY = 65534
MEMORY = "/dev/shm"


class Wrong(AssertionError):
    """A reader did what it must not do."""


class TooLong(BaseException):
    """Past all `except Exception`: a case does not end."""


def make(seed: int, index: int) -> tuple[Layout, list[str], list[Outcome], Random]:
    """A folder in memory, the names of its mutations, what they may lead to, and what is random in the reading."""
    random = Random(f"{seed}-{index}")
    layout = layout_of(random.choice(LAYOUTS))
    wanted, names, outcomes = random.choice((1, 2)), [], []
    while len(outcomes) < wanted:
        mutation = random.choice(MUTATIONS)
        outcome = mutation(random, layout)
        if outcome is not None:
            names.append(mutation.__name__)
            outcomes.append(outcome)
    return layout, names, outcomes, random


def run(seed: int, index: int, folder: Path) -> str:
    """Check one case; "read" or "refused" is what happened to it.

    Args:
        seed, index: of the case.
        folder: an empty place, which is left empty.
    Raises:
        Wrong: the property does not hold.
    """
    layout, names, outcomes, random = make(seed, index)
    root, public = folder / "set", random.random() < 0.5
    root.mkdir()
    try:
        write(layout.files, root)
        with _watched(folder), _as_nobody(layout.files):
            return _check(layout, outcomes, root, public)
    except (Exception, TooLong) as error:
        if not isinstance(error, Wrong):
            error = Wrong("".join(traceback.format_exception(error)[-12:]))
        raise Wrong(f"case {index} of seed {seed}, {layout.name} with {', '.join(names)}: {error}") from None
    finally:
        for path in root.rglob("*"):
            if not path.is_symlink() and path.is_file():
                path.chmod(0o600)
        shutil.rmtree(root)


def _check(layout, outcomes, root, public):
    strict, problem = _read(layout, root, "raise", public)
    lenient, other = _read(layout, root, "skip", public)
    outcome = outcomes[0] if len(outcomes) == 1 else Outcome("either")
    if outcome.expect == "read" and problem:
        raise Wrong(f"refused, which can be read: {problem}")
    if outcome.expect == "refused" and not problem:
        raise Wrong(f"read, which cannot be meant: {strict}")
    single = outcome.stem is not None
    if single and other and outcome.stem != "listed":
        raise Wrong(f'on_error="skip" ended with one bad file of three: {other}')
    for items in (strict, lenient):
        for stem, size, objects, areas in items or ():
            _compare(layout, stem, size, objects, areas)
    if outcome.expect == "read":
        _same(strict, outcome)
    if single and outcome.expect == "refused":
        left = [item for item in lenient if item[0] != outcome.stem]
        if len(left) < len(lenient) or {item[0] for item in left} != set(OBJECTS) - {outcome.stem}:
            raise Wrong(f'on_error="skip" kept {[item[0] for item in lenient]}')
    return "refused" if problem else "read"


def _same(items, outcome):
    """A mutation that changes nothing: the objects are those of the base."""
    old, new = outcome.renamed or ("", "")
    names = {stem: (new if stem == old else stem) for stem in OBJECTS}
    there = {stem: objects for stem, _, objects, _ in items}
    for stem, objects in OBJECTS.items():
        if names[stem] not in there or not _equal(there[names[stem]], objects):
            raise Wrong(f"{stem} is {there.get(names[stem])}, expected {objects}")


def _equal(ours, theirs):
    return len(ours) == len(theirs) and all(
        one[0] == other[0] and np.allclose(one[1:], other[1:], rtol=1e-5, atol=2e-3)
        for one, other in zip(ours, theirs, strict=True)
    )


def _compare(layout, stem, size, objects, areas):
    """The objects that a reader gave beside those of the independent reading, where that understands the files."""
    expected = masks = None
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = layout.reading(layout.files, stem, size)
        if areas is not None:  # pycocotools reads past the end of what is no mask
            masks = layout.masks(layout.files, stem, size)
    if expected is not None and not _equal(objects, expected):
        raise Wrong(f"{stem} has {objects}, by another reading {expected}")
    if masks is not None and areas is not None and areas != masks:
        raise Wrong(f"{stem} has masks of {areas} pixels, by pycocotools {masks}")


def _read(layout, root, on_error, public):
    """What a reader gives: a list of (stem, size, objects, pixels of the masks); or the error that it raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        items, problem = None, None
        try:
            dataset = layout.load(root, on_error, public)
            items = [_item(dataset, index) for index in range(len(dataset))]
        except (ValueError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
            named = str(root) in problem or "bad file" in problem or getattr(error, "filename", None)
            if not named:  # of files elsewhere, such as "/", the list of bad files or the system's error tells
                raise Wrong(f"the error does not name the file: {problem}") from error
            if len(problem) > 5000 + 12 * 6000:
                raise Wrong(f"an error message of {len(problem)} characters") from error
    if caught:
        raise Wrong(f"a warning: {caught[0].message}")
    return items, problem


def _item(dataset, index):
    image, target = dataset[index]
    target = check_target(target, "target", dataset.classes, area=True, size=image.shape[-2:])
    if not (
        image.ndim == 3 and image.shape[0] == 3 and image.isfinite().all() and 0 <= image.min() <= image.max() <= 1
    ):
        raise Wrong(f"a picture of {tuple(image.shape)} with values beyond 0 to 1")
    names = [dataset.classes[label] for label in target["labels"]]
    objects = [(name, *box) for name, box in zip(names, target["boxes"].tolist(), strict=True)]
    areas = target["masks"].flatten(1).sum(1).tolist() if "masks" in target else None
    return dataset.path(index).stem, (image.shape[2], image.shape[1]), objects, areas


@contextmanager
def _watched(folder):
    """Time, memory, and what a file may have let run."""
    before, started = _peak(), time.process_time()
    limited = hasattr(signal, "SIGALRM")
    if limited:
        signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)  # others work here, too: what counts is our own time
    try:
        yield
    finally:
        if limited:
            signal.setitimer(signal.ITIMER_REAL, 0)
    if time.process_time() - started > SECONDS:
        raise Wrong(f"took {time.process_time() - started:.1f} seconds")
    if _peak() - before > MEGABYTES:
        raise Wrong(f"grew by {_peak() - before:.0f} MB")
    if [path.name for path in folder.iterdir()] != ["set"] or os.path.exists("marker"):
        raise Wrong("what a file says was run")


def _too_long(*_):
    raise TooLong("took too long")


def _peak() -> float:
    """The most memory that this process had, in MB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@contextmanager
def _as_nobody(files):
    """The one who may read everything cannot meet a file without permission, and is another one while it lies there."""
    locked = any(getattr(content, "kind", "") == "locked" for content in files.values())
    if not locked or not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def place():
    """An empty folder that everybody may enter, in memory where the system has such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as name:
        os.chmod(name, 0o755)
        yield Path(os.path.realpath(name))


def main() -> None:
    """Run many cases and print what went wrong, and how many were read and refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    options, counts, started = parser.parse_args(), Counter(), time.process_time()
    logging.getLogger("rcnn_tutorial").setLevel(logging.ERROR)  # what was skipped
    with place() as folder:
        for index in range(options.first, options.first + options.cases):
            try:
                counts[run(options.seed, index, folder)] += 1
            except Wrong as error:
                counts["wrong"] += 1
                print(error, flush=True)
    print(dict(counts), f"{time.process_time() - started:.1f} seconds")
    sys.exit(counts["wrong"] > 0)


if __name__ == "__main__":
    main()
