"""Errors that come from another process, and what is said where Ray is not installed."""

from __future__ import annotations

import pickle
import sys

import pytest

from ner import cluster
from ner.errors import InputError


def test_an_error_of_a_worker_is_found_in_what_ray_makes_of_it():
    class RayTaskError(InputError):  # Ray's has the class of its cause too, and a traceback for a text
        def __init__(self, cause):
            super().__init__("Traceback", hint="")
            self.cause = cause

    own = InputError("it is damaged", hint="give another", path="x", line=3)
    sent = pickle.loads(pickle.dumps(own))
    assert type(sent) is InputError and str(sent) == str(own) and vars(sent) == vars(own)
    outer = RuntimeError("the job failed")
    outer.__cause__ = RayTaskError(sent)
    assert cluster._own(outer) is sent
    assert cluster._own(RuntimeError("a bug")) is None


def test_where_ray_is_not_installed_a_line_says_so(monkeypatch):
    monkeypatch.setattr("os.environ", {})
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="Ray is not installed; .*make ray"), cluster.started(None, 1):
        pass
