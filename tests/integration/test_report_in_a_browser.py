"""The report as a browser sees it: no complaint, no request, every chart drawn, folds, dark mode."""

from __future__ import annotations

from collections.abc import Iterator
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


def test_dark(tab: Tab) -> None:
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert tab.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert tab.errors == []
