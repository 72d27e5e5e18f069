"""The picture of the claim: rows in order, frames where copies are, and the nearest training image below."""

import numpy as np
import torch
from conftest import make_images

from dslib.measure import score
from dslib.show import hero, plots


def test_a_frame_lies_around_its_picture_and_hides_nothing():
    images = make_images(5, 16)
    plain, sheet = hero.marked(images, 3, torch.zeros(5)), hero.marked(images, 3, torch.tensor([0, 1, 0, 0, 1]))
    red = (sheet == hero.RED).all(-1)
    f, cell = hero.FRAME, 16 + 2 * hero.FRAME
    assert plain.shape == (2 * cell, 3 * cell, 3)
    for i in range(5):
        y, x = (i // 3) * cell, (i % 3) * cell
        around = red[y:y + cell, x:x + cell].copy()
        inside = slice(y + f, y + f + 16), slice(x + f, x + f + 16)
        assert not around[f:-f, f:-f].any() and np.array_equal(sheet[inside], plain[inside])
        around[f:-f, f:-f] = i in (1, 4)
        assert around.all() == (i in (1, 4)) and around.any() == (i in (1, 4))


def test_the_nearest_training_image_lies_small_in_the_middle_of_its_column():
    training = torch.stack([torch.full((3, 20, 20), v) for v in (-1.0, 1.0)])
    strip = hero.small(training[[0, 1]], 60, 2)
    assert strip.shape[1] == 60 and (strip[4, 15] == 0).all() and (strip[4, 45] == 255).all() and (strip[4, 2] == 255).all()


def test_the_reports_hero_frames_what_is_nearer_than_real_images(monkeypatch):
    training, samples = make_images(4, 32, 1), make_images(6, 32, 2)
    samples[3] = training[2]
    real = torch.linspace(0.01, 0.2, 50)
    evidence = {name: score.Evidence(samples, training, nearest_real=real) for name in (score.REAL, "source", score.TRUE, "finetune")}
    seen = {}
    monkeypatch.setattr(hero, "figure", lambda targets, shown, columns: seen.update(shown))
    hero.of_evidence(evidence, training)
    assert list(seen) == ["source", score.TRUE, "finetune"] and seen["source"].nearest is None
    assert seen["finetune"].copied[3] and int(seen["finetune"].nearest[3]) == 2
    assert seen["finetune"].note == f"{float(seen['finetune'].copied.float().mean()):.0%} copies"


def test_without_real_images_nothing_is_framed_and_the_figure_is_drawn():
    training = make_images(4, 32, 1)
    figure = hero.of_evidence({"mine": score.Evidence(make_images(3, 32, 2), training)}, training)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["training images", "", "mine", "", "nearest of the ten", hero.NEAREST] and len(plots.to_png(figure)) > 1000
