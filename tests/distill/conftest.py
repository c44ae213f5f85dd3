"""Real processes without waiting for torch each time: a server imports it once and forks."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

import pytest


@pytest.fixture(scope="session")
def forkserver() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["limbeck.distill", "limbeck.runs", "torch._dynamo", "accelerate"])
    return context
