"""Two processes that share a batch train as one process with the whole batch does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dslib import env

RUN = """
import sys
from pathlib import Path
import torch
from accelerate import PartialState
state = PartialState(cpu=True)
sys.path.insert(0, sys.argv[1])
from conftest import make_images, make_source
from safetensors.torch import save_file
from dslib.train import TrainConfig, adapt
config = TrainConfig(max_train_steps=3, train_batch_size=6, learning_rate=1e-3, lambda_img=5.0, lambda_hf=5.0, pairwise_variant=sys.argv[3])
*_, last = adapt(make_source(), make_images(10, 16), config)
if state.is_main_process:
    save_file({k: v.contiguous() for k, v in last.averaged().state_dict().items()}, sys.argv[2])
    print(state.num_processes, float(last.terms["img"]))
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def trained(folder: Path, processes: int, variant: str) -> tuple[dict, float]:
    """Averaged weights and the last L_img of a run on so many processes."""
    common = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    if processes > 1:
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes),
                   "LOCAL_WORLD_SIZE": str(processes)}
    target = folder / f"{processes}.safetensors"
    command = [sys.executable, "-c", RUN, str(Path(__file__).parent), str(target), variant]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=common | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}))
               for rank in range(processes)]
    outputs = [process.communicate(timeout=240) for process in running]
    assert all(process.returncode == 0 for process in running), outputs
    found, loss = outputs[0][0].split()
    assert int(found) == processes
    return load_file(target), float(loss)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_two_processes_are_one_with_the_joint_batch(tmp_path, variant):
    one, loss_of_one = trained(tmp_path, 1, variant)
    two, loss_of_two = trained(tmp_path, 2, variant)
    assert loss_of_one > 0 and loss_of_two == pytest.approx(loss_of_one, rel=0.01, abs=1e-7)   # the authors' mean is a few 1e-6
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=3e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("said, cpu", [("true", True), ("false", False), (None, False)])
def test_accelerates_switch_to_the_cpu_is_obeyed_from_the_first_question(monkeypatch, said, cpu):
    """Whoever asks first decides the device: asked without it on a GPU machine, the training would be refused later."""
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    if said:
        monkeypatch.setenv("ACCELERATE_USE_CPU", said)
    monkeypatch.setattr("accelerate.PartialState", lambda **options: options)
    assert env.processes() == {"cpu": cpu}
