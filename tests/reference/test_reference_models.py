"""The reference's own test files of each model, imports exchanged, where its tag can be had."""

import importlib
import unittest
import warnings

import pytest

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

import testers  # noqa: E402
from left_out import OF_OWN_FILES, left_out_of  # noqa: E402
from source import fetch, own_files  # noqa: E402

WHY_NOT = fetch("models")
if WHY_NOT is not None:
    pytest.skip(f"the models' own files: {WHY_NOT}", allow_module_level=True)
if not testers.CONTROL:
    testers.lend_private_names()


def _cases(module: str) -> dict[str, type[unittest.TestCase]]:
    """The test cases of one file, over our classes."""
    with warnings.catch_warnings(), testers.exchanged():
        warnings.simplefilter("ignore")  # of marks that only the reference's own set-up knows
        found = importlib.import_module(module)
    of = module.rpartition(".")[-1].removeprefix("test_")
    return {
        f"{name}_of_{of}": left_out_of(type(name, (testers.OneResult, case), {}), OF_OWN_FILES)
        for name, case in vars(found).items()
        if isinstance(case, type)
        and issubclass(case, unittest.TestCase)
        and case.__module__ == module
        and "Integration" not in name  # of published weights
    }


for _module in own_files():
    globals().update(_cases(_module))
