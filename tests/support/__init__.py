"""Helpers that tests of several rooms share."""

import pytest

# Their asserts are to explain themselves like those of a test file.
pytest.register_assert_rewrite("tests.support.conformance")
