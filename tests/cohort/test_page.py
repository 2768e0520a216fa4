"""The page of a cohort: what it says, that it is safe to open, and how it behaves in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from napari_resunet.cohort.manifest import CaseEntry, Status, write_entry
from napari_resunet.cohort.summary import write_summary
from napari_resunet.errors import InputError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def done(case_id: str, doubt: float, right: float = 2500.0, **more: object) -> CaseEntry:
    fields = {
        "model": "lung-ct",
        "model_sha256": "0123456789abcdef",
        "package_version": "1.2.3",
        "picture": f"cases/{case_id}/case.png",
        "ml_right": right,
        "ml_left": 2000.0,
        "ml_total": right + 2000.0,
        "doubt_mean": doubt,
        "doubt_worst": 2 * doubt,
        "doubt_worst_slice": 7,
        "seconds_all": 4.0,
        "device": "cpu",
        "ended": "2026-03-04T05:06:07+00:00",
        "version": 1,
    }
    return CaseEntry(case_id, "/ct", status=Status.DONE, **(fields | more))


ENTRIES = [
    done("chest-2", 0.05, 900.0, reviewed=True, reviewed_at="2026-03-05T06:07:08+00:00"),
    done("chest-10", 0.20, 2600.0, rejected="left lung missing"),
    done("chest-1", 0.10, 11_000.0, reviewed=True, version=2, edited_voxels=1234),
    CaseEntry(
        "no-size",
        "/ct",
        status=Status.ASKED,
        reason="x.tif does not say",
        answer_with=("spacing_mm", "frame"),
    ),
    CaseEntry("crash", "/ct", status=Status.FAILED, reason="died", attempts=2, log="cases/crash/case.log"),
    CaseEntry("no-ct", "/ct", status=Status.REFUSED, reason="is a photograph; give a CT"),
    CaseEntry("later", "/ct"),
]


def cohort(out: Path, entries: list[CaseEntry]) -> str:
    for entry in entries:
        write_entry(out, entry)
    write_summary(out)
    return (out / "index.html").read_text(encoding="utf-8")


class Text(HTMLParser):
    """The words of a page without its style and script, and the tags that can load or run something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("style", "script"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words += data.split()

    def __str__(self) -> str:
        return " ".join(self.words)


def rows_of(html: str) -> list[list[str]]:
    """The cells of each row that is shown in the table of all cases, in words."""
    table = html[html.index('<table id="cases">') :]
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    rows = re.findall(r"<tr([^>]*)>(.*?)</tr>", body, re.DOTALL)
    return [
        [str(Text(cell)) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for head, row in rows
        if "hidden" not in head
    ]


def names(html: str) -> list[str]:
    return [row[1] for row in rows_of(html)]


def test_the_cases_that_need_a_person_are_on_top_with_reason_and_remedy(tmp_path: Path) -> None:
    text = str(Text(cohort(tmp_path, ENTRIES)))
    assert "3 cases need a person first" in text
    top = text[: text.index("All cases")]
    assert top.index("crash failed died") < top.index("no-size asked") < top.index("no-ct refused")
    assert "in the column spacing_mm or frame ; then run the cohort again with --answers" in top
    assert "Tried 2 times; --retry tries again." in top
    assert "is a photograph; give a CT" in top
    assert "chest-2" not in top


def test_a_row_tells_volumes_doubt_time_and_what_a_person_said(tmp_path: Path) -> None:
    rows = {row[1]: row for row in rows_of(cohort(tmp_path, ENTRIES))}
    assert rows["chest-2"][2:8] == ["done", "900", "2,000", "2,900", "0.050 worst 0.10, slice 7", "4.0"]
    assert rows["chest-2"][8] == "accepted 2026-03-05 06:07 UTC"
    assert rows["chest-1"][8] == "accepted version 2, 1,234 voxels by hand"
    assert rows["chest-10"][8] == "rejected left lung missing"
    assert rows["later"][2:] == ["waiting", "", "", "", "", "", ""]


def test_the_head_tells_totals_model_program_and_date(tmp_path: Path) -> None:
    text = str(Text(cohort(tmp_path, ENTRIES)))
    assert "For research use only. Not a medical device." in text
    assert "waiting 1 done 3 asked 1 refused 1 failed 1 2 accepted by a person, 1 rejected, of 3 done" in text
    assert "Model lung-ct (SHA-256 0123456789ab)" in text
    assert "Program napari-resunet 1.2.3" in text
    assert "As of 2026-03-05 06:07 UTC" in text


def test_an_unusual_volume_is_told_once(tmp_path: Path) -> None:
    usual = [done(f"usual-{at}", 0.1, 2400.0 + 20 * at) for at in range(11)]
    html = cohort(tmp_path, [*usual, done("odd", 0.1, 300.0)])
    rows = {row[1]: row for row in rows_of(html)}
    assert rows["odd"][8].count("⚠") == 1  # the right lung explains both
    assert "right lung unusually small: 300 ml" in rows["odd"][8]
    assert "⚠" not in rows["usual-0"][8]


def test_what_a_case_says_is_text_and_never_markup(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    entries = [
        CaseEntry("a", "/ct", status=Status.FAILED, reason=evil, log="cases/a/<b>.log"),
        done("b", 0.1, rejected=evil, model=evil, picture='cases/b/" onload="x.png'),
    ]
    plain, spoilt = Text(cohort(tmp_path / "x", ENTRIES)), Text(cohort(tmp_path / "y", entries))
    assert {tag for tag, _ in spoilt.tags} <= {tag for tag, _ in plain.tags}
    assert [tag for tag, _ in spoilt.tags].count("script") == 1
    assert not [attributes for _, attributes in spoilt.tags if {"onload", "onerror"} & set(attributes)]
    assert str(spoilt).count('alert("x")') == 3


def test_the_page_loads_nothing_but_pictures_beside_it(tmp_path: Path) -> None:
    page = Text(cohort(tmp_path, ENTRIES))
    loaded = [
        value for _, attributes in page.tags for name in ("src", "href") if (value := attributes.get(name))
    ]
    assert loaded
    assert all(value.startswith("cases/") for value in loaded)
    assert not any(tag in ("link", "iframe", "object", "base") for tag, _ in page.tags)
    policy = next(
        tag["content"] for _, tag in page.tags if tag.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all(image["loading"] == "lazy" and image["alt"] for image in images)


def test_the_same_cases_give_the_same_bytes(tmp_path: Path) -> None:
    cohort(tmp_path, ENTRIES)
    before = (tmp_path / "index.html").read_bytes()
    write_summary(tmp_path)
    assert (tmp_path / "index.html").read_bytes() == before


def test_a_cohort_without_cases_has_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    assert "lungs of 0 CTs" in cohort(tmp_path, [])


def test_what_is_no_cohort_gets_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the folder of a cohort"):
        write_summary(tmp_path)
    assert not (tmp_path / "index.html").exists()


# ---- in a browser

browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("cohort")
    cohort(out, ENTRIES)
    return (out / "index.html").as_uri()


@pytest.fixture
def opened(page: str, tmp_path: Path):
    """Opens the page with choices in its address, and returns what it has become then."""

    def opens(choices: str) -> str:
        command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path}", "--dump-dom", f"{page}#{choices}"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    return opens


@browser
@pytest.mark.parametrize(
    ("choices", "first"),
    [
        ("", ["chest-10", "chest-1", "chest-2"]),  # by doubt
        ("sort=doubt&order=ascending", ["chest-2", "chest-1", "chest-10"]),
        ("sort=right", ["chest-1", "chest-10", "chest-2"]),  # 11,000 is more than 2,600
        ("sort=case", ["chest-1", "chest-2", "chest-10"]),  # as people count
        ("sort=reviewed", ["chest-1", "chest-2", "chest-10"]),
        ("sort=nonsense", ["chest-10", "chest-1", "chest-2"]),
    ],
)
def test_the_table_can_be_sorted_and_what_is_missing_comes_last(
    opened, choices: str, first: list[str]
) -> None:
    html = opened(choices)
    assert names(html)[:3] == first
    assert len(names(html)) == len(ENTRIES)
    assert html.count("aria-sort=") == 1 + html.count(
        '[aria-sort="'
    )  # one heading, besides those in the style


@browser
def test_the_heading_tells_which_way_it_is_sorted(opened) -> None:
    html = opened("sort=left&order=ascending")
    assert re.search(r'<th [^>]*data-key="left"[^>]*aria-sort="ascending"', html)
    assert not re.search(r'<th [^>]*data-key="doubt"[^>]*aria-sort', html)


@browser
@pytest.mark.parametrize(
    ("choices", "left"),
    [
        ("show=failed", {"crash"}),
        ("show=rejected", {"chest-10"}),
        ("show=accepted", {"chest-1", "chest-2"}),
        ("show=done&find=T-1", {"chest-1", "chest-10"}),
        ("find=nothing", set()),
    ],
)
def test_the_table_shows_what_is_asked_for(opened, choices: str, left: set[str]) -> None:
    html = opened(choices)
    assert set(names(html)) == left
