"""The GAN that is shipped: small, whole, drawn as its card shows it, and nobody's path in it."""

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from dslib import data
from dslib.gan import draw, folder

FOLDER = Path(__file__).resolve().parents[2] / "data" / "gan"


def test_it_is_small_and_its_files_are_whole():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6e6
    facts = json.loads((FOLDER / "metrics.json").read_text("utf-8"))
    assert facts["collapsed"] is None and facts["num_samples"] == 400
    card = (FOLDER / "README.md").read_text("utf-8")
    assert float(re.search(r"Fréchet ratio \*\*([\d.]+)\*\*", card).group(1)) == round(facts["frechet_ratio"], 1)
    steps = (FOLDER / "log.csv").read_text("utf-8").splitlines()
    assert int(steps[-1].split(",")[0]) == facts["step"] == facts["config"]["max_train_steps"]


def test_it_draws_the_cards_samples_and_does_not_repeat_itself():
    pair = folder.load_gan()
    images = draw.draw(pair.generator, draw.latents(64, pair.generator.latent))
    real = data.load_domain(data.SOURCE, "test", 64).images
    assert draw.collapse(images, real, "real faces") is None and draw.diversity(images) > 0.8 * draw.diversity(real)
    sheet = Image.open(FOLDER / "samples.png").convert("RGB")
    sheet = sheet.crop((12, 12, sheet.width - 12, sheet.height - 12))                 # 4 rows of 16 in a margin
    wide, high = sheet.width / 16, sheet.height / 4
    small = np.stack([coarse(Image.fromarray(one)) for one in data.to_uint8(images).permute(0, 2, 3, 1).numpy()])
    for i in range(64):
        left, top = i % 16 * wide, i // 16 * high
        seen = coarse(sheet.crop((round(left), round(top), round(left + wide), round(top + high))))
        assert np.square(small - seen).sum((1, 2, 3)).argmin() == i, f"sample {i} of the card is another one"


def coarse(image: Image.Image) -> np.ndarray:
    """A picture of 8×8 pixels, so that a pixel more or less at its edge does not matter."""
    return np.asarray(image.resize((8, 8), Image.Resampling.BOX)).astype(float)
