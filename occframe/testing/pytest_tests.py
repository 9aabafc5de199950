"""The suite as a pytest test, one id a check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from occframe.testing.suite import Conformance, TierChoice

if TYPE_CHECKING:
    from occframe.testing.suite import Case


def conformance_tests(
    distribution: str, *, expected_failures: Mapping[str, str] | None = None, tier: TierChoice = "core"
) -> Callable[..., None]:
    """A test function, parametrised over every check of every component of an installed distribution.

    expected_failures: reason by id, ``"backbone/my_resnet/eval_is_batch_independent"``, or by check's name for all
    components; such a check has to fail, so that the entry goes when the fault does.
    tier: "core", or "all" with the extra checks.

        test_conformance = conformance_tests("my-distribution")
    """
    import pytest

    suite = Conformance(distribution, tier=tier)
    expected = dict(expected_failures or {})
    known = {name for case in suite.cases for name in (case.id, case.check.name)}
    if unknown := sorted(set(expected) - known):
        raise pytest.UsageError(f"expected_failures names no check of {suite.name}: {', '.join(unknown)}")

    def parameter(case: Case) -> object:
        reason = expected.get(case.id, expected.get(case.check.name))
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason is not None else []
        return pytest.param(case, id=case.id, marks=marks)

    @pytest.mark.parametrize("case", [parameter(case) for case in suite.cases])
    def test_conformance(case: Case, record_property: Callable[[str, object], None]) -> None:
        record_property("occframe_check", case.id)
        record_property("occframe_tier", case.check.tier)
        report_outcome(case)

    return test_conformance


def report_outcome(case: Case) -> None:
    """Run a case and tell pytest what became of it."""
    import pytest

    result = case.run()
    if result.outcome == "skipped":
        pytest.skip(result.message)
    if result.outcome == "failed":
        promise = f"{result.message}\npromised: {case.check.summary}"
        pytest.fail(f"{promise}\n\n{result.details}" if result.details else promise, pytrace=False)
