"""`GatewayClient`: the gateway's nouns as attributes, their verbs as methods (DESIGN §11)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import gateway.wire as W
from gateway.client.credentials import (
    find_authority,
    find_foreign_token,
    find_key_file,
    find_server,
)
from gateway.client.records import Record, Table
from gateway.client.replies import error_of_problem
from gateway.client.transport import Transport
from gateway.config import Settings, load
from gateway.errors import GatewayError
from gateway.wire import codec

if TYPE_CHECKING:
    from gateway.client.access import Access, Grants, Tokens
    from gateway.client.admin import Identities, Operations, Tenants
    from gateway.client.consents import Consents
    from gateway.client.datasets import Datasets
    from gateway.client.keys import Keys
    from gateway.client.lineage import Lineage
    from gateway.client.obligations import Obligations
    from gateway.client.policies import Policies
    from gateway.client.runs import Runs
    from gateway.client.stream import Stream
    from gateway.client.streaming import StreamAsk

Progress = Callable[[str, float], None]  # what is being done, and how much of it: 0..1
_POLL_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5)
_PAGE = 1000


class GatewayClient:
    """One gateway, as one identity."""

    def __init__(
        self,
        server: str | None = None,
        key_file: str | Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Find the server and the identity by the documented chain (see credentials.py).

        Raises:
            Unavailable: no server is named and none runs here.
            ConfigError: the URL or a setting is refused.
        """
        self.settings = settings or load()
        url = find_server(self.settings, server)
        self.transport = Transport(
            url,
            find_key_file(self.settings, key_file),
            authority=find_authority(self.settings, url),
            foreign_token=find_foreign_token(self.settings, url, key_file),
        )

    @cached_property
    def datasets(self) -> Datasets:
        """Register, list, show, classify datasets."""
        from gateway.client.datasets import Datasets

        return Datasets(self)

    @cached_property
    def access(self) -> Access:
        """Ask whether something would be allowed."""
        from gateway.client.access import Access

        return Access(self)

    @cached_property
    def tokens(self) -> Tokens:
        """Get dataset tokens."""
        from gateway.client.access import Tokens

        return Tokens(self)

    @cached_property
    def grants(self) -> Grants:
        """See and revoke recorded permissions."""
        from gateway.client.access import Grants

        return Grants(self)

    @cached_property
    def keys(self) -> Keys:
        """List and renew keys."""
        from gateway.client.keys import Keys

        return Keys(self)

    @cached_property
    def policies(self) -> Policies:
        """Publish, test and explain rules."""
        from gateway.client.policies import Policies

        return Policies(self)

    @cached_property
    def runs(self) -> Runs:
        """Follow training jobs, and bind them to their models."""
        from gateway.client.runs import Runs

        return Runs(self)

    @cached_property
    def obligations(self) -> Obligations:
        """Follow what is owed for data that was given."""
        from gateway.client.obligations import Obligations

        return Obligations(self)

    @cached_property
    def consents(self) -> Consents:
        """Record what persons consented to, and withdrew."""
        from gateway.client.consents import Consents

        return Consents(self)

    @cached_property
    def lineage(self) -> Lineage:
        """Ask what happened, and verify the log."""
        from gateway.client.lineage import Lineage

        return Lineage(self)

    @cached_property
    def tenants(self) -> Tenants:
        """Add and list tenants."""
        from gateway.client.admin import Tenants

        return Tenants(self)

    @cached_property
    def identities(self) -> Identities:
        """Add and list identities."""
        from gateway.client.admin import Identities

        return Identities(self)

    @cached_property
    def operations(self) -> Operations:
        """List and show long acts."""
        from gateway.client.admin import Operations

        return Operations(self)

    def whoami(self) -> Record:
        """Who the gateway takes us for."""
        return Record(self.get("/v1/whoami"), self)

    def stream(self, dataset: str | None = None, **ask: Unpack[StreamAsk]) -> Stream:
        """Open the rows of a dataset (or of a `grant` that stands) as batches, in order.

        Args:
            dataset: `tenant/name[@version]`.
            ask: what is asked (`purpose`, `columns`, `split`, `max_rows`, …), how the rows come
                (`batch_size`, `seed`, `shuffle`, `rank`, `world`, `output`), and `position`.

        Raises:
            AccessDenied: with the reason; StreamStopped and its kinds while iterating, with
                the position to resume at.
        """
        from gateway.client.streaming import open_dataset

        return open_dataset(self.transport, dataset, ask, self.settings)

    def close(self) -> None:
        """Close this thread's connection."""
        self.transport.close()

    def __repr__(self) -> str:
        return f"GatewayClient({self.transport.server!r})"

    # What the nouns are made of.

    def get(self, path: str, **query: str | int | None) -> Any:
        """GET one JSON value."""
        return self.transport.request("GET", path, query=query).json()

    def post(self, path: str, body: Any = None) -> Any:
        """POST a wire dataclass (or nothing) and return the JSON answer."""
        return self.transport.request("POST", path, json=body).json()

    def all_of(self, path: str, kind: type[Record] = Record, **query: str | None) -> Table:
        """Every item of a paged list."""
        items: list[Record] = []
        cursor: str | None = "0"
        while cursor is not None:
            page = self.get(path, limit=_PAGE, cursor=cursor, **query)
            items += [kind(item, self) for item in page["items"]]
            cursor = page["next"]
        return Table.of(items)

    def finished(self, operation: Mapping[str, Any], progress: Progress | None = None) -> Record:
        """Wait for a long act; return its Operation, or raise the error it failed with."""
        view = codec.decode_reply(W.Operation, operation)
        tries = 0
        while view.state == "running":
            if progress is not None:
                progress(view.detail or view.kind, view.progress)
            time.sleep(_POLL_SECONDS[min(tries, len(_POLL_SECONDS) - 1)])
            tries += 1
            view = codec.decode_reply(W.Operation, self.get(f"/v1/operations/{view.id}"))
        if view.state == "failed":
            raise error_of_problem(view.problem or {"title": "the operation failed"})
        if view.state != "done":
            raise GatewayError(f"the operation `{view.id}` was {view.state}")
        if progress is not None:
            progress(view.detail or view.kind, 1.0)
        return Record.of(view, self)
