# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["slide"]
# # 11. Before diffusion: six ways to adapt a GAN
#
# DRAFT: never run. It waits for `data/gan`, the source GAN that `dslib pretrain-gan` makes, and has no expected values yet.
#
# **Claim.** By the end you will have compared six GAN methods with each other from the same source, the same latents and
# the same
# ten pictures, and will have seen where DomainStudio's pairwise loss comes from. The evidence is a table of diversity,
# copies and domain hits, and columns in which one latent is drawn by every model. The controls: the source itself, which
# is diverse and has not adapted, and a generator that draws one picture only. One training run a method.
#
# | | |
# |---|---|
# | Read / run | to be measured |
# | Device | a laptop CPU is enough |
# | Needs | chapters 03 (copies), 04 (the pairwise loss) and 07 (the scores) |
# | Paper | DomainStudio's tables of Intra-LPIPS: TGAN, EWC, CDC, DCL |
# | `dslib` files | `gan/`: `tgan.py`, `augment.py`, `freezed.py`, `ewc.py`, `cdc.py`, `dcl.py` |
# | You will keep | a baseline that does not diffuse |
#
# **You will**
# - write the game of two players, and the penalty that keeps it from exploding;
# - compute what a weight is worth to the source's pictures;
# - find chapter 04's loss again, on a generator's maps;
# - rank six methods, and say what the ranking does not show.

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
target = "sunglasses"      # also: sketches, portraits, adventurers, robots
steps = rt.pick(smoke=2, cpu=150, colab=400)
n_samples = rt.pick(smoke=8, cpu=100, colab=200)

# %% [markdown]
# ## Where we are going
#
# A generator draws a picture from a latent $z$ in one pass. The same $z$ through source and adapted generator makes a pair:
# what a
# method keeps can be read down a column.

# %% tags=["slide"]
import torch

from dslib import data, losses
from dslib.gan import adapt, cdc, dcl, draw, ewc, folder
from dslib.gan import losses as players
from dslib.measure import score
from dslib.show import plots

source = folder.load_gan()
ten = data.load_domain(target, "ten").images
z = draw.latents(n_samples, source.generator.latent)
before = draw.draw(source.generator, z)
plots.show(plots.rows({"the ten": ten, "source": before[:10]}),
           alt=f"Ten training pictures of {target}, and below ten faces that the source GAN draws from ten latents.")

# %% [markdown] tags=["slide"]
# ## The mental model
#
# Two players. The discriminator $D$ scores pictures, positive for real ones; the generator $G$ wants its pictures scored
# so. Every method below is this game with something added.
#
# $$\mathcal L_D = -\log \sigma(D(x)) - \log(1 - \sigma(D(G(z)))) + \tfrac{\gamma}{2}\,\|\nabla_x D(x)\|^2, \qquad
# \mathcal L_G = -\log \sigma(D(G(z))) \tag{11.1}$$
# $$\mathcal L_{EWC} = \mathcal L_G + \lambda \sum_i F_i\,(\theta_i - \theta_{S,i})^2, \qquad
# F_i = \mathbb E_z\Big(\frac{\partial \log \sigma(D(G(z)))}{\partial \theta_i}\Big)^2 \tag{11.2}$$
# $$\mathcal L_{dist} = \sum_i \mathrm{KL}\left(p_i^{ada} \,\|\, p_i^{sou}\right), \qquad
# p_i = \mathrm{softmax}_{j\ne i}\; \cos(G^l(z_i), G^l(z_j)) \tag{11.3}$$
# $$\mathcal L_{CL1} = -\log \frac{f(G^l(z_i), G_S^l(z_i))}{\sum_j f(G^l(z_i), G_S^l(z_j))}, \qquad
# f(a, b) = e^{\cos(a, b)/\tau} \tag{11.4}$$
#
# | method | adds to (11.1) | code |
# |---|---|---|
# | TGAN | nothing | `tgan.start` |
# | TGAN + DiffAugment | every picture that $D$ sees is changed at random, real or drawn | `augment.augment` |
# | FreezeD | the discriminator's first layers stay | `freezed.start` |
# | EWC | (11.2) | `ewc.penalty`, `ewc.fisher` |
# | CDC | (11.3), and whole pictures are judged near ten latents only | `cdc.consistency` |
# | DCL | (11.4), and its like for $D$ | `dcl.generator_contrast`, `dcl.discriminator_contrast` |
#
# (11.3) is equation (4.1) with another argument: a generator's maps in place of guessed pictures.

# %%
with torch.no_grad():
    maps = source.generator.trace(z[:6].to(next(source.parameters()).device)).layers
changed = [m + 0.3 * torch.randn(m.shape, generator=torch.Generator().manual_seed(0)).to(m) for m in maps]
for layer, (a, s) in enumerate(zip(changed, maps)):
    mean, total = cdc.consistency(a, s), losses.pairwise_kl(a, s)
    print(f"layer {layer}, {a.shape[-1]:>2} pixels: CDC {float(mean):.2e}, chapter 04's sum / 30: {float(total) / 30:.2e}, "
          f"DCL {float(dcl.generator_contrast(a, s)):.2f}")

# %% [markdown]
# ## Exercise: what is a weight worth?
#
# *Difficulty ●●○ · importance ●●○ · 10 minutes*
#
# Write $F_i$ for a list of latents: the mean of *squared* gradients, a picture at a time. (The square of the mean gradient is
# another thing: near zero at the end of a training.)

# %%
def fisher(pair, z):
    """z (n,latent) → a list with one tensor for each of the generator's weights, all ≥ 0."""
    return None


# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def fisher(pair, z):
#     weights = list(pair.generator.requires_grad_(True).parameters())
#     found = [torch.zeros_like(p) for p in weights]
#     for one in z.split(1):
#         loss = -torch.nn.functional.logsigmoid(pair.discriminator(pair.generator(one))).mean()
#         for mean, g in zip(found, torch.autograd.grad(loss, weights)):
#             mean += g.square() / len(z)
#     return found
# ```
# </details>

# %%
worth = ewc.fisher(source, z[:8].to(next(source.parameters()).device))
names = [name for name, _ in source.generator.named_parameters()]
for value, name in sorted(((float(f.mean()), name) for f, name in zip(worth, names)), reverse=True)[:5]:
    print(f"{name:<24} {value:.2e}")

# %% [markdown]
# ## The run
#
# Six methods, the same number of steps, the same seed.

# %%
drawn, last = {"source": before}, {}
for method in adapt.METHODS:
    config = adapt.GANConfig(method=method, max_train_steps=steps, fisher_samples=rt.pick(smoke=2, cpu=50, colab=200))
    for record in adapt.adapt(source, ten, config):
        pass
    drawn[method], last[method] = draw.draw(record.averaged().generator, z), record.terms
    print(f"{method:<13}", {name: round(float(value), 3) for name, value in record.terms.items()})

# %% tags=["slide"]
plots.show(plots.rows({"the ten": ten} | {name: images[:10] for name, images in drawn.items()}),
           alt="Each row a model, each column a latent: the source's face, and what six methods made of it.")

# %% [markdown]
# ## Controls
#
# The source keeps everything and has not adapted: its hits say so. A generator that draws one picture has no diversity:
# it is called *collapsed*, and no score of it means anything.

# %%
one_picture = before[:1].expand(len(before), -1, -1, -1)
print("collapsed:", draw.collapse(one_picture, before))
print({name: round(float(players.diversity(images)), 3) for name, images in drawn.items()})
collapsed = {name: why for name, images in drawn.items() if (why := draw.collapse(images, before))}
scores = score.score_all({name: images for name, images in drawn.items() if name not in collapsed}, ten, target)
print(score.text_table(scores), *collapsed.items(), sep="\n")

# %% [markdown]
# Read the columns together. Diversity alone ranks the source first; compare methods at equal hits, as chapter 08 does.
# The table does not show that diffusion beats GANs: the two sources differ in size, training and quality.
#
# ## Paper, authors' code, ours
#
# The differences stand at the top of `dslib/gan/cdc.py`, `dcl.py`, `ewc.py`, `loop.py` and `networks.py`. Two matter most. CDC's code
# has the KL the other way round, as DomainStudio's has (row 1 of the ledger); and this source has a million weights and saw
# drawn faces at 64 pixels.
#
# ## Equations, code, tests
#
# | equation | code | test |
# |---|---|---|
# | (11.1) | `gan.losses.discriminator_loss` | `test_gan_losses.py::test_the_players_losses_are_the_logarithms_of_the_paper` |
# | (11.2) | `gan.ewc.penalty` | `test_gan_losses.py::test_the_penalty_is_a_weighted_square_distance` |
# | (11.3) | `gan.cdc.consistency` | `test_gan_losses.py::test_consistency_is_the_mean_kl_of_similarities_from_the_adapted_to_the_source` |
# | (11.4) | `gan.dcl.generator_contrast` | `test_gan_losses.py::test_the_contrasts_are_those_of_the_paper` |
#
# ## Check yourself
#
# 1. Why must a GAN's anchors not be among the latents that are scored?
# 2. FreezeD changes nothing of the generator's loss. How can it change the generator?
# 3. Open: CDC compares latents near nobody, DomainStudio compares the ten. What would each call a copy?
