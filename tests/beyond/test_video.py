"""Clips: what the kit moves, what noise is shared, SDEdit and inversion against loops, and scores against counting by hand."""

import math

import pytest
import torch
from conftest import make_images, make_source
from PIL import Image

from dslib import data, ddpm, metrics, models, sample
from dslib.base.errors import UserError
from dslib.base.pixels import write_images
from dslib.beyond import video


def clips_of(n: int = 2, frames: int = 3, size: int = 32):
    """Soft blobs, (n,frames,3,R,R); the lower half of every frame is the first one's."""
    made = make_images(n * frames, size).unflatten(0, (n, frames)).clone()
    made[:, :, :, size // 2:] = made[:, :1, :, size // 2:]
    return made


def test_the_kit_draws_one_person_who_blinks_and_turns():
    clip = video.draw_clip(0)
    assert clip.shape == (8, 3, 64, 64) and torch.equal(clip, video.draw_clip(0)) and not torch.equal(clip, video.draw_clip(1))
    for same, other in ((0, 2), (4, 6), (3, 7)):
        assert torch.equal(clip[same], clip[other]), "open again as before"
    for before, after in video.BLINKS:
        rows, columns = (clip[before] != clip[after]).any(0).nonzero().T
        assert int(rows.min()) >= 20 and int(rows.max()) < 36, "only eyes change in a blink"
        assert int(columns.min()) > 15 and int(columns.max()) < 50
    still = ~video.moving(clip[None])[0]
    assert 0.9 < still.double().mean() < 0.99 and all(bool((~pair).any()) for pair in still)


def test_a_turn_moves_the_parts_of_the_face_and_nothing_else():
    svg = ('<use transform="translate(94 140)" href="#mouth-sad-1"/><use transform="translate(128 130)" href="#nose-default-1"/>'
           '<use transform="translate(8)" href="#top-fro-1"/><use transform="translate(-3.5)" href="#eyes-closed-1"/>')
    assert video.turned(svg, 10) == (
        '<use transform="translate(105 140)" href="#mouth-sad-1"/><use transform="translate(142 130)" href="#nose-default-1"/>'
        '<use transform="translate(8)" href="#top-fro-1"/><use transform="translate(6.5)" href="#eyes-closed-1"/>')
    assert video.turned(svg, 0) == svg


def test_shared_noise_is_one_a_clip_and_fresh_noise_one_a_frame():
    clips = clips_of()
    shared, fresh = (video.clip_noise(how, clips, 3) for how in ("shared", "fresh"))
    assert shared.shape == fresh.shape == clips.shape
    assert torch.equal(shared[:, 0], fresh[:, 0]) and torch.equal(shared[:, 0], shared[:, 2])
    assert not torch.equal(shared[0, 0], shared[1, 0]) and not torch.equal(fresh[:, 0], fresh[:, 1])
    assert not torch.equal(fresh, video.clip_noise("fresh", clips, 4))
    with pytest.raises(UserError, match="shared or fresh"):
        video.clip_noise("inverted", clips, 0)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_sdedit_and_inversion_against_loops_over_frames(kind):
    pipe, clips = make_source(), clips_of(size=16)
    pipe.scheduler = models.new_scheduler(kind)
    a_bar, late = pipe.scheduler.alphas_cumprod, [499, 399, 299, 199, 99]
    assert video.late_steps(pipe.scheduler, 500, 10)[1] == late
    eps = video.clip_noise("fresh", clips, 1)
    x_t = video.start(pipe, clips, "fresh", 1, 500, 10)
    torch.testing.assert_close(x_t, a_bar[499].sqrt() * clips + (1 - a_bar[499]).sqrt() * eps)
    drawn, turned = video.restyled(pipe, x_t, 500, 10, batch_size=4), video.start(pipe, clips, "inverted", 0, 500, 10)

    @torch.no_grad()
    def answer(x, t):
        guess = ddpm.guess(pipe.unet(x[None], t).sample, x[None], torch.tensor([t]), a_bar, kind)
        return guess.x_0[0].clamp(-1, 1), guess.eps[0]

    for i in range(2):
        for f in range(3):
            x = x_t[i, f]
            for t, below in zip(late, [*late[1:], None]):
                x_0, noise = answer(x, t)
                a = a_bar[below] if below is not None else torch.tensor(1.0)
                x = a.sqrt() * x_0 + (1 - a).sqrt() * noise
            torch.testing.assert_close(drawn[i, f], x.clamp(-1, 1), rtol=1e-4, atol=1e-4)
            up = clips[i, f]
            for t, above in zip([0, *reversed(late)], reversed(late)):
                x_0, noise = answer(up, t)
                up = a_bar[above].sqrt() * x_0 + (1 - a_bar[above]).sqrt() * noise
            torch.testing.assert_close(turned[i, f], up, rtol=1e-4, atol=1e-4)


def test_frames_that_are_alike_stay_alike_but_for_fresh_noise():
    pipe, clips = make_source(), clips_of(size=16)[:, :1].expand(2, 3, 3, 16, 16)
    for noise, alike in (("shared", True), ("inverted", True), ("fresh", False)):
        drawn = video.restyled(pipe, video.start(pipe, clips, noise, 0, 400, 5), 400, 5)
        assert torch.allclose(drawn[:, 0], drawn[:, 1], atol=1e-5) == alike


def test_steps_are_told_where_there_are_none():
    scheduler = models.new_scheduler()
    assert video.late_steps(scheduler, 1000, 10)[1] == sample.sampler(scheduler, "ddim", 10).timesteps.tolist()
    for t_0, words in ((0, "use 1 to 1000"), (1001, "use 1 to 1000"), (40, "use 100 or more")):
        with pytest.raises(UserError, match=words):
            video.late_steps(scheduler, t_0, 10)


def test_flicker_and_shimmer_against_loops_over_pixels():
    clips, truth = clips_of(1, 3, 4), make_images(3, 4, 9)[None].clone()
    truth[:, 1, :, :2] = truth[:, 0, :, :2]
    moves = video.moving(truth)
    total = still = count = 0.0
    for f in range(2):
        for y in range(4):
            for x in range(4):
                delta = clips[0, f + 1, :, y, x] - clips[0, f, :, y, x]
                true = truth[0, f + 1, :, y, x] - truth[0, f, :, y, x]
                total += float((delta - true).abs().sum())
                assert bool(moves[0, f, 0, y, x]) == bool((true.abs() * 127.5 > 2.5).any())
                if not moves[0, f, 0, y, x]:
                    still, count = still + float(delta.abs().sum()), count + 3
    assert count >= 24 and video.flicker(clips, truth)[0] == pytest.approx(127.5 * total / 96, rel=1e-5)
    assert video.shimmer(clips, moves)[0] == pytest.approx(127.5 * still / count, rel=1e-5)
    assert video.flicker(truth, truth)[0] == 0 and math.isnan(video.shimmer(clips, torch.ones_like(moves))[0])


def test_what_moves_is_followed_by_direction_and_by_amount():
    truth = clips_of()
    moves, pairs = video.moving(truth), ((0, 1), (1, 2))
    assert bool(moves.any()) and not bool(moves[..., 16:, :].any()), "the lower half stands still"
    true = video.over(truth, pairs, moves)
    assert sum(len(one) for one in true) == 3 * int(moves.sum())
    half, frozen = truth / 2, truth[:, :1].expand(truth.shape)
    for clips, direction, share in ((truth, 1, 1), (half, 1, 0.5), (-half, -1, -0.5), (frozen, 0, 0)):
        mine = video.over(clips, pairs, moves)
        assert video.follows(mine, true).tolist() == pytest.approx([direction] * 2, abs=1e-6)
        assert video.amount(mine, true).tolist() == pytest.approx([share] * 2, abs=1e-6)
    noise = video.over(make_images(6, 32, 5).unflatten(0, (2, 3)), pairs, moves)
    wanted = torch.stack([torch.corrcoef(torch.stack([x, y]))[0, 1] for x, y in zip(noise, true)])
    torch.testing.assert_close(video.follows(noise, true), wanted)


def test_scores_of_the_true_clip_of_a_frozen_one_and_of_another_person():
    inputs = clips_of(3, 4)
    known = video.know(inputs, "engraved", ((0, 1),))
    bright = known.truth[:2].mean()
    rows = video.scores(known.truth, known, lambda images: images.mean((1, 2, 3)) > bright)
    assert all(row[key] == 0 for row in rows for key in ("flicker", "jump", "right"))
    assert all(row[key] == pytest.approx(1) for row in rows for key in ("own", "follows", "amount", "blink"))
    assert [row["hit"] for row in rows] == [float((one.mean((1, 2, 3)) > bright).double().mean()) for one in known.truth]
    other = video.scores(known.truth[[1, 2, 0]], known, lambda images: images.mean((1, 2, 3)) > 9)
    assert all(row["own"] == 0 and row["hit"] == 0 and row["right"] > 0 for row in other)
    assert all(row["own"] == 1 and row["right"] > 0 for row in video.scores(inputs, known, lambda images: images.mean((1, 2, 3)) > 0))
    wanted = torch.stack([metrics.lpips_matrix(inputs[0], known.truth[0]).diag()]).mean()
    assert video.scores(inputs, known, lambda x: x.mean((1, 2, 3)) > 0)[0]["right"] == pytest.approx(float(wanted), rel=1e-3)
    frozen = video.scores(known.truth[:, :1].expand(known.truth.shape), known._replace(blinks=()), lambda x: x.mean((1, 2, 3)) > 0)
    assert all(row["shimmer"] == 0 and row["amount"] == 0 and row["flicker"] > 0 and math.isnan(row["blink"]) for row in frozen)
    assert torch.equal(known.truth[1], data.twin(inputs[1], "engraved"))
    with pytest.raises(UserError, match="nothing moves"):
        video.know(inputs[:, :1].expand(inputs.shape), "engraved")


def test_a_folder_is_a_clip_in_counting_order(tmp_path):
    frames = make_images(3, 32)
    write_images(tmp_path, frames)
    for i, name in enumerate(("frame10.png", "frame2.png", "frame1.png")):
        (tmp_path / f"000{i}.png").rename(tmp_path / name)
    torch.testing.assert_close(video.load_clip(tmp_path, 32), frames.flip(0), rtol=0, atol=1 / 127)


def test_a_folder_that_is_no_clip_is_refused_by_the_files_name(tmp_path):
    write_images(tmp_path, make_images(1, 32))
    with pytest.raises(UserError, match=r"holds one frame, 0000\.png: a clip needs at least 2"):
        video.load_clip(tmp_path)
    Image.new("RGB", (40, 32)).save(tmp_path / "0001.png")
    with pytest.raises(UserError, match=r"0001\.png is 40×32, the first frame 32×32"):
        video.load_clip(tmp_path)
    (tmp_path / "0001.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"0001\.png"):
        video.load_clip(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        video.load_clip(tmp_path / "none")
    with pytest.raises(UserError, match="--clips is 0"):
        video.draw_clips(0)
