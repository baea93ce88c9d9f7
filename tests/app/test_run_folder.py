import multiprocessing
import os
import signal
import sys
import time

import pytest

from rcnn_tutorial.app.run_folder import free_folder, has_run, locked, named_folder, read_settings


def test_the_first_free_number(tmp_path):
    made = [free_folder("fpn", tmp_path / "runs") for _ in range(3)]
    assert [path.name for path in made] == ["fpn", "fpn2", "fpn3"] and all(path.is_dir() for path in made)
    made[1].rmdir()
    assert free_folder("fpn", tmp_path / "runs").name == "fpn2"


def test_a_chosen_folder_may_be_there_but_for_a_run(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert named_folder(tmp_path) == tmp_path and not has_run(tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match="train --resume .*; or choose another folder .* --folder"):
        named_folder(tmp_path)
    assert read_settings(tmp_path) == {}


def hold(folder, until):
    with locked(folder):
        until.set()
        time.sleep(60)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL, no fork server")
@pytest.mark.whole
def test_the_lock_of_a_killed_process_does_not_block(tmp_path):
    processes = multiprocessing.get_context("forkserver")
    held = processes.Event()
    process = processes.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(60)
    with pytest.raises(RuntimeError, match="another training is at work"), locked(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path), pytest.raises(RuntimeError, match="another training is at work"), locked(tmp_path):
        pass
