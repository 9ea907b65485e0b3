"""protclip: protein structure and sequence in one embedding space, from partly paired data.

>>> import protclip
>>> model = protclip.load()  # doctest: +SKIP
>>> model.embed("MKTAYIAKQR")  # doctest: +SKIP
Embeddings(1 x 256, sequence: 0)
"""

from typing import TYPE_CHECKING

from protclip.errors import ProtclipError as ProtclipError
from protclip.lazy import attach

if TYPE_CHECKING:
    from protclip.inference.aligned_model import AlignedModel as AlignedModel
    from protclip.inference.aligned_model import load as load
    from protclip.inference.embeddings import Embeddings as Embeddings
    from protclip.tasks.predict import Head as Head
    from protclip.tasks.predict import load_head as load_head
    from protclip.training.pretrain import pretrain as pretrain

__version__ = "0.2.0"
# torch and its company are imported at first use, not with the package.
__getattr__, __dir__, __all__ = attach(__name__)
__all__ += ["ProtclipError", "__version__"]
