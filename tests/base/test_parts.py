"""What of the network is trained: full, its ends, or low-rank matrices."""

import copy

import pytest
import torch
from conftest import make_images, make_source

from dslib.base import parts
from dslib.base.errors import UserError
from dslib.train import TrainConfig, adapt


def changed(before, after) -> set[str]:
    theirs = dict(after.named_parameters())
    return {name for name, one in before.named_parameters() if not torch.equal(one, theirs[name])}


def last(source, **options):
    usual = {"max_train_steps": 3, "train_batch_size": 4, "learning_rate": 1e-3}
    *_, step = adapt(source, make_images(4, 16), TrainConfig(**usual | options))
    return step


@pytest.mark.parametrize("method", ["finetune", "domainstudio"])
def test_ends_alone_move(method):
    source = make_source()
    moved = changed(source.unet, last(source, method=method, trained_parts="ends").averaged())
    everything = {name for name, _ in source.unet.named_parameters() if name.split(".")[0] in ("conv_in", "conv_norm_out", "conv_out")}
    assert moved == everything and len(moved) == 6


def test_all_move_without_it():
    source = make_source()
    assert len(changed(source.unet, last(source, method="finetune").averaged())) > 30


@pytest.mark.parametrize("method", ["finetune", "domainstudio"])
def test_low_rank_matrices_move_the_blocks_by_their_rank_and_leave_an_ordinary_network(method, tmp_path):
    source = make_source()
    kept = copy.deepcopy(source.unet.state_dict())
    unet = last(source, method=method, lora_rank=2).averaged()
    assert unet.state_dict().keys() == kept.keys() and type(unet) is type(source.unet)
    moved = changed(source.unet, unet)
    assert moved and all(name.endswith(".weight") and "blocks" in name or name.startswith("mid_block") for name in moved)
    name = next(name for name in moved if kept[name].ndim == 4 and kept[name].shape[2] == 3)
    difference = (unet.state_dict()[name] - kept[name]).permute(0, 1, 2, 3).flatten(1)
    assert torch.linalg.matrix_rank(difference, rtol=1e-4) <= 2 < min(difference.shape)
    assert all(torch.equal(kept[name], one) for name, one in source.unet.state_dict().items())
    unet.save_pretrained(tmp_path)
    assert type(unet).from_pretrained(tmp_path).state_dict().keys() == kept.keys()


def test_at_the_start_the_matrices_change_nothing_and_merging_keeps_the_answer():
    torch.manual_seed(0)
    unet, x, t = make_source().unet, torch.randn(2, 3, 16, 16), torch.tensor([3, 900])
    trained = parts.trainable(unet, lora_rank=3)
    with torch.no_grad():
        torch.testing.assert_close(trained(x, t).sample, unet(x, t).sample)
        for name, one in trained.named_parameters():
            if "lora_B" in name:
                one.normal_(0, 0.1)
        before = trained(x, t).sample
        assert not torch.allclose(before, unet(x, t).sample, atol=1e-3)
        torch.testing.assert_close(parts.merged(trained)(x, t).sample, before, rtol=1e-4, atol=1e-5)


def test_a_resumed_run_of_low_rank_equals_the_uninterrupted_one(tmp_path):
    whole = last(make_source(), lora_rank=2).averaged()
    first = {"lora_rank": 2, "output_dir": str(tmp_path), "checkpointing_steps": 1}
    last(make_source(), max_train_steps=2, **first)
    resumed = last(make_source(), resume_from_checkpoint="latest", **first).averaged()
    assert not changed(whole, resumed)


def test_shares_of_what_is_trained():
    unet = make_source().unet
    shares = [parts.share_trained(parts.trainable(unet, *how)) for how in (("all",), ("ends",), ("all", 2))]
    assert shares[0] == 1 and 0 < shares[1] < 0.1 and 0 < shares[2] < 0.5


def test_both_at_once_are_refused():
    with pytest.raises(UserError, match="--lora_rank 2 and --trained_parts ends"):
        last(make_source(), lora_rank=2, trained_parts="ends")
