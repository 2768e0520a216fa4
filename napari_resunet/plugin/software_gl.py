"""Keeps the window alive where OpenGL is done in software, as on a remote desktop or a machine without a driver.

Mesa's software renderer (22.3.6 of Debian 12 at least) may crash at the next draw after a program was deleted, and
vispy deletes one with each layer. There the few kilobytes of such a program are kept until the window is closed.
"""

from __future__ import annotations

import functools

from vispy.gloo import gl, glir


def spare_programs() -> None:
    """Let vispy delete no program where Mesa's software renderer draws; done once, on all else without effect."""
    delete = glir.GlirProgram.delete
    if hasattr(delete, "__wrapped__"):
        return

    @functools.wraps(delete)
    def delete_unless_software(program: glir.GlirProgram) -> None:
        if "llvmpipe" not in gl.glGetParameter(gl.GL_RENDERER):
            delete(program)

    glir.GlirProgram.delete = delete_unless_software
