"""Text-to-image adaptation: every method against a slow reference, what is frozen stays, wrong prompts are refused."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import make_images, make_text_pipeline

from dslib import ddpm, domainstudio, train
from dslib.base.bank import Bank
from dslib.env import UserError
from dslib.haar import dwt2
from dslib.text import captions, latent, text_to_image
from dslib.text.text_to_image import TextConfig

TAR, SOU = "a sks face", "a face"


def config(method, **changes):
    return TextConfig(**({"method": method, "max_train_steps": 3, "train_batch_size": 4, "ema_max_decay": 0.5} | changes))


def run(pipe, method, prior=None, **changes):
    if prior is None:
        prior = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return list(text_to_image.adapt(pipe, make_images(4, 32), config(method, **changes), TAR, SOU, prior))


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def first_batch(pipe):
    """x_0, t and ε of a run's first step, drawn as the loop draws them."""
    generator, chosen = torch.Generator().manual_seed(0), train.batch_indices(0, 4, 4, 0)
    z_0 = latent.encode(pipe.vae, make_images(4, 32))[chosen]
    t = ddpm.sample_timesteps(4, 1000, generator)
    eps = torch.randn(z_0.shape, generator=generator)
    return chosen, z_0, t, eps, torch.randint(2, (4,), generator=generator)


def slow_log_p(x):
    """log p_i by two loops."""
    rows = []
    for i in range(len(x)):
        cosines = [F.cosine_similarity(x[i].flatten(), x[j].flatten(), dim=0) for j in range(len(x)) if j != i]
        rows.append(torch.log_softmax(torch.stack(cosines), 0))
    return torch.stack(rows)


def slow_kl(a, b):
    p, q = slow_log_p(a), slow_log_p(b)
    return (p.exp() * (p - q)).sum()


def hf(x):
    _, lh, hl, hh = dwt2(x)
    return lh + hl + hh


def test_domainstudio_against_the_formulas_image_by_image(tiny_text):
    prior = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    drift = copy.deepcopy(tiny_text.unet)
    with torch.no_grad():
        for p in drift.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5)))
    chosen, z_0, t, eps, which = first_batch(tiny_text)
    z_pr, a_bar = prior.view(4, 2, 4, 8, 8)[chosen, which], tiny_text.scheduler.alphas_cumprod
    texts = latent.embed(tiny_text, [TAR, SOU])
    settings = config("domainstudio", pairwise_weighting="none", hfmse_weighting="none")
    loss, terms = text_to_image.dreambooth_loss(drift, tiny_text.unet, tiny_text.vae, z_0, z_pr, t, eps, texts, a_bar, settings)
    add, simple, prior_error, ada, sou = tiny_text.scheduler.add_noise, [], [], [], []
    with torch.no_grad():
        for i in range(4):                               # one image and one pass at a time
            one = slice(i, i + 1)
            x_t, p_t = add(z_0[one], eps[one], t[one]), add(z_pr[one], eps[one], t[one])
            e_ada, e_sou = drift(x_t, t[one], texts[:1]).sample, tiny_text.unet(x_t, t[one], texts[1:]).sample
            simple.append((e_ada - eps[one]).square().mean())
            prior_error.append((drift(p_t, t[one], texts[1:]).sample - eps[one]).square().mean())
            ada.append((x_t - (1 - a_bar[t[i]]).sqrt() * e_ada) / a_bar[t[i]].sqrt())
            sou.append((x_t - (1 - a_bar[t[i]]).sqrt() * e_sou) / a_bar[t[i]].sqrt())
        z_ada, z_sou = torch.cat(ada), torch.cat(sou)
        x_ada, x_sou, x_0 = (tiny_text.vae.decode(z / tiny_text.vae.config.scaling_factor).sample for z in (z_ada, z_sou, z_0))
        expected = {"simple": torch.stack(simple).mean(), "prior": torch.stack(prior_error).mean(), "img": slow_kl(z_ada, z_sou),
                    "hf": slow_kl(hf(x_ada), hf(x_sou)), "hfmse": (hf(x_ada) - hf(x_0)).square().mean()}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, atol=1e-5, rtol=2e-3)
    total = terms["simple"] + terms["prior"] + 0.3 * terms["img"] + 0.3 * terms["hf"] + 0.5 * terms["hfmse"]
    torch.testing.assert_close(loss, total)


@pytest.mark.parametrize("name", ["simple", "prior", "img", "hf", "hfmse"])
def test_every_term_sends_gradients_to_the_unet(tiny_text, name):
    chosen, z_0, t, eps, _ = first_batch(tiny_text)
    net = copy.deepcopy(tiny_text.unet)
    with torch.no_grad():
        net.conv_out.weight.add_(0.1)
    texts, schedule = latent.embed(tiny_text, [TAR, SOU]), tiny_text.scheduler.alphas_cumprod
    _, terms = text_to_image.dreambooth_loss(net, tiny_text.unet, tiny_text.vae, z_0, z_0.flip(0), t, eps, texts, schedule,
                                             config("domainstudio"))
    terms[name].backward()
    assert net.conv_in.weight.grad.abs().sum() > 0


def test_checkpointing_changes_memory_and_nothing_else(tiny_text, monkeypatch):
    _, z_0, t, eps, _ = first_batch(tiny_text)
    texts, schedule, found = latent.embed(tiny_text, [TAR, SOU]), tiny_text.scheduler.alphas_cumprod, []
    for most in (0, 32):
        monkeypatch.setattr(text_to_image, "CHECKPOINT_FROM", most)
        net = copy.deepcopy(tiny_text.unet).requires_grad_(True)
        loss, _ = text_to_image.dreambooth_loss(net, tiny_text.unet, tiny_text.vae, z_0, z_0.flip(0), t, eps, texts, schedule,
                                                config("domainstudio"))
        loss.backward()
        found.append((loss.detach(), net.conv_in.weight.grad))
    assert found[0][1].abs().sum() > 0
    torch.testing.assert_close(found[0], found[1])


def test_a_source_that_remembers_gives_the_same_numbers(tiny_text, monkeypatch):
    """Eight steps over three draws of noise, with a memory and without: 3 questions and 3 decodings, and the same weights."""
    calls, remember = [], Bank.remember

    def counted(self, name, function, *question):
        return remember(self, name, lambda *q: calls.append(name) or function(*q), *question)

    monkeypatch.setattr(Bank, "remember", counted)
    with_bank = run(tiny_text, "domainstudio", max_train_steps=8, bank_steps=3)[-1]
    assert sorted(calls) == ["decode"] * 3 + ["unet"] * 3
    monkeypatch.setattr(Bank, "remember", lambda self, name, function, *question: function(*question))
    without = run(tiny_text, "domainstudio", max_train_steps=8, bank_steps=3)[-1]
    assert same(weights(with_bank.model), weights(without.model))


def test_training_images_are_decoded_once(tiny_text):
    latents = torch.randn(13, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    decoded, chosen = text_to_image.decode_once(tiny_text.vae, latents), torch.tensor([12, 0, 5])
    with torch.no_grad():
        wanted = torch.cat([latent.decode(tiny_text.vae, latents[i:i + 1]) for i in chosen])
    torch.testing.assert_close(decoded[chosen], wanted, atol=1e-5, rtol=1e-4)


def test_the_loops_first_step_is_dreambooths_loss(tiny_text):
    prior = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    chosen, z_0, t, eps, which = first_batch(tiny_text)
    with torch.no_grad():
        loss, _ = text_to_image.dreambooth_loss(
            tiny_text.unet, None, tiny_text.vae, z_0, prior.view(4, 2, 4, 8, 8)[chosen, which], t, eps, latent.embed(tiny_text, [TAR, SOU]),
            tiny_text.scheduler.alphas_cumprod, config("dreambooth"))
    torch.testing.assert_close(run(tiny_text, "dreambooth", prior)[0].loss, loss, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", text_to_image.METHODS)
def test_the_source_stays_and_only_what_is_trained_changes(tiny_text, method, tmp_path):
    before = {part: weights(getattr(tiny_text, part)) for part in latent.PARTS}
    made = text_to_image.adapted(tiny_text, run(tiny_text, method)[-1], TAR)
    assert all(same(before[part], weights(getattr(tiny_text, part))) for part in latent.PARTS)
    changed = {part for part in latent.PARTS if not same(before[part], weights(getattr(made, part)))}
    assert changed == ({"text_encoder"} if method == "textual-inversion" else {"unet"})
    again = latent.load_pipeline(latent.save_pipeline(made, tmp_path))
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(*(latent.draw(pipe, [TAR] * 2, noise, num_inference_steps=2) for pipe in (made, again)))


def test_textual_inversion_changes_one_words_vector_alone(tiny_text):
    made = text_to_image.adapted(tiny_text, run(tiny_text, "textual-inversion", learning_rate=0.1)[-1])
    old, new = (pipe.text_encoder.get_input_embeddings().weight for pipe in (tiny_text, made))
    token = tiny_text.tokenizer.convert_tokens_to_ids("sks</w>")
    assert (old != new).any(1).nonzero().flatten().tolist() == [token]
    torch.testing.assert_close(latent.embed(made, [SOU]), latent.embed(tiny_text, [SOU]))
    assert not torch.equal(latent.embed(made, [TAR]), latent.embed(tiny_text, [TAR]))


def test_textual_inversions_loss_is_the_noises_error_under_its_prompt(tiny_text):
    _, z_0, t, eps, _ = first_batch(tiny_text)
    with torch.no_grad():
        text = latent.embed(tiny_text, ["a face face"] * 4)           # the new word starts as "face"
        expected = (tiny_text.unet(tiny_text.scheduler.add_noise(z_0, eps, t), t, text).sample - eps).square().mean()
    torch.testing.assert_close(run(tiny_text, "textual-inversion")[0].loss, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", text_to_image.METHODS)
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_text, tmp_path, method):
    whole = run(tiny_text, method)[-1]
    run(tiny_text, method, max_train_steps=2, output_dir=str(tmp_path), checkpointing_steps=2)
    resumed = run(tiny_text, method, output_dir=str(tmp_path), resume_from_checkpoint="latest")
    assert [s.step for s in resumed] == [3] and same(weights(whole.averaged()), weights(resumed[-1].averaged()))


@pytest.mark.parametrize(("target", "class_prompt", "words"), [
    ("a face", "a face", "lacks the rare word 'sks'"), ("", "a face", "--instance_prompt is empty"), (TAR, " ", "--class_prompt is empty"),
    (TAR, TAR, "--class_prompt 'a sks face' holds the rare word"),
    (TAR + " face" * 30, SOU, "takes 35 tokens and 24 fit: it would be cut")])
def test_prompts_that_teach_nothing(tiny_text, target, class_prompt, words):
    with pytest.raises(UserError, match=words):
        text_to_image.check_prompts(tiny_text, target, class_prompt)


def test_what_does_not_fit_is_refused_before_the_first_step(tiny_text):
    with pytest.raises(UserError, match="2 prior images for 4 images"):
        run(tiny_text, "dreambooth", torch.zeros(2, 4, 8, 8))
    with pytest.raises(UserError, match="takes one of dreambooth, textual-inversion, domainstudio"):
        run(tiny_text, "scratch")
    with pytest.raises(UserError, match="compares images in pairs"):
        run(tiny_text, "domainstudio", train_batch_size=1)
    with pytest.raises(UserError, match="there are 4 images"):
        run(tiny_text, "dreambooth", train_batch_size=5)


def test_text_methods_do_not_adapt_an_unconditional_source(tiny_source, ten_images):
    with pytest.raises(UserError, match="'dreambooth', which adapts text-to-image models"):
        train.adapt(tiny_source, ten_images, config("dreambooth"))


def test_prior_latents_are_the_sources_own_and_repeatable(tiny_text):
    first = text_to_image.prior_latents(tiny_text, SOU, 3)
    assert first.shape == (3, 4, 8, 8) and torch.equal(first, text_to_image.prior_latents(tiny_text, SOU, 3))
    assert captions.RARE[0] not in SOU


def test_lora_trains_small_matrices_and_leaves_an_ordinary_unet(tiny_text, tmp_path):
    last = run(tiny_text, "dreambooth", lora_rank=2, learning_rate=0.05)[-1]
    trained = {name for name, p in last.model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    made = text_to_image.adapted(tiny_text, last, TAR)
    assert made.unet.state_dict().keys() == tiny_text.unet.state_dict().keys()
    changed = {name for name, value in made.unet.state_dict().items() if not torch.equal(value, tiny_text.unet.state_dict()[name])}
    assert changed and all(name.split(".")[-2] in ("to_q", "to_k", "to_v", "0") and "attn" in name for name in changed)
    again = latent.load_pipeline(latent.save_pipeline(made, tmp_path))
    assert same(weights(again.unet), weights(made.unet))


def test_lora_resumes(tiny_text, tmp_path):
    whole = run(tiny_text, "domainstudio", lora_rank=2)[-1]
    run(tiny_text, "domainstudio", lora_rank=2, max_train_steps=2, output_dir=str(tmp_path), checkpointing_steps=2)
    resumed = run(tiny_text, "domainstudio", lora_rank=2, output_dir=str(tmp_path), resume_from_checkpoint="latest")
    assert [s.step for s in resumed] == [3] and same(weights(whole.averaged()), weights(resumed[-1].averaged()))


def test_a_subject_adds_its_own_error_under_its_own_prompt(tiny_text):
    chosen, z_0, t, eps, _ = first_batch(tiny_text)
    person, texts = z_0.flip(0) * 0.5, latent.embed(tiny_text, [TAR, SOU, "a zwx face"])
    given = tiny_text.unet, None, tiny_text.vae, z_0, z_0.flip(0), t, eps, texts, tiny_text.scheduler.alphas_cumprod, config("dreambooth")
    with torch.no_grad():
        loss, terms = text_to_image.dreambooth_loss(*given, person)
        guess = tiny_text.unet(tiny_text.scheduler.add_noise(person, eps, t), t, texts[2:].repeat(4, 1, 1)).sample
    torch.testing.assert_close(terms["subject"], (guess - eps).square().mean(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loss, sum(terms.values()))


def test_companions_are_prior_and_subject_side_by_side():
    prior, person = torch.arange(9.0).view(9, 1, 1, 1), 100 + torch.arange(2.0).view(2, 1, 1, 1)
    given = text_to_image.companions(4, prior, person)
    assert {name: one.shape for name, one in given.items()} == dict.fromkeys(("prior", "subject"), (4, 2, 1, 1, 1))
    assert given["prior"].flatten().tolist() == list(range(8)) and given["subject"].flatten().tolist() == [100, 101] * 4
    assert list(text_to_image.companions(4, prior)) == ["prior"]


def test_personalising_learns_both_prompts(tiny_text):
    person = text_to_image.Subject(make_images(2, 32, seed=5), "a zwx face")
    prior = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    steps = list(text_to_image.adapt(tiny_text, make_images(4, 32), config("domainstudio"), TAR, SOU, prior, person))
    assert set(steps[-1].terms) == {"simple", "prior", "subject", "img", "hf", "hfmse"}
    with pytest.raises(UserError, match="share the rare word 'sks'"):
        text_to_image.adapt(tiny_text, make_images(4, 32), config("domainstudio"), TAR, SOU, prior, person._replace(prompt=TAR))
    with pytest.raises(UserError, match="needs dreambooth or domainstudio"):
        text_to_image.adapt(tiny_text, make_images(4, 32), config("textual-inversion"), TAR, SOU, prior, person)


def test_the_authors_passes_compare_the_model_with_itself(tiny_text):
    """Ledger rows 1-3, 6 and 7, from the pipeline's own parts, one image at a time."""
    chosen, z_0, t, eps, _ = first_batch(tiny_text)
    z_pr, a_bar = z_0.roll(1, 0) * 0.7, tiny_text.scheduler.alphas_cumprod
    texts = latent.embed(tiny_text, [TAR, SOU])
    settings = config("domainstudio", pairwise_variant="authors", hfmse_weighting="none")
    with torch.no_grad():
        loss, terms = text_to_image.authors_loss(tiny_text.unet, tiny_text.vae, z_0, z_pr, t, eps, texts, a_bar, settings)
        guesses = {}
        for name, z, text in (("ada", z_0, texts[:1]), ("own", z_pr, texts[1:])):
            noise = eps.flip(0)
            x_t = [tiny_text.scheduler.add_noise(z[i:i + 1], noise[i:i + 1], t[:1]) for i in range(4)]
            guesses[name] = torch.cat([(x - (1 - a_bar[t[0]]).sqrt() * tiny_text.unet(x, t[:1], text).sample) / a_bar[t[0]].sqrt()
                                       for x in x_t])
        p, q = slow_log_p(guesses["ada"][:3]), slow_log_p(guesses["own"][:3])
        kl = (q.exp() * (q - p)).mean()
    torch.testing.assert_close(terms["img"], kl, atol=1e-5, rtol=1e-3)
    expected = terms["simple"] + terms["prior"] + 0.3 * terms["img"] + 0.3 * terms["hf"] + 0.5 * terms["hfmse"]
    torch.testing.assert_close(loss, expected)
    assert set(run(tiny_text, "domainstudio", pairwise_variant="authors")[-1].terms) == {"simple", "prior", "img", "hf", "hfmse"}
    with pytest.raises(UserError, match="at least 3 images"):
        run(tiny_text, "domainstudio", pairwise_variant="authors", train_batch_size=2)


def test_the_rare_word_is_found_in_the_prompt():
    assert text_to_image.rare_word("a zwx face") == "zwx" and text_to_image.rare_word("a SKS face") == "sks"


class AsVelocity(torch.nn.Module):
    """A network of ε that answers v: the same guess in other words."""
    def __init__(self, unet, a_bar):
        super().__init__()
        self.unet, self.a_bar = unet, a_bar

    def forward(self, x_t, t, words):
        eps = self.unet(x_t, t, words).sample
        return SimpleNamespace(sample=ddpm.velocity(ddpm.predict_x0(x_t, t, eps, self.a_bar), eps, t, self.a_bar))


@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_a_source_of_v_gets_the_same_guesses_and_the_error_of_v(tiny_text, variant):
    """‖v̂ − v‖² = ‖ε̂ − ε‖²/ᾱ_t, image by image; terms of guesses are what they were."""
    _, z_0, _, eps, _ = first_batch(tiny_text)
    prompts = [TAR, SOU] if variant == "authors" else [TAR, SOU, "a zwx face"]
    t, a_bar, texts = torch.full((4,), 300), tiny_text.scheduler.alphas_cumprod, latent.embed(tiny_text, prompts)
    drift, person = copy.deepcopy(tiny_text.unet), 0.5 * z_0.roll(1, 0)
    with torch.no_grad():
        for p in drift.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5)))
    settings, found = config("domainstudio", snr_gamma=0.0), {}
    for kind in ("epsilon", "v_prediction"):
        net, frozen = (AsVelocity(unet, a_bar) if kind == "v_prediction" else unet for unet in (drift, tiny_text.unet))
        given = (tiny_text.vae, z_0, z_0.flip(0), t, eps, texts, a_bar, settings)
        with torch.no_grad():
            found[kind] = (text_to_image.authors_loss(net, *given, kind=kind) if variant == "authors" else
                           text_to_image.dreambooth_loss(net, frozen, *given, person, kind=kind))[1]
    assert ("subject" in found["epsilon"]) == (variant == "paper")
    for name, value in found["epsilon"].items():
        error = name in ("simple", "prior", "subject")
        torch.testing.assert_close(found["v_prediction"][name], value / a_bar[300] if error else value, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize(("method", "changes"), [*((method, {}) for method in text_to_image.METHODS),
                                                 ("domainstudio", {"pairwise_variant": "authors"})])
def test_a_source_of_v_is_adapted_by_the_error_of_v(method, changes):
    pipe = make_text_pipeline()
    pipe.scheduler = latent.new_scheduler("v_prediction")
    _, z_0, t, eps, _ = first_batch(pipe)
    a = pipe.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    with torch.no_grad():                                             # a new word starts as "face"
        text = latent.embed(pipe, ["a face face" if method == "textual-inversion" else TAR] * 4)
        answer = pipe.unet(pipe.scheduler.add_noise(z_0, eps, t), t, text).sample
        wanted = (answer - (a.sqrt() * eps - (1 - a).sqrt() * z_0)).square().mean()
    steps = run(pipe, method, snr_gamma=0.0, **changes)
    torch.testing.assert_close(steps[0].terms["simple"], wanted, atol=1e-5, rtol=1e-4)
    assert text_to_image.adapted(pipe, steps[-1], TAR).scheduler.config.prediction_type == "v_prediction"


def test_guesses_in_the_loop_are_those_of_v(monkeypatch):
    """With a source of v, the frozen source and the adapted copy begin alike: no pairwise term, and x̃_0 by the formula of v."""
    pipe, seen, terms = make_text_pipeline(), [], domainstudio.terms
    pipe.scheduler = latent.new_scheduler("v_prediction")
    monkeypatch.setattr(domainstudio, "terms", lambda *given, **named: seen.append(named["latents"][1]) or terms(*given, **named))
    run(pipe, "domainstudio")
    _, z_0, t, eps, _ = first_batch(pipe)
    x_t, a = pipe.scheduler.add_noise(z_0, eps, t), pipe.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    with torch.no_grad():
        v = pipe.unet(x_t, t, latent.embed(pipe, [SOU] * 4)).sample
    torch.testing.assert_close(seen[0], a.sqrt() * x_t - (1 - a).sqrt() * v, atol=1e-5, rtol=1e-4)
