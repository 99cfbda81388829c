"""The cores of this machine, and the threads that a model takes of them."""

import subprocess
import sys

import pytest
from process import environment

from dptcli.running.machine import own_threads, usable_cores


def test_a_worker_takes_the_threads_that_a_local_run_takes():
    variables = environment()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        variables.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.get_num_threads())"],
        capture_output=True,
        text=True,
        check=True,
        env=variables,
    )
    assert own_threads(None) == int(done.stdout)


@pytest.mark.parametrize(("wanted", "threads"), [("3", 3), ("4,2", 4), ("0", 1)])
def test_what_the_command_was_told_counts_on_every_machine(wanted, threads):
    assert own_threads(wanted) == threads


@pytest.mark.parametrize("wanted", [None, "", "many"])
def test_without_a_number_each_core_has_a_thread(wanted):
    assert 1 <= own_threads(wanted) <= usable_cores()
