"""FID, KID, precision and recall of two folders of images, computed by torch-fidelity from end to end (chapter 07).

With InceptionV3 they are the numbers that papers report; where its weights cannot be had, the same statistics on the features of
the course's own backbones, under names that say so.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity import (
    KEY_METRIC_FID,
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    FeatureExtractorBase,
    calculate_metrics,
    register_feature_extractor,
)

from .. import data, metrics
from ..base.device import device
from ..base.errors import UserError, first_line
from ..base.pixels import check_pictures

INCEPTION = "inception-v3-compat"
EXTRACTORS = (*metrics.BACKBONES, INCEPTION)


class Pooled(FeatureExtractorBase):
    """A backbone of :mod:`dslib.metrics` as torch-fidelity wants it: uint8 (N,3,R,R) → one float64 row of features an image."""

    def __init__(self, name, features_list, **kwargs):
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list():
        return ("pooled",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "pooled"

    def forward(self, images: Tensor):
        return (metrics.pooled_features(data.to_float(images), self.name),)


for backbone in metrics.BACKBONES:
    register_feature_extractor(backbone, Pooled)


class Pictures(torch.utils.data.Dataset):
    """Images (n,3,R,R) in [-1,1] or uint8 as torch-fidelity reads them: uint8, one by one."""

    def __init__(self, images: Tensor):
        self.images = data.to_uint8(check_pictures(images))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def fidelity(samples: Tensor, real: Tensor, extractor: str = "st-alex", neighbours: int = 3) -> dict[str, float]:
    """{name: value} of samples (N,3,R,R) against real images (M,3,R,R), both in [-1,1]; N, M > ``neighbours``.

    Fréchet distance (Heusel et al. 2017), kernel distance (Bińkowski et al. 2018; 100 subsets of at most 1000 images), precision and
    recall (Kynkäänniemi et al. 2019). They are called FID and KID for Inception alone, whose images are resized to 299×299 as in
    TensorFlow. Raises UserError for an unknown extractor, sets that are too small, or weights that cannot be fetched.
    """
    if extractor not in EXTRACTORS:
        raise UserError(f"unknown --feature_extractor {extractor!r}: use one of {', '.join(EXTRACTORS)}")
    least = min(len(samples), len(real))
    if least <= neighbours:
        raise UserError(f"{len(samples)} samples and {len(real)} real images: at least {neighbours + 1} of each are needed")
    if extractor in metrics.BACKBONES:
        metrics.load_backbone(extractor)
        metrics.check_size(samples)
    try:
        values = calculate_metrics(input1=Pictures(samples), input2=Pictures(real), feature_extractor=extractor, fid=True, kid=True,
                                   prc=True, kid_subset_size=min(1000, least), prc_neighborhood=neighbours, cache=False, verbose=False,
                                   save_cpu_ram=True, cuda=extractor == INCEPTION and device().type == "cuda")
    except OSError as error:
        if extractor != INCEPTION:
            raise
        raise UserError(f"the weights of {extractor} could not be fetched ({first_line(error)}): use --feature_extractor st-alex, whose "
                        "weights are installed") from None
    names = ("FID", "KID") if extractor == INCEPTION else (f"FD-{extractor}", f"KD-{extractor}")
    keys = (KEY_METRIC_FID, KEY_METRIC_KID_MEAN, KEY_METRIC_PRECISION, KEY_METRIC_RECALL)
    return {name: float(values[key]) for name, key in zip((*names, "precision", "recall"), keys)}


def read_pair(samples: str | Path, real: str | Path, resolution: int, recursive: bool = False) -> tuple[Tensor, Tensor]:
    """Both folders at one size, recursive: with their subfolders, without the contact sheet that ``dslib sample`` lays beside."""
    if resolution < metrics.SMALLEST:
        raise UserError(f"--resolution is {resolution}: at least {metrics.SMALLEST} pixels are needed, less is too small for the networks")
    return tuple(data.ImageFolder(folder, resolution, at_least=2, skip=("grid.png",), recursive=recursive).images
                 for folder in (samples, real))
