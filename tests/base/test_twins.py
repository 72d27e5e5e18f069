"""Two painters whose right answer is known: twins keep the person and change the hand."""

import numpy as np
import pytest
import torch
from conftest import make_images

from dslib import data, haar, metrics
from dslib.base import avatars, drawing, twins
from dslib.env import UserError


@pytest.fixture(scope="module")
def faces():
    """Sixteen source faces, 64×64."""
    pixels = np.stack([avatars.draw(data.SOURCE, "twins", i, 64)[0] for i in range(16)])
    return data.to_float(torch.from_numpy(pixels).permute(0, 3, 1, 2))


def detail(images):
    return float(haar.high_frequency(images).square().mean())


@pytest.mark.parametrize("name", data.TWINS)
@pytest.mark.parametrize("resolution", [16, 48, 64, 100, 256])
def test_twins_have_the_shape_and_range_of_the_faces(name, resolution):
    images = make_images(2, resolution)
    twin = data.twin(images, name)
    assert twin.shape == images.shape and twin.dtype == torch.float32
    assert twin.isfinite().all() and twin.abs().max() <= 1 and twin.std() > 0.1


@pytest.mark.parametrize("name", data.TWINS)
def test_the_twin_of_a_drawn_face_is_the_domains_image_of_it(name):
    """The known answer itself: at 64 pixels nothing but rounding lies between them."""
    domain = data.load_domain(name, "ten")
    drawn = [avatars.draw_face(name, "ten", i, 64) for i in range(10)]
    face = data.to_float(torch.from_numpy(np.stack([pixels for pixels, _ in drawn])).permute(0, 3, 1, 2))
    assert (data.twin(face, name) - domain.images).abs().max() < 2 / 127.5
    assert [labels for _, labels in drawn] == domain.labels


@pytest.mark.parametrize("name", data.TWINS)
def test_twins_are_deterministic_and_do_not_know_their_neighbours(faces, name):
    before = faces.clone()
    together = data.twin(faces, name)
    assert torch.equal(together, data.twin(faces, name)) and torch.equal(faces, before)
    torch.testing.assert_close(together[3:4], data.twin(faces[3:4], name), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name,pattern", [("engraved", 0.25), ("gouache", 0.12)])
def test_the_hand_is_the_same_at_any_size(name, pattern):
    """A filter at 256 pixels, shrunk, is the filter at 64: lengths are in 64ths of the picture, edges sharper."""
    pixels = np.stack([avatars.draw(data.SOURCE, "twins", i, 256)[0] for i in range(4)])
    large = data.to_float(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    small = torch.nn.functional.interpolate(large, size=(64, 64), mode="area")
    shrunk = torch.nn.functional.interpolate(data.twin(large, name), size=(64, 64), mode="area")
    assert (shrunk - data.twin(small, name)).abs().mean() < pattern / 2
    assert (small - data.twin(small, name)).abs().mean() > pattern


def test_engraved_has_more_fine_detail_than_the_source_and_gouache_less(faces):
    plain = detail(faces)
    assert detail(data.twin(faces, "engraved")) > 3 * plain
    assert detail(data.twin(faces, "gouache")) < 0.7 * plain


@pytest.mark.parametrize("name", data.TWINS)
def test_twins_differ_from_faces_and_from_each_other_as_people_do(faces, name):
    """Another domain, the same diversity: all-pair LPIPS within a quarter of the source's."""
    twin = data.twin(faces, name)
    pairs = len(faces) * (len(faces) - 1)
    spread = [float(metrics.lpips_matrix(images).sum()) / pairs for images in (faces, twin)]
    assert spread[1] == pytest.approx(spread[0], rel=0.25)
    assert metrics.lpips_matrix(faces, twin).diag().min() > 0.1


@pytest.mark.parametrize("name", data.TWINS)
def test_the_people_can_be_told_apart_by_luminance(faces, name):
    """Blurred light and dark of a twin match its own face better than anybody else's."""
    blurred = [twins.blur(twins.luminance(images), 2.5).flatten(1) for images in (faces, data.twin(faces, name))]
    own = torch.corrcoef(torch.cat(blurred))[:16, 16:]
    assert (own.argmax(dim=1) == torch.arange(16)).float().mean() > 0.8         # chance is 1/16


def test_engraving_of_plain_tones_is_paper_then_hatching_then_nearly_ink():
    def tones(value):
        return (twins.engraved(torch.full((1, 3, 64, 64), 2 * value - 1.0)) + 1) / 2
    white, middle, black = tones(1.0), tones(0.35), tones(0.0)
    paper = 0.65 * torch.tensor(twins.PAPER) + 0.35
    assert white.std(dim=(2, 3)).max() < 0.03 and (white.mean(dim=(0, 2, 3)) - paper).abs().max() < 0.1
    assert middle.std(dim=(2, 3)).min() > 0.1
    assert (black.mean(dim=(0, 2, 3)) - torch.tensor(twins.INK)).abs().max() < 0.1


def test_the_hatching_runs_along_one_diagonal_and_repeats_after_five_pixels():
    image = twins.engraved(torch.full((1, 3, 64, 64), 0.2))[0, 0]
    torch.testing.assert_close(image[5:, :], image[:-5, :], atol=1e-4, rtol=0)
    torch.testing.assert_close(image[1:, :-1], image[:-1, 1:], atol=0.05, rtol=0)
    assert (image[1:, 1:] - image[:-1, :-1]).abs().max() > 0.1


@pytest.mark.parametrize("sigma", [0.6, 2.5])
def test_blur_is_the_slow_sum(sigma):
    image = make_images(1, 24)[:, :1]
    pixels = sigma * 24 / 64
    got = twins.blur(image, sigma)
    reach = max(1, int(np.ceil(2.5 * pixels)))
    around = range(-reach, reach + 1)
    weights = {(i, j): np.exp(-(i * i + j * j) / (2 * pixels**2)) for i in around for j in around}
    for y, x in ((0, 0), (12, 7), (23, 20)):
        total = sum(w * float(image[0, 0, min(max(y + i, 0), 23), min(max(x + j, 0), 23)]) for (i, j), w in weights.items())
        assert float(got[0, 0, y, x]) == pytest.approx(total / sum(weights.values()), abs=1e-5)


def test_slope_of_a_ramp():
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    torch.testing.assert_close(twins.slope(ramp)[..., 1:-1], torch.full((1, 1, 64, 62), 1 / 63))
    wide = torch.linspace(0, 1, 256).expand(1, 1, 256, 256)
    torch.testing.assert_close(twins.slope(wide)[..., 1:-1], torch.full((1, 1, 256, 254), 4 / 255))


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 1, 64, 64), (2, 3, 64, 32), (2, 4, 64, 64)])
def test_pictures_of_another_shape_are_refused(shape):
    for name in data.TWINS:
        with pytest.raises(UserError, match=r"square colour pictures \(N,3,R,R\)") as caught:
            data.twin(torch.zeros(shape), name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["avataaars", "sunglasses", "robots"])
def test_a_domain_without_twins_is_refused_with_those_that_have(name):
    with pytest.raises(UserError, match=f"'{name}' has no true pictures.*only engraved and gouache have twins"):
        data.twin(torch.zeros(1, 3, 64, 64), name)


def test_a_mistyped_twin_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'engraved'"):
        data.twin(torch.zeros(1, 3, 64, 64), "engravd")
    with pytest.raises(UserError, match="did you mean 'gouache'"):
        data.load_domain("guache", "ten")


@pytest.mark.parametrize("name", data.TWINS)
def test_every_split_holds_other_people_than_the_sources(name):
    seen = [avatars.draw_face(domain, split, i, 32)[0].tobytes() for domain in (data.SOURCE, name)
            for split in ("ten", "test", "train", "probe") for i in range(3)]
    assert len(set(seen)) == len(seen)
    loaded = data.load_domain(name, "test", 3, 32)
    assert loaded.images.shape == (3, 3, 32, 32) and loaded.labels[2] == avatars.draw_face(name, "test", 2, 32)[1]


def test_cached_twins_are_drawn_again_when_the_filter_changes(monkeypatch):
    paths = {name: drawing.block_path(name, "test", 0, 64) for name in (*data.TWINS, "sketches")}
    assert len(set(paths.values())) == 3
    monkeypatch.setattr(twins, "VERSION", twins.VERSION + 1)
    for name in data.TWINS:
        assert drawing.block_path(name, "test", 0, 64) != paths[name]
    assert drawing.block_path("sketches", "test", 0, 64) == paths["sketches"]


@pytest.mark.parametrize("name", data.TWINS)
def test_a_changed_filter_asks_for_a_new_version(name):
    """Raise ``twins.VERSION`` when this fails: the mean colours of one face in its twin, as version 1 draws them."""
    assert twins.VERSION == 1
    seen = avatars.draw(name, "ten", 0, 64)[0].mean(axis=(0, 1))
    assert seen.tolist() == pytest.approx(MEANS[name], abs=0.5)


MEANS = {"engraved": [138.18, 134.98, 137.18], "gouache": [219.8, 168.65, 125.84]}


@pytest.mark.parametrize("name", avatars.TWINS)
def test_faces_with_more_glasses_are_drawn_by_the_same_hand(name):
    pixels, labels = avatars.draw(f"{name}-with-words", "twins", 3)
    face, same = avatars.draw_face(f"{name}-with-words", "twins", 3)
    assert labels == same and (pixels == avatars.draw_twin(face, name)).all() and (pixels != face).any()
    drawn = drawing.draw_domain(f"{name}-with-words", "twins", 60, 32)[1]
    assert 12 < sum("accessories" in one for one in drawn) < 48
    assert avatars.filter_of(name) == name and avatars.filter_of("sketches-with-words") is None
