"""A client of AWS, or of whatever speaks as it does: the only room of boto3 (extra `[aws]`).

Every request has a time and a bounded number of tries. Credentials come by AWS's own chain
(environment, profile, role) and are never settings of ours.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import ConfigError, ConnectorError


def client(service: str, scheme: str, query: dict[str, str], **limits: Any) -> Any:
    """Return a boto3 client; nothing is asked yet.

    Args:
        service: as boto3 calls it.
        scheme: of the URI that asks for it, for whoever reads an error.
        query: of that URI; `region` and `endpoint` are looked at.
        limits: `tries` and what else botocore's Config takes (timeouts in seconds).

    Raises:
        ConfigError: the region or the endpoint cannot be one.
        ConnectorError: boto3 is not installed.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as cause:
        raise ConnectorError(
            f"`{scheme}:` needs boto3", advice="pip install 'dataset-gateway[aws]'"
        ) from cause
    retries = {"mode": "standard", "total_max_attempts": limits.pop("tries")}
    try:
        return boto3.session.Session(region_name=query.get("region")).client(
            service, endpoint_url=query.get("endpoint"), config=Config(retries=retries, **limits)
        )
    except (BotoCoreError, ValueError) as cause:
        kind = type(cause).__name__
        raise ConfigError(f"a client of `{scheme}:` cannot be set up ({kind})") from cause
