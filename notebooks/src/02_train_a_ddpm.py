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
# **Claim.** By the end you will have shown that *training* a diffusion model and *drawing* with it are separate
# choices: from one set of weights, five steps of DPM-Solver draw better faces than five of DDIM or DDPM, and with
# twenty steps DDPM has caught up. The evidence is the Fréchet ratio against the
# number of steps. The controls: other real images, which score 1 by definition, and the plain noise that every chain
# starts from.
#
# | | |
# |---|---|
# | Read / run | 45 min / 4 min on two CPU cores |
# | Device | a laptop CPU is enough |
# | Needs | chapters 00 and 01; you have trained some network before |
# | Paper | DDPM eqs. 6, 7, 14; DDIM eq. 12; improved DDPM eqs. 15, 16; DomainStudio §1, L_simple and L_vlb |
# | `dslib` files | `models.py`, `sample.py`, `pretrain.py`, the loop in `train.py`, `vlb` in `losses.py` |
# | You will keep | a training loop with averaged weights, and a chain of guesses that you can stop and look at |
#
# **You will**
# - write the loss and the training loop, and look into the network they train;
# - find out how a normalisation layer can erase the colours of a picture;
# - train for a minute, and average the weights so that the average does not remember its random start;
# - walk back from noise in three ways and measure what each step buys;
# - see what a learned variance learns.

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
train_steps = rt.pick(smoke=2, cpu=300)                                      # about a minute
inference_steps = rt.pick(smoke=2, cpu=20)
step_counts = rt.pick(smoke=[1, 2], cpu=[2, 5, 10, 20])                      # for the curve
num_images = rt.pick(smoke=6, cpu=60, colab=200)                             # a point of the curve
seeds = rt.pick(smoke=[0], cpu=[0, 1, 2])

# %% [markdown]
# ## Where we are going
#
# One chain of the source model, from noise (left) to a face (right). Top: what is left after each step. Bottom: what
# the model believed the clean face was when it took that step.

# %%
import torch

from dslib import checks, data, models, sample
from dslib.show import plots

q_sample = checks.mine("q_sample")
source = models.load_source()
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
plots.show(plots.rows({"x_t": left, "guess of x_0": guesses}, columns=len(headings), labels=headings),
           alt="Top: noise that turns into a face in twenty steps. Bottom: the model's guess of the face at each step.")

# %% [markdown]
# Near $T$ the bottom row shows magnified mistakes (chapter 01). Then a face comes through,
# outline and colours first, details last. The top row follows it: at each step a little of the noise is exchanged
# for a little of the guess, and the early mistakes are taken back, because each step asks the network anew.
#
# ## The mental model
#
# Chapter 01 made $x_t$ from $x_0$ and $\varepsilon$. Training shows the network $x_t$ and $t$ and asks for
# $\varepsilon$ back:
#
# $$L_\text{simple} = \mathbb{E}_{x_0,\,t,\,\varepsilon}\;\big\|\varepsilon - \varepsilon_\theta(x_t, t)\big\|^2 \tag{2.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $x_0$ | clean images in [-1, 1] | (N,3,R,R) | `x_0` |
# | $t$ | a random step, one an image | (N,) | `t` |
# | $\varepsilon$ | the noise that was added: the answer | (N,3,R,R) | `eps` |
# | $\varepsilon_\theta(x_t, t)$ | the network's prediction | (N,3,R,R) | `model(x_t, t).sample` |
#
# No sampling, no adversary, no second network: a regression. All the noise levels are trained at once, because every
# image of every batch has its own $t$.
#
# The mean is over the *noise's* error, with the same weight for every $t$. Written as an error of the picture, that
# weight is $\bar\alpha_t / (1-\bar\alpha_t)$: tiny near $T$. Turn it around, and a loss on $\tilde x_0$ that weighs
# all $t$ alike is, for the noise, a loss that weighs the last steps thousands of times more. Keep that for chapter 06
# (ledger row 9).
#
# ## Exercise: the loss
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `simple_loss(model, x_0, t, eps, alphas_cumprod)` with your `q_sample`. A diffusers model returns an object; its
# tensor is `.sample`. The result is one number, a tensor of shape ().

# %%
def simple_loss(model, x_0, t, eps, alphas_cumprod):
    """Your code here: a network, (N,3,R,R), (N,), (N,3,R,R), (T,) → ()."""
    return None

# %%
simple_loss = checks.mine("simple_loss")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Three lines: noise `x_0` with the given `eps`, ask the model about the result, compare its answer with `eps`.
# `.mean()` over everything.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("simple_loss")` in a new cell.
# </details>
#
# ## The network
#
# We borrow diffusers' U-Net. What goes in, what comes out, and what happens between:

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
# Each line is what a part hands on. Down to 8×8 with ever more channels, and up again. On the way up, each level is
# also given what the way down saw at that size. Attention, where every place looks at every other, is used only at
# 8×8, where it is cheap.
#
# Each level consists of residual blocks. One of them, written out, with the library's own layers:

# %% tags=["nbval-check-output"]
import torch.nn.functional as F

block = unet.down_blocks[0].resnets[0]
x, emb = torch.randn(2, 16, 64, 64), torch.randn(2, 64)           # a feature map, and the embedding of t
h = block.conv1(F.silu(block.norm1(x)))                           # normalise, bend, convolve
h = h + block.time_emb_proj(F.silu(emb))[:, :, None, None]        # t enters: one number a channel
by_hand = x + block.conv2(F.silu(block.norm2(h)))                 # again, and add what came in
torch.allclose(by_hand, block(x, emb), atol=1e-5)

# %% [markdown]
# That is all of it. $t$ reaches every block as a shift of each channel, which is how one network serves a thousand
# noise levels.
#
# ## The naive version
#
# The whole training, without any comfort:

# %% tags=["nbval-ignore-output"]
small = data.load_domain(data.SOURCE, "train", rt.pick(smoke=250, cpu=500), resolution=32).images
torch.manual_seed(rt.seed)
naive = models.new_unet(32, (16, 32, 64))                         # a quarter of the pixels: the minute goes further
optimizer = torch.optim.AdamW(naive.parameters(), lr=1e-3)
seen = []
for _ in range(rt.pick(smoke=2, cpu=30)):
    x_0 = small[torch.randint(len(small), (16,))]                 # (16,3,32,32)
    t, eps = torch.randint(1000, (16,)), torch.randn_like(x_0)
    loss = simple_loss(naive, x_0, t, eps, a_bar)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    seen.append(loss.item())
print(f"loss of the first step {seen[0]:.3f}, of the last {seen[-1]:.3f}")

# %% [markdown]
# The loss starts near 1: a network that knows nothing answers about zero, and the noise has variance 1. It falls
# at once, because at large $t$ the picture *is* the noise.
#
# ## How to lose all colours
#
# Before we train for longer, a trap that the loss hardly shows. Every block above begins with *group normalisation*:
# take a few channels together, subtract their mean over the whole picture, divide by their standard deviation. Add a
# constant tint to each of 16 channels and see how much of it comes out:

# %%
torch.manual_seed(rt.seed)
plain = torch.randn(1, 16, 16, 16)
plain = plain - plain.mean((2, 3), keepdim=True)                  # noise without any tint
tint = 0.05 * torch.randn(1000, 16, 1, 1)                         # 1000 tints, a constant a channel
for groups in (16, 8, 2, 1):
    out = torch.nn.GroupNorm(groups, 16, affine=False)(plain + tint).mean((2, 3), keepdim=True)
    share = float(out.square().sum() / tint.square().sum())
    print(f"{groups:2d} groups of {16 // groups:2d} channels: {share:.2f} of the tint is left")

# %% [markdown]
# One channel a group: nothing gets through. Two channels: half of it, at *every* layer, the very last included. Eight
# channels (2 groups of 16, which is what `models.new_unet` uses): seven eighths. A network could in principle carry
# the colour in what is left; whether it learns to is a question for a measurement.
#
# Does it matter? The mean of a 64×64 picture is one of 4096 numbers a channel. For white noise its variance is
# 1/4096, so whoever always guesses "the noise has mean zero" pays 1/4096 there: nothing beside an $L_\text{simple}$
# of about 0.01. But near $t = T$ the only thing left of a picture is its coarsest part, its colour, and the
# squared error there is multiplied by 25 000.
#
# So we measure just that, on the shipped model. The control is always guessing zero. The best linear guess is a
# formula that looks at the mean of $x_t$ and nothing else, and knows how widely the colours of faces are spread.

# %%
faces = data.load_domain(data.SOURCE, "test", rt.pick(smoke=4, cpu=16)).images
colours = data.load_domain(data.SOURCE, "test", 250).images.mean((2, 3))           # (250, 3)
steps = torch.tensor(rt.pick(smoke=[500, 999], cpu=[200, 400, 600, 700, 800, 900, 950, 999]))


def predict(unet, x_t, t):
    """ε_θ(x_t, t) on the CPU, without gradients: (N,3,R,R), (N,) → (N,3,R,R)."""
    with torch.no_grad():
        return unet(x_t.to(unet.device), t.to(unet.device)).sample.cpu()


def mean_error(unet, t, seed):
    """Squared error of the spatial mean of ε̂ at step t, and of the guess "zero", over faces and channels."""
    eps = torch.randn(faces.shape, generator=torch.Generator().manual_seed(1000 * seed + t))
    many = torch.full((len(faces),), t)
    guess = predict(unet, q_sample(faces, many, eps, a_bar), many)
    return [float((guess - eps).mean((2, 3)).square().mean()), float(eps.mean((2, 3)).square().mean())]


found = torch.tensor([[mean_error(source.unet, int(t), seed) for t in steps] for seed in seeds])   # (seeds, steps, 2)
noise_var, colour_var = 1 / 64 ** 2, float(colours.var(0).mean())
linear = noise_var / (1 + (1 - a_bar[steps]) * noise_var / (a_bar[steps] * colour_var))

# %%
shares = found[:, :, 0] / found[:, :, 1]
compared = {"source model": shares, "always zero": torch.ones_like(shares), "linear guess": linear[None] / noise_var}
plots.show(plots.curves(steps, compared, "step t", "error of the noise's mean (1: guessing zero)"),
           alt="Error of the noise's mean against t: guessing zero stays at 1, the linear guess falls near T.")
for t, (wrong, zero) in zip(steps.tolist(), found.mean(0).tolist()):
    print(f"t = {t:3d}   source model {wrong:.2e}   always zero {zero:.2e} (1/4096 = {noise_var:.2e})   "
          f"as an error of the picture's colour {wrong * float((1 - a_bar[t]) / a_bar[t]):.3f}")

# %% [markdown]
# Small $t$, at the left: the mean of $x_t$ is mostly the picture's own colour, and how much of it is noise can hardly
# be told. In the middle the model does better than the linear guess, because it sees more than the mean: a face
# whose colours it recognises tells what the mean ought to be. Towards $T$ the picture is gone, the mean of $x_t$
# *is* the mean of the noise, and a network which sees it can follow the linear guess down. The shipped model does so
# most of the way. A model on the flat line would be blind to colour, as its first version was (`data/source/README.md`).
#
# Larger groups let the mean through, slowly. So pretraining also counts steps near $T$ up to ten times
# (`high_noise_weight`) and adds `pretrain.coarse_error`: the error averaged over blocks of 2×2 to 64×64 before it is
# squared (after Hoogeboom et al. 2023). Two errors that $L_\text{simple}$ cannot tell apart:

# %%
from dslib import pretrain

speckle = 0.1 * torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(rt.seed))
flat = torch.full_like(speckle, 0.1)
for name, error in {"speckle": speckle, "one wrong tint": flat}.items():
    print(f"{name:<15} L_simple {error.square().mean():.4f}   coarse error {pretrain.coarse_error(error).mean():.4f}")

# %% [markdown]
# The wrong tint costs over a hundred times as much as the speckle. `lambda_coarse` (0.25) says how much of it is
# added.
#
# ## Averaged weights
#
# Adam's last step is a noisy place to stop. An *exponential moving average* (EMA) of the weights draws cleaner
# pictures for nothing:
#
# $$\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta, \qquad
# d = \min\big(d_\text{max},\; 1-(1+\text{step})^{-\text{power}}\big). \tag{2.2}$$
#
# With $d = 0.998$ from the start, the random weights of step 0 would still make up half of the average after 350
# steps. The *warm-up* in the formula on the right prevents that: at step 0, $d = 0$, and the average is simply the
# new weight.

# %%
for step in (0, 1, 10, 100, 1000, 10_000):
    decay = min(0.998, 1 - (1 + step) ** -0.75)
    print(f"step {step:5d}: d = {decay:.4f}, an average over about {1 / (1 - decay):.0f} steps")

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
# Compute `decay` first, as in the cell above; `max_decay` is only its upper end.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("ema_update")` in a new cell.
# </details>
#
# ## Now import it
#
# diffusers' `EMAModel`, which `dslib.train` uses, does the same as yours:

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
# Write `train_loop(model, batches, loss, lr, max_decay=0.99, power=0.75)`: train a copy (`copy.deepcopy`) and return a network that
# holds the averaged weights. It adapts models in chapter 06.
#
# - `torch.optim.AdamW(…, weight_decay=0.0)`, a step a batch. A batch is `(x_0, t, eps)`; `loss(model, x_0, t, eps)` is a scalar.
# - Clip gradients to norm 1: `torch.nn.utils.clip_grad_norm_`.
# - After every step, your `ema_update` for each weight; steps count from 0.

# %%
import copy


def train_loop(model, batches, loss, lr, max_decay=0.99, power=0.75):
    """Your code here: a network, a list of (x_0, t, eps), a function, a rate → the averaged network."""
    return None

# %%
train_loop = checks.mine("train_loop")

# %% [markdown]
# <details><summary>Hint</summary>
#
# A second copy of the model holds the average. Inside `torch.no_grad()`, go through `zip(average.parameters(), model.parameters())` and
# `copy_` what `ema_update` returns.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("train_loop")` in a new cell.
# </details>
#
# The naive network goes on learning, in your loop:

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
# ## Train for a minute
#
# `pretrain.pretrain` is that loop with comforts: mirrored images, timesteps spread evenly over each batch, the coarse error, and
# min-SNR weights, which make the nearly clean steps count less. Five hundred faces of 32×32 pixels, about a minute. For
# comparison we keep a second average, *without* warm-up.

# %% tags=["nbval-ignore-output"]
import time

from tqdm.auto import tqdm

torch.manual_seed(rt.seed)
unet = models.new_unet(32, (16, 32, 64))
unwarmed = [p.detach().clone() for p in unet.parameters()]
config = pretrain.PretrainConfig(max_train_steps=train_steps, train_batch_size=32, learning_rate=1e-3,
                                 lr_warmup_steps=train_steps // 15, adam_beta2=0.99, ema_max_decay=0.998, random_flip=True,
                                 snr_gamma=5.0, lambda_coarse=0.25, seed=rt.seed)
history, began = {}, time.time()
for record in tqdm(pretrain.pretrain(small, config, unet, a_bar), total=train_steps, desc="pretrain"):
    for name, value in record.terms.items():
        history.setdefault(name, []).append(float(value))
    for slow, weight in zip(unwarmed, record.model.parameters()):
        slow.lerp_(weight.detach().cpu(), 1 - config.ema_max_decay)
last_loss = sum(history["simple"][-20:]) / len(history["simple"][-20:])
print(f"{train_steps} steps in {time.time() - began:.0f} s: L_simple {history['simple'][0]:.3f}, then {last_loss:.3f}")
plots.show(plots.losses({"one minute": history}), alt="L_simple and the coarse error against the step, both falling.")

# %%
late = copy.deepcopy(record.averaged())
for p, slow in zip(late.parameters(), unwarmed):
    p.data.copy_(slow)
start = sample.start_noise(10, 32, seed=1)
minute = {"real": small[:10]}
for name, net in {"last step": record.model, "EMA": record.averaged(), "EMA, no warm-up": late}.items():
    minute[name] = sample.sample(net, source.scheduler, start, inference_steps)
plots.show(plots.rows(minute),
           alt="Ten real faces; samples of the last weights, of their average, of the average without warm-up.")

# %% [markdown]
# After a minute there are no faces yet, only patches of colour where there was noise. The average and the last step draw
# nearly the same, because the average is young: its window grows with training. Without warm-up, the average is still half
# random network, and draws nothing at all.
#
# ## Load, or train
#
# A minute is not enough. So the course ships a model that the same loop made, with 64×64 pixels and far more faces
# (`data/source/README.md`).

# %%
import json

card = json.loads((env.data_dir() / "source" / "metrics.json").read_text("utf-8"))
print(f"shipped model: Fréchet ratio {card['frechet_ratio']:.1f} on {card['num_samples']} samples, "
      f"{card['num_inference_steps']} steps of {card['scheduler']}")

# %% [markdown]
# ## Walking back
#
# The network gives the noise; the *sampler* decides what to do with it. All of them begin alike: from $x_t$ and
# $\varepsilon_\theta$, guess the clean picture $\tilde x_0$ (chapter 01). Then they go to an earlier step $t' < t$,
# and $t'$ may be far away.
#
# $$\textbf{DDIM:}\quad x_{t'} = \sqrt{\bar\alpha_{t'}}\;\tilde x_0 + \sqrt{1-\bar\alpha_{t'}}\;\varepsilon_\theta \tag{2.3}$$
#
# Noise the guess again, to the lower level, with the *predicted* noise. Nothing random happens. The second term is
# called the direction pointing to $x_t$. **DPM-Solver** adds no noise either; it also uses the *previous* prediction to
# extrapolate, as a second-order solver of differential equations does.
#
# ## Exercise: one step of DDIM
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# Write `ddim_step(x_t, eps, t, t_prev, alphas_cumprod)`. Here `t` and `t_prev` are plain integers, the same for all
# images. The last step of a chain has `t_prev = -1`, which means "clean": $\bar\alpha = 1$ there.

# %%
def ddim_step(x_t, eps, t, t_prev, alphas_cumprod):
    """Your code here: (N,3,R,R), (N,3,R,R), int, int, (T,) → (N,3,R,R)."""
    return None

# %%
ddim_step = checks.mine("ddim_step")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `alphas_cumprod[-1]` is the *last* entry in Python, not 1. Guess `x_0` with ᾱ at `t`, then mix guess and noise with
# ᾱ at `t_prev`.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("ddim_step")` in a new cell.
# </details>
#
# ## Exercise: one step of DDPM
#
# *Difficulty ●●● · importance ●●○ · 20 minutes*
#
# Bayes' rule tells where $x_{t'}$ lay, had $\tilde x_0$ been the picture: a Gaussian, the *posterior*. **DDPM** draws from it,
# $x_{t'} = \tilde\mu_t + \sqrt{\tilde\beta_t}\,z$, with fresh noise $z$. With $\beta = 1 - \bar\alpha_t/\bar\alpha_{t'}$:
#
# $$\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t'}}\,\beta}{1-\bar\alpha_t}\,\tilde x_0
# + \frac{\sqrt{1-\beta}\,(1-\bar\alpha_{t'})}{1-\bar\alpha_t}\,x_t, \qquad
# \tilde\beta_t = \frac{1-\bar\alpha_{t'}}{1-\bar\alpha_t}\,\beta \tag{2.4}$$
#
# Write `ddpm_step(x_t, eps, t, t_prev, z, alphas_cumprod)`. At the end, $\tilde\beta = 0$.

# %%
def ddpm_step(x_t, eps, t, t_prev, z, alphas_cumprod):
    """Your code here: (N,3,R,R), (N,3,R,R), int, int, (N,3,R,R), (T,) → (N,3,R,R)."""
    return None

# %%
ddpm_step = checks.mine("ddpm_step")

# %% [markdown]
# <details><summary>Hint</summary>
#
# The first two lines are those of `ddim_step`. Each factor of $\tilde\mu$ is a number.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("ddpm_step")` in a new cell.
# </details>
#
# diffusers walks the same way. Five steps of the source model, with both:

# %% tags=["nbval-check-output"]
from diffusers import DDIMScheduler, DDPMScheduler

for kind in (DDIMScheduler, DDPMScheduler):
    theirs = kind.from_config(source.scheduler.config, timestep_spacing="trailing", clip_sample=False)
    theirs.set_timesteps(5)
    x_t, worst = six[:2], 0.0
    for t in theirs.timesteps.tolist():
        eps, z = predict(source.unet, x_t, torch.full((2,), t)), torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t))
        ours = ddim_step(x_t, eps, t, t - 200, a_bar) if kind is DDIMScheduler else ddpm_step(x_t, eps, t, t - 200, z, a_bar)
        dice = {"generator": torch.Generator().manual_seed(t)} if kind is DDPMScheduler else {}
        x_t = theirs.step(eps, t, x_t, **dice).prev_sample
        worst = max(worst, float((ours - x_t).abs().max() / x_t.abs().max()))
    print(kind.__name__, bool(worst < 1e-5))

# %% [markdown]
# For this comparison `clip_sample` was off. In earnest, every sampler here clips $\tilde x_0$ to [-1, 1], because near $T$ the
# guess is far outside.
#
# ## Three chains
#
# The same noise, the same network, three samplers. `sample.chain` is a generator: it yields every link, so there is
# nothing hidden to look at.

# %%
shown = []
for kind in ("ddpm", "ddim", "dpmsolver"):
    if kind not in chains:
        chains[kind] = list(sample.chain(source.unet, source.scheduler, six, inference_steps, kind, seed=rt.seed))
    left, guesses, headings = along(chains[kind])
    shown += [(f"{kind}: x_t", left), ("guess of x_0", guesses)]
plots.show(plots.rows(shown, columns=len(headings), labels=headings),
           alt="DDPM, DDIM and DPM-Solver, two rows each: what is left of the noise, and the guess of the clean face.")

# %% [markdown]
# The first column is the same in all three guesses: the network saw the same noise. Then DDPM goes its own way, to
# another person, because it rolls dice at every step. DDIM and DPM-Solver end near each other: both approximate the
# same path, one of them with straight pieces, though not every colour agrees. The upper rows look alike: at equal $t$
# there is equally much
# noise, but in DDPM's it is new each time.
#
# ## What does a step buy?
#
# The signature figure. Each point is the Fréchet distance of samples to a large set of real faces, over the same
# distance of *as many* other real faces: 1 means "as good as more real images". The same start noise everywhere, one
# seed, so the curves have no band. The band of the real images shows how far sets as small as these differ by chance.

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
# Read it from the left. Two steps are too few, whoever takes them. At five, DPM-Solver is well
# ahead of both others. DDPM treats the guess as if it were the picture, and adds only as much fresh noise as would
# then be right; over a large jump that is too little, since the guess is still a blur. With more steps the jumps
# shrink and DDPM gains most; at twenty it is ahead of DDIM. Now its fresh noise is an advantage: it washes out
# earlier mistakes, which DDIM carries along to the end.
#
# The axis is logarithmic. The ratio depends on how many images are compared, so compare inside this figure only. And look
# at the pictures:

# %%
few, many = step_counts[-3:][0], step_counts[-1]
pictures = {f"{kind}, {n} steps": drawn[kind, n] for n in (few, many) for kind in curve}
plots.show(plots.rows(pictures, columns=min(10, num_images)),
           alt="Samples of the three samplers from the same noise, with few steps above and with many below.")

# %% [markdown]
# Look down a column: DDIM and DPM-Solver draw the same person, better with more steps, and DDPM somebody else each
# time. To see what adaptation changed, the same noise must go through two models, so a sampler without fresh noise is
# needed: the chapters that look *into* the chain use DDIM, the simplest; comparisons of finished pictures use DPM-Solver, which
# scores better in as many steps.
#
# ## Learned variance
#
# The variance of DDPM's fresh noise lies between $\tilde\beta_t$ of (2.4) (right if there were one picture
# only) and $\beta_t$ (right if pictures were noise). Improved DDPM lets the network choose: it has 2C output
# channels, and the second half, $v$, places $\log\sigma_t^2$ between the two logarithms. $L_\text{simple}$ does not
# contain $\sigma_t$, so a further term has to train it: $L_\text{vlb}$, the real variational bound, with weight
# $\lambda_1 = 0.001$.
#
# That term would also move the *mean*, and it is a much noisier teacher than $L_\text{simple}$. So the mean is
# detached inside it. Who gets a gradient from which term? We look at the last layer, whose first three outputs are
# $\varepsilon$ and last three $v$, and at the first layer, which both share.

# %%
from dslib import domainstudio, losses

betas = source.scheduler.betas
both = models.new_unet(64, learned_variance=True)
x_0, t = faces[:2], torch.tensor([20, 400])
eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(rt.seed))
x_t = q_sample(x_0, t, eps, a_bar)
eps_hat, v = domainstudio.split_variance(both(x_t, t).sample, 3)
terms = {"L_simple": (eps_hat - eps).square().mean(), "L_vlb": losses.vlb(eps_hat, v, x_0, x_t, t, betas)}
size = {}
for name, term in terms.items():
    last, first = torch.autograd.grad(term, [both.conv_out.weight, both.conv_in.weight], retain_graph=True)
    size[name] = float(last[:3].abs().max())
    print(f"{name:<9} largest gradient: ε half {size[name]:.2e}, v half {last[3:].abs().max():.2e}, first layer "
          f"{first.abs().max():.2e}")

# %% [markdown]
# $L_\text{vlb}$ sends exactly zero to the $\varepsilon$ half, and $L_\text{simple}$ exactly zero to the $v$ half. The
# first layer hears from both: "trains the variance alone" is true of the outputs, not of the layers below them. That
# is one reason for the small $\lambda_1$.
#
# What is there to learn? For the shipped model's $\varepsilon$ we try one $v$ for all pixels, from $\tilde\beta_t$
# ($v=-1$) to $\beta_t$ ($v=1$), and compute $L_\text{vlb}$, in bits a pixel and channel.

# %%
places = torch.linspace(-1, 1, 21)
a_prev = torch.cat([torch.ones(1), a_bar[:-1]])
for t in (1, 2, 5, 20, 100, 500):
    many_t = torch.full((len(faces),), t)
    eps = torch.randn(faces.shape, generator=torch.Generator().manual_seed(t))
    x_t = q_sample(faces, many_t, eps, a_bar)
    guess = predict(source.unet, x_t, many_t)
    bits = torch.stack([losses.vlb(guess, torch.full_like(x_t, float(v)), faces, x_t, many_t, betas) for v in places])
    print(f"t = {t:3d}   smaller / larger {(1 - a_prev[t]) / (1 - a_bar[t]):.3f}   L_vlb: smaller {bits[0]:.5f}, "
          f"larger {bits[-1]:.5f}, best {bits.min():.5f} at v = {places[bits.argmin()]:+.1f}")

# %% [markdown]
# Two lessons. The choice matters most at the smallest $t$: far beyond, both ends are the same number, and so is the loss.
# And that is with all 1000 steps. A chain of 20 steps takes jumps of 50, for which the two ends lie far apart;
# there a learned variance lets DDPM draw well in far fewer steps (Nichol & Dhariwal 2021). DDIM and DPM-Solver add no
# noise and have no use for it.
#
# So the course's models have three output channels. In the authors' code DomainStudio's *high-frequency* terms would then
# be dropped silently (ledger row 4).

# %%
mean_share = float(shares[:, -1].mean())
_ = checks.check_expected("02", rt, ddim_last=curve["ddim"][-1], ddim_first=curve["ddim"][0],
                          ddpm_first=curve["ddpm"][0], mean_share=mean_share, last_loss=last_loss)

# %% [markdown]
# ## Play
#
# Six faces at once. Move along the chain; change the sampler. At which link do you know who it will be? Do DDIM and
# DPM-Solver agree on that person, and DDPM?

# %%
from dslib.show import widgets

widgets.explore_chain(chains)

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | samples are pure noise although the loss is low | averaged weights without warm-up | warm-up, or more steps |
# | right people, drifting colours | group norm with tiny groups | fewer groups, `lambda_coarse` |
# | grey or saturated pictures | $\tilde x_0$ not clipped, or a chain from below T | `clip_sample`, trailing steps |
# | a good chain, and noise as its last picture | ᾱ of `t_prev = -1` looked up: the last entry | ᾱ = 1 at the end |
# | the loss stops at 1 | the model is shown noise that is not the one it is compared with | one `eps` for both |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (2.1) | `checks.simple_loss` | `test_checks_02.py::test_simple_loss_mistakes_are_named` |
# | (2.1) | `pretrain.pretrain` | `test_train.py::test_training_learns` |
# | (2.2) | `checks.ema_update` | `test_checks_02.py::test_ema_update_is_diffusers` |
# | (2.3) | `checks.ddim_step` | `test_checks_02.py::test_ddim_step_is_diffusers` |
# | (2.3) | `sample.chain` | `test_sample.py::test_chain_is_a_plain_loop_over_the_scheduler` |
# | (2.4) | `checks.ddpm_step` | `test_checks_02.py::test_ddpm_step_is_diffusers` |
#
# ## Paper, authors' code, ours
#
# | point | paper | authors' code | here |
# |---|---|---|---|
# | variance | L_vlb with λ1 = 0.001 | learned | fixed in the shipped model; learned if the source's is |
# | high-frequency terms | always | only if the variance is learned, dropped silently otherwise | always (row 4) |
# | timesteps of a batch | independent | independent | stratified over [0, T): same expectation, less variance |
# | pretraining loss | L_simple + λ1·L_vlb | – | L_simple with min-SNR weights, plus coarse scales |
# | weight over t | the same for all ε | – | background of row 9: on x̃_0 the same weight means another thing |
#
# ## Check yourself
#
# 1. Why does training never run the chain?
#    <details><summary>Answer</summary>q_sample jumps to any t in one formula, and the loss at one t
#    needs no other.</details>
# 2. DDPM with 1000 steps and DDIM with 20 use the same weights. Which was the model trained for?
#    <details><summary>Answer</summary>Neither: it was trained to predict noise at every t, and that is all
#    that either asks it for.</details>
# 3. A network predicts the noise perfectly up to a constant error of 0.01. How far off is the colour of its guess at
#    t = 999?
#    <details><summary>Answer</summary>About 1.6, since the factor is near 157: more than half of the range.</details>
# 4. You resume a run at step 5000, but the average starts anew with warm-up. What do its samples look like?
#    <details><summary>Answer</summary>Like the last weights' at first: d begins at 0 again. Nothing is lost but the
#    averaging.</details>
# 5. Open: the curve compares samplers at equal *steps*. Which would you choose at equal *time*, and what would you have
#    to measure?
# 6. Project: train `models.new_unet(32, learned_variance=True)` with `L_simple + 0.001·L_vlb` and compare DDPM's curve
#    with the fixed variance at 5, 10 and 20 steps.

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("02")

# %% [markdown]
# ## In this notebook we have
#
# - written the loss, one block, the average, the training loop and a step of two samplers, and checked each;
# - seen how group normalisation can hide the mean of a picture, and measured that the shipped model sees it;
# - trained a network for a minute and compared its raw and its averaged weights;
# - drawn with three samplers from one network and measured quality against steps, beside real images and noise;
# - seen which half of the output learns from which loss.
#
# **Next:** chapter 02b adapts such a network to ten points in the plane, where everything can be drawn. Chapter 03 does the same to
# ten images.
#
# **Read on:** [DDPM](https://arxiv.org/abs/2006.11239) · [DDIM](https://arxiv.org/abs/2010.02502) · [improved
# DDPM](https://arxiv.org/abs/2102.09672) · [DPM-Solver++](https://arxiv.org/abs/2211.01095) ·
# [min-SNR](https://arxiv.org/abs/2303.09556) · [simple diffusion](https://arxiv.org/abs/2301.11093), where the
# multiscale loss is from.
