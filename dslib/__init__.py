"""dslib: DomainStudio (arXiv 2306.14153) in small modules, read in the order of the course's chapters.

env, avatars, data (chapter 00) · ddpm (01) · models, sample (02) · train (02, 03, 06) · losses (04, 06) · haar (05)
· metrics, report (07) · plots (all) · cli
"""

from .base.errors import UserError

__version__ = "0.1.0"
__all__ = ["UserError", "__version__"]
