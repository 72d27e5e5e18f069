"""The chapters' door to every figure: ``plots.rows``, ``plots.curves``, ``plots.show`` … Each is a pure function of tensors.

How figures look is in :mod:`.style`; they are drawn by :mod:`.pictures`, :mod:`dslib.show.curves` and :mod:`.scores`.
"""

from .curves import crowds, curves, heatmaps, loss_name, losses, schedules, shares
from .pictures import bands, grid, rows, signed_rows, tile
from .scores import ablation, forest, scorecard, squash, strips, ways
from .style import COLOURS, LARGE, SMALL, TEXT, apart, darker, headline, new_figure, show, shrink, table, threshold, to_png

__all__ = ["COLOURS", "LARGE", "SMALL", "TEXT", "ablation", "apart", "bands", "crowds", "curves", "darker", "forest", "grid",
           "headline", "heatmaps", "loss_name", "losses", "new_figure", "rows", "schedules", "scorecard", "shares", "show", "shrink",
           "signed_rows", "squash", "strips", "table", "threshold", "tile", "to_png", "ways"]
