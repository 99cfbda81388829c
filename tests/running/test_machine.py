"""The cores of this machine, and the threads that a model takes of them."""

import gc
import os
import subprocess
import sys

import pytest
from process import environment

from dptcli.running.machine import brief_waits, collector_rests, own_threads, usable_cores


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


COMMAND = "from dptcli.running.machine import brief_waits; brief_waits()"
# As a worker of a cluster gets what it is to run: by name.
WORKER = "import pickle; pickle.loads(b'cdptcli.engine_ray.stages\\ndescribe\\n.')"
# The processor time of a process that sleeps after an operation: what its other thread turns.
WAITING = """
import time
import torch
numbers, spent = torch.rand(1 << 20), []
for _ in range(20):
    numbers.exp_()
    started = time.process_time()
    time.sleep(0.01)
    spent.append(time.process_time() - started)
print(sorted(spent)[5])  # where others run too, some are longer
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
@pytest.mark.skipif(usable_cores() < 2, reason="on one core nobody turns")
@pytest.mark.parametrize("start", [COMMAND, WORKER], ids=["dpt", "a worker of a cluster"])
def test_a_thread_that_waits_lets_go_of_its_core(start):
    variables = {**environment(), "OMP_NUM_THREADS": "2"}
    variables.pop("OMP_WAIT_POLICY", None)
    variables.pop("GOMP_SPINCOUNT", None)
    ours, of_gnu = (
        float(subprocess.check_output([sys.executable, "-c", program], text=True, env=variables))
        for program in (start + WAITING, WAITING)
    )
    assert ours < of_gnu / 2  # .1 to 1.2 ms for 1.5 to 8, by the processor and who else runs


# torch's modules stay: the collector looks neither while they come nor afterwards.
COLLECTING = """
import gc
from dptcli.running.machine import collector_rests
rounds = []
gc.callbacks.append(lambda phase, info: rounds.append(phase))
with collector_rests():
    import torch
during = len(rounds)
class Ring: pass
for _ in range(10_000):
    ring = Ring()
    ring.self = ring
print(during, len(rounds) > 0, gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


def test_the_collector_rests_while_torch_is_imported_and_works_afterwards():
    done = subprocess.run(
        [sys.executable, "-c", COLLECTING],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout.split() == ["0", "True", "True", "True"]


def test_a_process_that_has_torch_keeps_its_collector(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    frozen = gc.get_freeze_count()
    with collector_rests():
        assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_the_callers_word_on_waiting_counts(monkeypatch, name):
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "7")
    before = dict(os.environ)
    brief_waits()
    assert dict(os.environ) == before
