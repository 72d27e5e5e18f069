"""Randomness outside the seed. The kind: **whatever is drawn while a network is trained depends on seed, step and process alone**. Members:
dropout of a pixel source, of one trained from scratch, in pre-training, in text-to-image (U-Net, text encoder, LoRA), draws of numpy and of
Python, the order of a set, each process's own share. The same command twice gives equal weights, also resumed, whatever ran before."""

import ast
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_images, make_source, make_text_pipeline
from diffusers import UNet2DModel

from dslib import models, pretrain, train
from dslib.base import device
from dslib.text import latent, pretrain_t2i, text_to_image

DSLIB = Path(train.__file__).parent
DRAWS = {f"torch.{name}" for name in ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "rand_like", "randn_like")}


def forgetful(model, p=0.3):
    """The model with dropout; at least one place has it."""
    places = [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    assert places
    for place in places:
        place.p = p
    return model


def pixels(method):
    def steps(changes):
        source = make_source()
        settings = {k: v for k, v in source.unet.config.items() if k[0] != "_"} | {"dropout": 0.3}
        forgetful(unet := UNet2DModel(**settings)).load_state_dict(source.unet.state_dict())     # "scratch" builds from the settings
        source.register_modules(unet=unet.eval())
        given = {"method": method, "max_train_steps": 2, "train_batch_size": 4, "seed": 3} | changes
        return train.adapt(source, make_images(4, 16), train.TrainConfig(**given))
    return steps


def pretraining(changes):
    source, given = make_source(), {"max_train_steps": 2, "train_batch_size": 4, "seed": 3} | changes
    return pretrain.pretrain(make_images(6, 16), pretrain.PretrainConfig(**given), forgetful(source.unet), source.scheduler.alphas_cumprod)


def texts(method, rank=0):
    def steps(changes):
        pipe = make_text_pipeline()
        forgetful(pipe.unet)
        given = {"method": method, "max_train_steps": 2, "train_batch_size": 4, "seed": 3, "lora_rank": rank} | changes
        prior = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        return text_to_image.adapt(pipe, make_images(4, 32), text_to_image.TextConfig(**given).rated(), "a sks face", "a face", prior)
    return steps


def captioned(changes):
    """Text encoder and U-Net of the text-to-image source; the encoder drops attention without a Dropout module."""
    pipe, given = make_text_pipeline(), {"max_train_steps": 2, "train_batch_size": 4, "seed": 3} | changes
    for module in pipe.text_encoder.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.3
    latents = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    ids = torch.randint(0, 50, (6, 2, pipe.tokenizer.model_max_length), generator=torch.Generator().manual_seed(5))
    networks = pipe.text_encoder.requires_grad_(True), forgetful(pipe.unet).requires_grad_(True)
    return pretrain_t2i.train_unet(latents, ids, pretrain.PretrainConfig(**given), *networks, latent.new_scheduler().alphas_cumprod)


RUNS = {"domainstudio": pixels("domainstudio"), "finetune": pixels("finetune"), "scratch": pixels("scratch"), "pretrain": pretraining,
        "text": texts("domainstudio"), "dreambooth": texts("dreambooth"), "LoRA": texts("dreambooth", 2),
        "textual inversion": texts("textual-inversion"), "pretrain-t2i": captioned}


def weights(stream):
    *_, last = stream
    return torch.cat([p.detach().flatten() for p in last.model.parameters() if p.requires_grad])


@pytest.mark.parametrize("name", RUNS)
def test_the_same_command_twice_and_resumed_gives_equal_weights(tmp_path, name):
    once = weights(RUNS[name]({}))
    torch.rand(7), np.random.rand(7), random.random()                   # whatever ran before
    kept = {"output_dir": str(tmp_path), "checkpointing_steps": 1}
    assert torch.equal(weights(RUNS[name](kept | {"max_train_steps": 1})), weights(RUNS[name]({"max_train_steps": 1})))
    torch.manual_seed(99)
    assert torch.equal(weights(RUNS[name](kept | {"resume_from_checkpoint": "latest"})), once)
    if name != "textual inversion":                                     # where all is frozen but a word, nothing is dropped
        assert not torch.equal(weights(RUNS[name]({"seed": 4})), once)


def test_dropout_is_really_there():
    """Without it the runs above would be equal anyway."""
    def without(changes):
        source = make_source()
        given = train.TrainConfig(max_train_steps=2, train_batch_size=4, seed=3, **changes)
        return train.adapt(source, make_images(4, 16), given)
    assert not torch.equal(weights(without({})), weights(RUNS["domainstudio"]({})))


def drawing(step=5, process=0, seed=1):
    with device.seeded(seed, step, SimpleNamespace(device=torch.device("cpu"), process_index=process)):
        return torch.rand(3).tolist() + [random.random(), float(np.random.rand())]


def test_each_step_seed_and_process_draws_its_own():
    draws = [drawing(), drawing(step=6), drawing(process=1), drawing(seed=2)]
    assert len({x for draw in draws for x in draw}) == 5 * len(draws)
    assert drawing() == draws[0]


def test_looking_at_the_model_on_the_way_changes_nothing():
    """Drawing puts a network into eval(), where dropout rests: the next step trains with it again."""
    *_, undisturbed = pixels("finetune")({"max_train_steps": 3})
    for step in pixels("finetune")({"max_train_steps": 3}):
        step.model.eval()
    for one, other in zip(undisturbed.model.parameters(), step.model.parameters()):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_steps_own_noise_is_not_drawn_again_by_dropout():
    """The step's t and ε come from another number than what is dropped."""
    noise = torch.rand(3, generator=torch.Generator().manual_seed(1 * 1_000_003 + 5)).tolist()
    assert not set(noise) & set(drawing())


def test_the_callers_generators_are_left_where_they_were():
    def state():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    before = state()
    drawing()
    with pytest.raises(ZeroDivisionError), device.seeded(0, 0, SimpleNamespace(device=torch.device("cpu"), process_index=0)):
        torch.rand(1), random.random(), 1 / 0
    assert state() == before
    stream = RUNS["finetune"]({})                       # builds a network, which draws
    before = state()
    weights(stream)
    assert state() == before


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: float(torch.rand(()))], ids=["python", "numpy", "torch"])
def test_an_objective_that_draws_by_itself_is_repeated_too(draw):
    def run():
        source = make_source()

        def objective(net, x_0, t, eps):
            loss = (net(x_0 + draw(), t).sample - eps).square().mean()
            return loss, {"simple": loss}
        config = train.TrainConfig(max_train_steps=2, train_batch_size=2)
        return weights(train.fit(source.unet, make_images(3, 16), replace(config), objective, source.scheduler.alphas_cumprod))
    assert torch.equal(run(), run())


def test_the_order_of_a_set_changes_nothing(tmp_path):
    """Python hashes words anew in every process."""
    forgetful(pipe := make_source().unet)
    pipe.register_to_config(dropout=0.3)
    models.save_pipeline(pipe, models.new_scheduler(), tmp_path / "source")
    code = ("import torch; from conftest import make_images; from dslib import models, train\n"
            "*_, s = train.adapt(models.load_source(r'%s'), make_images(4, 16), train.TrainConfig(max_train_steps=2, train_batch_size=4))\n"
            "import hashlib; print(hashlib.sha256(b''.join(p.detach().numpy().tobytes() for p in s.model.parameters())).hexdigest())")
    path = os.pathsep.join([str(DSLIB.parent), str(DSLIB.parent / "tests")])
    found = {subprocess.run([sys.executable, "-c", code % (tmp_path / "source")], capture_output=True, text=True, check=True, timeout=300,
                            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}).stdout for seed in ("1", "2")}
    assert len(found) == 1


def test_nothing_in_the_library_draws_without_a_generator():
    """torch.rand… without generator=, np.random.… and random.… beside their seeded classes. The GANs' layers are made in Pair's fork."""
    found = []
    for path in DSLIB.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if call in DRAWS and path != DSLIB / "gan" / "networks.py" and not any(k.arg == "generator" for k in node.keywords):
                found.append(f"{path.relative_to(DSLIB)}:{node.lineno} {call}")
            if call.startswith("random.Random("):
                continue                                   # a generator with a seed of its own
            if call.startswith(("np.random.", "random.")) and call.split(".")[-1] not in ("default_rng", "Random", "getstate", "setstate",
                                                                                          "get_state", "set_state", "seed"):
                found.append(f"{path.relative_to(DSLIB)}:{node.lineno} {call}")
    assert not found
