"""What a change of structure must not change: ten steps of every method, and the committed tables as they are collated.

``python tests/test_frozen.py`` records ``tests/frozen.json`` again; do that only where a change of numbers is meant, and say so.
Hashes are compared where torch, the processor and the number of threads are those of the record; elsewhere the numbers are, to four digits.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from conftest import make_images, make_source, make_text_pipeline

from dslib import models, pretrain, train
from dslib.study import ablations, curves, tables
from dslib.text import latent, pretrain_t2i, text_to_image

RECORD = Path(__file__).with_name("frozen.json")
RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"

UNCONDITIONAL = {
    "scratch": {"method": "scratch"}, "finetune": {"method": "finetune"}, "finetune, mirrored": {"method": "finetune", "random_flip": True},
    "domainstudio": {}, "authors": {"pairwise_variant": "authors"},
    "as published": {"pairwise_weighting": "none", "hfmse_weighting": "none"},
    "no L_hf": {"lambda_hf": 0.0}, "reversed": {"pairwise_direction": "sou||ada"}, "temperature": {"pairwise_temperature": 0.3},
    "centred": {"pairwise_space": "centred"}, "below 500": {"pairwise_t_max": 500}, "stacked": {"detail": "stacked"},
    "level 2": {"detail": "haar_level_2"}, "db2": {"detail": "db2"}, "pixels": {"detail": "pixels"}, "bank": {"bank_steps": 4},
    "warm-up and decay": {"lr_warmup_steps": 3, "lr_decay_steps": 5, "adam_weight_decay": 0.1},
}
TEXT = {
    "dreambooth": {"method": "dreambooth"}, "textual-inversion": {"method": "textual-inversion", "learning_rate": 2e-2},
    "text domainstudio": {}, "text authors": {"pairwise_variant": "authors"}, "text lora": {"lora_rank": 2}, "text bank": {"bank_steps": 4},
    "text as published": {"pairwise_weighting": "none", "hfmse_weighting": "none"}, "personalise": {"subject": True},
}
PRETRAINING = {"snr_gamma": 5.0, "lambda_coarse": 0.25, "high_noise_weight": 10.0, "random_flip": True}


def settings(kind=train.TrainConfig, **changes):
    return kind(**{"max_train_steps": 10, "train_batch_size": 4, "ema_max_decay": 0.5, "seed": 7} | changes)


def alone(**changes):
    """The same loop for training from random weights."""
    return pretrain.PretrainConfig(**{"max_train_steps": 10, "train_batch_size": 4, "ema_max_decay": 0.5, "seed": 7} | changes)


def unconditional(changes, learned_variance=False):
    source = make_source(learned_variance=learned_variance)
    return source.unet, train.adapt(source, make_images(6, 16), settings(**changes))


def text(changes):
    changes, pipe, prior = dict(changes), make_text_pipeline(), torch.randn(12, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    subject = text_to_image.Subject(make_images(2, 32, 9), "a face of zwx") if changes.pop("subject", False) else None
    config = settings(text_to_image.TextConfig, **{"learning_rate": 5e-4} | changes)
    return pipe.unet, text_to_image.adapt(pipe, make_images(6, 32), config, "a sks face", "a face", prior, subject)


def pretraining(changes):
    unet = make_source().unet
    return unet, pretrain.pretrain(make_images(6, 16), alone(**changes), unet, models.new_scheduler().alphas_cumprod)


def text_source(stage):
    pipe = make_text_pipeline()
    if stage == "vae":
        return pipe.vae, pretrain_t2i.train_vae(make_images(6, 32), alone(), pipe.vae)
    ids = torch.randint(1, 50, (6, 2, pipe.tokenizer.model_max_length), generator=torch.Generator().manual_seed(1))
    schedule = pipe.scheduler.alphas_cumprod.clone()
    latents, config = latent.encode(pipe.vae, make_images(6, 32)), alone(**PRETRAINING)
    return pipe.unet, pretrain_t2i.train_unet(latents, ids, config, pipe.text_encoder, pipe.unet, schedule)


RUNS = ({name: lambda c=changes: unconditional(c) for name, changes in UNCONDITIONAL.items()}
        | {"learned variance": lambda: unconditional({}, learned_variance=True)}
        | {name: lambda c=changes: text(c) for name, changes in TEXT.items()}
        | {"pretrain": lambda: pretraining({}), "pretrain, weighted": lambda: pretraining(PRETRAINING),
           "pretrain vae": lambda: text_source("vae"), "pretrain text unet": lambda: text_source("unet")})


def fingerprint(name: str) -> dict:
    """Ten steps of a run → hash of its averaged weights, six projections of them, and the last step's terms."""
    _, stream = RUNS[name]()
    *_, last = stream
    values = [v.detach().float().flatten() for v in last.averaged().state_dict().values() if v.is_floating_point()]
    flat = torch.cat(values)
    generator, digest = torch.Generator().manual_seed(0), hashlib.sha256(flat.numpy().tobytes()).hexdigest()
    projections = [float(torch.randn(len(flat), generator=generator).double() @ flat.double() / len(flat) ** 0.5) for _ in range(6)]
    return {"sha256": digest, "projections": projections, "terms": {k: float(v) for k, v in last.terms.items()}}


def committed() -> dict[str, str]:
    """Hash of every committed table as it is read or collated today."""
    def digest(rows):
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    found = {"unconditional": digest(tables.collate(sorted((RESULTS / "unconditional").glob("*.json"))))}
    grid = ablations.read(RESULTS / "08_ablations.npz")
    return found | {"table.csv": digest(tables.load_table(RESULTS / "table.csv")), "curves": digest(curves.read(RESULTS / "08_curves.csv")),
                    "ablations": digest([grid.rows, grid.facts])}


def machine() -> dict:
    return {"torch": torch.__version__, "processor": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


QUICK = ("scratch", "finetune", "domainstudio", "authors", "as published", "learned variance", "pretrain", "pretrain, weighted")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in RUNS])
def test_ten_steps_of_every_method_end_in_the_recorded_weights(name):
    record = json.loads(RECORD.read_text())
    want, got = record["runs"][name], fingerprint(name)
    assert got["terms"] == pytest.approx(want["terms"], rel=1e-4, abs=1e-6)
    assert got["projections"] == pytest.approx(want["projections"], rel=1e-4, abs=1e-5)
    if record["machine"] == machine():
        assert got["sha256"] == want["sha256"]


def test_committed_tables_collate_to_the_same_rows():
    assert committed() == json.loads(RECORD.read_text())["tables"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    record = {"machine": machine(), "tables": committed(), "runs": {name: fingerprint(name) for name in RUNS}}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{RECORD.name}: {len(RUNS)} runs, {len(record['tables'])} tables")
