"""``python -m dslib.study STUDY``: regime, gans, beyond, shots, evidence, smudge, claim, results, ablations, curves, memorisation,
resolution, video, wish, words, source or bench.

Each has its ``--help``.
"""

import sys

from . import (
    ablations,
    bench,
    beyond,
    claim,
    curves,
    evidence,
    gans,
    memorisation,
    obedience,
    regime,
    resolution,
    results,
    shots,
    smudge,
    video,
    wishes,
)

STUDIES = {"ablations": ablations.main, "curves": curves.main, "bench": bench.main, "regime": regime.main, "gans": gans.main,
           "beyond": beyond.main, "claim": claim.main, "evidence": evidence.main, "shots": shots.main, "smudge": smudge.main,
           "resolution": resolution.main, "results": results.main, "video": video.main, "wish": wishes.main, "words": obedience.main}


def main(argv: list[str]) -> int:
    """Hand the rest of the line to a study."""
    name, *rest = argv or ["--help"]
    if name in STUDIES:
        return STUDIES[name](rest)
    if name in memorisation.STUDIES:
        return memorisation.main(argv)
    print(__doc__)
    return 0 if name in ("-h", "--help") else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
