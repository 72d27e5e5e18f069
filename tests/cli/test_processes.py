"""Two processes that share a batch train as one process with the whole batch does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_images, make_source
from safetensors.torch import load_file, save_file

from dslib import env
from dslib.train import TrainConfig, adapt

RUN = """
import sys
from pathlib import Path
import torch
from accelerate import PartialState
state = PartialState(cpu=True)
sys.path.insert(0, sys.argv[1])
from test_processes import last_step, save
for variant in sys.argv[3:]:
    last = last_step(variant)
    if state.is_main_process:
        save(last, f"{sys.argv[2]}/{variant}.safetensors")
        print(state.num_processes, float(last.terms["img"]))
"""
VARIANTS = ("paper", "authors")


def last_step(variant: str):
    """The last step of a short run, on however many processes this one is of."""
    config = TrainConfig(max_train_steps=3, train_batch_size=6, learning_rate=1e-3, lambda_img=5.0, lambda_hf=5.0, pairwise_variant=variant)
    *_, last = adapt(make_source(), make_images(10, 16), config)
    return last


def save(step, path) -> None:
    save_file({k: v.contiguous() for k, v in step.averaged().state_dict().items()}, path)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> dict[str, tuple[dict, float]]:
    """Of every variant the averaged weights and the last L_img of a run on two processes."""
    folder, tests = tmp_path_factory.mktemp("two"), Path(__file__).resolve().parents[1]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
              "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])}
    running = [subprocess.Popen([sys.executable, "-c", RUN, str(Path(__file__).parent), str(folder), *VARIANTS], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
               for rank in range(2)]
    outputs = [process.communicate(timeout=600) for process in running]
    assert all(process.returncode == 0 for process in running), outputs
    found = [line.split() for line in outputs[0][0].splitlines()]
    assert [processes for processes, _ in found] == ["2"] * len(VARIANTS)
    return {variant: (load_file(folder / f"{variant}.safetensors"), float(loss)) for variant, (_, loss) in zip(VARIANTS, found)}


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_are_one_with_the_joint_batch(tmp_path, variant, of_two):
    assert env.processes().num_processes == 1
    step, (two, loss_of_two) = last_step(variant), of_two[variant]
    loss_of_one = float(step.terms["img"])
    save(step, tmp_path / "one.safetensors")
    assert loss_of_one > 0 and loss_of_two == pytest.approx(loss_of_one, rel=0.01, abs=1e-7)   # the authors' mean is a few 1e-6
    for name, weight in load_file(tmp_path / "one.safetensors").items():
        torch.testing.assert_close(two[name], weight, atol=3e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("said, cpu", [("true", True), ("false", False), (None, False)])
def test_accelerates_switch_to_the_cpu_is_obeyed_from_the_first_question(monkeypatch, said, cpu):
    """Whoever asks first decides the device: asked without it on a GPU machine, the training would be refused later."""
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    if said:
        monkeypatch.setenv("ACCELERATE_USE_CPU", said)
    monkeypatch.setattr("accelerate.PartialState", lambda **options: options)
    assert env.processes() == {"cpu": cpu}
