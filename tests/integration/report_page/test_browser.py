"""The page in a real browser: nothing fetched, nothing cut off, everything legible, on a screen, a phone and paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coppice_api.base import Provenance
from coppice_pruner.report_page import GroupWidth, LayerEnergy, ReportPage, Step, render
from tests import chromium
from tests.chromium import Tab
from tests.unit.report_page import pages

# Contrast of WCAG 2.2, 1.4.3, of every text that is seen, against the nearest background painted behind it.
_CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parse = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; });
    return .2126 * x + .7152 * y + .0722 * z;
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const zone = getComputedStyle(document.querySelector('svg .zone') || document.body).fill;
  const seen = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest('title, desc, style') || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const isSvg = element instanceof SVGElement;
    const ink = parse(isSvg ? style.fill : style.color);
    const grounds = [behind(element)];
    if (isSvg) grounds.push(over(parse(zone), grounds[0]));
    for (const ground of grounds) {
      const [one, other] = [luminance(over(ink, ground)), luminance(ground)].sort((a, b) => b - a);
      seen.push({text: node.data.trim().slice(0, 40), ratio: (one + .05) / (other + .05)});
    }
  }
  return seen;
})()
"""
# Marks that carry meaning: WCAG 2.2, 1.4.11.
_MARKS = """
(() => {
  const lit = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number).map((c) => {
    c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  }).reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const ground = lit(getComputedStyle(document.body).backgroundColor);
  const of = (query, property) => {
    const mark = lit(getComputedStyle(document.querySelector(query))[property]);
    return (Math.max(mark, ground) + .05) / (Math.min(mark, ground) + .05);
  };
  return {
    accepted: of('svg .accepted', 'fill'), rejected: of('svg .rejected', 'stroke'), start: of('svg .start', 'fill'),
    ring: of('svg .ring', 'stroke'), limit: of('svg .limit', 'stroke'), dense: of('.bar.dense', 'backgroundColor'),
    pruned: of('.bar.pruned', 'backgroundColor'),
  };
})()
"""
_CUT_OFF = """
[...document.querySelectorAll('body *')].filter((element) => {
  const box = element.getBoundingClientRect();
  return box.width && box.right > innerWidth + 0.5 && !element.closest('.box, pre');
}).map((element) => element.tagName + '.' + element.className + ' ' + element.textContent.slice(0, 40))
"""
_UNREADABLE = """
[...document.querySelectorAll('svg.chart')].filter((svg) => svg.getBoundingClientRect().width)
  .map((svg) => 12.5 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)
"""
# Of letters that overlap in a picture nobody reads either.
_OVERLAPS = """
[...document.querySelectorAll('svg.chart')].filter((svg) => svg.getBoundingClientRect().width).flatMap((svg) => {
  const texts = [...svg.querySelectorAll('text')].map((text) => [text.textContent, text.getBoundingClientRect()]);
  return texts.flatMap(([one, a], i) => texts.slice(i + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4
  ).map(([other]) => one + ' | ' + other));
})
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    try:
        program = chromium.find()
    except chromium.ChromiumUnavailableError as error:
        pytest.skip(str(error))
    with chromium.tab(program, tmp_path_factory.mktemp("chromium") / "profile") as opened:
        yield opened


def unwieldy() -> ReportPage:
    """Return a page with names that no line holds."""
    long = "model.encoder.layers." + "0123456789" * 12
    return pages.page(
        config=pages.config(name="n" * 200, hardware="h" * 60),
        message="w" * 300,
        device="d" * 150,
        layers=(LayerEnergy(long, 1e-3, 1e-4),),
        widths=(GroupWidth(long, 8, 4),),
    )


PAGES = {
    "full": pages.page,
    "estimated": lambda: pages.page(provenance=Provenance.ESTIMATED),
    "bare": pages.bare,
    "unwieldy": unwieldy,
}


@pytest.fixture(params=PAGES, ids=str)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    file = tmp_path / "report.html"
    file.write_text(render(PAGES[request.param]()), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def full(tmp_path: Path) -> str:
    file = tmp_path / "report.html"
    file.write_text(render(pages.page()), encoding="utf-8")
    return file.as_uri()


def told(tab: Tab, *methods: str) -> list[dict[str, Any]]:
    return [event["params"] for event in tab.events if event["method"] in methods]


def test_nothing_is_fetched_and_the_console_stays_empty(tab: Tab, address: str) -> None:
    tab.show()
    tab.open(address)
    tab.evaluate("new Promise((done) => setTimeout(done, 200))")
    fetched = {event["request"]["url"] for event in told(tab, "Network.requestWillBeSent")}
    assert {url for url in fetched if not url.startswith("data:")} == {address}
    assert told(tab, "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown") == []


def test_a_script_that_got_onto_the_page_would_not_run(tab: Tab, full: str, tmp_path: Path) -> None:
    attacked = tmp_path / "attacked.html"
    text = render(pages.page()).replace("<main>", "<main><script>window.ran = true</script>")
    attacked.write_text(text, encoding="utf-8")
    tab.open(attacked.as_uri())
    assert tab.evaluate("window.ran === undefined")


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_the_page_never_scrolls_sideways(tab: Tab, address: str, width: int) -> None:
    tab.show(width=width)
    tab.open(address)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(_CUT_OFF) == []


def crowded() -> ReportPage:
    """Return a page with many steps close to each other."""
    steps = tuple(
        Step(number, number % 4 != 0, 0.5 + number / 900, 0.5 + number / 1000, None, 0.93 - number / 5000)
        for number in range(1, 41)
    )
    return pages.page(steps=steps)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("shown", [pages.page, crowded])
def test_letters_in_pictures_stay_large_and_apart(
    tab: Tab, tmp_path: Path, shown: Callable[[], ReportPage], width: int
) -> None:
    (tmp_path / "report.html").write_text(render(shown()), encoding="utf-8")
    tab.show(width=width)
    tab.open((tmp_path / "report.html").as_uri())
    sizes = tab.evaluate(_UNREADABLE)
    assert len(sizes) == 2
    assert min(sizes) >= 11
    assert tab.evaluate(_OVERLAPS) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_text_has_contrast(tab: Tab, address: str, width: int, dark: bool) -> None:
    tab.show(width=width, dark=dark)
    tab.open(address)
    seen = tab.evaluate(_CONTRAST)
    assert len(seen) > 20
    assert [item for item in seen if not item["ratio"] >= 4.5] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_marks_and_bars_have_contrast_and_the_schemes_differ(tab: Tab, full: str, dark: bool) -> None:
    tab.show(dark=dark)
    tab.open(full)
    marks = tab.evaluate(_MARKS)
    assert {name: ratio for name, ratio in marks.items() if ratio < 3} == {}
    red, green, blue = re.findall(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (int(red) + int(green) + int(blue) < 200) is dark


def test_a_screen_reader_finds_landmarks_and_named_pictures(tab: Tab, address: str) -> None:
    tab.show()
    tab.open(address)
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    known = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    ]
    roles = {role for role, _ in known}
    assert {"main", "banner", "navigation", "contentinfo", "heading"} <= roles
    assert [role for role, name in known if role in ("image", "img", "region", "table") and not name.strip()] == []
    # A region without a name is none.
    regions = "document.querySelectorAll('section, .box, pre').length"
    assert sum(role == "region" for role, _ in known) == tab.evaluate(regions)
    assert tab.evaluate("document.documentElement.lang") == "en"
    assert tab.evaluate("document.title").endswith("Coppice")


def test_the_keyboard_reaches_the_links_and_what_scrolls_and_shows_where_it_is(tab: Tab, full: str) -> None:
    tab.show()
    tab.open(full)
    reached = []
    for _ in range(60):
        for kind in ("rawKeyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        where = tab.evaluate(
            "(() => { const at = document.activeElement, style = getComputedStyle(at);"
            " return [at.tagName, at.getAttribute('href') || at.getAttribute('aria-label') || '', style.outlineStyle,"
            " style.outlineWidth]; })()"
        )
        if where[0] == "BODY":
            break
        reached.append(where)
    assert reached[0][1] == "#verdict"
    assert {tag for tag, *_ in reached} == {"A", "DIV", "PRE"}
    assert [item for item in reached if item[2:] != ["solid", "3px"]] == []


def test_it_prints_on_a4_with_nothing_cut(tab: Tab, address: str) -> None:
    # In the dark: ink must not turn white on white paper.
    tab.show(dark=True, medium="print", width=680)
    tab.open(address)
    assert [item for item in tab.evaluate(_CONTRAST) if not item["ratio"] >= 4.5] == []
    assert tab.evaluate(
        "[...document.querySelectorAll('.box, pre')].filter((box) => box.scrollWidth > box.clientWidth + 1)"
        ".map((box) => box.getAttribute('aria-label'))"
    ) == []  # fmt: skip
    assert tab.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    printed = tab.pdf()
    assert printed.startswith(b"%PDF")
    sheets = re.findall(rb"/Type\s*/Page\b[^s]", printed)
    assert 1 <= len(sheets) <= 12
    assert re.search(rb"/MediaBox\s*\[\s*0 0 59[45][.\d]* 84[12][.\d]*\s*\]", printed), "A4"
