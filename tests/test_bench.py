"""`python -m benchmarks` on small cases: its record, its time budget, and the page and the pictures of the record."""

import ctypes
import json
import sys
from itertools import combinations

import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import detectors, measure, nms, page, paper_scale, pooling
from benchmarks.measure import Benchmark
from benchmarks.paper_scale import Case
from rcnn_tutorial.nets.backbones import tiny_net
from tests.device import simulated_cuda

KEYS = {"what", "commit", "minutes", "minutes_taken", "load", "rows"}
KEYS |= {"date", "device", "machine", "threads", "versions"}
TIMES = {"ours_ms", "theirs_ms", "ratio", "rounds", "warm", "ours_mb", "theirs_mb"}


class Wall:
    """A clock that the benchmarks of a test put forward."""

    def __init__(self, monkeypatch):
        self.now = 50.0
        monkeypatch.setattr(measure, "wall", lambda: self.now)

    def benchmark(self, name, cost, rounds=10, least=1.0):
        """Calls that take `cost` seconds of the wall each."""

        def call():
            self.now += cost

        def row(seconds):
            results, warm = measure.repeated(call, rounds, seconds)
            return {"seconds": {"all": cost}, "rounds": len(results), "warm": warm}

        return Benchmark("part", name, row, least)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Small cases, and places of their own for what is written."""
    monkeypatch.setattr(measure, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(page, "DOCS", tmp_path)
    often = measure.repeated  # three times tell what fifty would: it is no time that is tested
    monkeypatch.setattr(measure, "repeated", lambda call, rounds, *seconds: often(call, min(rounds, 3), *seconds))
    monkeypatch.setattr(nms, "COUNTS", (50,))
    monkeypatch.setattr(nms, "BATCHED", [(3, 40, 0.5)])
    shape = (4, 1, 8, 8, 6, 2, (24, 100))
    monkeypatch.setattr(pooling, "CASES", [(name, ratio, "a map", [shape]) for name, ratio in pooling.TITLES])
    monkeypatch.setattr(detectors, "TINY", {"FPN, 96 x 128": ("fpn", (96, 128), 2)})
    monkeypatch.setattr(detectors, "PAPER", ((32, 48), 1))
    monkeypatch.setattr(detectors, "LEAST", {"test": 1.0, "step": 900.0})
    monkeypatch.setattr(paper_scale, "CASES", [Case("R-CNN", "ZF-5", tiny_net, (96, 128), timed=4)])
    return tmp_path


def call(monkeypatch, *arguments):
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--device", "cpu", *arguments])
    try:
        command.main()
    finally:
        torch.set_num_threads(threads)


def test_the_whole_command_writes_its_record_and_the_page(small, monkeypatch, capsys):
    call(monkeypatch, "--minutes", "1")
    record = json.loads((small / "records/bench-cpu.json").read_text())
    assert record.keys() == KEYS and record["threads"] == 1 and record["minutes"] == 1
    by_part = {part: [row for row in record["rows"] if row["part"] == part] for part in command.PARTS}
    assert {part: len(rows) for part, rows in by_part.items()} == dict(nms=5, pooling=6, tiny=2, papers=1, paper=2)
    *compared, step = [row for part in ("nms", "pooling", "tiny", "paper") for row in by_part[part]]
    assert all(row.keys() >= TIMES and row["ours_ms"] > 0 and row["rounds"] >= 1 for row in compared)
    assert step["left_out"].startswith("It takes about 900 s")
    (paper,) = by_part["papers"]
    assert paper["timed"] == 4 and paper["rounds"] == 3 and paper["seconds"]["convolutions"] > 0
    text = (small / "benchmarks.md").read_text()
    assert all(row["name"] in text for row in record["rows"]) and step["left_out"] in text
    assert page.MISSING["cuda"] in text and page.MISSING["cpu"] not in text
    assert {file.name for file in small.glob("*.png")} == {f"benchmarks_cpu_{part}.png" for part in command.PARTS}
    told = capsys.readouterr().out
    assert "16 of 16" in told and "s left: NMS, chain, 50 boxes: " in told


def test_a_part_alone_is_printed_and_not_recorded(small, monkeypatch, capsys):
    call(monkeypatch, "--minutes", "0.1", "--only", "nms")
    assert "5 of 5" in capsys.readouterr().out and list(small.iterdir()) == []


def test_the_budget_is_kept(monkeypatch):
    wall = Wall(monkeypatch)
    costs = {"quick": 0.1, "slow": 30.0, "slower": 50.0, "slowest": 120.0}
    rows = measure.run([wall.benchmark(name, cost, 20, least=cost) for name, cost in costs.items()], 400)
    assert wall.now - 50 <= 400
    # of 197.9 s that nobody needs slow may take a third, of 137.9 s slower may take a half
    assert [row["rounds"] for row in rows] == [20, 2, 1, 1] and [row["warm"] for row in rows] == [True] * 3 + [False]


def test_what_no_longer_fits_is_left_out(monkeypatch, capsys):
    wall = Wall(monkeypatch)
    long, longer = measure.run([wall.benchmark("long", 70, 5), wall.benchmark("longer", 70, 5, least=60)], 100)
    assert long["rounds"] == 1 and not long["warm"] and longer["left_out"] == "It takes about 60 s, and 30 s were left."
    assert wall.now == 120 and "30 s left: longer: It takes about 60 s" in capsys.readouterr().out


def test_what_fails_is_left_out_and_the_command_fails(small, monkeypatch):
    """The other figures are recorded; a message, which may name a path, is not."""
    monkeypatch.setattr(command, "PARTS", {"nms": nms.benchmarks})
    monkeypatch.setattr(nms, "nms", lambda boxes, scores, threshold: torch.zeros(0, dtype=torch.int64))
    with pytest.raises(SystemExit, match="^failed: NMS, proposals, 50 boxes; NMS, clustered"):
        call(monkeypatch, "--minutes", "0.1")
    *single, several = json.loads((small / "records/bench-cpu.json").read_text())["rows"]
    assert all(row["left_out"] == "It failed with AssertionError." for row in single) and several["ratio"] > 0


def test_the_first_call_warms_up(monkeypatch):
    wall, calls = Wall(monkeypatch), iter(range(100))
    assert measure.repeated(lambda: next(calls), 3) == ([1, 2, 3], True)
    assert wall.now == 50


def test_ours_is_the_numerator(monkeypatch):
    now = iter([0, 1, 1, 3, 3, 4, 4, 8, 8, 9, 9, 14])  # seconds: 1 and 2, which warms up; 1 and 4; 1 and 5
    monkeypatch.setattr(measure, "clock", lambda device: next(now))
    times = measure.alternate(lambda: None, lambda: None, "cpu", rounds=2)
    assert (times["ours_ms"], times["theirs_ms"], times["ratio"], times["rounds"]) == (1000, 4500, 0.225, 2)


@pytest.mark.skipif(not measure.STATUS.exists(), reason="the peak of the memory is read from /proc")
def test_memory_is_the_peak_of_a_call():
    _, megabytes = measure.with_memory(lambda: torch.ones(16, 2**20).mul(2).sum(), "cpu")
    assert 120 < megabytes < 140


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc alone gives back what was freed")
def test_what_was_freed_before_does_not_hide_memory():
    last = [torch.ones(4096) for _ in range(4096)][-1]  # it lies behind the others, so they are not given back
    _, megabytes = measure.with_memory(lambda: [torch.ones(4096) for _ in range(4096)], "cpu")
    assert 60 < megabytes < 75 and last.sum() == 4096


@pytest.mark.parametrize("what", ["step", "test"])
def test_both_sides_of_the_papers_size_do_the_same_work(what):
    pair = detectors.paper_pair((96, 128), 1)
    weights = zip(pair.ours.body.parameters(), pair.theirs.backbone.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
    if what == "step":
        losses = [sum(model.train()(pair.images, pair.targets).values()).item() for model in pair[:2]]
        assert all(1 < loss < 20 for loss in losses)
    else:
        with torch.no_grad():
            ours, theirs = (model.eval()(pair.images)[0]["scores"] for model in pair[:2])
        assert len(ours) == len(theirs) > 20


def test_what_a_gpu_is_to_run_runs_on_a_simulated_one(small, monkeypatch, capsys):
    """All but the compiled parts, and float32, which the small detectors have; memory is not simulated."""
    monkeypatch.setattr(measure, "with_memory", lambda call, device: (measure.milliseconds(call, device), 1.0))
    monkeypatch.setattr(detectors, "LEAST", {"GPU": 1.0, "compiled": 9000.0})
    benchmarks = [benchmark for make in command.PARTS.values() for benchmark in make("cuda")]
    benchmarks = [benchmark for benchmark in benchmarks if "float32" not in benchmark.name]
    with simulated_cuda():
        rows = measure.run(benchmarks, 100)
    assert [row["name"] for row in rows if "left_out" in row] == [
        "FPN, ResNet-50, 32 x 48, bfloat16, compiled, test image",
        "FPN, ResNet-50, 32 x 48, bfloat16, compiled, step of 1 images",
    ]


# The page


def record_of(ratio=0.5, memory=30.0):
    times = dict(ours_ms=1.25, theirs_ms=2.5, ratio=ratio, rounds=9, warm=True, ours_mb=memory, theirs_mb=60.0)
    rows = [{"part": "nms", "name": "NMS, chain, 9 boxes", **times}]
    rows += [{"part": "pooling", "name": f"RoIAlign, a map, {p}", **times} for p in ("forward", "forward and backward")]
    rows += [{"part": "paper", "name": "FPN", "left_out": "It takes about 9 s, and 3 s were left."}]
    seconds = dict(seconds={"a": 1.5, "b": 2.0}, timed=64, rounds=1, warm=False)
    rows += [{"part": "papers", "name": "R-CNN, ZF-5", **seconds}]
    head = dict(date="2026-01-02", device="a processor", machine="Linux", threads=1, versions={"torch": "2"})
    return {**head, "commit": "abc", "minutes": 15, "minutes_taken": 3.2, "load": [1.0, 2.0], "rows": rows}


def test_the_page_tells_what_the_record_says():
    text = page.text({"cuda": record_of()})
    assert "| NMS, chain, 9 boxes | 1.25 | 2.5 | 0.50 | 30.0 | 60.0 | 9 |" in text
    assert "| R-CNN, ZF-5 | 3.5 | 14.46 | 64 | cold |" in text
    assert "Left out: FPN. It takes about 9 s, and 3 s were left." in text
    assert page.MISSING["cpu"] in text and page.MISSING["cuda"] not in text and "commit abc" in text


def test_a_changed_number_changes_the_page_and_the_picture():
    one, other = record_of(), record_of(ratio=0.51)
    assert page.text({"cpu": one}) != page.text({"cpu": other})
    assert page.comment(page.measured(one, "nms")) != page.comment(page.measured(other, "nms"))
    for part, record in (("nms", one), ("nms", other), ("pooling", other)):
        figure = page.draw(part, page.measured(record, part))
        (axes,) = figure.axes
        line, *points = axes.lines
        assert list(line.get_xdata()) == [1, 1]
        assert [list(p.get_xdata()) for p in points] == [[row["ratio"]] for row in page.measured(record, part)]
        page.plt.close(figure)


def test_memory_is_a_point_of_its_own():
    rows = [row | {"part": "tiny"} for row in page.measured(record_of(ratio=0.7), "nms")]
    figure = page.draw("tiny", rows)
    points = {line.get_label(): list(line.get_xdata()) for line in figure.axes[0].lines[1:]}
    assert points == {"time": [0.7], "memory": [0.5]}
    page.plt.close(figure)


def test_the_papers_seconds_are_drawn_beside_ours():
    figure = page.draw("papers", page.measured(record_of(), "papers"))
    (axes,) = figure.axes
    assert {line.get_label(): list(line.get_xdata()) for line in axes.lines} == {
        "here": [3.5],
        "the paper's GPU": [14.46],
    }
    page.plt.close(figure)


def test_the_page_is_that_of_the_records():
    assert (page.DOCS / "benchmarks.md").read_text(encoding="utf-8") == page.text(page.records()), (
        "python -m benchmarks.page"
    )


def test_the_aims_stand_where_one_reads_what_to_run_on_a_gpu():
    told = (page.DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert page.AIMS in told and page.COMMAND.strip("`") in told and page.AIMS in page.text({})


PICTURES = [(device, part) for device, record in page.records().items() for part in page.SECTIONS
            if page.measured(record, part)]  # fmt: skip


@pytest.mark.parametrize(("device", "part"), PICTURES)
def test_the_pictures_are_those_of_the_records_and_can_be_read(device, part):
    rows = page.measured(page.records()[device], part)
    with Image.open(page.picture_of(device, part)) as picture:
        assert picture.info["Comment"] == page.comment(rows)
    figure = page.draw(part, rows)
    assert picture.size == tuple(figure.bbox.size.astype(int)) and picture.width == 960
    figure.canvas.draw()
    letters = [letter for letter in figure.findobj(Text) if letter.get_text() and letter.get_visible()]
    assert min(letter.get_fontsize() for letter in letters) * figure.dpi / 72 >= 14
    boxes = [letter.get_window_extent() for letter in letters]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.x1 <= 960 and box.y0 >= 0 and box.y1 <= picture.height for box in boxes)
    page.plt.close(figure)
