"""The page on which a person looks a cohort over: one file that opens from the disk, without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from napari_resunet.cohort.manifest import CaseEntry, Status, count_by_status
from napari_resunet.io.atomic import replacing
from napari_resunet.io.sidecar import NOTICE

PAGE = "index.html"
_NEEDS_A_PERSON = (Status.FAILED, Status.ASKED, Status.REFUSED)  # the worst first


@dataclass(frozen=True)
class _Row:
    """A case on the page.

    Parameters
    ----------
    entry : CaseEntry
        What is known of it.
    unusual : tuple of str
        Why its volumes stand out of the cohort.
    """

    entry: CaseEntry
    unusual: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What a person has said of it: a word to sort and filter by."""
        if self.entry.rejected:
            return "rejected"
        if self.entry.reviewed:
            return "accepted"
        return "open" if self.entry.status is Status.DONE else ""


def write_page(out: Path, entries: Sequence[CaseEntry], unusual: Mapping[str, tuple[str, ...]]) -> Path:
    """Write ``index.html``, and return its path.

    The same cases give the same bytes.

    Parameters
    ----------
    out : Path
        The folder of a cohort.
    entries : sequence of CaseEntry
        All its cases.
    unusual : mapping
        Why volumes stand out of the cohort, by the id of the case.

    Raises
    ------
    OutputError
        If the page cannot be written.
    """
    rows = [_Row(entry, unusual.get(entry.id, ())) for entry in entries]
    text = _rendered(out.absolute().name, sorted(rows, key=_by_doubt), _facts(entries))
    with replacing(out / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return out / PAGE


def _rendered(name: str, rows: Sequence[_Row], facts: Mapping[str, str]) -> str:
    stuck = [row for status in _NEEDS_A_PERSON for row in rows if row.entry.status is status]
    return (
        _environment()
        .get_template("page.html")
        .render(
            name=name,
            notice=NOTICE,
            rows=rows,
            stuck=stuck,
            counts={
                status.value: count for status, count in count_by_status([row.entry for row in rows]).items()
            },
            verdicts={word: sum(row.verdict == word for row in rows) for word in ("accepted", "rejected")},
            unusual=sum(bool(row.unusual) for row in rows),
            facts=facts,
        )
    )


def _environment() -> Environment:
    """Return the templates of this folder; whatever a case says is escaped in them."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"ml": _ml, "link": quote, "when": _when}
    return found


def _by_doubt(row: _Row) -> tuple[float, str]:
    """Put the most doubtful case first, and those without a doubt last."""
    doubt = row.entry.doubt_mean
    return (1.0 if doubt is None else -doubt, row.entry.id)


def _facts(entries: Sequence[CaseEntry]) -> dict[str, str]:
    """Return what holds for the cohort as a whole, by name."""
    done = [entry for entry in entries if entry.status is Status.DONE]
    seconds = [entry.seconds_all for entry in done if entry.seconds_all is not None]
    models = {f"{entry.model} (SHA-256 {entry.model_sha256[:12]})" for entry in done if entry.model}
    facts = {
        "Model": _listed(models),
        "Program": _listed({f"napari-resunet {entry.package_version}" for entry in done}),
        "Ran on": _listed({entry.device for entry in done if entry.device}),
        "Seconds a case": f"{sum(seconds) / len(seconds):.1f} on average" if seconds else "",
        "Corrected by hand": str(sum(entry.version > 1 for entry in done) or ""),
        "As of": _when(max((max(entry.ended, entry.reviewed_at) for entry in entries), default="")),
    }
    return {what: fact for what, fact in facts.items() if fact}


def _listed(found: set[str]) -> str:
    return ", ".join(sorted(found))


def _ml(volume: float | None) -> str:
    return "" if volume is None else f"{volume:,.0f}"


def _when(moment: str) -> str:
    """Return a moment as ISO 8601 has it, to the minute."""
    return f"{moment[:16].replace('T', ' ')} UTC" if moment else ""
