"""Every promise of the component, one test each. Known faults: ``expected_failures={"CHECK": "why"}``."""

from occframe.testing import conformance_tests

test_conformance = conformance_tests("{{name}}", tier="all")
