"""ApiVersions, v0 to v4: what this broker speaks.

Intended deviations: no features are published (``transaction.version`` among them, so that clients do not take
transactions for granted); the ranges are those of the table in ``wire.apis``, which follows one Kafka release.
A version above ours is answered in v0 with error 35 and the table, after which clients ask again in a version of theirs.
"""

from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.kafka_api.answers import Context
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode

_TABLE: Final = tuple(
    {"api_key": api.key, "min_version": api.min_version, "max_version": api.max_version}
    for api in sorted(Api, key=lambda one: one.key)
)


def api_versions(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve ApiVersions."""
    return {"api_keys": _TABLE}


def unsupported() -> dict[str, Any]:
    """The answer to a version that is not served; to be encoded in v0."""
    return {"error_code": ErrorCode.UNSUPPORTED_VERSION, "api_keys": _TABLE}
