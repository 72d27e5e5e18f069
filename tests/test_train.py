"""The training loop: what is minimised, what is reproducible, what survives an interruption, what is refused."""

import contextlib
import copy
import json
import math
from dataclasses import fields, replace

import pytest
import torch
from conftest import make_images, make_source

from dslib import ddpm, domainstudio, models, pretrain, train
from dslib.base import checkpoint
from dslib.env import UserError
from dslib.pretrain import PretrainConfig
from dslib.train import Loop, TrainConfig, adapt


@pytest.fixture
def config():
    return TrainConfig(max_train_steps=3, train_batch_size=4, learning_rate=1e-3)


def plain_loop(config, **changes):
    """The loop's settings of a fine-tuning run, for pre-training."""
    return PretrainConfig(**{f.name: getattr(config, f.name) for f in fields(Loop)} | changes)


def run(source, images, config):
    """All records of a run; the weights are those of the last step."""
    return list(adapt(source, images, config))


def weights(record_or_unet):
    module = getattr(record_or_unet, "model", record_or_unet)
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def assert_same_state(a, b):
    """Weights, averaged weights and Adam's moments of two records are equal bit for bit."""
    assert same(weights(a), weights(b))
    assert same(weights(a.averaged()), weights(b.averaged()))
    assert a.ema.optimization_step == b.ema.optimization_step
    moments_a, moments_b = checkpoint.adam_state(a.optimizer), checkpoint.adam_state(b.optimizer)
    assert moments_a and same(moments_a, moments_b)


def one_loss(source, images, config, t=(5, 200, 500, 800)):
    """The objective of adapt() at one fixed noised batch: (total, terms, gradient as one vector)."""
    unet, frozen = copy.deepcopy(source.unet), copy.deepcopy(source.unet).requires_grad_(False)
    with torch.no_grad():
        for p in unet.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    generator = torch.Generator().manual_seed(3)
    t, eps = torch.tensor(t), torch.randn(4, 3, 16, 16, generator=generator)
    betas = ddpm.linear_betas()
    total, terms = domainstudio.domainstudio_loss(unet, frozen, images[:4], t, eps, ddpm.alphas_cumprod(betas), betas, config)
    total.backward()
    return total.detach(), terms, torch.cat([p.grad.flatten() for p in unet.parameters() if p.grad is not None])


# ------------------------------------------------------------------------------------------ what is minimised

def test_total_is_the_weighted_sum_of_the_terms(tiny_source, ten_images, config):
    config = replace(config, lambda_img=0.3, lambda_hf=0.7, lambda_hfmse=0.05)
    for record in run(tiny_source, ten_images, config):
        terms = {k: v.item() for k, v in record.terms.items()}
        assert set(terms) == {"simple", "img", "hf", "hfmse"}
        expected = terms["simple"] + 0.3 * terms["img"] + 0.7 * terms["hf"] + 0.05 * terms["hfmse"]
        assert record.loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["lambda_img", "lambda_hf", "lambda_hfmse", "lambda_distill"])
def test_each_weight_changes_the_gradient(tiny_source, ten_images, name):
    off, on, double = (one_loss(tiny_source, ten_images, TrainConfig(**{name: v}))[2] for v in (0.0, 1.0, 2.0))
    assert (on - off).norm() > 1e-6
    torch.testing.assert_close(double - off, 2 * (on - off), rtol=1e-2, atol=1e-3 * (on - off).abs().max().item())


def test_the_pairwise_terms_start_at_zero(tiny_source, ten_images, config):
    first = next(adapt(tiny_source, ten_images, config))
    assert first.terms["img"].item() == pytest.approx(0, abs=1e-6)
    assert first.terms["hf"].item() == pytest.approx(0, abs=1e-6)
    assert first.terms["simple"].item() > 0 and first.terms["hfmse"].item() > 0


def test_the_first_step_minimises_what_the_formulas_say(tiny_source, ten_images, config):
    """x_t, t and ε of step 0 are those of seed·1000003; the loss is L_simple at the source's weights."""
    config = replace(config, method="finetune", seed=5)
    record = next(adapt(tiny_source, ten_images, config))
    generator = torch.Generator().manual_seed(5 * 1_000_003)
    x_0 = ten_images[train.batch_indices(0, 10, 4, 5)]
    t = ddpm.sample_timesteps(4, 1000, generator)
    eps = torch.randn(x_0.shape, generator=generator)
    with torch.no_grad():
        guess = tiny_source.unet(tiny_source.scheduler.add_noise(x_0, eps, t), t).sample
    assert record.loss.item() == pytest.approx((guess - eps).square().mean().item(), rel=1e-4)


@pytest.mark.parametrize("method", ["finetune", "scratch"])
def test_naive_methods_have_the_simple_term_alone(tiny_source, ten_images, config, method):
    for record in run(tiny_source, ten_images, replace(config, method=method)):
        assert set(record.terms) == {"simple"}
        assert record.loss == record.terms["simple"]


def test_domainstudio_with_all_weights_zero_is_finetune(tiny_source, ten_images, config):
    naive = run(tiny_source, ten_images, replace(config, method="finetune"))[-1]
    zero = run(tiny_source, ten_images, replace(config, lambda_img=0.0, lambda_hf=0.0, lambda_hfmse=0.0))[-1]
    for a, b in zip(weights(naive).values(), weights(zero).values()):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_hfmse_weighting_none_and_alphas_cumprod_differ(tiny_source, ten_images):
    weighted, plain = (one_loss(tiny_source, ten_images, TrainConfig(hfmse_weighting=w))[1]["hfmse"].item()
                       for w in ("alphas_cumprod", "none"))
    assert plain > 10 * weighted > 0      # 1/ᾱ_800 is about 700


def test_pairwise_weighting_leaves_the_values_and_scales_the_gradient(tiny_source, ten_images):
    off = {"lambda_hfmse": 0.0, "lambda_img": 0.0, "lambda_hf": 0.0}
    _, _, simple = one_loss(tiny_source, ten_images, TrainConfig(**off), (800,) * 4)
    for pull in ("lambda_img", "lambda_hf"):
        found = {kind: one_loss(tiny_source, ten_images, TrainConfig(**off | {pull: 10.0}, pairwise_weighting=kind), (800,) * 4)
                 for kind in ("sqrt_alphas_cumprod", "none")}
        assert found["none"][1] == found["sqrt_alphas_cumprod"][1]
        whole, scaled = (found[kind][2] - simple for kind in ("none", "sqrt_alphas_cumprod"))
        root = ddpm.alphas_cumprod(ddpm.linear_betas())[800].sqrt()
        assert whole.norm() > 0.01
        torch.testing.assert_close(scaled, root * whole, rtol=1e-2, atol=1e-2 * float(scaled.abs().max()))


def test_authors_variant_compares_three_images(tiny_source, ten_images):
    _, paper, _ = one_loss(tiny_source, ten_images, TrainConfig())
    _, authors, _ = one_loss(tiny_source, ten_images, TrainConfig(pairwise_variant="authors"))
    assert paper["img"] > 0 and authors["img"] > 0
    assert authors["img"].item() != pytest.approx(paper["img"].item(), rel=0.05)
    assert authors["hfmse"] == paper["hfmse"]


def test_learned_variance_trains_with_a_finite_vlb_term(ten_images, config):
    source = make_source(learned_variance=True)
    records = run(source, ten_images, replace(config, lambda_vlb=0.5, lambda_img=0.0, lambda_hf=0.0, lambda_hfmse=0.0))
    for record in records:
        assert record.terms["vlb"].isfinite() and record.terms["vlb"] > 0
        assert record.loss.item() == pytest.approx(record.terms["simple"].item() + 0.5 * record.terms["vlb"].item(), rel=1e-5)
    assert not torch.equal(records[-1].model.conv_out.weight[3:], source.unet.conv_out.weight[3:])


def test_vlb_is_not_there_without_a_learned_variance(tiny_source, ten_images, config):
    assert "vlb" not in next(adapt(tiny_source, ten_images, config)).terms


def test_training_learns(tiny_source, ten_images):
    config = TrainConfig(method="finetune", max_train_steps=60, train_batch_size=10, learning_rate=3e-3)
    values = [float(r.loss) for r in adapt(tiny_source, ten_images, config)]
    assert sum(values[-10:]) < 0.7 * sum(values[:10])


# ------------------------------------------------------------------------------------------ what is touched

@pytest.mark.parametrize("method", train.METHODS)
def test_the_source_is_untouched_bit_for_bit(tiny_source, ten_images, config, method):
    before, settings = weights(tiny_source.unet), dict(tiny_source.scheduler.config)
    images = ten_images.clone()
    record = run(tiny_source, ten_images, replace(config, method=method))[-1]
    assert same(before, weights(tiny_source.unet))
    assert dict(tiny_source.scheduler.config) == settings
    assert all(p.grad is None and p.requires_grad for p in tiny_source.unet.parameters())
    assert torch.equal(images, ten_images)
    assert not same(before, weights(record))


def test_every_weight_of_the_copy_is_trained(tiny_source, ten_images, config):
    before, after = weights(tiny_source.unet), weights(run(tiny_source, ten_images, config)[-1])
    assert [k for k in before if torch.equal(before[k], after[k])] == []


def test_scratch_starts_from_other_weights(tiny_source, ten_images, config):
    config = replace(config, max_train_steps=1, learning_rate=1e-12)
    fresh = weights(next(adapt(tiny_source, ten_images, replace(config, method="scratch"))))
    kept = weights(next(adapt(tiny_source, ten_images, replace(config, method="finetune"))))
    source = weights(tiny_source.unet)
    assert not torch.allclose(fresh["conv_in.weight"], source["conv_in.weight"], atol=1e-3)
    torch.testing.assert_close(kept["conv_in.weight"], source["conv_in.weight"])


def test_averaged_weights_lag_behind_and_do_not_disturb_training(tiny_source, ten_images, config):
    records = adapt(tiny_source, ten_images, config)
    record = next(records)
    record = next(records)
    before = weights(record)
    averaged = record.averaged()
    assert not averaged.training
    assert same(before, weights(record)) and not same(before, weights(averaged))


def test_callers_random_state_is_left_alone(tiny_source, ten_images, config):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(tiny_source, ten_images, replace(config, method="scratch", max_train_steps=1))
    assert torch.equal(torch.rand(3), expected)


# ------------------------------------------------------------------------------------------ what is reproducible

@pytest.mark.parametrize("method", ["scratch", "domainstudio"])
def test_same_seed_same_weights_another_seed_others(tiny_source, ten_images, config, method):
    config = replace(config, method=method, max_train_steps=2, random_flip=True)
    first, again, other = (run(tiny_source, ten_images, replace(config, seed=s))[-1] for s in (1, 1, 2))
    assert_same_state(first, again)
    assert not same(weights(first), weights(other))


@pytest.mark.parametrize("batch", [4, 10])
@pytest.mark.parametrize("stop", [1, 3])
def test_resumed_is_the_same_as_uninterrupted(tiny_source, ten_images, tmp_path, batch, stop):
    config = TrainConfig(max_train_steps=5, train_batch_size=batch, learning_rate=1e-3, random_flip=True, lr_decay_steps=3,
                         lr_warmup_steps=2, output_dir=str(tmp_path))
    whole = run(tiny_source, ten_images, config)[-1]
    for record in adapt(tiny_source, ten_images, config):
        if record.step == stop:
            checkpoint.save_checkpoint(config, record)
            break
    torch.manual_seed(999)      # the caller's random state must not matter
    rest = run(tiny_source, ten_images, replace(config, resume_from_checkpoint="latest"))
    assert [r.step for r in rest] == list(range(stop + 1, 6))
    assert_same_state(whole, rest[-1])


def test_resume_from_a_named_checkpoint(tiny_source, ten_images, tmp_path, config):
    config = replace(config, max_train_steps=4, checkpointing_steps=1, checkpoints_total_limit=5, output_dir=str(tmp_path))
    whole = run(tiny_source, ten_images, config)[-1]
    again = replace(config, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    with pytest.raises(UserError, match="also holds checkpoint-4"):     # 'latest' would pick the other branch's
        run(tiny_source, ten_images, again)
    rest = run(tiny_source, ten_images, replace(again, output_dir=str(tmp_path / "branch")))
    assert [r.step for r in rest] == [3, 4]
    assert_same_state(whole, rest[-1])


def test_saving_checkpoints_does_not_change_the_run(tiny_source, ten_images, tmp_path, config):
    plain = run(tiny_source, ten_images, config)[-1]
    saving = run(tiny_source, ten_images, replace(config, checkpointing_steps=1, output_dir=str(tmp_path)))[-1]
    assert_same_state(plain, saving)


def test_latest_without_a_checkpoint_starts_at_the_beginning(tiny_source, ten_images, tmp_path, config):
    config = replace(config, output_dir=str(tmp_path), resume_from_checkpoint="latest")
    assert next(adapt(tiny_source, ten_images, config)).step == 1


def test_latest_ignores_what_is_half_written(tiny_source, ten_images, tmp_path, config):
    config = replace(config, checkpointing_steps=1, output_dir=str(tmp_path), max_train_steps=2)
    run(tiny_source, ten_images, config)
    assert [c.name for c in checkpoint.checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-2"]
    (tmp_path / "checkpoint-2").rename(tmp_path / "checkpoint-2.part")
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / "ema.safetensors").write_bytes(b"half")
    assert [c.name for c in checkpoint.checkpoints(tmp_path)] == ["checkpoint-1"]
    assert next(adapt(tiny_source, ten_images, replace(config, resume_from_checkpoint="latest"))).step == 2


def test_checkpoints_are_ordered_by_number(tmp_path):
    for step in (1000, 5, 200):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "state.json").write_text("{}")
    assert [c.name for c in checkpoint.checkpoints(tmp_path)] == ["checkpoint-5", "checkpoint-200", "checkpoint-1000"]


@pytest.mark.parametrize("limit", [1, 2])
def test_only_so_many_checkpoints_are_kept(tiny_source, ten_images, tmp_path, config, limit):
    run(tiny_source, ten_images, replace(config, checkpointing_steps=1, checkpoints_total_limit=limit, output_dir=str(tmp_path),
                                         max_train_steps=4))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"checkpoint-{s}" for s in range(5 - limit, 5)]


def test_checkpoints_hold_no_pickle(tiny_source, ten_images, tmp_path, config):
    run(tiny_source, ten_images, replace(config, checkpointing_steps=3, output_dir=str(tmp_path)))
    files = [p for p in (tmp_path / "checkpoint-3").rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".safetensors", ".json"}
    for path in files:
        assert not path.read_bytes().startswith((b"PK", b"\x80"))
    state = json.loads((tmp_path / "checkpoint-3" / "state.json").read_text())
    assert state["step"] == 3 and state["config"]["learning_rate"] == config.learning_rate


@pytest.mark.parametrize("call", ["save_file", "write_text", "rmtree", "replace"])
def test_a_failure_at_any_moment_of_saving_leaves_a_whole_checkpoint(tiny_source, ten_images, tmp_path, config, monkeypatch, call):
    """The disk fills up, or the process is killed, while checkpoint 2 follows checkpoint 1."""
    config = replace(config, output_dir=str(tmp_path), checkpoints_total_limit=1)
    records = adapt(tiny_source, ten_images, config)
    first = next(records)
    checkpoint.save_checkpoint(config, first)
    kept, second = weights(first), next(records)

    def fail(*args, **kwargs):
        if call != "rmtree" or str(args[0]).endswith("checkpoint-1"):
            raise OSError(28, "No space left on device")

    where = {"save_file": checkpoint, "write_text": checkpoint.Path, "rmtree": checkpoint.shutil, "replace": checkpoint.os}[call]
    monkeypatch.setattr(where, call, fail)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save_checkpoint(config, second)
    monkeypatch.undo()
    survivors = checkpoint.checkpoints(tmp_path)
    assert survivors
    assert next(adapt(tiny_source, ten_images, replace(config, resume_from_checkpoint="latest"))).step in (2, 3)
    if survivors[-1].name == "checkpoint-1":
        assert same(kept, weights(models.UNet2DModel.from_pretrained(survivors[-1] / "unet")))


def test_saving_the_same_step_again_never_leaves_nothing(tiny_source, ten_images, tmp_path, config, monkeypatch):
    """Ctrl-C right after a regular checkpoint saves that step once more; a kill just then must not lose it."""
    config = replace(config, output_dir=str(tmp_path), checkpoints_total_limit=1)
    record = next(adapt(tiny_source, ten_images, config))
    checkpoint.save_checkpoint(config, record)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "replace", killed)
    with contextlib.suppress(KeyboardInterrupt):
        checkpoint.save_checkpoint(config, record)
    assert [c.name for c in checkpoint.checkpoints(tmp_path)] == ["checkpoint-1"]


# ------------------------------------------------------------------------------------------ schedules and batches

def test_learning_rate_warms_up_stays_and_decays():
    config = TrainConfig(max_train_steps=10, lr_warmup_steps=4, lr_decay_steps=2)
    assert [train.lr_factor(s, config) for s in range(10)] == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 0.5]
    assert all(train.lr_factor(s, TrainConfig(max_train_steps=10)) == 1 for s in range(10))


def test_the_optimiser_uses_that_rate(tiny_source, ten_images, config):
    config = replace(config, max_train_steps=4, lr_warmup_steps=2, lr_decay_steps=2, method="finetune")
    assert [r.lr for r in run(tiny_source, ten_images, config)] == pytest.approx([5e-4, 1e-3, 1e-3, 5e-4])


@pytest.mark.parametrize("n,batch", [(10, 10), (10, 4), (7, 3), (5, 1)])
def test_every_image_comes_once_an_epoch(n, batch):
    stream = torch.cat([train.batch_indices(step, n, batch, seed=3) for step in range(6 * n)])
    epochs = stream.view(-1, n)
    assert all(sorted(epoch.tolist()) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1


def test_a_whole_batch_never_holds_an_image_twice():
    for step in range(20):
        assert len(set(train.batch_indices(step, 10, 10, seed=0).tolist())) == 10


def test_flip_mirrors_about_half_of_the_images(ten_images):
    images = ten_images.repeat(40, 1, 1, 1)
    flipped = train.flip(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


def test_min_snr_weight():
    schedule = torch.tensor([0.9, 0.5, 0.1])                # SNR 9, 1, 1/9
    torch.testing.assert_close(ddpm.snr_weight(schedule, torch.arange(3), 5.0), torch.tensor([5 / 9, 1.0, 1.0]))


def test_pretrain_weights_the_loss_by_min_snr(ten_images, config):
    unet, schedule = make_source().unet, ddpm.alphas_cumprod(ddpm.linear_betas())
    plain = next(pretrain.pretrain(ten_images, plain_loop(config), copy.deepcopy(unet), schedule))
    weighted = next(pretrain.pretrain(ten_images, plain_loop(config, snr_gamma=0.01), copy.deepcopy(unet), schedule))
    assert plain.loss.item() == pytest.approx(plain.terms["simple"].item())
    assert weighted.terms["simple"].item() == pytest.approx(plain.terms["simple"].item())
    assert weighted.loss < 0.9 * weighted.terms["simple"]


def test_pixels_and_floats_train_alike(ten_images, config):
    pixels = ((ten_images + 1) * 127.5).round().to(torch.uint8)
    floats = pixels.float() / 127.5 - 1
    schedule = ddpm.alphas_cumprod(ddpm.linear_betas())
    a, b = (list(pretrain.pretrain(x, plain_loop(config), make_source().unet, schedule))[-1] for x in (pixels, floats))
    assert same(weights(a), weights(b))


def test_every_step_of_a_mixed_precision_run_is_in_mixed_precision(tiny_source, ten_images, config, monkeypatch):
    from accelerate.state import AcceleratorState
    AcceleratorState._reset_state(True)
    seen = []

    def spy(net, *args):
        hook = net.conv_in.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        result = original(net, *args)
        hook.remove()
        return result

    original = domainstudio.domainstudio_loss
    monkeypatch.setattr(domainstudio, "domainstudio_loss", spy)
    try:
        run(tiny_source, ten_images, replace(config, mixed_precision="bf16", method="finetune"))
    finally:
        AcceleratorState._reset_state(True)
    assert seen == [torch.bfloat16] * 3


def test_a_second_run_in_the_same_process_may_use_another_precision(tiny_source, ten_images, config):
    """In a notebook one cell trains in float32 and the next in bf16."""
    run(tiny_source, ten_images, replace(config, max_train_steps=1))
    run(tiny_source, ten_images, replace(config, max_train_steps=1, mixed_precision="bf16"))


# ------------------------------------------------------------------------------------------ what is refused

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("name,value", [
    ("method", "gan"), ("pairwise_variant", "mine"), ("hfmse_weighting", "snr"), ("mixed_precision", "fp8"),
    ("max_train_steps", 0), ("max_train_steps", -3), ("train_batch_size", 0), ("train_batch_size", -1),
    ("learning_rate", 0.0), ("learning_rate", -1e-4), ("learning_rate", NAN), ("learning_rate", INF),
    ("lambda_img", -0.1), ("lambda_img", NAN), ("lambda_img", INF), ("lambda_hf", -1.0), ("lambda_hf", NAN),
    ("lambda_hfmse", -1.0), ("lambda_hfmse", NAN), ("lambda_vlb", -1.0), ("lambda_vlb", NAN),
    ("lr_warmup_steps", -1), ("lr_decay_steps", -1),
    ("adam_beta1", 1.5), ("adam_beta2", -0.1), ("adam_weight_decay", -1.0), ("max_grad_norm", NAN), ("max_grad_norm", 0.0),
    ("ema_max_decay", 1.5), ("ema_max_decay", NAN),
    ("checkpointing_steps", -1), ("checkpoints_total_limit", 0), ("checkpoints_total_limit", -1),
])
def test_impossible_settings_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=f"--{name} is"):
        TrainConfig(**{name: value}).check()


def test_good_settings_pass():
    config = TrainConfig(lambda_img=0.0, lambda_vlb=0.0, lr_warmup_steps=10)
    assert config.check() is config


def test_latest_needs_a_folder():
    with pytest.raises(UserError, match="--output_dir"):
        TrainConfig(resume_from_checkpoint="latest").check()


def test_checkpoints_need_a_folder():
    with pytest.raises(UserError, match="--output_dir"):
        TrainConfig(checkpointing_steps=5).check()


def test_a_batch_larger_than_the_data_is_capped_and_said(tiny_source, ten_images, config, capsys):
    config = replace(config, train_batch_size=8, max_train_steps=1)
    record = next(adapt(tiny_source, ten_images[:4], config))
    said = capsys.readouterr().err
    assert "8" in said and "4 images" in said and said.count("\n") == 1
    exact = next(adapt(tiny_source, ten_images[:4], replace(config, train_batch_size=4)))
    assert capsys.readouterr().err == ""
    assert same(weights(record), weights(exact))


@pytest.mark.parametrize("n,batch,variant,least", [(10, 1, "paper", 2), (1, 10, "paper", 2), (10, 2, "authors", 3), (2, 10, "authors", 3)])
def test_too_few_images_for_the_pairwise_losses(tiny_source, ten_images, config, n, batch, variant, least):
    with pytest.raises(UserError, match=f"--train_batch_size {batch}.*at least {least}"):
        adapt(tiny_source, ten_images[:n], replace(config, train_batch_size=batch, pairwise_variant=variant))


def test_one_image_is_enough_for_finetune(tiny_source, ten_images, config):
    assert next(adapt(tiny_source, ten_images[:1], replace(config, method="finetune", train_batch_size=1))).loss > 0


@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (4, 1, 16, 16), (4, 3, 16, 8), (4, 4, 16, 16), (3, 16, 16)])
def test_images_that_do_not_fit_the_source_are_refused(tiny_source, config, shape):
    with pytest.raises(UserError, match="3×16×16"):
        adapt(tiny_source, torch.zeros(shape), config)


def test_no_images_at_all_are_refused(tiny_source, config):
    with pytest.raises(UserError, match="0 image"):
        adapt(tiny_source, torch.zeros(0, 3, 16, 16), replace(config, method="finetune"))


def test_a_source_that_predicts_something_else_is_refused(tiny_source, config):
    tiny_source.scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(UserError, match="'sample': only epsilon and v_prediction are known"):
        adapt(tiny_source, make_images(4, 16), config)


@pytest.mark.parametrize("content", [None, "file", "empty folder", "torn state"])
def test_a_checkpoint_that_cannot_be_opened_is_refused_by_name(tiny_source, ten_images, config, tmp_path, content):
    path = tmp_path / "old.bin"
    if content == "file":
        path.write_bytes(b"\x80\x04pickle")
    elif content:
        path.mkdir()
    if content == "torn state":
        (path / "state.json").write_text('{"step": 1')
    with pytest.raises(UserError, match="old.bin"):
        next(adapt(tiny_source, ten_images, replace(config, resume_from_checkpoint=str(path))))


def test_a_checkpoint_of_another_architecture_is_refused_by_name(tiny_source, ten_images, config, tmp_path):
    other = make_source(learned_variance=True)
    config = replace(config, output_dir=str(tmp_path))
    folder = checkpoint.save_checkpoint(config, next(adapt(other, ten_images, config)))
    with pytest.raises(UserError, match="checkpoint-1"):
        next(adapt(tiny_source, ten_images, replace(config, resume_from_checkpoint=str(folder))))


def test_mixed_precision_lasts_beyond_the_first_step(tiny_source, ten_images):
    seen = []
    config = TrainConfig(method="finetune", max_train_steps=3, mixed_precision="bf16")
    for step in train.adapt(tiny_source, ten_images, config):
        if step.step == 1:
            step.model.conv_out.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    assert seen == [torch.bfloat16, torch.bfloat16]
    plain = step.averaged()
    assert plain(torch.zeros(1, 3, 16, 16), 0).sample.dtype == torch.float32
    assert "forward" not in plain.__dict__


def test_coarse_error_against_loops():
    error = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    want = []
    for image in error:
        total = 0.0
        for s in (2, 4, 8):
            blocks = [float(image[c, y:y + s, x:x + s].mean()) ** 2
                      for c in range(3) for y in range(0, 8, s) for x in range(0, 8, s)]
            total += s * sum(blocks) / len(blocks)
        want.append(total)
    torch.testing.assert_close(pretrain.coarse_error(error), torch.tensor(want))


def test_coarse_error_sees_a_shift_that_the_plain_error_hardly_sees():
    """A constant added to white noise: 1 % more plain error, many times the coarse one."""
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, coarse = ((f(noise + 0.1) / f(noise)).item() for f in (lambda e: e.square().mean(), pretrain.coarse_error))
    assert plain < 1.02 and coarse > 1.5


def test_pretrain_reports_the_coarse_term_and_adds_it(ten_images, config):
    schedule, unet = ddpm.alphas_cumprod(ddpm.linear_betas()), make_source().unet
    settings = plain_loop(config)
    plain = next(pretrain.pretrain(ten_images, settings, copy.deepcopy(unet), schedule))
    both = next(pretrain.pretrain(ten_images, replace(settings, lambda_coarse=0.5), copy.deepcopy(unet), schedule))
    assert set(plain.terms) == {"simple"} and set(both.terms) == {"simple", "coarse"}
    torch.testing.assert_close(both.loss, plain.loss + 0.5 * both.terms["coarse"])


def test_noise_weight_rises_with_noise_and_stops():
    schedule = torch.tensor([0.9, 0.5, 1 / 21, 1e-4])                     # SNR 9, 1, 1/20, 1e-4
    torch.testing.assert_close(pretrain.noise_weight(schedule, torch.arange(4), 10.0), torch.tensor([1.0, 1.0, 2.0, 10.0]))
    assert (pretrain.noise_weight(schedule, torch.arange(4), 1.0) == 1).all()


def test_pretrain_weighs_the_steps_near_T(ten_images, config):
    schedule, unet = ddpm.alphas_cumprod(ddpm.linear_betas()), make_source().unet
    settings = plain_loop(config)
    plain, weighted = (next(pretrain.pretrain(ten_images, replace(settings, high_noise_weight=w), copy.deepcopy(unet), schedule))
                       for w in (1.0, 10.0))
    assert weighted.terms["simple"].item() == pytest.approx(plain.terms["simple"].item())
    assert weighted.loss > 2 * plain.loss


def by_hand(source, x_0, anchors, t, eps, config):
    """L of the anchored form, term by term from the published formulas, each on its own half with its own pass."""
    a_bar, betas = source.scheduler.alphas_cumprod, source.scheduler.betas
    unet, n = source.unet, len(x_0) // 2
    drift = copy.deepcopy(unet)
    with torch.no_grad():
        for p in drift.parameters():
            p.mul_(1.05)
    few = domainstudio.domainstudio_loss(drift, unet, x_0[:n], t[:n], eps[:n], a_bar, betas, config)[1]
    own = domainstudio.domainstudio_loss(drift, unet, anchors[n:], t[n:], eps[n:], a_bar, betas, config)[1]
    return drift, {"simple": few["simple"], "img": own["img"], "hf": own["hf"], "hfmse": few["hfmse"]}


@pytest.mark.parametrize("kind", ddpm.PREDICTION_TYPES)
def test_anchored_terms_compare_the_anchors_and_learn_from_the_few(ten_images, kind):
    source = make_source()
    source.scheduler.register_to_config(prediction_type=kind)
    config = TrainConfig(pairwise_on="source")
    anchors, t = make_images(8, 16, seed=5), torch.tensor([5, 100, 400, 900, 30, 250, 500, 700])
    eps = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    scheduler = source.scheduler
    drift, want = by_hand_of(source, ten_images[:8], anchors, t, eps, config, kind)
    _, got = domainstudio.anchored_loss(drift, source.unet, ten_images[:8], t, eps, scheduler.alphas_cumprod, scheduler.betas, config,
                                        kind, anchors)
    assert got.keys() == want.keys() and got["img"] > 0
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6)


def by_hand_of(source, x_0, anchors, t, eps, config, kind):
    """:func:`by_hand` for a source of either prediction type."""
    original = domainstudio.domainstudio_loss

    def typed(*args):
        return original(*args, kind)

    domainstudio.domainstudio_loss = typed
    try:
        return by_hand(source, x_0, anchors, t, eps, config)
    finally:
        domainstudio.domainstudio_loss = original


def test_anchored_training_draws_the_sources_own_and_leaves_it_untouched(tiny_source, ten_images, config):
    before = weights(tiny_source.unet)
    settings = replace(config, pairwise_on="source", num_anchors=10)
    first, again = (run(tiny_source, ten_images, settings)[-1] for _ in range(2))
    assert same(weights(first), weights(again)) and same(before, weights(tiny_source.unet))
    published = run(tiny_source, ten_images, config)[-1]
    assert not same(weights(first), weights(published))


def test_too_few_anchors_or_too_small_a_batch_are_refused(tiny_source, ten_images, config):
    with pytest.raises(UserError, match="--num_anchors is 4 and there are 10 images"):
        adapt(tiny_source, ten_images, replace(config, pairwise_on="source", num_anchors=4))
    with pytest.raises(UserError, match="compare at least 4 images"):
        adapt(tiny_source, ten_images, replace(config, pairwise_on="source", train_batch_size=3))


@pytest.mark.parametrize("method", ["scratch", "finetune", "domainstudio"])
def test_a_v_source_is_adapted_by_every_method(ten_images, config, method):
    """The error of v is (1/(1−ᾱ_t)) times that of the ε it implies; the clean image needs no division by √ᾱ_t."""
    source = make_source()
    source.scheduler.register_to_config(prediction_type="v_prediction")
    record = run(source, ten_images, replace(config, method=method))[-1]
    assert all(torch.isfinite(v) for v in record.terms.values())


def test_l_simple_of_v_against_the_formula(ten_images):
    source, t = make_source(), torch.tensor([5, 300, 600, 950])
    a_bar, eps = source.scheduler.alphas_cumprod, torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    given = ten_images[:4], t, eps, a_bar, source.scheduler.betas, TrainConfig(snr_gamma=0.0), "v_prediction"
    found = domainstudio.domainstudio_loss(source.unet, None, *given)[1]
    slow = 0.0
    for i in range(4):
        a = a_bar[t[i]]
        x_t = a.sqrt() * ten_images[i] + (1 - a).sqrt() * eps[i]
        v = a.sqrt() * eps[i] - (1 - a).sqrt() * ten_images[i]
        slow += float((source.unet(x_t[None], t[i:i + 1]).sample[0] - v).square().mean()) / 4
    assert float(found["simple"]) == pytest.approx(slow, rel=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_l_simple_is_weighted_as_the_source_was_trained(kind):
    """Image by image: min(SNR,5)/SNR for ε, min(SNR,5)/(SNR+1), at least 0.1, for v."""
    a_bar, t = make_source().scheduler.alphas_cumprod, torch.tensor([0, 200, 500, 999])
    error = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    slow = 0.0
    for i in range(4):
        snr = float(a_bar[t[i]] / (1 - a_bar[t[i]]))
        weight = min(snr, 5) / snr if kind == "epsilon" else max(0.1, min(snr, 5) / (snr + 1))
        slow += weight * float((error[i]**2).mean()) / 4
    assert float(domainstudio.l_simple(error, t, a_bar, TrainConfig(snr_gamma=5.0), kind)) == pytest.approx(slow, rel=1e-5)
    plain = float((error**2).mean())
    assert float(domainstudio.l_simple(error, t, a_bar, TrainConfig(snr_gamma=0.0), kind)) == pytest.approx(plain, rel=1e-6)
    by_default = slow if kind == "v_prediction" else plain          # v: as the source was trained; ε: as published
    assert float(domainstudio.l_simple(error, t, a_bar, TrainConfig(), kind)) == pytest.approx(by_default, rel=1e-5)


@pytest.mark.parametrize("on", ["target", "source"])
def test_distillation_is_the_distance_of_the_clean_guesses(ten_images, on):
    source, config = make_source(), TrainConfig(lambda_img=0.0, lambda_hf=0.0, lambda_hfmse=0.0, lambda_distill=2.0, pairwise_on=on,
                                                max_train_steps=3, train_batch_size=6, num_anchors=20)
    first, *_, third = run(source, ten_images, config)
    assert first.terms["distill"].item() == pytest.approx(0, abs=1e-8) and third.terms["distill"].item() > 1e-8
    assert third.loss.item() == pytest.approx(third.terms["simple"].item() + 2 * third.terms["distill"].item(), rel=1e-5)
    ada, sou, t = ten_images[:4], ten_images[4:8], torch.tensor([0, 10, 500, 900])
    found = domainstudio.terms(ada, sou, ada, t, source.scheduler.alphas_cumprod, config)["distill"]
    slow = sum(float((a - b)**2) for a, b in zip(ada.flatten(), sou.flatten())) / ada.numel()
    assert float(found) == pytest.approx(slow, rel=1e-4)


def test_a_repeated_noise_asks_the_source_once(tiny_source, ten_images, config, monkeypatch):
    banks, original = [], domainstudio.Bank
    monkeypatch.setattr(domainstudio, "Bank", lambda unet: banks.append(original(unet)) or banks[-1])
    run(tiny_source, ten_images, replace(config, max_train_steps=6, bank_steps=2))
    assert (banks[0].asked, banks[0].known) == (6, 2)


def test_a_toy_method_and_a_toy_term_take_a_few_lines(tiny_source, ten_images, config, monkeypatch):
    """A method is a function and a line in METHODS; a term is a knob and a line in terms()."""
    def start(source, images, config, frozen=None):
        net = copy.deepcopy(source.unet)
        return net, lambda net, x_0, t, eps: ((loss := net(x_0, t).sample.abs().mean()), {"simple": loss}), None

    monkeypatch.setitem(train.METHODS, "toy", start)
    assert run(tiny_source, ten_images, replace(config, method="toy"))[-1].step == config.max_train_steps
    with pytest.raises(UserError, match="use one of scratch, finetune, domainstudio, toy"):
        replace(config, method="toys").check()
