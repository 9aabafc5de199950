"""Conformance checks for plugins, and what their tests need. See docs/conformance.md.

A plugin's whole test file::

    from occframe.testing import conformance_tests

    test_conformance = conformance_tests("my-distribution")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from occframe.lazy_names import lazy_names

if TYPE_CHECKING:
    from occframe.testing.pytest_tests import conformance_tests
    from occframe.testing.samples import TinyFaces, face_batch, occluded_batch, unit_vectors
    from occframe.testing.suite import Conformance, Report, Result

#: Of the suite of checks; see "When checks change" in docs/conformance.md.
SUITE_VERSION = "1.0"

_HOMES = {
    "pytest_tests": "conformance_tests",
    "samples": "TinyFaces face_batch occluded_batch unit_vectors",
    "suite": "Conformance Report Result",
}
_HOME_OF = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "SUITE_VERSION",
    "Conformance",
    "Report",
    "Result",
    "TinyFaces",
    "conformance_tests",
    "face_batch",
    "occluded_batch",
    "unit_vectors",
]


# Every pytest of this environment imports this package.
__getattr__ = lazy_names(__name__, _HOME_OF)
