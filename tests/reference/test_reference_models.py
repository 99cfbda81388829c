"""The reference's own test files of each model, imports exchanged, where its tag can be had.

A case is run over those of its classes that we have; the control is the reference's of these names.
"""

import importlib
import unittest
import warnings

import pytest

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

import testers  # noqa: E402
from left_out import NOT_OURS, OF_4, OF_OWN_FILES, left_out_of  # noqa: E402
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
        f"{name}_of_{of}": _over_ours(case)
        for name, case in vars(found).items()
        if isinstance(case, type)
        and issubclass(case, unittest.TestCase)
        and case.__module__ == module
        and name.endswith("Test")  # testers are cases too, here and there
        and "Integration" not in name  # of published weights
    }


def _over_ours(case: type[unittest.TestCase]) -> type[unittest.TestCase]:
    # Its file says which model it is about.
    values: dict[str, object] = {"__module__": case.__module__}
    models = getattr(case, "all_model_classes", None)
    if models is not None:
        models = tuple(model for model in models if testers.is_ours(model.__name__))
        values["all_model_classes"] = models
    processors = testers.processors_of(case)
    made = type(case.__name__, (testers.OneResult, testers.AsWeHaveIt, case), values)
    if not models and not processors:
        return unittest.skip(NOT_OURS)(made)
    return left_out_of(made, {**OF_OWN_FILES, **(OF_4 if testers.IS_4 else {})})


for _module in own_files():
    globals().update(_cases(_module))
