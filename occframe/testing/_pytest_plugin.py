"""The ``pytest11`` entry: every pytest of an environment with occframe imports this, so nothing here costs anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from occframe import __version__
from occframe.hookspecs import API_VERSION
from occframe.testing import SUITE_VERSION

if TYPE_CHECKING:
    from occframe.testing.suite import Case

pytest_plugins = ["occframe.testing.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("occframe", "conformance of occframe plugins")
    group.addoption(
        "--occframe-plugin",
        action="append",
        default=[],
        metavar="DIST",
        help="check every component of an installed distribution, beside the tests collected; may be repeated",
    )
    group.addoption("--occframe-tier", choices=["core", "all"], default="core", help="with `all`, the extra checks too")
    group.addoption(
        "--occframe-report", type=Path, metavar="FILE", help="write what became of every conformance check, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    if (path := config.getoption("--occframe-report")) is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_ReportWriter(path, _distributions(config)), "occframe-report")


def pytest_report_header(config: pytest.Config) -> str:
    line = f"occframe: {__version__}, plugin API {API_VERSION}, conformance suite {SUITE_VERSION}"
    for name in _distributions(config):
        from occframe.testing.suite import versions

        known = versions(name)
        line += "; " + ", ".join(f"{key} {known[key]}" for key in (name, "torch", "numpy", "pydantic") if key in known)
    return line


def _distributions(config: pytest.Config) -> list[str]:
    return list(config.getoption("--occframe-plugin"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the checks of ``--occframe-plugin`` before -k and -m choose."""
    if not (names := _distributions(config)):
        return
    from occframe.errors import OccframeError
    from occframe.testing.suite import Conformance

    for name in names:
        try:
            suite = Conformance(name, tier=config.getoption("--occframe-tier"))
        except OccframeError as error:
            raise pytest.UsageError(f"--occframe-plugin {name}: {error}") from error
        config.add_cleanup(suite.close)
        items += [CheckItem.of(session, case) for case in suite.cases]


class CheckItem(pytest.Item):
    """One check of one component, without a file; its id is ``kind/name/check``."""

    case: Case

    @classmethod
    def of(cls, session: pytest.Session, case: Case) -> CheckItem:
        item: CheckItem = cls.from_parent(session, name=case.id, nodeid=case.id)
        item.case = case
        item.user_properties += [("occframe_check", case.id), ("occframe_tier", case.check.tier)]
        return item

    def runtest(self) -> None:
        from occframe.testing.pytest_tests import report_outcome

        report_outcome(self.case)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


class _ReportWriter:
    """Gathers what became of the checks; with xdist, in the process that the workers report to."""

    def __init__(self, path: Path, distributions: list[str]) -> None:
        self._path = path
        self._distributions = distributions
        self._results: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        name = properties.get("occframe_check")
        if name is None or (report.when != "call" and report.passed):
            return
        self._results[str(name)] = {
            "id": name,
            "tier": properties["occframe_tier"],
            "outcome": "failed as expected" if hasattr(report, "wasxfail") and report.skipped else report.outcome,
            "message": _message(report),
            "seconds": round(report.duration, 3),
        }

    def pytest_sessionfinish(self) -> None:
        from occframe.testing.suite import versions

        results = list(self._results.values())
        known = {key: value for name in self._distributions or ["occframe"] for key, value in versions(name).items()}
        content = {
            "versions": known,
            "conforms": not any(result["outcome"] == "failed" for result in results),
            "results": results,
        }
        self._path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _message(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail)
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return report.longreprtext if report.failed else ""
