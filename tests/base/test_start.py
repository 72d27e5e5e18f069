"""How a chapter begins: its seed, and the environment's word before it."""

import pytest
import torch

from dslib import UserError, env


@pytest.mark.parametrize("wish, seed", [(None, 3), ("5", 5), ("0", 0)])
def test_the_environments_seed_comes_before_the_chapters(wish, seed, monkeypatch, capsys):
    monkeypatch.setenv("DSLIB_TIER", "smoke")
    monkeypatch.delenv("DSLIB_SEED", raising=False)
    if wish is not None:
        monkeypatch.setenv("DSLIB_SEED", wish)
    assert env.start(3).seed == seed and f"seed {seed}" in capsys.readouterr().out
    drawn = torch.rand(3)
    torch.manual_seed(seed)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("wish", ["", "one", "-1", "1.5"])
def test_a_seed_that_is_no_number_is_named(wish, monkeypatch):
    monkeypatch.setenv("DSLIB_SEED", wish)
    with pytest.raises(UserError, match="DSLIB_SEED is .* whole number"):
        env.start(3)
