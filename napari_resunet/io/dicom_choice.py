"""Which stack of slices is the CT: the only one, or the one that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_resunet.errors import InputError
from napari_resunet.io.dicom_list import SeriesInfo, describe_stack
from napari_resunet.io.dicom_stacks import Stack

_LISTED = 12
_REMEDY = "pass series= (--series) with one of these UIDs or its unique ending"


class SeriesChoiceError(InputError):
    """A folder holds several DICOM series; the user has to say which.

    Parameters
    ----------
    message : str
        For the user.
    series : tuple of SeriesInfo
        To choose from.
    """

    def __init__(self, message: str, *, series: tuple[SeriesInfo, ...]) -> None:
        super().__init__(message)
        self.series = series


def choose_stack(stacks: Sequence[Stack], series: str | None, where: Path) -> Stack:
    """Return the stack to read.

    Parameters
    ----------
    stacks : sequence of Stack
        At least one.
    series : str, optional
        The SeriesInstanceUID or its unique ending, with ``#2`` after it for the second stack of a series; not
        needed where there is one stack only.
    where : Path
        Named in errors.

    Raises
    ------
    SeriesChoiceError
        If there are several and `series` does not say which one, or it names none or more than one.
    """
    wanted = list(stacks) if series is None else _named(stacks, series)
    if len(wanted) == 1:
        return wanted[0]
    infos = tuple(describe_stack(stack) for stack in wanted or stacks)
    listed = "; ".join(f"{info.key or 'no UID'} ({info})" for info in infos[:_LISTED])
    if len(infos) > _LISTED:
        listed += f"; and {len(infos) - _LISTED} more"
    if not wanted:
        raise SeriesChoiceError(f"{where} has no series {series!r}; it has: {listed}", series=infos)
    named = "" if series is None else f" ending in {series!r}"
    if len({stack.uid for stack in wanted}) > 1:
        raise SeriesChoiceError(
            f"{where} holds {len(wanted)} CT series{named}; {_REMEDY}: {listed}", series=infos
        )
    raise SeriesChoiceError(
        f"{where}: one series{named} mixes {len(wanted)} stacks of slices; {_REMEDY}, such as "
        f"{f'#{wanted[0].number}'!r}: {listed}",
        series=infos,
    )


def _named(stacks: Sequence[Stack], series: str) -> list[Stack]:
    """Return the stacks that a UID or its ending may mean."""
    uid, _, number = series.partition("#")
    exact = [stack for stack in stacks if stack.uid == uid]
    found = exact or [stack for stack in stacks if stack.uid.endswith(uid)]
    return [stack for stack in found if not number or str(stack.number or 1) == number]
