# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11. Before diffusion: GANs on the same ten images
#
# DRAFT: it waits for `data/gan`, the source GAN that `dslib pretrain-gan` makes, and for the table `data/results/gans.csv`. No expected
# values yet; what a figure shows is written when the figure is there.
#
# **Claim.**
# - A GAN on ten images soon copies them: its discriminator learns the ten by heart, and then only copies pass.
# - CDC holds it with the loss that you know from chapter 04, on a generator's maps. DomainStudio took it from there.
# - The same ten, probe and scores rank GANs beside diffusion models. Controls: the source GAN, real images, the true answer.
#
# | | |
# |---|---|
# | Read / run | to be measured |
# | Device | a CPU |
# | Needs | chapters 03 and 04; 07 for the scores |
# | Paper | DomainStudio §2 and the tables of §5: TGAN, EWC, CDC, DCL |
# | `dslib` files | the folder `gan/`: `tgan.py`, `augment.py`, `freezed.py`, `ewc.py`, `cdc.py`, `dcl.py` |
# | You will keep | CDC in five lines; a baseline that does not diffuse |
#
# **You will**
# - train two players against each other, in a page;
# - see whom the discriminator believes, and why ten images are too few for it;
# - build CDC with chapter 04's `pairwise_kl`;
# - compare six GAN methods with diffusion, at equal hits.

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
target = "engraved"      # also: gouache; sunglasses, sketches, portraits, adventurers, robots (no true answer)
steps = rt.pick(smoke=2, cpu=120, colab=400)
saved_at = rt.pick(smoke=[1, 2], cpu=[30, 60, 120], colab=[100, 200, 400])
num_images = rt.pick(smoke=8, cpu=48, colab=128)
num_held_out = rt.pick(smoke=24, cpu=192, colab=256)                     # real images

# %% [markdown]
# ## Where we are going
#
# A *generator* draws a picture from a latent $z$, 128 numbers, in one pass. The same $z$ through the source and through an adapted copy
# makes a pair. The last row is what a perfect adaptation would draw.

# %%
import torch

from dslib import checks, data, metrics
from dslib.gan import draw, folder
from dslib.show import plots

source, ten = folder.load_gan(), data.load_domain(target, "ten").images
device = next(source.parameters()).device
z = draw.latents(num_images, source.generator.latent)
before = draw.draw(source.generator, z)
known = {"true answer": data.twin(before[:10], target)} if target in data.TWINS else {}
plots.show(plots.rows({"the ten": ten, "source GAN": before[:10]} | known),
           alt="The ten training pictures; ten faces that the source GAN draws from ten latents; the same faces, engraved.")

# %% [markdown]
# ## The mental model: a forger and a judge
#
# The discriminator $D$ gives a picture a score: positive for "real". The generator $G$ wants its pictures scored so.
#
# $$\mathcal L_D = -\log \sigma(D(x)) - \log(1 - \sigma(D(G(z)))), \qquad
# \mathcal L_G = -\log \sigma(D(G(z))) \tag{11.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $z$ | a latent, standard normal | (N,128) | `z` |
# | $G(z)$ | the picture drawn | (N,3,R,R) | `source.generator(z)` |
# | $D(x)$ | the score of a picture | (N,) | `source.discriminator(x)` |
# | $\sigma$ | the sigmoid | | |
# | $G^l(z)$ | a layer's maps on the way to the picture | (N,C,r,r) | `generator.trace(z).layers[l]` |
#
# A diffusion model answers "what is under this noise?", a question with a right answer for every picture. $G$ never sees a picture: all it
# knows of the ten comes through $D$. So what $D$ learns decides.
#
# ## Exercise: the two losses
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `players_losses(real, fake)` from scores (N,): the pair $(\mathcal L_D, \mathcal L_G)$, means over the batch. Use
# `torch.nn.functional.softplus`: $-\log\sigma(s) = \mathrm{softplus}(-s)$ never overflows.

# %%
def players_losses(real, fake):
    """Your code here: scores (N,), (N,) → (scalar, scalar)."""
    return None

# %%
players_losses = checks.mine("players_losses")

# %% [markdown]
# ## A GAN in a page
#
# Naive fine-tuning, called TGAN in the tables: both players of the source go on, with the ten as the only real pictures. Every picture is
# judged by a $D$ that has just learned.

# %% tags=["nbval-ignore-output"]
import copy
import time

from tqdm.auto import tqdm

began, held_out = time.time(), data.load_domain(target, "test", num_held_out).images
pair = copy.deepcopy(source).requires_grad_(True)
players = [torch.optim.Adam(net.parameters(), 2e-3, betas=(0.0, 0.99)) for net in (pair.discriminator, pair.generator)]
draws, scores, saved = torch.Generator().manual_seed(rt.seed), [], {0: before}
for step in tqdm(range(1, steps + 1), desc="two players"):
    real = ten.to(device)
    fake = pair.generator(torch.randn(len(ten), pair.generator.latent, generator=draws).to(device))
    for which, optimizer in enumerate(players):                 # the judge first, then the forger
        shown = fake.detach() if which == 0 else fake
        loss = players_losses(pair.discriminator(real), pair.discriminator(shown))[which]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if step in saved_at or step % 10 == 0:
        with torch.no_grad():
            asked = {"the ten": ten, "unseen real images": held_out[:24], "drawn": draw.draw(pair.generator, z[:24])}
            scores.append({"step": step} | {name: float(pair.discriminator(x.to(device)).mean()) for name, x in asked.items()})
    if step in saved_at:
        saved[step] = draw.draw(pair.generator, z)
print(f"{steps} steps in {time.time() - began:.0f} s")

# %% [markdown]
# ## Whom does the judge believe?
#
# Three kinds of pictures, all scored by $D$: the ten, real pictures of the domain that it never saw, and what $G$ draws.

# %%
plots.show(plots.curves(torch.tensor([s["step"] for s in scores]),
                        {name: torch.tensor([[s[name] for s in scores]]) for name in ("the ten", "unseen real images", "drawn")},
                        "step", "mean score D(x)"),
           alt="The discriminator's mean score of the ten, of unseen real images and of drawn ones, against the training step.")

# %%
plots.show(plots.rows({f"{step} steps": images[:10] for step, images in saved.items()} | {
    "nearest of the ten": ten[metrics.lpips_matrix(saved[saved_at[-1]][:10], ten).argmin(1)]}),
           alt="Ten latents, a column each, at every stop; below them the training image nearest to the last row.")

# %% [markdown]
# ## CDC: keep who resembles whom
#
# Ojha et al. (2021) ask the adapted generator to keep the *relations* of the source's pictures: for every latent, a softmax over its
# cosine similarities to the others, as in chapter 04.
#
# $$\mathcal L_{dist} = \frac{1}{N(N-1)} \sum_i \mathrm{KL}\left(p_i^{ada} \,\|\, p_i^{sou}\right), \qquad
# p_i = \mathrm{softmax}_{j\ne i}\; \cos(G^l(z_i), G^l(z_j)) \tag{11.2}$$
#
# This is (4.1) with another argument: a layer's maps in place of guessed pictures. DomainStudio has no latents and no layers that draw; it
# compares *guesses* $\tilde x_0$ from the same noise. That is what it took from CDC, and what it changed.
#
# A second idea: only near ten fixed latents, the *anchors*, must a picture pass as a whole. Elsewhere $D$ judges patches, so that a person
# need not be one of the ten.
#
# ## Exercise: CDC's loss
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# Write `cdc_loss(adapted, source, z, layer)` with your `pairwise_kl` from chapter 04: both generators draw the latents z (N,128), and the
# maps of one layer are compared. The source gets no gradient. Result: the mean over the N(N−1) entries, that is the sum divided by them.

# %%
def cdc_loss(adapted, source, z, layer):
    """Your code here: two generators, (N,latent), a layer's number → scalar ≥ 0."""
    return None

# %%
cdc_loss = checks.mine("cdc_loss")

# %% tags=["nbval-check-output"]
from dslib.gan import cdc

shaken = copy.deepcopy(source.generator)
with torch.no_grad():
    for weight in shaken.parameters():
        weight.mul_(1.05)
some, layers = z[:6].to(device), len(source.generator.trace(z[:6].to(device)).layers)
mine = [float(cdc_loss(shaken, source.generator, some, layer)) for layer in range(layers)]
theirs = [float(cdc.consistency(shaken.trace(some).layers[layer], source.generator.trace(some).layers[layer])) for layer in range(layers)]
all(abs(a - b) < 1e-6 + 1e-3 * b for a, b in zip(mine, theirs))

# %% [markdown]
# ## The run: TGAN, CDC and DCL
#
# The library's versions, the same number of steps and seed. DCL (Zhao et al. 2022) replaces the softmax over *pairs of latents* by a choice:
# which of the source's pictures has the same latent?
#
# $$\mathcal L_{CL1} = -\log \frac{f(G^l(z_i), G_S^l(z_i))}{\sum_j f(G^l(z_i), G_S^l(z_j))}, \qquad
# f(a, b) = e^{\cos(a, b)/\tau} \tag{11.3}$$

# %%
from dslib.gan import adapt

drawn = {}
for method in ("tgan", "cdc", "dcl"):
    config = adapt.GANConfig(method=method, max_train_steps=steps, seed=rt.seed)
    for record in tqdm(adapt.adapt(source, ten, config), total=steps, desc=method):
        if record.step in saved_at:
            drawn.setdefault(method, {0: before})[record.step] = draw.draw(record.averaged().generator, z)
last = {method: images[steps] for method, images in drawn.items()}

# %% tags=["slide"]
plots.show(plots.rows({"the ten": ten, "source GAN": before[:10]} | known | {name: images[:10] for name, images in last.items()}),
           alt="Each row a model, each column a latent: the source's face, its true answer, and what three methods made of it.")

# %%
from dslib.measure import score

collapsed = {name: why for name, images in last.items() if (why := draw.collapse(images, before))}
found = score.score_all({"source": before} | {name: images for name, images in last.items() if name not in collapsed}, ten, target)
print(score.text_table(found), *collapsed.items(), sep="\n")

# %% [markdown]
# ## All methods, beside diffusion
#
# Three training seeds, the protocol of chapter 08: the same ten, real images and probe; 128 samples a run. `python -m dslib.study gans` makes
# the runs.

# %%
from dslib.study import evidence, regime

table = [*regime.load(), *regime.load(env.data_dir() / "results" / "gans.csv")]
shown_at = {"naive": 300, "published": 300, "anchored": 300, "tgan": 200, "tgan-diffaug": 200, "freezed": 200, "ewc": 200, "cdc": 200, "dcl": 200}
rows = [row for row in table if row["target"] == target and shown_at.get(row["method"]) == row["step"] and row["until"] is None]
keys = ("hit", "copies", "intra", "fd", "kept")
lines = ["| method | steps | seeds | " + " | ".join(keys) + " |", "|" + "---|" * (3 + len(keys))]
for method, at in shown_at.items():
    mine = [row for row in rows if row["method"] == method]
    cells = [evidence.spread([row[key] for row in mine if row[key] is not None], 2) for key in keys]
    lines.append(f"| {method} | {at} | {len(mine)} | " + " | ".join(cells) + " |")
plots.table("\n".join(lines))

# %% [markdown]
# ## What a latent gives that noise does not
#
# Walk from one latent to another, in seven steps, through the source GAN; and from one start noise to another through the diffusion source.
# Below: how far each picture is from the one before (LPIPS).

# %%
from dslib import models, sample


def walk(a, b, n=7):
    """n points from a to b, (n,…), all as long as normal noise is: √(1−s)·a + √s·b."""
    s = torch.linspace(0, 1, n).view(-1, *[1] * a.dim())
    return (1 - s).sqrt() * a + s.sqrt() * b


diffusion = models.load_source()
noise = sample.start_noise(2, 64, seed=3)
paths = {"GAN": draw.draw(source.generator, walk(z[0], z[1])),
         "diffusion": sample.sample(diffusion.unet, diffusion.scheduler, walk(noise[0], noise[1]), rt.pick(smoke=2, cpu=20), "ddim")}
for name, path in paths.items():
    strides = metrics.lpips_matrix(path[:-1], path[1:]).diagonal()
    print(f"{name:<10} strides {' '.join(f'{d:.2f}' for d in strides)}; longest / mean {strides.max() / strides.mean():.2f}")
plots.show(plots.rows(paths, columns=7), alt="Two rows of seven faces: from one latent to another, and from one noise to another.")

# %% [markdown]
# ## Controls
#
# A generator that draws one picture has no diversity. It is called *collapsed*, and no score of it means anything.

# %%
one_picture = before[:1].expand(len(before), -1, -1, -1)
print("collapsed:", draw.collapse(one_picture, before))

# %%
by_name = {s.name: s for s in found}
_ = checks.check_expected("11", rt, tgan_nearest=by_name["tgan"].nearest_lpips, cdc_nearest=by_name["cdc"].nearest_lpips,
                          tgan_hit=by_name["tgan"].domain_hit, cdc_hit=by_name["cdc"].domain_hit)

# %% [markdown]
# ## Play
#
# Follow eight latents through the steps of each method.

# %%
from dslib.show import widgets

widgets.explore_memorisation(drawn, ten, 8)

# %% [markdown]
# ## Paper, authors' code, ours
#
# The differences stand at the top of `dslib/gan/cdc.py`, `dcl.py`, `ewc.py`, `loop.py` and `networks.py`. Two matter most. CDC's code has the
# KL the other way round, as DomainStudio's has (row 1 of the ledger); and this source has a million weights and saw drawn faces at 64 pixels,
# where theirs is StyleGAN2 at 256.
#
# ## Equations, code, tests
#
# | equation | code | test |
# |---|---|---|
# | (11.1) | `losses.discriminator_loss` | `test_gan_losses.py::test_the_players_losses_are_the_logarithms_of_the_paper` |
# | (11.2) | `cdc.consistency` | `test_gan_losses.py::test_consistency_is_the_mean_kl_of_similarities_from_the_adapted_to_the_source` |
# | (11.3) | `dcl.generator_contrast` | `test_gan_losses.py::test_the_contrasts_are_those_of_the_paper` |
