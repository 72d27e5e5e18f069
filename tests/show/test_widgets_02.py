"""Chapter 02's explorer: every link of every sampler can be shown, and a short chain does not trip the slider."""


import pytest

from dslib import sample
from dslib.show import explorer, plots, widgets


@pytest.fixture
def chains(tiny_source):
    noise = sample.start_noise(2, 16)
    steps = {"ddpm": 3, "ddim": 3, "dpmsolver": 2}
    return {kind: list(sample.chain(tiny_source.unet, tiny_source.scheduler, noise, n, kind)) for kind, n in steps.items()}


def test_chain_figure_changes_along_the_chain(chains):
    pictures = [plots.to_png(widgets.chain_figure(chains["ddim"], i)[0]) for i in (0, 0, 2)]
    assert pictures[0] == pictures[1] != pictures[2]
    assert "step 999" in widgets.chain_figure(chains["ddim"], 0)[1]


def test_a_short_chain_shows_its_last_link(chains):
    assert widgets.chain_figure(chains["dpmsolver"], 2)[1] == widgets.chain_figure(chains["dpmsolver"], 1)[1]


def test_explore_chain_starts_in_the_middle_and_redraws_once_a_move(chains, monkeypatch):
    seen, controls = [], {}
    monkeypatch.setattr(plots, "show", lambda figure, alt, **_: seen.append(alt))
    explore = explorer.explore
    monkeypatch.setattr(explorer, "explore", lambda redraw, **found: (controls.update(found), explore(redraw, **found)))
    widgets.explore_chain(chains)
    assert len(seen) == 1 and f"step {chains['ddpm'][1].t}" in seen[0]
    controls["sampler"].value = "dpmsolver"
    controls["link"].value = 2
    assert len(seen) == 3 and f"step {chains['dpmsolver'][1].t}" in seen[2]
    assert not controls["link"].continuous_update
