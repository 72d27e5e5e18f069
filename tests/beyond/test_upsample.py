"""A stage begins as bilinear enlargement, its loss is a loop's, it learns pairs, resumes bit for bit, and is stored small."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import make_images, make_source

from dslib import haar, losses, metrics, models
from dslib.base.errors import UserError
from dslib.beyond import upsample as up

CONFIG = up.UpsampleConfig(max_train_steps=2, train_batch_size=3, learning_rate=1e-2)


@pytest.fixture
def stage():
    return up.new_stage((8, 16), 16)


def moved(stage, seed=5):
    """The same stage with a last layer that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        stage.conv_out.weight.normal_(0, 0.05, generator=generator)
    return stage.eval()


@pytest.fixture
def pairs():
    large = make_images(4, 32)
    return torch.nn.functional.avg_pool2d(large, 2), large


def test_a_new_stage_is_bilinear_enlargement_and_a_seed_fixes_it(stage, pairs):
    torch.testing.assert_close(up.upsample(stage, pairs[0]), up.enlarge(pairs[0]))
    torch.testing.assert_close(up.draw(stage, pairs[0], 3), up.draw(None, pairs[0]))
    assert torch.equal(stage.conv_in.weight, up.new_stage((8, 16), 16).conv_in.weight)
    assert not torch.equal(stage.conv_in.weight, up.new_stage((8, 16), 16, seed=1).conv_in.weight)


def test_shuffle_puts_every_channel_where_a_loop_does(stage, pairs):
    small = pairs[0][:1]
    with torch.no_grad():
        found, answer = up.upsample(moved(stage), small), stage(small, 0).sample
    for c in range(3):
        for y in range(32):
            for x in range(32):
                added = answer[0, 4 * c + 2 * (y % 2) + x % 2, y // 2, x // 2]
                assert found[0, c, y, x] == pytest.approx(float(up.enlarge(small)[0, c, y, x] + added), abs=1e-5)


def test_the_loss_is_the_sum_of_its_terms(stage, pairs):
    small, large = pairs
    frozen, config = up.new_stage((8, 16), 16), replace(CONFIG, lambda_hfmse=0.5, lambda_img=2.0, lambda_hf=3.0)
    loss, found = up.stage_loss(moved(stage), frozen, small, large, config)
    guess, before = up.upsample(stage, small), up.enlarge(small)
    slow = sum(abs(float(a) - float(b)) for a, b in zip(guess.detach().flatten(), large.flatten())) / large.numel()
    assert float(found["l1"]) == pytest.approx(slow, rel=1e-4)
    hf = [haar.high_frequency(x) for x in (guess, before, large)]
    terms = {"hfmse": (hf[0] - hf[2]).square().mean(), "img": losses.pairwise_kl(guess, before), "hf": losses.pairwise_kl(hf[0], hf[1])}
    for name, value in terms.items():
        torch.testing.assert_close(found[name], value)
    assert float(loss) == pytest.approx(slow + float(0.5 * terms["hfmse"] + 2 * terms["img"] + 3 * terms["hf"]), rel=1e-4)
    loss, found = up.stage_loss(stage, frozen, small, large, CONFIG)
    assert set(found) == {"l1"} and loss == found["l1"]


def test_a_stage_learns_its_pairs_and_leaves_the_one_it_began_with(stage):
    small = make_images(4, 16)
    pairs = small, small.repeat_interleave(2, -1).repeat_interleave(2, -2)          # sharp blocks, which enlarging blurs
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    steps = list(up.fit_stage(stage, *pairs, replace(CONFIG, max_train_steps=40, ema_max_decay=0.5)))
    after = (up.draw(steps[-1].averaged(), pairs[0]) - pairs[1]).abs().mean()
    assert after < 0.8 * (up.enlarge(pairs[0]) - pairs[1]).abs().mean()
    assert all(torch.equal(value, before[name]) for name, value in stage.state_dict().items())


def test_small_and_large_of_a_batch_are_the_same_pictures(stage):
    """Pictures of one colour each: a mixed-up pair would have an error, a true one has none."""
    colour = torch.linspace(-1, 1, 6).view(6, 1, 1, 1)
    for step in up.fit_stage(stage, colour.expand(6, 3, 16, 16), colour.expand(6, 3, 32, 32), replace(CONFIG, learning_rate=1e-9)):
        assert float(step.loss) < 1e-6


def test_a_stopped_training_goes_on_bit_for_bit(stage, pairs, tmp_path):
    whole = list(up.fit_stage(stage, *pairs, replace(CONFIG, max_train_steps=3)))[-1]
    config = replace(CONFIG, max_train_steps=3, output_dir=str(tmp_path), checkpointing_steps=2)
    run = up.fit_stage(stage, *pairs, config)
    next(run), next(run)
    run.close()
    resumed = list(up.fit_stage(stage, *pairs, replace(config, resume_from_checkpoint="latest")))
    assert [step.step for step in resumed] == [3] and torch.equal(resumed[0].loss, whole.loss)
    assert torch.equal(resumed[0].averaged().conv_out.weight, whole.averaged().conv_out.weight)
    with pytest.raises(UserError, match="images"):
        list(up.fit_stage(stage, pairs[0], pairs[1].flip(0), replace(config, resume_from_checkpoint="latest")))


def test_lpips_to_the_own_truth_is_the_diagonal_of_the_matrix():
    x, y = make_images(5, 32), make_images(5, 32, 1)
    torch.testing.assert_close(up.paired_lpips(x, y, batch_size=2), metrics.lpips_matrix(x, y).diagonal(), rtol=1e-3, atol=1e-5)


def test_a_stage_is_stored_in_half_precision_and_opened_again(stage, pairs, tmp_path):
    folder = up.save_stage(moved(stage), tmp_path / "stage")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert "_name_or_path" not in json.loads((folder / "config.json").read_text())
    assert (folder / "diffusion_pytorch_model.safetensors").stat().st_size < 2.5 * sum(p.numel() for p in stage.parameters()) + 20_000
    torch.testing.assert_close(up.draw(up.load_stage(folder), pairs[0]), up.draw(stage, pairs[0]), rtol=0, atol=1e-2)


def test_the_default_stage_is_small():
    assert sum(p.numel() for p in up.new_stage().parameters()) < 1_200_000


def test_what_does_not_fit_is_told(stage, pairs, tmp_path):
    small, large = pairs
    for wrong in ((small[:3], large), (small, small), (large, large)):
        with pytest.raises(UserError, match="3×16×16 and 3×32×32"):
            up.fit_stage(stage, *wrong, CONFIG)
    with pytest.raises(UserError, match="random_flip"):
        up.fit_stage(stage, small, large, replace(CONFIG, random_flip=True))
    with pytest.raises(UserError, match="lambda_hf"):
        up.fit_stage(stage, small, large, replace(CONFIG, lambda_hf=-1.0))
    with pytest.raises(UserError, match="no upsampling stage in"):
        up.load_stage(tmp_path)
    pipe = make_source(16)
    models.save_pipeline(pipe.unet, pipe.scheduler, tmp_path / "source")
    with pytest.raises(UserError, match="no stage: a stage has 12"):
        up.load_stage(tmp_path / "source" / "unet")
