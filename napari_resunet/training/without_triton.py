"""torch's compiler, which every optimiser imports, without Triton, which does not live beside OpenGL."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

_COMPILER, _TRITON = "torch._dynamo", "triton"


def import_compiler_without_triton() -> None:
    """Import torch's compiler so that no Triton comes with it; nothing here is compiled, so nothing needs it.

    A torch that was built for CUDA imports Triton along with its compiler. Triton has an LLVM of its own. In a process
    in which Mesa has loaded another LLVM to draw a window, that ends everything with a segmentation fault. Whoever
    wants Triton later still gets it.
    """
    modules: dict[str, Any] = sys.modules
    if _COMPILER in modules or _TRITON in modules:
        return
    modules[_TRITON] = None  # says to Python that there is none
    try:
        import_module(_COMPILER)
    finally:
        del modules[_TRITON]
