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
# **Claim.** You will show that the guess of the clean picture, $\tilde x_0$,
# - is *this very face* up to middling $t$, and fades into the mean face near $T$;
# - breaks near $T$ when its noise is wrong by 1 %.
#
# Controls: the mean face, a network never trained.
#
# | | |
# |---|---|
# | Read / run | 13 min, exercises 20 min more / 1 min on two CPU cores |
# | Device | a CPU |
# | Needs | chapter 00; means, variances, square roots |
# | Paper | DDPM eq. 4; DomainStudio §1 |
# | `dslib` files | `ddpm.py` |
# | You will keep | `q_sample`, `predict_x0` |

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
# A face under growing noise, and what the source model believes it was.

# %%
import torch

from dslib import data, ddpm, models
from dslib.checks import whole
from dslib.show import plots

source = models.load_source().to("cpu")      # this chapter is light enough for any machine
net = whole.frozen(source)                   # the source answers v (chapter 02); this gives its ε
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


x_t, guessed = noised_and_guessed(net, faces[1], shown_steps)
plots.show(plots.rows({"x_t": x_t, "guess of x_0": guessed}, labels=[f"t={t}" for t in shown_steps]),
           alt="Top: one face under growing noise. Bottom: the guess of the clean face, sharp at left, an ever smoother blur at right.")

# %% [markdown]
# ## The mental model
#
# A step mixes in a little noise: $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon$. The scaling drives the
# variance to one. Many Gaussian steps are one:
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
# One pixel, many times, noised step by step; beside it the formula:

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
# The same distribution. So training jumps straight to a random $t$.
#
# ## Exercise: jump to step t
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `q_sample(x_0, t, eps, alphas_cumprod)`. Each image has its own `t`.

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
# `alphas_cumprod[t].view(-1, 1, 1, 1)`, under a square root.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("q_sample")` in a new cell.
# </details>
#
# ## Now import it
#
# It agrees with diffusers:

# %% tags=["nbval-check-output"]
t = torch.arange(num_images) * 60
eps = torch.randn(faces.shape, generator=torch.Generator().manual_seed(rt.seed))
ours = q_sample(faces, t, eps, a_bar)
theirs = source.scheduler.add_noise(faces, eps, t)
bool((ours - theirs).abs().max() < 1e-5)

# %% [markdown]
# ## Schedules
#
# The signal-to-noise ratio is $\mathrm{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$.

# %%
from diffusers import DDPMScheduler

kinds = {"linear": {"beta_schedule": "linear"}, "cosine": {"beta_schedule": "squaredcos_cap_v2"},
         "Stable Diffusion": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}}
schedules = {name: DDPMScheduler(**settings).alphas_cumprod for name, settings in kinds.items()}
plots.show(plots.schedules(schedules),
           alt="Left: share of the picture left against t for three schedules. Right: signal-to-noise ratio, log scale.")

# %% [markdown]
# *Linear* is DDPM's and ours: its last 300 steps are practically noise. *Cosine* keeps something of the face for longer, Stable Diffusion's
# schedule to the end.
#
# ## Exercise: guess the clean picture
#
# *Difficulty ●●○ · importance ●●● · 10 minutes*
#
# Turn (1.1) around: write `predict_x0(x_t, t, eps, alphas_cumprod)`.

# %%
def predict_x0(x_t, t, eps, alphas_cumprod):
    """Your code here: (N,3,R,R), (N,), (N,3,R,R), (T,) → (N,3,R,R)."""
    return None

# %%
predict_x0 = checks.mine("predict_x0")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Subtract the noise's share, then undo the scaling.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("predict_x0")` in a new cell.
# </details>
#
# ## How good is the guess?
#
# The error of $\tilde x_0$, not clipped. One curve adds 1 % of noise to the source's $\hat\varepsilon$.

# %%
steps = torch.tensor([*range(0, 1000, rt.pick(smoke=250, cpu=50)), 999])
untrained = models.new_unet(64).eval()
mean_face = data.load_domain(data.SOURCE, "train", 250).images.mean(0)


def errors(unet, seed):
    """Mean squared error of x̃_0 at every step: of the guess, and with 1 % of noise on ε̂. (2, len(steps))."""
    found = []
    for t in steps.tolist():
        dice = torch.Generator().manual_seed(1000 * seed + t)
        eps, slip = torch.randn(faces.shape, generator=dice), 0.01 * torch.randn(faces.shape, generator=dice)
        many = torch.full((num_images,), t)
        x_t = q_sample(faces, many, eps, a_bar)
        with torch.no_grad():
            guess = unet(x_t, many).sample
        found.append([float((predict_x0(x_t, many, answer, a_bar) - faces).square().mean()) for answer in (guess, guess + slip)])
    return torch.tensor(found).T

# %%
trained = torch.stack([errors(net, seed) for seed in seeds])                 # (seeds, 2, len(steps))
never = torch.stack([errors(untrained, seed) for seed in seeds])[:, 0]
constant = float((mean_face - faces).square().mean())
compared = {"source model": trained[:, 0], "its ε off by 1 %": trained[:, 1], "never trained": never,
            "mean face": torch.full_like(never, constant)}
figure = plots.curves(steps, compared, "step t", "mean squared error of the guess", log=True)
tenth, most = (int(steps[(trained[:, 0].mean(0) < share * constant).nonzero()[-1]]) for share in (0.1, 0.5))
for left, right, shade in ((0, tenth, 0.0), (tenth, most, 0.08), (most, 999, 0.16)):
    figure.axes[0].axvspan(left, right, color="black", alpha=shade, linewidth=0)
plots.show(figure, alt="Error of the guess against t, log scale: the source rises to the mean face's error; the others end above it.")

# %%
last = trained[:, :, -1].mean(0)
print(f"error at t = 0: {trained[:, 0, 0].mean():.5f}; at t = 999: {last[0]:.3f}; mean face {constant:.3f}")
print(f"with 1 % of error in ε, at t = 999: {last[1]:.2f}; never trained: {never[:, -1].mean():.0f}")
print(f"a tenth of the mean face's error is passed after t = {tenth}, half of it after t = {most}")

# %% [markdown]
# White: *this face*, even from $t = 400$, where we see little but noise. Light grey: roughly this face. Dark grey: hardly more than
# "a face". The source levels off at the mean face: from noise alone nothing better can be said. With 1 % of error it ends far above.
#
# ## Why errors grow: the factor
#
# A mistake of the noise enters the picture multiplied by $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$:

# %%
for t in (10, 100, 300, 500, 700, 900, 999):
    factor = ((1 - a_bar[t]) / a_bar[t]).sqrt()
    print(f"t = {t:3d}   share of the picture left {a_bar[t]:.5f}   an error of the noise is multiplied by {factor:8.2f}")

# %% [markdown]
# Squared: about 25 000 at $t = 999$. If $\varepsilon$ errs alike at all $t$, an unweighted loss on $\tilde x_0$, such as the
# published high-frequency loss, is mostly about the last hundred steps (ledger row 9, chapter 06). The source escapes: it answers $v$,
# from which `whole.frozen` computes $\hat\varepsilon$ (chapter 02).

# %%
_ = checks.check_expected("01", rt, error_at_0=float(trained[:, 0, 0].mean()),
                          error_in_the_middle=float(trained[:, 0, len(steps) // 2].mean()), mean_face=constant)

# %% [markdown]
# ## Play
#
# The source knows the *linear* schedule: in others the same $t$ means another noise level.

# %%
from dslib.show import widgets

widgets.explore_forward(source.unet, faces[:6], schedules, ddpm.prediction_type_of(source.scheduler))

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | too dark at every t | roots forgotten | √ᾱ, √(1−ᾱ) |
# | speckle near T | an error of ε, magnified | answer $v$; clamp *for display* |
# | a grey guess | betas passed as ᾱ | `torch.cumprod(1 - betas, 0)` |
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
# | weight of L_hfmse over t | none | none | ᾱ_t, against the factor above (row 9) |
#
# ## Check yourself
#
# 1. Two models give the same ε to within 1 %. And their guesses?
#    <details><summary>Answer</summary>Alike at small t. Near T the difference grows up to 157-fold.</details>
# 2. And the source's curve for pictures of robots?
#    <details><summary>Answer</summary>Higher: it expects faces. Try it.</details>
# 3. Open: the best guess is the mean of all faces that could have led to x_t. Where do you see it?
# 4. Project: train with the cosine schedule (`models.new_scheduler`); compare the Fréchet ratio.

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("01")

# %% [markdown]
# ## In this notebook we have
#
# noised faces in one jump, guessed them back, and measured how good the guess is.
#
# **Next:** chapter 02 trains the network behind the guess.
