"""How often garbage is looked for: hardly while modules are imported, and as usual while work is done."""

from __future__ import annotations

import gc

_USUAL = gc.get_threshold()
_OF_IMPORTS = 100_000
"""objects; imports make many and no garbage: looking for it takes a tenth of a short command"""


def expect_imports() -> None:
    gc.set_threshold(_OF_IMPORTS)


def expect_work() -> None:
    """Look for garbage as usual, but not among what the imports have made."""
    if gc.get_threshold() != _USUAL:
        gc.freeze()
        gc.set_threshold(*_USUAL)
