"""The adapted models that the course ships (data/adapted): ``python tools/adapted.py``, six minutes each on one core.

They are the protocol's runs of one seed, 300 steps on the ten engravings, saved in half precision: what the page "Try it" draws with.
"""

from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from dslib import data, models, train
from dslib.base.files import write_json
from dslib.base.identity import fingerprint
from dslib.study.regime import METHODS

TARGET, STEPS, SEED = "engraved", 300, 0
NAMES = ("naive", "published", "anchored")


def make(name: str, folder: Path) -> None:
    """Train a method as the protocol does and save its averaged model."""
    source = models.load_source()
    ten = data.load_domain(TARGET, "ten", resolution=source.unet.config.sample_size).images
    config = train.TrainConfig(**{"max_train_steps": STEPS, "seed": SEED} | METHODS[name])
    *_, last = tqdm(train.adapt(source, ten, config), total=STEPS, desc=name)
    models.save_pipeline(last.averaged(), source.scheduler, folder, half=True)
    facts = {"target": TARGET, "method": name, "step": last.step, "source": fingerprint(source.unet.state_dict())}
    write_json(folder / "metrics.json", facts | {"config": asdict(config)})


if __name__ == "__main__":
    for name in NAMES:
        folder = Path(__file__).parent.parent / "data" / "adapted" / name
        if not (folder / "model_index.json").exists():
            make(name, folder)
