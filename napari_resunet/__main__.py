"""``python -m napari_resunet`` and ``napari-resunet``: the command line, with the window handed to it."""

from __future__ import annotations

import sys
from typing import Any

from napari_resunet import cli


def open_window(*arguments: Any, **options: Any) -> None:
    """Open napari; imported only when a command asks for it."""
    from napari_resunet.plugin.launch import open_window

    open_window(*arguments, **options)


def main() -> None:
    sys.exit(cli.run(open_window=open_window))


if __name__ == "__main__":
    main()
