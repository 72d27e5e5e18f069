"""Generator and discriminator: StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), small enough for a CPU: a million weights each at 64×64.

====================  ==========================================  ================================================================
point                 StyleGAN2                                   ours
====================  ==========================================  ================================================================
mapping               8 layers of 512                             2 of 128
up                    transposed convolution and a blur           pixels doubled and a convolution, in one
noise a layer         yes                                         none: a latent always gives the same image
RGB outputs           modulated                                   plain
a block of D          two convolutions, a blur, a shortcut        one strided convolution and a shortcut
minibatch deviation   a map that tells D how a batch varies       none: an image's score never depends on its neighbours, as R1
                                                                  and Fisher's information of single images want it
====================  ==========================================  ================================================================
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.errors import UserError

CHANNELS = (192, 128, 96, 48, 16)     # of the maps of 4, 8, 16, 32 and 64 pixels
LATENT = 128


class Trace(NamedTuple):
    """What a generator makes of latents."""
    image: Tensor            # (N,3,R,R), about [-1,1], not clipped
    layers: list[Tensor]     # (N,C,r,r) of every layer, coarsest first


class Linear(nn.Module):
    """x W^T + b with W ~ N(0,1)/√fan_in applied at run time (equalised learning rate, Karras et al. 2018): (N,in) → (N,out).

    speed: how fast it learns, as a factor of the learning rate; bias: its first value.
    """

    def __init__(self, fan_in: int, fan_out: int, speed: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / speed)
        self.bias = nn.Parameter(torch.full((fan_out,), bias / speed))
        self.scale, self.speed = speed / math.sqrt(fan_in), speed

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.speed)


class Conv(nn.Module):
    """A convolution with equalised learning rate: (N,in,r,r) → (N,out,r,r), or (N,out,r/2,r/2) of kernel 4 and stride 2.

    gain: of the variance's root, from what comes in to what goes out, at first."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int = 3, gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.scale, self.stride, self.padding = gain / math.sqrt(fan_in * kernel**2), 2 if kernel == 4 else 1, (kernel - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class Modulated(nn.Module):
    """A convolution whose weights a style scales (Karras et al. 2020, eqs. 1 and 3): (N,in,r,r), w (N,latent) → (N,out,r,r) or twice r.

    w'_oik = s_i·w_oik, then divided by its norm √Σ_ik w'_oik². Scaling the inputs by s and the outputs by the norms is the same, and one
    convolution for the whole batch. up: every pixel is first doubled; see :func:`doubling`.
    """

    def __init__(self, fan_in: int, fan_out: int, latent: int, up: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, 3, 3))
        self.bias, self.style, self.up = nn.Parameter(torch.zeros(fan_out)), Linear(latent, fan_in, bias=1.0), up
        self.scale = 1 / math.sqrt(fan_in * 9)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style, weight = self.style(w), self.weight * self.scale
        norm = (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()            # (N,out)
        x = x * style[:, :, None, None]
        x = F.conv_transpose2d(x, doubling(weight), None, 2, 1) if self.up else F.conv2d(x, weight, None, 1, 1)
        x = torch.addcmul(self.bias[:, None, None] * math.sqrt(2), x, norm[:, :, None, None] * math.sqrt(2))
        return F.leaky_relu(x, 0.2)                                # activate(x·norm + bias), in fewer looks at x


def doubling(weight: Tensor) -> Tensor:
    """The kernel with which one transposed convolution of stride 2 doubles every pixel and then convolves: (out,in,3,3) → (in,out,4,4).

    A free 4×4 kernel would leave a pattern of dots (Odena et al. 2016); this costs the same, and less than half of doing one after
    the other.
    """
    weight = weight.flip(2, 3).transpose(0, 1)           # a convolution of PyTorch's turns its kernel, a transposed one does not
    return sum(F.pad(weight, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1))


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times √2 so that the variance stays."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


class Generator(nn.Module):
    """Latents (N,latent) ~ N(0,1) → images (N,3,R,R), R = 4·2^(number of channels − 1)."""

    def __init__(self, latent: int = LATENT, channels: tuple[int, ...] = CHANNELS):
        super().__init__()
        self.latent, self.resolution = latent, 4 * 2 ** (len(channels) - 1)
        self.mapping = nn.ModuleList(Linear(latent, latent, speed=0.01) for _ in range(2))
        self.start = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.ups = nn.ModuleList(Modulated(a, b, latent, up=True) for a, b in zip(channels, channels[1:]))
        self.layers = nn.ModuleList(Modulated(c, c, latent) for c in channels)
        self.colours = nn.ModuleList(Conv(c, 3, kernel=1) for c in channels)

    def trace(self, z: Tensor) -> Trace:
        """The images and what every layer gave on the way to them."""
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for linear in self.mapping:
            w = activate(linear(w))
        x = self.layers[0](self.start.expand(len(z), -1, -1, -1), w)
        image, layers = self.colours[0](x), [x]
        for up, layer, colour in zip(self.ups, self.layers[1:], self.colours[1:]):
            layers += [up(x, w)]
            layers += [layer(layers[-1], w)]
            x = layers[-1]
            image = F.interpolate(image, scale_factor=2, mode="bilinear") + colour(x)
        return Trace(image, layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.trace(z).image


class Down(nn.Module):
    """Half the size: a strided convolution beside a shortcut, their sum over √2: (N,in,r,r) → (N,out,r/2,r/2)."""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        self.conv, self.shortcut = Conv(fan_in, fan_out, kernel=4), Conv(fan_in, fan_out, kernel=1, gain=1 / math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x), 0.2) + self.shortcut(F.avg_pool2d(x, 2))


class Discriminator(nn.Module):
    """Images (N,3,R,R) → scores (N,), positive where it takes them for real; and its maps on the way, finest first."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS):
        super().__init__()
        wide = channels[::-1]                                                  # finest first
        self.stem = Conv(3, wide[0])
        self.downs = nn.ModuleList(Down(a, b) for a, b in zip(wide, wide[1:]))
        self.last, self.score = Conv(wide[-1], wide[-1]), Linear(wide[-1] * 16, 1)

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps (N,C,r,r) for r = R, R/2 … 4, and of 4 the last one once more convolved."""
        found = [activate(self.stem(x))]
        for down in self.downs:
            found.append(down(found[-1]))
        return [*found, activate(self.last(found[-1]))]

    def judge(self, features: list[Tensor]) -> Tensor:
        """The scores (N,) from the maps."""
        return self.score(features[-1].flatten(1)).squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.judge(self.features(x))

    def parts(self) -> list[nn.Module]:
        """What images pass one after the other, from the pixels on: what freezing counts."""
        return [self.stem, *self.downs, self.last, self.score]


class Pair(nn.Module):
    """A generator and its discriminator, and what a method trains beside them."""

    def __init__(self, latent: int = LATENT, channels: tuple[int, ...] = CHANNELS, seed: int = 0):
        """Random weights from a seed; the caller's random state is left alone. Raises UserError for impossible sizes."""
        super().__init__()
        if not 3 <= len(channels) <= 7 or min(channels) < 1 or latent < 1:
            raise UserError(f"--channels {' '.join(map(str, channels))}: give 3 to 7 positive numbers, coarsest first, of the maps of "
                            "4, 8, 16 … pixels")
        self.config = {"latent": latent, "channels": list(channels)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator, self.discriminator = Generator(latent, tuple(channels)), Discriminator(tuple(channels))
        self.to(memory_format=torch.channels_last)

    @property
    def resolution(self) -> int:
        return self.generator.resolution
