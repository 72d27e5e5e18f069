"""Chapter 10: its self-checks, the person, and what is read of her."""

import pytest
import torch

from dslib import checks, data, ddpm
from dslib.base import avatars
from dslib.env import UserError
from dslib.measure import probes
from dslib.show import plots, widgets
from dslib.text import prompted


def batch(*order, steps="repeat", texts="interleave", noised=True):
    """A reader's answer, wrong where the options say so."""
    def fn(z_0, z_prior, z_subject, t, eps, words, a):
        parts = [z_0, z_prior, z_subject]
        x_t = torch.cat([ddpm.q_sample(parts[i], t, eps, a) if noised else parts[i] for i in order or (0, 1, 2)])
        t = t.repeat(3) if steps == "repeat" else t.repeat_interleave(3) if steps == "interleave" else t
        words = words.repeat_interleave(4, 0) if texts == "interleave" else words.repeat(4, 1, 1) if texts == "repeat" else words
        return x_t, t, words
    return fn


@pytest.mark.parametrize("wrong, hint", [
    (batch(noised=False), "x_t: the latents are not noised"), (batch(0, 2, 1), "x_t: the order is training, prior, subject"),
    (lambda *a: (batch()(*a)[0].view(3, 4, 3, 4, 4).transpose(0, 1).flatten(0, 1), None, None), "one of each in turn"),
    (batch(steps="interleave"), "t: every step three times in a row"), (batch(steps="none"), "t: the shape is (4,), expected (12,)"),
    (batch(texts="repeat"), "text: the prompts take turns"), (batch(texts="none"), "text: the shape is (3, 2, 3)"),
    (lambda *a: (*batch()(*a)[:2], a[5][:1].expand(12, -1, -1)), "text: all have the training prompt"),
    (lambda *a: (batch()(*a)[0], 3, None), "t: it returns a int"), (lambda *a: batch()(*a)[0], "return three tensors"),
    (lambda *a: None, "nothing written yet")])
def test_batch_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_one_batch(wrong)
    assert hint in capsys.readouterr().out


def shares(read, person):
    return torch.tensor([[word == person[name] for word in read[name]] for name in person]).float()


@pytest.mark.parametrize("wrong, hint", [
    (lambda r, p: float(shares(r, p).prod(0).mean()), "everything at once"),
    (lambda r, p: float(shares(r, p).amax(0).mean()), "anything of"),
    (lambda r, p: int(shares(r, p).sum()), "the number, not the share"), (lambda r, p: 1 - float(shares(r, p).mean()), "that differs"),
    (lambda r, p: float(shares(r, p).sum()) / 12, "background is not the person's"), (lambda r, p: "most", "returns a str"),
    (lambda r, p: None, "nothing written yet")])
def test_share_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_recognised(wrong)
    assert hint in capsys.readouterr().out


def test_right_answers_pass():
    assert checks.check_one_batch(batch()) and checks.check_one_batch(checks.one_batch)
    assert checks.check_recognised(lambda r, p: shares(r, p).mean()) and checks.check_recognised(checks.recognised_by_hand)


def test_the_person_is_the_same_in_every_picture_and_all_else_varies():
    drawn = data.load_domain(avatars.PERSON, "ten")
    assert drawn.images.shape == (10, 3, 64, 64)
    person = prompted.identity(drawn.labels)
    assert person == {"skin": "dark", "hair": "afro", "hair_colour": "platinum", "glasses": "glasses", "beard": "beard"}
    for varied in ("mouth", "clothes", "backgroundColor"):
        assert len({one[varied] for one in drawn.labels}) >= 3
    with pytest.raises(UserError, match="at least one labelled picture"):
        prompted.identity([])


def test_no_target_and_no_training_of_the_source_knows_the_person():
    assert avatars.PERSON not in data.TARGETS and avatars.PERSON not in avatars.OTHER_STYLES


def test_a_person_is_recognised_attribute_by_attribute():
    """A probe that reads light as dark skin and says glasses always."""
    classes = {"skin": ["pale", "dark"], "glasses": ["glasses"], "beard": ["none"], "background": ["red"]}
    reader = probes.FactorProbe(classes, {}, lambda x: dict.fromkeys(classes, torch.zeros(len(x)).long()) | {
        "skin": (x.mean((1, 2, 3)) > 0).long()})
    images = torch.cat([torch.ones(3, 3, 4, 4), -torch.ones(1, 3, 4, 4)])
    found = prompted.recognised(images, {"skin": "dark", "glasses": "glasses", "beard": "beard", "hair": "afro"}, reader)
    assert found == {"skin": 0.75, "glasses": 1.0}
    read = {"skin": ["dark"] * 3 + ["pale"], "glasses": ["glasses"] * 4}
    assert checks.recognised_by_hand(read, {"skin": "dark", "glasses": "glasses"}) == sum(found.values()) / 2


def test_prompt_explorer(explored):
    drawn = {name: {prompt: torch.zeros(3, 3, 8, 8) for prompt in ("a face", "a sks face")} for name in ("source", "adapted")}
    figure, alt = widgets.prompts_figure(drawn, "a face", "source", "adapted")
    assert plots.to_png(figure) and "source and by adapted" in alt
    assert widgets.prompts_figure(drawn, "a face", "source", "source")[1] == "a face, drawn by source from the same noise."
    del drawn["adapted"]["a face"]
    with pytest.raises(UserError, match="same prompts"):
        widgets.explore_prompts(drawn)
    with pytest.raises(UserError, match="same prompts"):
        widgets.explore_prompts({})
    seen, controls = explored(lambda: widgets.explore_prompts({"source": drawn["source"]}))
    assert seen == ["a sks face, drawn by source from the same noise."] and list(controls) == ["prompt", "first", "second"]
