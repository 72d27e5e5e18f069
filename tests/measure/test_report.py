"""The results table: means and spreads over seeds, missing values shown as such."""

import csv
import json

import pytest

from dslib import env
from dslib.cli import commands
from dslib.env import UserError
from dslib.measure import score
from dslib.show import page
from dslib.study import grading, tables


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one target; the second has no Fréchet distance."""
    for seed, (intra, fd) in enumerate([(0.2, 0.5), (0.4, None)]):
        row = {"name": "finetune", "intra_lpips": intra, "intra_std": 0.01, "nearest_lpips": 0.3, "fd": fd, "domain_hit": 1.0}
        facts = {"target": "sketches", "backbone": "st-alex", "resolution": 64, "num_images": 8, "seed": seed, "scheduler": "ddim",
                 "num_inference_steps": 20, "config": {"seed": seed, "lambda_img": 0.5}, "scores": [row]}
        (tmp_path / f"{seed}.json").write_text(json.dumps(facts))
    return sorted(tmp_path.glob("*.json"))


def test_collate_takes_mean_and_sample_deviation_over_seeds(runs):
    (row,) = tables.collate(runs)
    assert (row["target"], row["images"], row["seeds"]) == ("sketches", "finetune", 2)
    assert row["intra_lpips"] == pytest.approx(0.3)
    assert row["intra_lpips_std"] == pytest.approx(0.1414, abs=1e-4)
    assert row["fd"] == pytest.approx(0.5)
    assert row["fd_std"] is None and row["nearest_lpips_std"] is None, "one value, or the same for every seed: no spread"
    assert row["steps"] is None and row["scheduler"] == "ddim"


def test_different_backbones_never_share_a_row(runs):
    facts = json.loads(runs[0].read_text()) | {"backbone": "st-vgg"}
    runs[0].write_text(json.dumps(facts))
    assert [row["seeds"] for row in tables.collate(runs)] == [1, 1]


def test_other_settings_never_share_a_row(runs):
    facts = json.loads(runs[0].read_text())
    facts["config"] |= {"lambda_img": 0.1, "max_train_steps": 7}
    runs[0].write_text(json.dumps(facts))
    table = tables.collate(runs)
    assert [row["seeds"] for row in table] == [1, 1] and {row["steps"] for row in table} == {7, None}
    assert "| sketches | finetune | 7 | 1 |" in tables.collated_text(table)


def test_other_sources_never_share_a_row(runs):
    facts = json.loads(runs[0].read_text()) | {"source": "shipped"}          # what older files mean by saying nothing
    runs[0].write_text(json.dumps(facts))
    assert [row["seeds"] for row in tables.collate(runs)] == [2]
    runs[0].write_text(json.dumps(facts | {"source": "my/faces"}))
    assert [row["seeds"] for row in tables.collate(runs)] == [1, 1]


def test_runs_with_words_say_how_many_pictures_obeyed(runs):
    for path, shares in zip(runs, ((0.5, 0.7), (0.8, 0.8))):
        facts = json.loads(path.read_text())
        facts["obeyed"] = {"finetune": {name: {"share": share} for name, share in zip(("glasses", "skin"), shares)}, "source": {}}
        path.write_text(json.dumps(facts))
    (row,) = tables.collate(runs)
    assert row["obeyed"] == pytest.approx(0.7) and row["obeyed_std"] == pytest.approx(0.1414, abs=1e-4)
    assert "| obeyed |" in tables.collated_text([row]) and "| 0.70 ± 0.14 |" in tables.collated_text([row])


def test_the_same_run_twice_is_not_two_seeds(runs):
    with pytest.raises(UserError, match="seed 1 of sketches is there already"):
        tables.collate([*runs, runs[1]])


def test_table_command_writes_csv_and_refuses_a_missing_file(runs, tmp_path, capsys):
    assert commands.main(["table", *map(str, runs), "--output", str(tmp_path / "new" / "table.csv")]) == 0
    assert "0.300 ± 0.141" in capsys.readouterr().out
    with open(tmp_path / "new" / "table.csv") as file:
        assert next(csv.DictReader(file))["intra_lpips"] == "0.3"
    assert commands.main(["table", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_a_table_comes_back_as_it_was_written(runs, tmp_path):
    path = tmp_path / "table.csv"
    assert commands.main(["table", *map(str, runs), "--output", str(path)]) == 0
    assert tables.load_table(path) == tables.collate(runs)


def test_what_is_no_table_is_named(tmp_path):
    with pytest.raises(UserError, match="make results"):
        tables.load_table(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="other.csv is no table"):
        tables.load_table(tmp_path / "other.csv")


def test_tables_pool_as_if_their_runs_had_been_collated_together(handed_in):
    runs, _ = handed_in
    for cut in (1, 2):
        table = tables.pool(tables.collate(runs[cut:]), tables.collate(runs[:cut]))
        for one, whole in zip(table, tables.collate(runs), strict=True):
            assert one["which"] == "#0 #1 #2" and one.keys() == whole.keys()
            assert [one[k] for k in ("target", "images", "seeds")] == [whole[k] for k in ("target", "images", "seeds")]
            assert one["intra_lpips"] == pytest.approx(whole["intra_lpips"], abs=1e-4)
            assert one["intra_lpips_std"] == pytest.approx(whole["intra_lpips_std"], abs=2e-4) and one["fd_std"] is None


def test_a_seed_is_not_pooled_twice_and_other_settings_stay_apart(handed_in):
    runs, _ = handed_in
    with pytest.raises(UserError, match="sketches, .*: seed 1 is in both tables"):
        tables.pool(tables.collate(runs[:2]), tables.collate(runs[1:]))
    with pytest.raises(UserError, match="does not say which seeds"):
        tables.pool(tables.collate(runs), [{k: v for k, v in row.items() if k != "which"} for row in tables.collate(runs)])
    others = [row | {"steps": 7} for row in tables.collate(runs[1:])]
    table = tables.pool(tables.collate(runs), others)
    assert len(table) == 2 * len(others) and [row["seeds"] for row in table] == [2] * len(others) + [3] * len(others)


def test_a_missing_score_is_a_dash_not_a_number():
    row = score.Score(name="mine", intra_lpips=None, intra_std=None, nearest_lpips=0.25, fd=None, domain_hit=None)
    assert [score.cell(row, c) for c in score.headings([row])] == ["mine", "–", "0.250", "–", "–"]
    assert list(score.headings())[5:] == ["copies", "to_twin", "kept"], "shown where a row has them"


def test_the_page_needs_nothing_from_outside():
    text = page.page("a <title>", "lead", [("Pictures", page.picture(b"png", 'an "alt" text'))]).decode()
    assert "a &lt;title&gt;" in text
    assert "&quot;alt&quot;" in text
    assert "http" not in text and "<script" not in text


@pytest.fixture
def handed_in(tmp_path):
    """Three runs with all four rows, and the table that ``dslib table`` made of them."""
    for seed in range(3):
        rows = [{"name": name, "intra_lpips": 0.2 + seed / 10, "intra_std": 0.01, "nearest_lpips": 0.3, "fd": 0.5, "domain_hit": 1.0}
                for name in grading.HANDED_IN]
        facts = {"target": "sketches", "backbone": "st-alex", "resolution": 64, "num_images": 8, "seed": seed, "scheduler": "ddim",
                 "num_inference_steps": 20, "config": {"seed": seed, "max_train_steps": 300}, "scores": rows}
        (tmp_path / f"{seed}.json").write_text(json.dumps(facts))
    runs = sorted(map(str, tmp_path.glob("*.json")))
    assert commands.main(["table", *runs, "--output", str(tmp_path / "ada.csv")]) == 0
    return runs, tmp_path / "ada.csv"


def test_a_sound_table_can_be_handed_in(handed_in, capsys):
    runs, path = handed_in
    assert grading.check_table(tables.load_table(path), tables.collate(runs)) == []
    assert commands.main(["table", *runs, "--check", str(path)]) == 0
    assert "✓" in capsys.readouterr().out


@pytest.mark.parametrize("old, new, finding", [
    ("finetune,300,3,#0 #1 #2,0.3,", "finetune,300,3,#0 #1 #2,0.9,", "sketches, finetune: intra_lpips is 0.9, the runs say 0.3"),
    ("finetune,300,3", "finetune,300,30", "sketches, finetune: seeds is 30, the runs say 3"),
    ("sketches,finetune", "sketches,mine", "sketches, mine: in the table, but not in the runs"),
    ("sketches,finetune", "sketches,mine", "sketches: no row 'finetune'"),
    (",1.0,,", ",100,,", "domain_hit is 100, which is no score"),
    (",0.5,,", ",nan,,", "fd is nan, which is no score"),
    (",0.5,,", ",good,,", "fd is good, which is no score"),
    (",fd,", ",FID,", "fd is None, the runs say 0.5"),
], ids=["edited", "seeds", "renamed", "row missing", "per cent", "not a number", "a word", "column"])
def test_what_is_wrong_with_a_table_is_named(handed_in, capsys, old, new, finding):
    runs, path = handed_in
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert commands.main(["table", *runs, "--check", str(path)]) == 2
    told = capsys.readouterr()
    assert finding in told.out and "ada.csv" in told.err and len(told.err.splitlines()) == 1


def test_too_few_seeds_and_mixed_settings_are_named(handed_in):
    runs, path = handed_in
    two = tables.collate(runs[:2])
    assert any("seeds is 2, at least 3" in line for line in grading.check_table(two, two))
    assert grading.check_table(two, two, least_seeds=2) == []
    with open(runs[2]) as file:
        other = json.load(file)
    other["config"]["lambda_img"] = 0.1
    with open(runs[2], "w") as file:
        json.dump(other, file)
    mixed = tables.collate(runs)
    assert any("differ in a setting" in line for line in grading.check_table(mixed, mixed))


def test_the_committed_table_is_what_its_runs_say():
    folder = env.data_dir() / "results"
    table = tables.pool(tables.collate(sorted((folder / "unconditional").glob("*.json"))), tables.load_table(folder / "earlier.csv"))

    def keyed(rows):
        return {tuple(row[key] for key in tables.SETTINGS): row for row in rows}

    assert keyed(tables.load_table(folder / "table.csv")) == keyed(table)
    seeds = {row["target"]: row["seeds"] for row in table}
    assert min(seeds.values()) >= 3
    assert seeds["sunglasses"] == seeds["sketches"] == 5
