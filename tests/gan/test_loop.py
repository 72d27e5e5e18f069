"""The loop of two players and every method in it: what is repeatable, what is touched, what stops it."""

from dataclasses import replace

import pytest
import torch
from conftest import make_gan, make_images
from safetensors.torch import load_file

from dslib import UserError
from dslib.base import checkpoint
from dslib.gan import adapt, cdc, draw, freezed, loop, pretrain
from dslib.gan.adapt import GANConfig
from dslib.gan.pretrain import PretrainGAN


@pytest.fixture
def images():
    return make_images(6, 16)


def settings(method="tgan", **changes):
    return GANConfig(**{"method": method, "max_train_steps": 3, "train_batch_size": 5, "fisher_samples": 2, "r1_every": 2,
                        "random_flip": True} | changes)


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def state(record):
    """Everything that a step leaves: both players, the average, Adam's moments."""
    moments = {f"adam.{name}": value for name, value in checkpoint.adam_state(record.optimizer).items()}
    return weights(record.model) | {f"average.{name}": value for name, value in weights(record.averaged()).items()} | moments


def last(stream):
    *_, record = stream
    return record


@pytest.mark.parametrize("method", adapt.METHODS)
def test_every_method_trains_both_players_and_leaves_source_and_images_alone(images, method):
    source, given = make_gan(), images.clone()
    before = weights(source)
    record = last(adapt.adapt(source, images, settings(method)))
    assert same(before, weights(source)) and torch.equal(given, images)
    assert not any(p.requires_grad or p.grad is not None for p in source.parameters())
    after = record.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("generator") for name in moved) and any(name.startswith("discriminator") for name in moved)
    assert all(torch.isfinite(value) for value in record.terms.values()) and next(iter(record.terms)) == "generator"


@pytest.mark.parametrize("method", adapt.METHODS)
def test_the_same_seed_does_the_same_also_when_resumed_bit_for_bit_and_another_does_not(images, tmp_path, method):
    config = settings(method, output_dir=str(tmp_path), lr_decay_steps=2, checkpointing_seconds=0)
    whole = last(adapt.adapt(make_gan(), images, config))
    record = next(adapt.adapt(make_gan(), images, config))
    checkpoint.save_checkpoint(config, record)
    torch.manual_seed(99)
    rest = list(adapt.adapt(make_gan(), images, replace(config, resume_from_checkpoint="latest")))
    assert [record.step for record in rest] == [2, 3] and same(state(whole), state(rest[-1]))
    assert not same(weights(record.model), weights(next(adapt.adapt(make_gan(), images, settings(method, seed=2))).model))


def test_a_resumed_pretraining_equals_an_uninterrupted_one(images, tmp_path):
    config = PretrainGAN(max_train_steps=4, train_batch_size=4, output_dir=str(tmp_path), checkpointing_steps=3)
    whole = last(pretrain.pretrain(images, config, make_gan().requires_grad_(True)))
    assert [f.name for f in checkpoint.checkpoints(tmp_path)] == ["checkpoint-3"]
    rest = list(pretrain.pretrain(images, replace(config, resume_from_checkpoint="latest"), make_gan(seed=5).requires_grad_(True)))
    assert [record.step for record in rest] == [4] and same(state(whole), state(rest[-1]))
    done = list(pretrain.pretrain(images, replace(config, max_train_steps=3, resume_from_checkpoint="latest"), make_gan()))
    assert len(done) == 1 and done[0].step == 3 and not done[0].terms


def test_checkpoints_of_other_images_or_another_method_are_refused(images, tmp_path):
    config = settings(output_dir=str(tmp_path), checkpointing_steps=1, max_train_steps=2)
    list(adapt.adapt(make_gan(), images, config))
    again = replace(config, resume_from_checkpoint="latest", max_train_steps=3)
    with pytest.raises(UserError, match="--method tgan, not freezed"):
        list(adapt.adapt(make_gan(), images, replace(again, method="freezed")))
    with pytest.raises(UserError, match="the images are"):
        list(adapt.adapt(make_gan(), images.flip(0), again))
    with pytest.raises(UserError, match="the source model is"):
        list(adapt.adapt(make_gan(seed=3), images, again))


def test_checkpoints_hold_no_pickle(images, tmp_path):
    list(adapt.adapt(make_gan(), images, settings("cdc", output_dir=str(tmp_path), checkpointing_steps=3)))
    assert {p.suffix for p in (tmp_path / "checkpoint-3").rglob("*") if p.is_file()} == {".safetensors", ".json"}


def test_the_generators_average_lags_behind_and_its_copy_disturbs_nothing(images):
    stream = adapt.adapt(make_gan(), images, settings(max_train_steps=4))
    next(stream)
    record = next(stream)
    before = weights(record.model)
    averaged = record.averaged()
    assert same(before, weights(record.model)) and not averaged.training
    assert not torch.equal(averaged.generator.start, record.model.generator.start)
    assert torch.equal(averaged.discriminator.stem.weight, record.model.discriminator.stem.weight)


# ------------------------------------------------------------------------------------------ methods

def test_without_a_weight_ewc_and_dcl_are_tgan(images):
    plain = weights(last(adapt.adapt(make_gan(), images, settings())).model)
    for config in (settings("ewc", lambda_ewc=0.0), settings("dcl", lambda_dcl_generator=0.0, lambda_dcl_discriminator=0.0)):
        found = weights(last(adapt.adapt(make_gan(), images, config)).model)
        for name in plain:
            torch.testing.assert_close(found[name], plain[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method, name", [("ewc", "lambda_ewc"), ("cdc", "lambda_cdc"), ("dcl", "lambda_dcl_generator"),
                                          ("dcl", "lambda_dcl_discriminator"), ("dcl", "dcl_temperature"), ("cdc", "anchor_noise"),
                                          ("cdc", "anchor_latents"), ("freezed", "frozen_layers"), ("ewc", "fisher_samples"),
                                          ("tgan", "r1_gamma"), ("tgan", "r1_every")])
def test_every_setting_changes_the_weights(images, method, name):
    value = getattr(settings(method), name)
    changed = settings(method, **{name: value + 1 if isinstance(value, int) else 3 * value})
    a, b = (last(adapt.adapt(make_gan(), images, config)).model for config in (settings(method), changed))
    assert not same(weights(a), weights(b))


def test_a_stiff_generator_stays_with_its_source(images):
    def distance(stiffness):
        source = make_gan()
        model = last(adapt.adapt(source, images, settings("ewc", lambda_ewc=stiffness, max_train_steps=6))).model
        z = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return float((model.generator(z) - source.generator(z)).square().mean())
    assert distance(1e12) < 0.5 * distance(0.0)


def test_freezed_keeps_the_first_layers_and_trains_the_others(images):
    source = make_gan()
    record = last(adapt.adapt(source, images, settings("freezed", frozen_layers=2)))
    for i, (mine, theirs) in enumerate(zip(record.model.discriminator.parts(), source.discriminator.parts())):
        assert same(weights(mine), weights(theirs)) == (i < 2), i
    with pytest.raises(UserError, match="--frozen_layers is 5: the discriminator has 5, use at most 4"):
        freezed.start(source, settings("freezed", frozen_layers=5))


def test_only_tgan_diffaug_augments_unless_asked(images):
    assert settings("tgan").check().diffaugment == "none" and settings("tgan-diffaug").check().diffaugment == "color,translation,cutout"
    assert settings("cdc", diffaugment="color").check().diffaugment == "color"
    plain, augmented, same_by_name = (weights(last(adapt.adapt(make_gan(), images, config)).model) for config in (
        settings("tgan"), settings("tgan-diffaug"), settings("tgan", diffaugment="color,translation,cutout")))
    assert not same(plain, augmented) and same(augmented, same_by_name)


def test_the_first_half_of_a_batch_of_cdc_lies_about_the_anchors(images):
    config = settings("cdc", anchor_latents=2, anchor_noise=0.0, train_batch_size=6).check()
    method = cdc.start(make_gan(), config)
    drawn = [loop.draw_step(images, method, config, step, "cpu").z for step in range(3)]
    near, far = (torch.cat([z[part] for z in drawn]) for part in (slice(3), slice(3, None)))
    assert len({tuple(row.tolist()) for row in near}) == 2 and len({tuple(row.tolist()) for row in far}) == 9
    shown = draw.latents(64, 8)
    assert torch.cdist(near, shown).min() > 1e-3, "an anchor must not be among the pictures of the report"


def test_whole_images_count_near_anchors_only(images):
    """The image's score has no say for the others: without the patches no gradient reaches them."""
    config = settings("cdc", train_batch_size=6, lambda_cdc=0.0).check()
    method = cdc.start(make_gan(), config)
    drawn = loop.draw_step(images, method, config, 0, "cpu")
    trace = method.pair.generator.trace(drawn.z)
    gradient, = torch.autograd.grad(method.generator(method.pair, trace, drawn)[1]["generator"], trace.image)
    assert gradient[:3].any() and not gradient[3:].any()
    trace = method.pair.generator.trace(drawn.z)
    gradient, = torch.autograd.grad(method.generator(method.pair, trace, drawn)[1]["patch"], trace.image)
    assert gradient[3:].any() and not gradient[:3].any()


def test_only_latents_away_from_anchors_are_compared(images):
    """Two near one anchor resemble each other because of it, not because the source says so."""
    config = settings("cdc", train_batch_size=6).check()
    source, method = make_gan(), cdc.start(make_gan(), config)
    drawn = loop.draw_step(images, method, config, 0, "cpu")
    with torch.no_grad():
        for p in method.pair.generator.parameters():
            p.mul_(1.1)
    mine, theirs = method.pair.generator.trace(drawn.z), source.generator.trace(drawn.z)
    layer = cdc.one_layer(0, len(theirs.layers), config.seed)
    found = method.generator(method.pair, mine, drawn)[1]["cdc"]
    want = cdc.consistency(mine.layers[layer][3:], theirs.layers[layer][3:])
    assert found > 0 and torch.allclose(found, want, rtol=1e-3)


# ------------------------------------------------------------------------------------------ bad input

@pytest.mark.parametrize("method, batch, least", [("cdc", 4, 5), ("dcl", 1, 2)])
def test_too_small_a_batch_for_a_method_is_refused_and_the_least_is_not(images, method, batch, least):
    with pytest.raises(UserError, match=f"--train_batch_size {batch} is too small for {method}.*use at least {least}"):
        adapt.adapt(make_gan(), images, settings(method, train_batch_size=batch))
    terms = next(adapt.adapt(make_gan(), images, settings(method, train_batch_size=least))).terms
    assert terms["diversity"] > 0


@pytest.mark.parametrize("method", adapt.METHODS)
def test_fewer_images_than_a_batch_come_several_times_and_that_is_said(images, capsys, method):
    stream = adapt.adapt(make_gan(), images[:1], settings(method))
    assert "train_batch_size 5 is more than the 1 image(s): each comes several times" in capsys.readouterr().err
    assert next(stream).step == 1


def test_images_of_another_size_are_refused(images):
    with pytest.raises(UserError, match="3×32×32 but the source draws 3×16×16"):
        adapt.adapt(make_gan(), make_images(3, 32), settings())
    with pytest.raises(UserError, match="3×32×32 but the generator draws 3×16×16"):
        pretrain.pretrain(make_images(3, 32), PretrainGAN(), make_gan())


@pytest.mark.parametrize("change, word", [({"method": "gan"}, "--method is 'gan'"), ({"diffaugment": "flip"}, "--diffaugment"),
                                          ({"lambda_cdc": -1.0}, "--lambda_cdc"), ({"anchor_latents": 0}, "--anchor_latents"),
                                          ({"dcl_temperature": 0.0}, "--dcl_temperature"), ({"r1_every": 0}, "--r1_every"),
                                          ({"frozen_layers": -1}, "--frozen_layers"), ({"seed": -1}, "--seed")])
def test_impossible_settings_name_the_option(images, change, word):
    with pytest.raises(UserError, match=word):
        adapt.adapt(make_gan(), images, settings(**change))


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_term_that_is_no_number_stops_the_run_and_is_named(images, tmp_path, monkeypatch, player):
    config = settings(output_dir=str(tmp_path), checkpointing_steps=1, max_train_steps=5)
    started = adapt.METHODS["tgan"]

    def start(source, config):
        method = started(source, config)
        original = getattr(method, player)

        def breaks(pair, trace, draw):
            loss, terms = original(pair, trace, draw)
            broken = terms[player] * float("nan") if draw.step == 2 else terms[player]
            return broken, {player: broken}
        return method._replace(**{player: breaks})

    monkeypatch.setitem(adapt.METHODS, "tgan", start)
    with pytest.raises(UserError, match=f"step 3: the loss is no finite number .{player} is nan.*checkpoints in .* are from before"):
        list(adapt.adapt(make_gan(), images, config))
    kept = checkpoint.checkpoints(tmp_path)
    assert kept[-1].name == "checkpoint-2"
    assert all(value.isfinite().all() for value in load_file(kept[-1] / checkpoint.WEIGHTS).values())


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights_are_touched(images, monkeypatch, player):
    """√0 is a number, its slope is none."""
    started, seen = adapt.METHODS["tgan"], {}

    def start(source, config):
        method = started(source, config)
        original = getattr(method, player)

        def breaks(pair, trace, draw):
            loss, terms = original(pair, trace, draw)
            seen["pair"], seen["before"] = pair, weights(getattr(pair, player))
            return loss + (loss - loss.detach()).sqrt(), terms
        return method._replace(**{player: breaks})

    monkeypatch.setitem(adapt.METHODS, "tgan", start)
    with pytest.raises(UserError, match=f"step 1: .*the gradient of {player} is"):
        next(adapt.adapt(make_gan(), images, settings()))
    assert same(seen["before"], weights(getattr(seen["pair"], player)))


def test_a_gan_is_trained_by_one_process(images, monkeypatch):
    class Three:
        num_processes = 3
    monkeypatch.setattr(loop, "processes", Three)
    for train in (lambda: adapt.adapt(make_gan(), images, settings()), lambda: pretrain.pretrain(images, PretrainGAN(), make_gan())):
        with pytest.raises(UserError, match="3 processes: a GAN is trained by one, start it without accelerate launch"):
            train()


def test_r1_that_is_no_number_is_named(images, monkeypatch):
    monkeypatch.setattr(loop.losses, "r1", lambda scores, x: scores.sum() * float("inf"))
    with pytest.raises(UserError, match="step 1: .*r1 is"):
        next(adapt.adapt(make_gan(), images, settings()))
