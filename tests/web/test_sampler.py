"""The samplers in JavaScript against diffusers', step by step, in node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

SCRIPT = Path(__file__).resolve().parents[2] / "dslib" / "web" / "page" / "sampler.js"
KINDS = {"ddim": (DDIMScheduler, {}), "dpmsolver": (DPMSolverMultistepScheduler, {"thresholding": True, "sample_max_value": 1.0})}
WALK = """const S = require(process.argv[1]), m = JSON.parse(process.argv[2]);
(async () => {
  const noise = S.startNoise(m, 3), network = async (x, t) => x.map((v, i) => Math.tanh(0.7 * v - 1 + 2 * i / 47 + t / 1000)), way = [];
  for await (const link of S.chain(m, noise, m.kind, 20, network)) way.push([...link.x_t]);
  console.log(JSON.stringify({noise: [...noise], way}));
})()"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here: only the browser's test compares the samplers")
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_and_every_step_are_those_of_torch_and_diffusers(kind, prediction):
    base = DDPMScheduler(1000, beta_schedule="linear", clip_sample=True, prediction_type=prediction)
    scheduler_class, extra = KINDS[kind]
    scheduler = scheduler_class.from_config(base.config, timestep_spacing="trailing", **extra)
    scheduler.set_timesteps(20)
    model = {"kind": kind, "channels": 3, "resolution": 4, "a_bar": base.alphas_cumprod.tolist(), "prediction_type": prediction,
             "clip_sample": True, "clip_range": 1.0, "timesteps": {"20": scheduler.timesteps.tolist()}}
    done = subprocess.run(["node", "-e", WALK, str(SCRIPT), json.dumps(model)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    x_t = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(3 * 1_000_003))
    assert torch.allclose(torch.tensor(found["noise"]), x_t.flatten(), atol=1e-5)
    for t, got in zip(scheduler.timesteps, found["way"], strict=True):
        output = torch.tanh(0.7 * x_t + torch.linspace(-1, 1, 48).view(1, 3, 4, 4) + t / 1000)
        x_t = scheduler.step(output, t, x_t).prev_sample
        assert torch.allclose(torch.tensor(got), x_t.flatten(), atol=1e-4), f"step {int(t)}"
