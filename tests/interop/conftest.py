"""Fixtures of the interop tests: parts that are not Python, skipped at home and demanded in CI."""

import os

import pytest

from tests.interop.jars import HOW_TO_GET_THEM, jars_folder, kafka_classpath


@pytest.fixture(scope="session")
def kafka_jars() -> str:
    """A Java class path with Apache Kafka's tools and broker."""
    classpath = kafka_classpath()
    if classpath is not None:
        return classpath
    reason = f"Java or Kafka's jars are missing (looked in {jars_folder()}); {HOW_TO_GET_THEM}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
