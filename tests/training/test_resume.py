import json
import multiprocessing
import random
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from rcnn_tutorial.training import History, TrainSettings
from rcnn_tutorial.training.checkpoint import Run
from tests.training.job import (
    QUICK,
    Rectangles,
    Toy,
    detector,
    killed_training,
    losses_and_gradients,
    run,
    shared_losses,
    shared_training,
)

needs_processes = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL, no fork server")


def stop_after(steps):
    def stop(history):
        if history.steps == steps:
            raise KeyboardInterrupt

    return stop


def interrupted(model, settings, folder, steps, **more):
    with pytest.raises(KeyboardInterrupt):
        run(model, replace(settings, log_every=1), folder, on_log=stop_after(steps), **more)


@needs_processes
def test_killed_at_any_moment_it_goes_on_to_the_last_bit(tmp_path):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.training.job"])
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def lived(folder, death=None):
        process = processes.Process(target=killed_training, args=(folder, death))
        process.start()
        process.join(60)
        return process.exitcode

    assert lived(whole) == 0
    times = random.Random(0)
    deaths = ["half a file", "before renaming", "after renaming"]
    deaths += [(times.randint(1, 4), times.uniform(0.001, 0.02)) for _ in range(4)]
    for death in times.sample(deaths, 7):
        assert lived(killed, death) in (-signal.SIGKILL, -signal.SIGALRM)
    assert lived(killed) == 0

    expected, resumed = (History(**json.loads((folder / "history.json").read_text())) for folder in (whole, killed))
    assert resumed.losses == expected.losses
    assert resumed.lr == expected.lr and resumed.evaluations == expected.evaluations
    before, after = (torch.load(folder / "checkpoint.pt", weights_only=True)["model"] for folder in (whole, killed))
    assert all(after[name].equal(value) for name, value in before.items())
    assert [path.name for path in killed.glob("checkpoint*")] == ["checkpoint.pt"]


def test_the_models_own_generator_is_resumed(tmp_path):
    expected = run(Toy(torch.Generator().manual_seed(1)))
    interrupted(Toy(torch.Generator().manual_seed(1)), QUICK, tmp_path, 8)
    assert run(Toy(torch.Generator().manual_seed(2)), QUICK, tmp_path).losses == expected.losses


def test_a_finished_training_is_loaded_and_not_repeated(tmp_path):
    model, again = Toy(), Toy()
    history = run(model, QUICK, tmp_path)
    assert run(again, replace(QUICK, log_every=3, checkpoint_every=1, workers=1), tmp_path) == history
    assert again.seen == [] and not again.training
    assert all(value.equal(model.state_dict()[name]) for name, value in again.state_dict().items())
    run(again, QUICK, tmp_path, resume=False)
    assert len(again.seen) == QUICK.steps


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": replace(QUICK, lr=0.1)}, r"settings.lr: 0.05 there, 0.1 here"),
        (
            {"settings": replace(QUICK, schedule="cosine", steps=20)},
            r"settings.steps: 12 there, 20 here; settings.schedule: step there",
        ),
        ({"settings": replace(QUICK, steps=20, seed=2)}, r"\(settings.seed: 0 there, 2 here\)"),
        ({"dataset": Rectangles(6)}, r"images: 7 there, 6 here"),
        ({"model": detector()}, r"shapes.features.weight: \[4, 3\] there, None here.* and \d+ more"),
        ({"model": Toy(torch.Generator())}, r"generator: False there, True here"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(tmp_path, change, named):
    run(folder=tmp_path)
    with pytest.raises(ValueError, match=rf"checkpoint.pt.*{named}"):
        run(**change, folder=tmp_path)


def test_a_checkpoint_of_other_classes_or_frozen_layers_is_refused(tmp_path):
    run(folder=tmp_path)
    dataset, model = Rectangles(7), Toy()
    dataset.classes = ("background", "bright", "dim")
    with pytest.raises(ValueError, match=r"classes: \['background', 'bright', 'dark'\] there, .*'dim'\] here"):
        run(folder=tmp_path, dataset=dataset)
    model.odd.requires_grad_(False)
    with pytest.raises(ValueError, match=r"trained.odd.weight: True there, False here"):
        run(model, folder=tmp_path)


def test_more_steps_go_on_as_if_they_had_been_asked_for_at_first(tmp_path):
    longer = replace(QUICK, steps=20, milestones=(15,))
    whole, first = Toy(), Toy()
    expected = run(whole, longer)
    run(first, replace(longer, steps=9), tmp_path)
    again = Toy()
    assert run(again, longer, tmp_path).losses == expected.losses and len(again.seen) == 11
    assert all(value.equal(again.state_dict()[name]) for name, value in whole.state_dict().items())
    with pytest.raises(ValueError, match=r"checkpoint.pt: expected a training of at most steps = 12, got one of 20"):
        run(Toy(), replace(longer, steps=12), tmp_path)


def test_with_the_cosine_schedule_more_steps_are_another_training(tmp_path):
    run(Toy(), replace(QUICK, schedule="cosine"), tmp_path)
    with pytest.raises(ValueError, match=r"settings.steps: 12 there, 20 here.*schedule='step'"):
        run(Toy(), replace(QUICK, schedule="cosine", steps=20), tmp_path)


def test_more_pictures_go_on(tmp_path):
    interrupted(Toy(), QUICK, tmp_path, 6)
    model = Toy()
    assert run(model, QUICK, tmp_path, dataset=Rectangles(9)).steps == 12 and len(model.seen) == 7
    assert {7, 8} & {number for batch in model.seen for number in batch}  # the new ones take part


class PressedInStep(Toy):
    """Ctrl-C in the middle of a forward pass, once or twice."""

    def __init__(self, step, times=1):
        super().__init__()
        self.step, self.times = step, times

    def forward(self, images, targets):
        losses = super().forward(images, targets)
        if len(self.seen) == self.step:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return losses


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_ends_the_step_and_saves(tmp_path, workers, handler):
    settings = replace(QUICK, checkpoint_every=1000, workers=workers)
    with pytest.raises(KeyboardInterrupt, match="after step 7 of 12"):
        run(PressedInStep(7), settings, tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    model = Toy()
    assert run(model, settings, tmp_path).losses == run(Toy(), settings).losses and len(model.seen) == 5


def test_a_second_ctrl_c_ends_at_once(tmp_path, handler):
    with pytest.raises(KeyboardInterrupt):
        run(PressedInStep(7, times=2), replace(QUICK, checkpoint_every=1000), tmp_path)
    assert not list(tmp_path.iterdir()) and signal.getsignal(signal.SIGINT) is handler


def test_where_ctrl_c_is_ignored_it_stays_so(handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert run(PressedInStep(7)).steps == QUICK.steps


def test_in_a_thread_there_is_no_signal_to_wait_for(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run, Toy()).result().steps == QUICK.steps


def test_a_damaged_checkpoint_is_named(tmp_path):
    run(folder=tmp_path)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    one_bit = bytearray(whole)
    one_bit[len(whole) // 2] ^= 1  # amid the state of the random generator
    for content in [whole[: len(whole) * i // 7] for i in range(7)] + [one_bit, b"not a checkpoint"]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="checkpoint.pt: cut short or damaged"):
            run(folder=tmp_path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"checkpoint.pt: holds \['weight'\], .*expected a checkpoint of train\(\)"):
        run(folder=tmp_path)


# Several processes


def together(job, *arguments):
    """Run a job in two processes that know of each other."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.training.job"])
    both = [processes.Process(target=job, args=(rank, *arguments)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0


@needs_processes
def test_two_processes_equal_one(tmp_path):
    settings = TrainSettings(
        steps=8, batch_size=2, lr=0.05, weight_decay=0.1, clip_norm=4, seed=2, log_every=5, checkpoint_every=2
    )

    def start(folder, noisy):
        folder.mkdir(exist_ok=True)
        together(shared_training, 2, tmp_path / f"meeting of {folder.name} {noisy}", folder, settings, noisy)
        return [torch.load(folder / f"{rank}.pt") for rank in range(2)]

    model = Toy()
    history = run(model, settings, dataset=Rectangles(6))
    first, second = start(tmp_path / "shared", noisy=False)
    assert any(all(number % 2 == 0 for number in batch) for batch in model.seen)  # a layer without a gradient
    assert [a + b for a, b in zip(first["seen"], second["seen"], strict=True)] == model.seen
    for part in (first, second):
        for name, values in history.losses.items():
            assert part["losses"][name] == pytest.approx(values, rel=1e-4, abs=1e-6)
        for name, weights in model.state_dict().items():
            torch.testing.assert_close(part["model"][name], weights, rtol=1e-4, atol=1e-6)

    noisy = start(tmp_path / "noisy", noisy=True)
    resumed = start(tmp_path / "noisy" / "earlier", noisy=True)
    assert [part["losses"] for part in resumed] == [part["losses"] for part in noisy]
    assert [len(part["seen"]) for part in resumed] == [2, 2]  # the last checkpoint but one is of step 6


@needs_processes
def test_two_processes_divide_by_what_both_drew(tmp_path):
    """One draws from one image, the other from three."""
    images = ([0], [1, 2, 3])
    together(shared_losses, tmp_path / "meeting", tmp_path, images)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole = losses_and_gradients([*images[0], *images[1]])
    assert parts[0]["alone"] == 7
    for name, loss in whole["losses"].items():
        values = [part["losses"][name] for part in parts]
        torch.testing.assert_close(sum(values) / 2, loss, rtol=1e-6, atol=0)
        assert values[0] < 0.5 * values[1]
    for name, gradient in whole["gradients"].items():
        torch.testing.assert_close(parts[0]["gradients"][name], gradient, rtol=1e-6, atol=1e-8)


def test_the_scale_of_the_loss_is_in_a_checkpoint(tmp_path):
    def between_steps(scale):
        between = Run(Toy(), Rectangles(4), QUICK)
        between.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=7)
        return between

    first, second = between_steps(64.0), between_steps(2.0)
    total = next(first.model.parameters()).square().sum()
    first.scaler.scale(total).backward()
    first.scaler.step(first.optimizer)
    first.scaler.update()
    first.save(tmp_path / "checkpoint.pt")
    second.load(tmp_path / "checkpoint.pt")
    expected = first.scaler.state_dict()
    assert second.scaler.state_dict() == expected and (expected["scale"], expected["_growth_tracker"]) == (64, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_and_resuming_on_a_gpu(tmp_path, precision):
    settings = TrainSettings(
        steps=60, batch_size=4, lr=0.03, warmup=20, clip_norm=5, precision=precision, checkpoint_every=15
    )
    dataset = Rectangles(4, mirror=False)
    interrupted(detector().cuda(), settings, tmp_path, 30, dataset=dataset)
    saved = torch.load(tmp_path / "checkpoint.pt")
    assert bool(saved["scaler"]) is (precision == "float16") and "cuda" in saved["random"][0]
    history = run(detector().cuda(), settings, tmp_path, dataset=dataset)
    assert history.steps == 60 and max(history.total[-5:]) < 0.8 * history.total[0]
    for name, values in saved["history"]["losses"].items():
        assert len(values) == 15 and history.losses[name][:15] == values  # it went on from there
