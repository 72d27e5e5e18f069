# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Noise a face, and guess it back: the forward process
#
# **Claim.** By the end you will have shown that a diffusion model's guess of the clean picture, $\tilde x_0$, is *this very
# face* for small and middling $t$, a *blur of what is likely* beyond, and near $t = T$ *worse than no guess at all*, because there the
# smallest error of the noise is magnified more than a hundredfold. The evidence is its squared error against the true face.
# The controls: the best constant picture (the mean face), and a network that was never trained.
#
# | | |
# |---|---|
# | Read / run | 30 min / 1 min on two CPU cores |
# | Device | a laptop CPU is enough |
# | Needs | chapter 00; means, variances, square roots |
# | Paper | DDPM eq. 4; DomainStudio §1, forward process and predicted clean image |
# | `dslib` files | `ddpm.py` |
# | You will keep | `q_sample` and `predict_x0`, the two formulas that every loss of the course uses |
#
# **You will**
# - add noise step by step, then in one formula, and see that both are the same;
# - compare noise schedules by what they leave of the picture;
# - turn a noise prediction into a picture, and see how errors are magnified;
# - find the range of $t$ in which $\tilde x_0$ says something about *which* face it is.

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
seeds = rt.pick(smoke=[0], cpu=[0, 1, 2])
num_images = rt.pick(smoke=4, cpu=16)
shown_steps = [0, 25, 50, 100, 200, 300, 400, 600, 800, 999]

# %% [markdown]
# ## Where we are going
#
# Top: a face with more and more noise. Bottom: what the source model believes the clean face was. Read the bottom row from
# right to left: magnified mistakes, the blur of a face, this face.

# %%
import torch

from dslib import data, ddpm, models
from dslib.show import plots

source = models.load_source().to("cpu")      # this chapter is light enough for any machine
faces = data.load_domain(data.SOURCE, "test", num_images).images
a_bar = source.scheduler.alphas_cumprod


def noised_and_guessed(unet, x_0, steps, seed=0):
    """One image (3,R,R) noised to every step: x_t and x̃_0, each (len(steps),3,R,R)."""
    t = torch.tensor(steps)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed)).expand(len(t), *x_0.shape)
    x_t = ddpm.q_sample(x_0.expand_as(eps), t, eps, a_bar)
    with torch.no_grad():
        guess = unet(x_t, t).sample
    return x_t, ddpm.predict_x0(x_t, t, guess, a_bar)


x_t, guessed = noised_and_guessed(source.unet, faces[1], shown_steps)
plots.show(plots.rows({"x_t": x_t, "guess of x_0": guessed}, labels=[f"t={t}" for t in shown_steps]),
           alt="Top: one face under growing noise. Bottom: the guess of the clean face, sharp at left, blurred at t=600, speckle at last.")

# %% [markdown]
# ## The mental model
#
# Every step mixes in a little noise: $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon$. The scaling keeps the
# variance at one. A thousand Gaussian steps are one Gaussian step:
#
# $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon, \qquad \bar\alpha_t = \prod_{s\le t}(1-\beta_s). \tag{1.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $x_0$ | clean images in [-1, 1] | (N,3,R,R) | `x_0` |
# | $t$ | step, one an image | (N,) | `t` |
# | $\beta_t$ | variance added by a step | (T,) | `betas` |
# | $\bar\alpha_t$ | share of $x_0$'s variance that is left | (T,) | `alphas_cumprod` |
# | $\varepsilon$ | standard Gaussian noise | (N,3,R,R) | `eps` |
#
# ## The naive version
#
# Add noise step by step, as the definition says, to many copies of one pixel, and compare with the formula.

# %%
betas = ddpm.linear_betas()
x = torch.full((20_000,), 0.8)                       # one pixel of value 0.8, 20 000 times
noise = torch.Generator().manual_seed(rt.seed)
for t in range(300):
    x = (1 - betas[t]).sqrt() * x + betas[t].sqrt() * torch.randn(x.shape, generator=noise)
left = ddpm.alphas_cumprod(betas)[299]
print(f"step by step: mean {x.mean():.3f}, standard deviation {x.std():.3f}")
print(f"the formula:  mean {left.sqrt() * 0.8:.3f}, standard deviation {(1 - left).sqrt():.3f}")

# %% [markdown]
# Three hundred draws of noise and one draw have the same distribution. That is why training never walks the chain: it
# jumps to a random $t$.
#
# ## Exercise: jump to step t
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `q_sample(x_0, t, eps, alphas_cumprod)`. Each image has its own `t`, so look up one number an image and give it
# the shape (N,1,1,1).

# %%
def q_sample(x_0, t, eps, alphas_cumprod):
    """Your code here: (N,3,R,R), (N,), (N,3,R,R), (T,) → (N,3,R,R)."""
    return None

# %%
from dslib import checks

q_sample = checks.mine("q_sample")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `alphas_cumprod[t].view(-1, 1, 1, 1)` is what multiplies the images, under a square root.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("q_sample")` in a new cell.
# </details>
#
# ## Now import it
#
# It agrees with diffusers' to rounding:

# %% tags=["nbval-check-output"]
t = torch.arange(num_images) * 60
eps = torch.randn(faces.shape, generator=torch.Generator().manual_seed(rt.seed))
ours = q_sample(faces, t, eps, a_bar)
theirs = source.scheduler.add_noise(faces, eps, t)
bool((ours - theirs).abs().max() < 1e-5)

# %% [markdown]
# ## Schedules
#
# How fast should the picture go? What matters is the signal-to-noise ratio, $\mathrm{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$.

# %%
from diffusers import DDPMScheduler

schedules = {name: DDPMScheduler(beta_schedule=key).alphas_cumprod
             for name, key in {"linear": "linear", "scaled linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}.items()}
plots.show(plots.schedules(schedules),
           alt="Left: share of the picture left against t for three schedules. Right: signal-to-noise ratio, log scale.")

# %% [markdown]
# Both axes tell the same story. The *linear* schedule of DDPM (and of this course) spends its last 300 steps on pictures
# that are practically noise; the *cosine* schedule keeps something of the face for longer. *Scaled linear* is Stable
# Diffusion's. At SNR 1 (dotted), picture and noise weigh the same.
#
# ## Exercise: guess the clean picture
#
# *Difficulty ●●○ · importance ●●● · 10 minutes*
#
# A network predicts the noise. Turn the formula around: write `predict_x0(x_t, t, eps, alphas_cumprod)`.

# %%
def predict_x0(x_t, t, eps, alphas_cumprod):
    """Your code here: (N,3,R,R), (N,), (N,3,R,R), (T,) → (N,3,R,R)."""
    return None

# %%
predict_x0 = checks.mine("predict_x0")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Subtract the noise's share, $\sqrt{1-\bar\alpha_t}\,\varepsilon$, then undo the scaling of the picture.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("predict_x0")` in a new cell.
# </details>
#
# ## How good is the guess?
#
# The signature figure. The error of $\tilde x_0$ against the true face, for the source model, for a network that was never
# trained, and for the best constant picture (the mean face), which looks at nothing at all.

# %%
steps = torch.arange(0, 1000, rt.pick(smoke=250, cpu=50))
untrained = models.new_unet(64).eval()
mean_face = data.load_domain(data.SOURCE, "train", 250).images.mean(0)


def errors(unet, seed):
    """Mean squared error of x̃_0 over the faces, one number a step."""
    found = []
    for t in steps.tolist():
        eps = torch.randn(faces.shape, generator=torch.Generator().manual_seed(1000 * seed + t))
        x_t = q_sample(faces, torch.full((num_images,), t), eps, a_bar)
        with torch.no_grad():
            guess = unet(x_t, t).sample
        x_0 = predict_x0(x_t, torch.full((num_images,), t), guess, a_bar).clamp(-1, 1)
        found.append(float((x_0 - faces).square().mean()))
    return found

# %%
trained = torch.tensor([errors(source.unet, seed) for seed in seeds])
never = torch.tensor([errors(untrained, seed) for seed in seeds])
constant = float((mean_face - faces).square().mean())
compared = {"source model": trained, "never trained": never, "mean face": torch.full_like(trained, constant)}
plots.show(plots.curves(steps, compared, "step t", "mean squared error of the guess"),
           alt="Error of the guessed face against t: the trained model stays near zero to t=500, then crosses the mean face's error.")

# %%
above = steps[trained.mean(0) > constant / 2]
print(f"error at t=0: {trained[:, 0].mean():.4f} ± {trained[:, 0].std(correction=0):.4f} over {len(seeds)} seeds")
print(f"error at the last step: {trained[:, -1].mean():.3f}; mean face: {constant:.3f}")
print(f"half of the mean face's error is passed near t = {int(above[0]) if len(above) else 'none'}")

# %% [markdown]
# At the left, the model sees the face and the guess is right. Up to about $t = 500$ it still knows *which* face it is, from pictures
# in which we see nothing but noise. Then the error rises. A perfect model would level off at the mean face (dashed): seeing only noise, the
# best it can say is "a face". Ours crosses that line, because near $T$ its small errors of the noise are magnified beyond it (next
# cell). Samplers survive this by clipping the guess to [-1, 1].
#
# The losses of chapters 04 to 06 compare these guesses between models, so keep the regime in mind: a loss at $t$ near $T$
# compares blurs at best, and magnified mistakes at worst.
#
# ## Why errors grow: the factor
#
# A mistake in the noise is a mistake in the picture, multiplied by $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$:

# %%
for t in (10, 100, 300, 500, 700, 900, 999):
    factor = ((1 - a_bar[t]) / a_bar[t]).sqrt()
    print(f"t = {t:3d}   share of the picture left {a_bar[t]:.5f}   an error of the noise is multiplied by {factor:8.2f}")

# %% [markdown]
# In the squared error that is a factor of about 25 000 at $t = 999$. A loss on $\tilde x_0$ that treats all $t$ alike, as the
# published high-frequency loss does, is a loss about the last few steps (ledger row 9, chapter 06).

# %%
middle = trained[:, len(steps) // 2]
_ = checks.check_expected("01", rt, error_at_0=float(trained[:, 0].mean()), error_in_the_middle=float(middle.mean()), mean_face=constant)

# %% [markdown]
# ## Play
#
# Move $t$ and the schedule. The guess is recomputed by the source model, which was trained with the *linear* schedule: under
# another schedule the same $t$ means another noise level, and the guess shows it.

# %%
from dslib.show import widgets

widgets.explore_forward(source.unet, faces[:6], schedules)

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | pictures too dark or washed out at every t | `alphas_cumprod` used without the square root | √ᾱ for the picture, √(1−ᾱ) for the noise |
# | one noise level for a whole batch | `alphas_cumprod[t]` broadcast along the wrong axis | `.view(-1, 1, 1, 1)` |
# | speckle and violent colours near T | that is the factor above; nothing is broken | look at smaller t, or clamp *for display only* |
# | a guess that is grey everywhere | betas passed instead of ᾱ | `torch.cumprod(1 - betas, 0)` |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (1.1) | `ddpm.q_sample` | `test_ddpm.py::test_q_sample_is_add_noise` |
# | (1.1) | `ddpm.alphas_cumprod` | `test_ddpm.py::test_schedule_is_diffusers` |
#
# ## Paper, authors' code, ours
#
# | point | paper | authors' code | here |
# |---|---|---|---|
# | weight of L_hfmse over t | none | none | ᾱ_t, which cancels the factor above (row 9) |
# | clamping of x̃_0 in the losses | not mentioned | – | none: clamping cost diversity in our pilot |
#
# ## Check yourself
#
# 1. Why can one network serve all t?
#    <details><summary>Answer</summary>t is an input: an embedding of it modulates every block.</details>
# 2. Two models give the same ε to within 1 %. Are their guesses of x_0 the same to within 1 %?
#    <details><summary>Answer</summary>At small t yes; near T the difference is multiplied by up to 157.</details>
# 3. What would the curve of the source model look like for pictures of robots?
#    <details><summary>Answer</summary>Higher in the middle: it believes in faces. Try it: load another domain where the faces
#    are loaded.</details>
# 4. Open: the best guess of x_0 under squared error is the mean of all faces that could have led to x_t. Which of the
#    pictures above shows that most clearly?
# 5. Project: train with the cosine schedule instead of the linear one (`models.new_scheduler` makes it) and compare the
#    Fréchet ratio at equal steps.

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("01")

# %% [markdown]
# ## In this notebook we have
#
# - noised faces step by step and in one jump;
# - compared three schedules;
# - written and checked `q_sample` and `predict_x0`;
# - measured where the guess is a face, where a blur, and where worse than that, beside two controls.
#
# **Next:** chapter 02 trains the network that makes these guesses.
