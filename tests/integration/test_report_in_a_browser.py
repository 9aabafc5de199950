"""The report as a browser sees it: no complaint, no request, every chart drawn, tooltips, keys, folds, dark mode."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from occframe.evaluation.report import content
from occframe.evaluation.report.charts import colours_of
from occframe.evaluation.report.page import Fold, Report, render
from occframe.evaluation.results import Evaluation, Sweep
from occframe.step import Artefact
from occframe.types import Curve, Group, Histogram, Interval, ProtocolResult
from tests.browser import BROWSER, Tab, browser_tab

pytestmark = pytest.mark.skipif(not BROWSER, reason="no chromium is installed")

# Bokeh draws inside shadow roots, which a plain query does not enter.
DEEP = """
const deep = (root, selector) => [
  ...root.querySelectorAll(selector),
  ...[...root.querySelectorAll('*')].filter((e) => e.shadowRoot).flatMap((e) => deep(e.shadowRoot, selector)),
];
const inks = (plot) => Math.max(0, ...deep(plot, 'canvas').filter((c) => c.width && c.height).map((canvas) => {
  // A copy: the browser would warn of reading the canvas itself several times.
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
}));
const focused = () => {
  let element = document.activeElement;
  while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  const ring = getComputedStyle(element);
  return {
    tag: element.tagName,
    name: element.getAttribute('aria-label') || element.textContent.trim(),
    ring: ring.outlineStyle !== 'none' && parseFloat(ring.outlineWidth) >= 2,
    seen: element.getBoundingClientRect().width > 1,
  };
};
const tooltips = () => deep(document, '.bk-Tooltip').filter((e) => e.checkVisibility())
  .map((e) => [...e.shadowRoot.querySelectorAll('.bk-tooltip-content')].map((part) => part.innerText).join(' '));
const plots = (where) => [...document.querySelectorAll(where + ' .plot')];
"""


def result(level: float) -> ProtocolResult:
    far = np.array([0, 1e-3, 1e-2, 1e-1, 1.0])
    edges = np.linspace(-1, 1, 201)
    rng = np.random.default_rng(0)
    counts = {"genuine": rng.normal(level, 0.1, 900), "impostor": rng.normal(0, 0.1, 1000)}
    return ProtocolResult(
        metrics={"tar@far=1e-2": level, "eer": 1 - level},
        curves={
            "ROC": Curve("ROC", far, np.array([0, level - 0.1, level, level + 0.05, 1.0]), (1e-3, 1.0)),
            "CMC": Curve("CMC", np.arange(1, 6), np.linspace(level, 1, 5)),
            "DIR-FPIR": Curve("DIR-FPIR", far, np.array([0, level - 0.2, level - 0.1, level, level]), (1e-3, 1.0)),
            "rank-1 by distractors": Curve("rank-1", np.array([10, 100, 1000]), np.array([0.9, 0.8, 0.7])),
        },
        intervals={"tar@far=1e-2": Interval(level - 0.02, level + 0.01, np.empty(0, np.float32))},
        histograms={"scores": Histogram(edges, {k: np.histogram(v, edges)[0] for k, v in counts.items()})},
        groups=[Group("glasses", "no", {"tar@far=1e-2": level}, {"genuine pairs": 90})],
        counts={"genuine pairs": 900},
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    points = {"clean": 0.9, "boxes-1": 0.8, "boxes-2": 0.7}
    nobody = Artefact("", "embeddings", "", {})
    sweep = Sweep("boxes", "severity", "probe", [(0.1, "boxes-1"), (0.2, "boxes-2")])
    results = {"verification": {name: result(level) for name, level in points.items()}}
    evaluation = Evaluation(nobody, dict.fromkeys(points, nobody), results, sweeps=[sweep])
    main = content.main_results(evaluation)
    lines = list(points)
    made = Report(
        title="Faces",
        facts=[("seed", "0")],
        lines=lines,
        cards=content.cards(main),
        tables=[*content.tables(main), *content.group_tables(main), *content.sweep_tables(evaluation)],
        charts=[*content.sweep_charts(evaluation), *content.charts(main, colours_of(lines))],
        sheets=[],
        mistakes=[],
        notes=["A note."],
        configuration="seed: 0\n",
        environment=[("torch", "2")],
        folds=[Fold("all", content.tables(results), list(content.charts(results, colours_of(lines), "fold")))],
    )
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(made), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def tab(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser_tab(tmp_path_factory.mktemp("profile")) as tab:
        tab.open(page)
        tab.evaluate(DEEP.replace("const ", "var "))
        yield tab


def test_every_chart_is_drawn(tab: Tab) -> None:
    assert tab.evaluate("plots('#curves').length") == 2 + 6
    tab.wait_for("plots('#curves').every((plot) => inks(plot) > 20)")
    assert tab.errors == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in tab.requests)


def test_every_fold_opens_and_draws_what_is_in_it(tab: Tab) -> None:
    assert tab.evaluate("plots('#details').every((plot) => inks(plot) === 0)")
    tab.evaluate("document.querySelectorAll('summary').forEach((summary) => summary.click())")
    assert tab.evaluate("[...document.querySelectorAll('details')].every((fold) => fold.open)")
    assert tab.evaluate("[...document.querySelectorAll('details > :last-child')].every((e) => e.offsetHeight > 20)")
    tab.wait_for("plots('#details').length === 6 && plots('#details').every((plot) => inks(plot) > 20)")
    assert tab.errors == []


def test_keys_reach_what_can_be_used_in_the_order_of_the_page(tab: Tab) -> None:
    """Every link, table and fold once, visibly; charts are pictures, with words for whoever cannot see them."""
    usable = "a[href], summary, [tabindex='0']"
    there = tab.evaluate(f"""[...document.querySelectorAll("{usable}")].filter((e) => e.checkVisibility())
        .map((e) => e.getAttribute('aria-label') || e.textContent.trim())""")
    walked = []
    tab.press("Tab")
    while (now := tab.evaluate("focused()"))["tag"] != "BODY":
        walked.append(now["name"])
        assert now["ring"], now
        assert now["seen"], now
        assert len(walked) <= len(there), walked
        tab.press("Tab")
    assert walked == there
    assert walked[0] == "Skip to the figures"
    assert {"Figures", "Curves", "In detail", "Configuration"} <= set(walked)
    assert tab.errors == []


def test_a_screen_reader_finds_its_way(tab: Tab) -> None:
    levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert tab.evaluate(f"document.querySelectorAll('{landmark}').length") == 1
    plots = tab.evaluate(
        "[...document.querySelectorAll('.plot')].map((e) => [e.getAttribute('role'), e.getAttribute('aria-label')])"
    )
    assert all(role == "img" and len(label) > 40 for role, label in plots)
    assert tab.evaluate("[...document.querySelectorAll('[role=region]')].every((e) => e.getAttribute('aria-label'))")
    assert tab.evaluate("[...document.querySelectorAll('[href^=\"#\"]')].every((e) => document.querySelector(e.hash))")


def test_enter_closes_and_opens_a_fold_and_follows_a_link(tab: Tab) -> None:
    tab.evaluate("document.querySelector('#details summary').focus()")
    tab.press("Enter")
    assert not tab.evaluate("document.querySelector('#details details').open")
    tab.press("Enter")
    assert tab.evaluate("document.querySelector('#details details').open")
    tab.evaluate("document.querySelector('nav a[href=\"#reproduce\"]').focus()")
    tab.press("Enter")
    assert tab.evaluate("location.hash") == "#reproduce"


def test_every_chart_tells_the_figures_under_the_mouse(tab: Tab) -> None:
    tab.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    for number in range(tab.evaluate("plots('main').length")):
        tab.evaluate(f"plots('main')[{number}].scrollIntoView({{block: 'center'}})")
        left, top, width, height, lines = tab.evaluate(f"""(() => {{
            const box = plots('main')[{number}].getBoundingClientRect();
            const legend = plots('main')[{number}].parentElement.querySelectorAll('.legend > span:has(.swatch)');
            return [box.left, box.top, box.width, box.height, [...legend].map((line) => line.textContent)];
        }})()""")
        # On a log axis half of the chart lies left of what any curve reaches.
        for share in (0.6, 0.7, 0.8, 0.9):
            tab.point_at(left + share * width, top + height / 2)
        tab.wait_for("tooltips().length === 1")
        (told,) = tab.evaluate("tooltips()")
        for line in lines:
            assert re.search(rf"^{line}\b.*:\s*\d", told, re.MULTILINE), (line, told)
        tab.point_at(left + width / 2, top - 40)
        tab.wait_for("tooltips().length === 0")
    assert tab.errors == []


def test_dark(tab: Tab) -> None:
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert tab.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert tab.errors == []
