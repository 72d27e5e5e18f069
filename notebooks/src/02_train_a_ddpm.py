# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Guess the noise, walk back: train a DDPM
#
# **Claim.**
# - A small network learns to draw 16×16 faces, roughly, in about a minute. Control: real faces.
# - At equal weights, quality against steps depends on the sampler. Controls: real images, noise.
# - Near $T$ an answer $v$ keeps a picture's mean colour sane, an equal network's $\varepsilon$ does not. Control: always the mean colour.
#
# | | |
# |---|---|
# | Read / run | 31 min, exercises 80 min more / 2 min on two CPU cores |
# | Device | a CPU |
# | Needs | chapters 00 and 01; you have trained a network before |
# | Paper | DDPM eqs. 6, 7, 14; DDIM eq. 12; improved DDPM eqs. 15, 16; DomainStudio §1 |
# | `dslib` files | `models.py`, `sample.py`, `pretrain.py`, `train.py`, `losses.py` |
# | You will keep | a training loop with averaged weights; two steps of a sampler |

# %% tags=["setup", "nbval-ignore-output"]
# Setup, the same cell in every chapter. FETCH runs only where there is no dslib, as in Colab; `make badges REPO=owner/name` writes it.
FETCH = "echo No dslib in this kernel. Choose the kernel in .venv after make install, or upload the course and unzip it as course/; false"
try:
    from dslib import env
except ImportError:
    import subprocess
    import sys
    if (done := subprocess.getstatusoutput(f"test -d course -o -d ../dslib || ({FETCH})"))[0]:
        raise SystemExit(done[1].splitlines()[0]) from None
    sys.path += ["course", ".."]
    from dslib import env
rt = env.start(seed=0)

# %% tags=["parameters"]
train_steps = rt.pick(smoke=4, cpu=1200)                                     # about a minute
inference_steps = rt.pick(smoke=2, cpu=20)
step_counts = rt.pick(smoke=[1, 2], cpu=[2, 5, 10, 20])                      # for the curve
num_images = rt.pick(smoke=6, cpu=40, colab=200)                             # a point of the curve
seeds = rt.pick(smoke=[0], cpu=[0, 1, 2])

# %% [markdown]
# ## Where we are going
#
# One chain of the source model. Top: the picture after the step at $t$. Bottom: the guess of the clean face before it.

# %%
from types import SimpleNamespace

import torch

from dslib import checks, data, ddpm, models, sample
from dslib.checks import whole
from dslib.show import plots

q_sample = checks.mine("q_sample")
source = models.load_source()
net = whole.frozen(source)                    # answers with the noise ε; the source itself answers v, explained below
a_bar = source.scheduler.alphas_cumprod
six = sample.start_noise(6, 64, seed=3)
chains = {"ddim": list(sample.chain(source.unet, source.scheduler, six, inference_steps, "ddim"))}

def along(links, image=0, count=10):
    """x_t and x̃_0 of one image at evenly spaced links of a chain, and a heading for each."""
    places = torch.linspace(0, len(links) - 1, min(count, len(links))).round().int().tolist()
    left = torch.stack([links[i].x_t[image] for i in places])
    guesses = torch.stack([links[i].x_0[image] for i in places])
    return left, guesses, [f"t={links[i].t}" for i in places]

left, guesses, headings = along(chains["ddim"])
plots.show(plots.rows({"after the step": left, "guess before it": guesses}, columns=len(headings), labels=headings),
           alt="Top: noise that turns into a face in twenty steps. Bottom: the model's guess of the face at each step.")

# %% [markdown]
# The guess begins as a blur; details come last. Each step exchanges a little noise for a little of the guess.
#
# ## The mental model
#
# Training noises each image to a random $t$ and asks for $\varepsilon$ back (other symbols as in (1.1)):
#
# $$L_\text{simple} = \mathbb{E}_{x_0,\,t,\,\varepsilon}\;\tfrac1D\,\big\|\varepsilon - \varepsilon_\theta(x_t, t)\big\|^2 \tag{2.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $\varepsilon_\theta(x_t, t)$ | the network's prediction | (N,3,R,R) | `model(x_t, t).sample` |
# | $D$ | numbers in an image | 3·R·R | `.mean()` |
#
# A regression: no sampling, no adversary. All $t$ count alike for the error of the noise. The error of the *picture* gets the weight
# $\bar\alpha_t / (1-\bar\alpha_t)$, tiny near $T$.
#
# ## Exercise: the loss
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `simple_loss(model, x_0, t, eps, alphas_cumprod)` with your `q_sample(x_0, t, eps, alphas_cumprod)`. A diffusers model returns an
# object; its tensor is `.sample`.

# %%
def simple_loss(model, x_0, t, eps, alphas_cumprod):
    """Your code here: a network, (N,3,R,R), (N,), (N,3,R,R), (T,) → ()."""
    return None

# %%
simple_loss = checks.mine("simple_loss")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Noise `x_0` with `eps`, ask the model, compare its answer with `eps`.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("simple_loss")` in a new cell.
# </details>
#
# ## The network
#
# diffusers' U-Net, and what each part hands on:

# %%
unet = models.new_unet(64)
print(f"{sum(p.numel() for p in unet.parameters()) / 1e6:.1f} million parameters")


def report_shape(name):
    """A hook that prints the size of what a part of the network returns."""
    def hook(module, inputs, output):
        images = output[0] if isinstance(output, tuple) else output
        print(f"{name:<30} {tuple(images.shape)}")
    return hook


named = [("conv_in", unet.conv_in)] + [(f"down: {type(b).__name__}", b) for b in unet.down_blocks]
named += [("middle", unet.mid_block)] + [(f"up: {type(b).__name__}", b) for b in unet.up_blocks]
hooks = [part.register_forward_hook(report_shape(name)) for name, part in named + [("conv_out", unet.conv_out)]]
with torch.no_grad():
    unet(torch.randn(2, 3, 64, 64), torch.tensor([10, 900]))
for hook in hooks:
    hook.remove()

# %% [markdown]
# Down to 8×8, and up again. Each level on the way up also gets what the way down saw at that size. Attention, where every place
# looks at every other, works at 8×8 only.
#
# One residual block:

# %% tags=["nbval-check-output"]
import torch.nn.functional as F

block = unet.down_blocks[0].resnets[0]
x, emb = torch.randn(2, 16, 64, 64), torch.randn(2, 64)           # a feature map, and the embedding of t
h = block.conv1(F.silu(block.norm1(x)))                           # normalise, bend, convolve
h = h + block.time_emb_proj(F.silu(emb))[:, :, None, None]        # t enters: one number a channel
by_hand = x + block.conv2(F.silu(block.norm2(h)))                 # again, and add what came in
torch.allclose(by_hand, block(x, emb), atol=1e-5)

# %% [markdown]
# $t$ shifts each channel of every block. So one network serves a thousand noise levels.
#
# ## The naive version
#
# The whole training, on faces of 16×16 pixels:

# %% tags=["nbval-ignore-output"]
small = data.load_domain(data.SOURCE, "train", rt.pick(smoke=100, cpu=3000), resolution=16).images
torch.manual_seed(rt.seed)
naive = models.new_unet(16, (16, 32))
optimizer = torch.optim.AdamW(naive.parameters(), lr=1e-3)
seen = []
for _ in range(rt.pick(smoke=2, cpu=30)):
    x_0 = small[torch.randint(len(small), (16,))]                 # (16,3,16,16)
    t, eps = torch.randint(1000, (16,)), torch.randn_like(x_0)
    loss = simple_loss(naive, x_0, t, eps, a_bar)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    seen.append(loss.item())
print(f"loss of the first step {seen[0]:.3f}, of the last {seen[-1]:.3f}")

# %% [markdown]
# The loss starts near 1: a new network answers about zero, and the noise has variance 1.
#
# ## Averaged weights
#
# The last step's weights are noisy. So one draws with an *exponential moving average* (EMA):
#
# $$\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta, \qquad
# d = \min\big(d_\text{max},\; 1-(1+\text{step})^{-\text{power}}\big). \tag{2.2}$$
#
# This *warm-up* begins with $d = 0$. With $d = 0.998$ throughout, the random start would weigh half after 350 steps:

# %%
for step in (0, 1, 10, 100, 1000, 10_000):
    decay = min(0.998, 1 - (1 + step) ** -0.75)
    print(f"step {step:5d}: d = {decay:.4f}, an average over about {1 / (1 - decay):.0f} steps")
print(f"without warm-up, the start weighs {0.998 ** 350:.2f} after 350 steps")

# %% [markdown]
# ## Exercise: the average
#
# *Difficulty ●○○ · importance ●●○ · 10 minutes*
#
# Write `ema_update(average, new, step, max_decay, power)` for one weight tensor.

# %%
def ema_update(average, new, step, max_decay, power):
    """Your code here: two tensors of one shape, an int, two floats → a tensor of that shape."""
    return None

# %%
ema_update = checks.mine("ema_update")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `decay` as in the cell above; `max_decay` is its upper end.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("ema_update")` in a new cell.
# </details>
#
# ## Now import it
#
# diffusers' `EMAModel` does the same:

# %% tags=["nbval-check-output"]
from diffusers.training_utils import EMAModel

weight = torch.nn.Parameter(torch.zeros(3))
ema, average = EMAModel([weight], decay=0.9, use_ema_warmup=True, power=0.75), torch.zeros(3)
for step in range(50):
    weight.data += torch.randn(3)
    ema.step([weight])
    average = ema_update(average, weight.detach(), step, max_decay=0.9, power=0.75)
torch.allclose(average, ema.shadow_params[0], atol=1e-5)

# %% [markdown]
# ## Exercise: the training loop
#
# *Difficulty ●●● · importance ●●● · 25 minutes*
#
# Write `train_loop(model, batches, loss, lr, max_decay=0.99, power=0.75)`: train a copy (`copy.deepcopy`), return a network with the
# averaged weights.
#
# - `AdamW(…, weight_decay=0.0)`, a step a batch `(x_0, t, eps)`; `loss(model, x_0, t, eps)` is a scalar.
# - `torch.nn.utils.clip_grad_norm_`: clip to norm 1.
# - Your `ema_update` for each weight; steps count from 0.

# %%
def train_loop(model, batches, loss, lr, max_decay=0.99, power=0.75):
    """Your code here: a network, a list of (x_0, t, eps), a function, a rate → the averaged network."""
    return None

# %%
train_loop = checks.mine("train_loop")

# %% [markdown]
# <details><summary>Hint</summary>
#
# A second copy holds the average. Inside `torch.no_grad()`, `zip` both models' `.parameters()` and `copy_` what `ema_update` returns.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("train_loop")` in a new cell.
# </details>
#
# The naive network goes on, in your loop:

# %% tags=["nbval-ignore-output"]
def draw(step):
    """A batch of the small faces, always the same for a step: (x_0, t, eps)."""
    dice = torch.Generator().manual_seed(step)
    x_0 = small[torch.randint(len(small), (16,), generator=dice)]
    return x_0, torch.randint(1000, (16,), generator=dice), torch.randn(x_0.shape, generator=dice)


def loss_of(model, x_0, t, eps):
    return simple_loss(model, x_0, t, eps, a_bar)


further = train_loop(naive, [draw(step) for step in range(rt.pick(smoke=2, cpu=60))], loss_of, 1e-3)
with torch.no_grad():
    for name, model in {"before": naive, "after": further}.items():
        print(f"loss {name}: {sum(float(loss_of(model, *draw(-k))) for k in range(1, 9)) / 8:.3f}")

# %% [markdown]
# ## Walking back: DDPM
#
# Every sampler guesses the clean picture $\tilde x_0$ (chapter 01) and goes to an earlier step $t' < t$, perhaps far away.
#
# Suppose $\tilde x_0$ were the picture. Two Gaussians tell of $x_{t'}$: it is $\tilde x_0$ noised, and $x_t$ is it noised further. Bayes'
# rule multiplies them to a third, the *posterior* $q(x_{t'} \mid x_t, \tilde x_0)$. DDPM draws from it:
#
# $$\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t'}}\,\beta}{1-\bar\alpha_t}\,\tilde x_0
# + \frac{\sqrt{1-\beta}\,(1-\bar\alpha_{t'})}{1-\bar\alpha_t}\,x_t, \qquad
# \tilde\beta_t = \frac{1-\bar\alpha_{t'}}{1-\bar\alpha_t}\,\beta \tag{2.3}$$
#
# $$\textbf{DDPM:}\quad x_{t'} = \tilde\mu_t + \sqrt{\tilde\beta_t}\;z, \qquad z \sim \mathcal N(0, I) \tag{2.4}$$
#
# | symbol | meaning |
# |---|---|
# | $\beta = 1 - \bar\alpha_t/\bar\alpha_{t'}$ | variance added from $t'$ to $t$; $\beta_t$ if $t' = t-1$ |
# | $\tilde\mu_t$ | mean of the posterior, between guess and $x_t$ |
# | $\tilde\beta_t$ | its variance; 0 at the end |
#
# ## Exercise: one step of DDPM
#
# *Difficulty ●●● · importance ●●○ · 20 minutes*
#
# Write `ddpm_step(x_t, eps, t, t_prev, z, alphas_cumprod)`. `t` and `t_prev` are integers, `eps` is now what the network *answers*,
# so $\tilde x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon_\theta) / \sqrt{\bar\alpha_t}$. Do not clip it. `t_prev = -1` means "clean":
# $\bar\alpha = 1$.

# %%
def ddpm_step(x_t, eps, t, t_prev, z, alphas_cumprod):
    """Your code here: (N,3,R,R), (N,3,R,R), int, int, (N,3,R,R), (T,) → (N,3,R,R)."""
    return None

# %%
ddpm_step = checks.mine("ddpm_step")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `alphas_cumprod[-1]` is the *last* entry, not 1: use `torch.tensor(1.0)`. Each factor of $\tilde\mu$ is a number.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("ddpm_step")` in a new cell.
# </details>
#
# ## Walking back: DDIM
#
# Noise the guess again, less, with the *predicted* noise. Nothing is random:
#
# $$\textbf{DDIM:}\quad x_{t'} = \sqrt{\bar\alpha_{t'}}\;\tilde x_0 + \sqrt{1-\bar\alpha_{t'}}\;\varepsilon_\theta \tag{2.5}$$
#
# ## Exercise: one step of DDIM
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# Write `ddim_step(x_t, eps, t, t_prev, alphas_cumprod)`; `eps` and `t_prev = -1` as before, nothing clipped.

# %%
def ddim_step(x_t, eps, t, t_prev, alphas_cumprod):
    """Your code here: (N,3,R,R), (N,3,R,R), int, int, (T,) → (N,3,R,R)."""
    return None

# %%
ddim_step = checks.mine("ddim_step")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Guess as in `ddpm_step`. Mix guess and noise with ᾱ at `t_prev`.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("ddim_step")` in a new cell.
# </details>
#
# diffusers agrees, five steps with each, without clipping:

# %% tags=["nbval-check-output"]
from diffusers import DDIMScheduler, DDPMScheduler

for kind in (DDIMScheduler, DDPMScheduler):
    theirs = kind.from_config(source.scheduler.config, timestep_spacing="trailing", clip_sample=False, prediction_type="epsilon")
    theirs.set_timesteps(5)
    x_t, worst = six[:2], 0.0
    for t in theirs.timesteps.tolist():
        z = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t))
        with torch.no_grad():
            eps = net(x_t.to(source.device), t).sample.cpu()
        ours = ddim_step(x_t, eps, t, t - 200, a_bar) if kind is DDIMScheduler else ddpm_step(x_t, eps, t, t - 200, z, a_bar)
        dice = {"generator": torch.Generator().manual_seed(t)} if kind is DDPMScheduler else {}
        x_t = theirs.step(eps, t, x_t, **dice).prev_sample
        worst = max(worst, float((ours - x_t).abs().max() / x_t.abs().max()))
    print(kind.__name__, bool(worst < 1e-5))

# %% [markdown]
# From here on, every sampler clips $\tilde x_0$ to [-1, 1].
#
# ## Solvers
#
# With ever smaller steps DDIM becomes an ordinary differential equation: each start noise has one path to one picture. DDIM follows it
# with straight pieces. **DPM-Solver** is of second order: the *previous* guess tells it how the guess changes.
#
# ## Three chains
#
# One noise, one network, three samplers:

# %%
shown = []
for kind in ("ddpm", "ddim", "dpmsolver"):
    if kind not in chains:
        chains[kind] = list(sample.chain(source.unet, source.scheduler, six, inference_steps, kind, seed=rt.seed))
    left, guesses, headings = along(chains[kind])
    shown += [(f"{kind}: after", left), ("guess before", guesses)]
plots.show(plots.rows(shown, columns=len(headings), labels=headings),
           alt="DDPM, DDIM and DPM-Solver, two rows each: what is left of the noise, and the guess of the clean face.")

# %% [markdown]
# The first guess is the same. DDPM rolls dice and ends at another person. DDIM and DPM-Solver stay near each other.
#
# ## What does a step buy?
#
# The *Fréchet distance* compares two sets by mean and covariance of features (chapter 07). It depends on their size. So we divide:
#
# **Fréchet ratio** = distance of samples to a large set of real faces / distance of *equally many* other real faces to that set.
#
# Real pictures score 1 on average, their band shows chance.

# %%
from dslib import metrics

sets, large = rt.pick(smoke=2, cpu=8), rt.pick(smoke=50, cpu=250)
real = data.load_domain(data.SOURCE, "test", sets * num_images + large).images
reference = metrics.pooled_features(real[-large:])


def distance(images):
    """Fréchet distance of images (N,3,64,64) to the large set of real faces."""
    return metrics.frechet_distance(metrics.pooled_features(images), reference)


yardsticks = torch.tensor([distance(part) for part in real[:-large].split(num_images)])        # (sets,)
noise = sample.start_noise(num_images, 64, seed=1)
drawn = {(kind, n): sample.sample(source.unet, source.scheduler, noise, n, kind, progress=f"{kind}, {n} steps")
         for kind in chains for n in step_counts}

# %%
unit = float(yardsticks.mean())
curve = {kind: [distance(drawn[kind, n]) / unit for n in step_counts] for kind in ("ddpm", "ddim", "dpmsolver")}
real_ratio = (yardsticks / unit)[:, None].expand(-1, len(step_counts))
compared = {kind: torch.tensor([values]) for kind, values in curve.items()} | {"other real images": real_ratio}
plots.show(plots.curves(torch.tensor(step_counts), compared, "sampling steps", "Fréchet ratio", log=True),
           alt="Fréchet ratio against the number of sampling steps for three samplers, log scale; real images near 1.")
for kind, values in curve.items():
    print(f"{kind:<10}", "   ".join(f"{n:2d} steps {value:6.1f}" for n, value in zip(step_counts, values)))
print(f"controls: plain noise {distance(noise.clamp(-1, 1)) / unit:.0f}; "
      f"real images {real_ratio.min():.2f} to {real_ratio.max():.2f}; {num_images} images each")

# %% [markdown]
# Two steps are too few. Five of DPM-Solver score about what twenty of the others do. DDPM and DDIM are of *first order*: over a jump they
# hold the guess fixed. DPM-Solver lets it change along the way. DDPM's fresh noise is too little over a large jump as well, but DDIM adds
# none and needs as many steps.
#
# This is one set of start noises: do not read small differences. Compare inside this figure only: forty images hide small faults.
# For 400, the model card states 4.4 with DPM-Solver and 7.1 with DDIM.

# %%
few, many = step_counts[-3:][0], step_counts[-1]
pictures = {f"{kind}, {n} steps": drawn[kind, n] for n in (few, many) for kind in curve}
plots.show(plots.rows(pictures, columns=min(10, num_images)),
           alt="Samples of the three samplers from the same noise, with few steps above and with many below.")

# %% [markdown]
# Down a column, only DDPM changes the person. Later chapters compare models from the same noise, so they use the other two.
#
# ## Three answers to one question
#
# A network may answer with the noise, the clean picture, or a mixture, the *velocity* (Salimans & Ho 2022):
#
# $$v = \sqrt{\bar\alpha_t}\;\varepsilon - \sqrt{1-\bar\alpha_t}\;x_0 \tag{2.6}$$
#
# Given $x_t$, any one of them tells the others:
#
# $$\tilde x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v, \qquad
# \hat\varepsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,v \tag{2.7}$$
#
# They differ in how an error of the answer grows on its way into $\tilde x_0$ and $\hat\varepsilon$:

# %%
for t in (0, 250, 500, 750, 999):
    a, b = float(a_bar[t].sqrt()), float((1 - a_bar[t]).sqrt())
    print(f"t = {t:3d}   answer ε: picture ×{b / a:6.2f}, noise ×  1.00   answer x_0: picture ×1.00, noise ×{a / b:6.2f}   "
          f"answer v: picture ×{b:.2f}, noise ×{a:.2f}")

# %% [markdown]
# An error of $\varepsilon$ is magnified near $T$, one of $x_0$ near 0, one of $v$ never. Near 0, $v$ is nearly $\varepsilon$; near
# $T$, nearly $-x_0$. The course's source answers $v$.
#
# ## Faces in a minute
#
# A U-Net needs longer. For 768 numbers a plain network of matrices will do:

# %%
class Small(torch.nn.Module):
    """(N,3,16,16) → the same: residual blocks on 768 numbers, each shifted by t; x_t itself is added to the answer."""

    def __init__(self, width=512, blocks=3):
        super().__init__()
        self.enter, self.leave = torch.nn.Linear(768, width), torch.nn.Linear(width, 768)
        self.time = torch.nn.Sequential(torch.nn.Linear(16, 128), torch.nn.SiLU(), torch.nn.Linear(128, blocks * width + 1))
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(blocks))
        self.blocks = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.SiLU(), torch.nn.Linear(width, width), torch.nn.SiLU(),
                                                              torch.nn.Linear(width, width)) for _ in range(blocks))

    def forward(self, x_t, t):
        angles = torch.as_tensor(t, device=x_t.device).expand(len(x_t))[:, None] / 1000
        angles = angles * torch.pi * 2.0 ** torch.arange(-1, 7, device=x_t.device)
        *shifts, skip = self.time(torch.cat([angles.sin(), angles.cos()], 1)).split([self.enter.out_features] * len(self.blocks) + [1], 1)
        h = self.enter(x_t.flatten(1))
        for norm, block, shift in zip(self.norms, self.blocks, shifts):
            h = h + block(norm(h) + shift)
        return SimpleNamespace(sample=(self.leave(h) + skip * x_t.flatten(1)).view_as(x_t))

# %% [markdown]
# `pretrain.pretrain` is your loop with mirrored images, a rate that falls to zero, and min-SNR weights, by which nearly clean steps
# count less. Twin networks, one asked for $v$, one for $\varepsilon$:

# %% tags=["nbval-ignore-output"]
import time

from tqdm.auto import tqdm

from dslib import pretrain

history, trained = {}, {}
for kind in ("v_prediction", "epsilon"):
    torch.manual_seed(rt.seed)
    config = pretrain.PretrainConfig(max_train_steps=train_steps, train_batch_size=64, learning_rate=1e-3, lr_warmup_steps=20,
                                     lr_decay_steps=train_steps // 2, adam_beta2=0.99, random_flip=True, snr_gamma=5.0,
                                     prediction_type=kind, seed=rt.seed)
    began = time.time()
    for record in tqdm(pretrain.pretrain(small, config, Small(), a_bar), total=train_steps, desc=kind):
        history.setdefault(kind, []).append(float(record.terms["simple"]))
    trained[kind] = record.averaged().cpu()
    print(f"{kind}: {train_steps} steps in {time.time() - began:.0f} s")
last_loss = sum(history["v_prediction"][-20:]) / len(history["v_prediction"][-20:])

# %%
start = sample.start_noise(20, 16, seed=1)
answers = {kind: sample.sample(unet, models.new_scheduler(kind), start, inference_steps, "dpmsolver") for kind, unet in trained.items()}
test = data.load_domain(data.SOURCE, "test", rt.pick(smoke=20, cpu=250), resolution=16).images
minute = [("real", test[:10]), ("", test[10:20])]
for kind, name in {"v_prediction": "answers v", "epsilon": "answers ε"}.items():
    minute += [(name, answers[kind][:10]), ("", answers[kind][10:])]
for name, kind in {"v": "v_prediction", "ε": "epsilon"}.items():
    told = []
    for words, clip in {"clipped": True, "not clipped": False}.items():
        scheduler = models.new_scheduler(kind)
        scheduler.register_to_config(clip_sample=clip)
        colours = sample.sample(trained[kind], scheduler, start, inference_steps, "ddim").mean((2, 3))
        told.append(f"{words} {colours.std(0).mean():.2f}")
    print(f"answers {name}: spread of a picture's mean colour, guesses", ", ".join(told))
print(f"real faces: {test.mean((2, 3)).std(0).mean():.2f}")
plots.show(plots.rows(minute), alt="Twenty real faces of 16×16 pixels; twenty samples of the network that answers v; twenty of its twin.")

# %% [markdown]
# Hair, face, shoulders: rough small faces, most without clear eyes. From the same noise the twin that answers $\varepsilon$ draws much the
# same ones. But if guesses are not clipped, its colours spread too far. Why?
#
# ## Colours near T
#
# The squared error of the mean colour in $\tilde x_0$, on held-out faces:

# %%
steps = torch.tensor(rt.pick(smoke=[800, 999], cpu=[800, 850, 900, 950, 999]))
colours = test.mean((2, 3))                                       # (n, 3)
always = float((colours - small.mean((0, 2, 3))).square().mean())


def colour_error(unet, kind, t, seed):
    """Mean squared error of the mean colour of x̃_0 at step t."""
    eps = torch.randn(test.shape, generator=torch.Generator().manual_seed(1000 * seed + t))
    many_t = torch.full((len(test),), t)
    x_t = q_sample(test, many_t, eps, a_bar)
    with torch.no_grad():
        guess = ddpm.guess(unet(x_t, many_t).sample, x_t, many_t, a_bar, kind).x_0
    return float((guess.mean((2, 3)) - colours).square().mean())


wrong = {kind: torch.tensor([[colour_error(unet, kind, int(t), seed) for t in steps] for seed in seeds]) for kind, unet in trained.items()}
compared = {"answers v": wrong["v_prediction"], "answers ε": wrong["epsilon"]}
compared["always the mean colour"] = torch.full_like(compared["answers v"], always)
plots.show(plots.curves(steps, compared, "step t", "squared error of the mean colour", log=True),
           alt="Error of the mean colour against t, log scale: ε rises far above the control near T, v does not.")
for i, t in enumerate(steps.tolist()):
    least = 1 / (1 / always + 256 * a_bar[t] / (1 - a_bar[t]))          # from the mean of x_t, over 256 pixels
    print(f"t = {t}   answers v {wrong['v_prediction'][:, i].mean():.3f}   answers ε {wrong['epsilon'][:, i].mean():.3f}   "
          f"always the mean colour {always:.3f}   best linear guess {least:.3f}")

# %% [markdown]
# Near $T$ nobody can do much better than the control, and $v$ stays near it: it *is* nearly $-x_0$ there. A small error of
# $\varepsilon$ is magnified instead. Clipping hides most of that. *Best linear guess* is the best that the mean colour of
# $x_t$ alone allows. One training run each; bands are over noises.
#
# At 64×64 pixels the same loop ran far longer: that is the source (`data/source/README.md`).

# %%
_ = checks.check_expected("02", rt, ddim_last=curve["ddim"][-1], ddim_first=curve["ddim"][0], ddpm_first=curve["ddpm"][0],
                          colour_v=float(wrong["v_prediction"][:, -1].mean()), last_loss=last_loss)

# %% [markdown]
# ## Play
#
# At which link do you know who it will be?

# %%
from dslib.show import widgets

widgets.explore_chain(chains)

# %% [markdown]
# ## Appendix: learned variance
#
# The right variance lies between $\tilde\beta_t$ and $\beta_t$. In improved DDPM the second half of 2C output channels, $\nu$, places it:
#
# $$\log\sigma_t^2 = \tfrac{1+\nu}{2}\,\log\beta_t + \tfrac{1-\nu}{2}\,\log\tilde\beta_t \tag{2.8}$$
#
# A further term trains it, with weight $\lambda_1 = 0.001$ and the mean detached:
#
# $$L_\text{vlb} = \mathbb{E}\; D_\mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0)\,\big\|\,\mathcal N(\tilde\mu_t, \sigma_t^2)\big) \tag{2.9}$$
#
# Who gets a gradient from which term?

# %%
from dslib import domainstudio, losses

betas, x_0, t = source.scheduler.betas, real[:2], torch.tensor([20, 400])
both = models.new_unet(64, learned_variance=True)
eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(rt.seed))
x_t = q_sample(x_0, t, eps, a_bar)
eps_hat, nu = domainstudio.split_variance(both(x_t, t).sample, 3)
terms = {"L_simple": (eps_hat - eps).square().mean(), "L_vlb": losses.vlb(eps_hat, nu, x_0, x_t, t, betas)}
for name, term in terms.items():
    last, first = torch.autograd.grad(term, [both.conv_out.weight, both.conv_in.weight], retain_graph=True)
    print(f"{name:<9} largest gradient: ε half {last[:3].abs().max():.2e}, ν half {last[3:].abs().max():.2e}, first layer "
          f"{first.abs().max():.2e}")
for t in (5, 100, 500):
    jump = [(1 - a_bar[t - k]) / (1 - a_bar[t]) for k in (1, 50) if t >= k]
    print(f"t = {t:3d}   β̃/β of one step {jump[0]:.3f}" + "".join(f", of a jump of 50 steps {value:.3f}" for value in jump[1:]))

# %% [markdown]
# "$L_\text{vlb}$ trains the variance alone" is true of the outputs, not of the layers below. The choice matters where
# $\tilde\beta$ and $\beta$ differ: at the smallest $t$, and in jumps that end there. Our models have no learned variance. For such models
# the authors' code silently drops the *high-frequency* terms ([ledger](README.md#the-ledger-paper-against-published-code), row 4).
#
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | noise, although the loss is low | average without warm-up | warm-up |
# | only noise, from a good model | $v$ read as $\varepsilon$ | the scheduler's `prediction_type` |
# | a good chain, noise as its last picture | ᾱ of `t_prev = -1` looked up | ᾱ = 1 at the end |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (2.1) | `checks.simple_loss` | `test_checks_02.py::test_simple_loss_mistakes_are_named` |
# | (2.2) | `checks.ema_update` | `test_checks_02.py::test_ema_update_is_diffusers` |
# | (2.3) | `checks.ddpm_step` | `test_checks_02.py::test_ddpm_step_mistakes_are_named` |
# | (2.4) | `checks.ddpm_step` | `test_checks_02.py::test_ddpm_step_is_diffusers` |
# | (2.5) | `checks.ddim_step` | `test_checks_02.py::test_ddim_step_is_diffusers` |
# | (2.6) | `ddpm.velocity` | `test_ddpm.py::test_velocity_is_diffusers` |
# | (2.7) | `ddpm.guess` | `test_ddpm.py::test_guess_of_the_target_is_the_truth` |
# | (2.8) | `losses.vlb` | `test_losses.py::test_vlb_mean_and_variance_are_the_ones_diffusers_samples_with` |
# | (2.9) | `losses.vlb` | `test_losses.py::test_vlb_is_the_kl_of_two_gaussians` |
#
# ## Paper, authors' code, ours
#
# | point | paper | authors' code | here |
# |---|---|---|---|
# | the network's answer | ε | ε | v; ε works, too |
# | variance | L_vlb with λ1 = 0.001 | learned | fixed; learned if the source's is |
# | timesteps of a batch | independent | independent | stratified over [0, T) |
#
# ## Check yourself
#
# 1. Was the model trained for DDPM with 1000 steps, or for DDIM with 20?
#    <details><summary>Answer</summary>For neither. It was trained to answer at every t.</details>
# 2. You resume at step 5000, but the average starts anew. What do its samples look like?
#    <details><summary>Answer</summary>Like the last weights' at first: d begins at 0.</details>
# 3. Open: which sampler would you choose at equal *time*, and what must you measure?
# 4. Project: train `models.new_unet(16, (32, 64), learned_variance=True)` with `L_simple + 0.001·L_vlb` and compare DDPM's
#    curve with the fixed variance.

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("02")

# %% [markdown]
# ## In this notebook we have
#
# written loss, average, loop and two samplers, trained a network on small faces, and seen why the source answers $v$.
#
# **Next:** chapter 02b adapts such a network to ten points in the plane, chapter 03 to ten images.
#
# **Read on:** [DDPM](https://arxiv.org/abs/2006.11239) · [DDIM](https://arxiv.org/abs/2010.02502) · [improved
# DDPM](https://arxiv.org/abs/2102.09672) · [v-prediction](https://arxiv.org/abs/2202.00512) ·
# [DPM-Solver++](https://arxiv.org/abs/2211.01095) · [min-SNR](https://arxiv.org/abs/2303.09556).
