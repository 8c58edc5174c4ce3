"""The configuration: where things are, and every limit with its unit. Standard library only.

Precedence: flag > environment `GATEWAY_<SECTION>_<NAME>` (or `GATEWAY_<NAME>`) >
`gateway.toml` > default. This is the only module that reads the environment. Directories
follow the XDG Base Directory Specification; secrets are never settings, only paths to them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError

PRODUCT = "dataset-gateway"
PREFETCH_BYTES = 64 << 20


def _xdg(variable: str, fallback: str) -> Path:
    chosen = os.environ.get(variable, "")
    base = Path(chosen) if chosen.startswith("/") else Path.home() / fallback
    return base / PRODUCT


def _runtime() -> Path:
    chosen = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(chosen) / PRODUCT if chosen.startswith("/") else _xdg("", ".cache") / "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of a server or a client. Field docs: docs/reference/config.md."""

    state_dir: Path = field(default_factory=lambda: _xdg("XDG_STATE_HOME", ".local/state"))
    config_dir: Path = field(default_factory=lambda: _xdg("XDG_CONFIG_HOME", ".config"))
    runtime_dir: Path = field(default_factory=_runtime)
    server: str | None = None  # URL; None = the running one's file in runtime_dir
    key_file: Path | None = None  # identity of this client; None = config_dir/identity.json
    workload_token_file: Path | None = None  # a token of a trusted issuer instead of a key
    bind: str = "127.0.0.1"
    host: str | None = None  # name by which clients reach this machine; None = see `bind`
    port: int = 8787  # 0 or occupied: another one is chosen and printed
    admin_port: int = 0  # loopback only: /metrics
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None  # clients: PEM of the authority to trust besides the system's
    tls_auto: bool = False  # a self-signed certificate whose fingerprint is printed
    accept_local_keys: bool = False  # a public bind over the default key file
    trusted_issuers: Path | None = None  # table of issuers; None = config_dir/issuers.toml
    witnesses: Path | None = None  # table of witnesses; None = config_dir/witnesses.toml
    bearer_clients: str | None = None  # `tenant/name, …` that may have tokens without a proof
    policies: Path | None = None  # directory watched by the server
    data_workers: int = 0  # 0 = max(1, cores - 1)
    kms: str = "file:"  # URI of the KMS plug; `file:` = config_dir/roots
    lineage_sinks: str | None = None  # URIs of LineageSinks, by spaces; `TENANT=URI`: its side
    store: str = "local:"  # URI of the object store plug; `local:` = state_dir/objects
    cache_bytes_max: int = 64 << 30  # local copies of sealed objects of a remote store
    debug: bool = False
    log_level: str = "info"
    body_bytes_max: int = 1 << 20  # JSON bodies
    part_bytes_max: int = 64 << 20  # one uploaded part
    token_seconds_max: int = 600
    lease_seconds_max: int = 600
    retention_days: int = 0  # of the details of history, by whole months; 0 = for ever
    patience_seconds: int = 600  # a client waits this long for a gateway that restarts
    prefetch_bytes: int = PREFETCH_BYTES  # clients: of segments fetched ahead of need
    delivery: str = "auto"  # clients: `auto` | `ring` (this host only) | `http`


@dataclass(frozen=True, slots=True)
class Origin:
    """A setting's value and where it came from (`gateway config show --origin`)."""

    name: str
    value: Any
    origin: str  # `flag` | `environment GATEWAY_X` | `/path/gateway.toml` | `default`


def load(flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings; `flags` are those given on the command line (None = not given)."""
    return Settings(**{o.name: o.value for o in load_with_origins(flags) if o.origin != "default"})


def load_with_origins(flags: Mapping[str, Any] | None = None) -> list[Origin]:
    """Read the settings with the origin of each, in the order of declaration."""
    given = {k: v for k, v in (flags or {}).items() if v is not None}
    defaults = Settings()
    config_dir = given.get("config_dir") or os.environ.get("GATEWAY_CONFIG_DIR")
    path = Path(config_dir or defaults.config_dir) / "gateway.toml"
    table = read_toml(path)
    known = {f.name: f for f in fields(Settings)}
    unknown = [k for k in (*given, *table) if k not in known]
    if unknown:
        raise ConfigError(f"`{unknown[0]}` is not a setting", advice="see docs/reference/config.md")
    return [_one(name, given, table, path, getattr(defaults, name)) for name in known]


def _one(
    name: str, given: Mapping[str, Any], table: Mapping[str, Any], path: Path, default: Any
) -> Origin:
    variable = f"GATEWAY_{name.upper()}"
    if name in given:
        return Origin(name, _typed(name, given[name]), "flag")
    if variable in os.environ:
        return Origin(name, _typed(name, os.environ[variable]), f"environment {variable}")
    if name in table:
        return Origin(name, _typed(name, table[name]), str(path))
    return Origin(name, default, "default")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file; empty when there is none, ConfigError when it cannot be read."""
    import tomllib  # here, so that importing the settings costs a trainer nothing

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as cause:
        raise ConfigError(f"`{path}` cannot be read: {cause}") from cause


_BOOLS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def _typed(name: str, value: Any) -> Any:
    kind = {f.name: str(f.type) for f in fields(Settings)}[name]
    try:
        if kind == "bool":
            return value if isinstance(value, bool) else _BOOLS[str(value).lower()]
        if kind == "int":
            return int(str(value))
        if kind.startswith("Path"):
            return Path(str(value)).expanduser()
        return str(value)
    except (KeyError, ValueError) as cause:
        raise ConfigError(f"`{value}` is not a value for `{name}` ({kind})") from cause


def variable(name: str) -> str | None:
    """One variable that a setting points to (`from=env:NAME`); its value is never a setting."""
    return os.environ.get(name)


def server_environment() -> dict[str, str]:
    """What control gets of the server's environment: plugs find their credentials in it."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def home_environment() -> dict[str, str]:
    """The few variables a started demo or server needs to find the same directories."""
    wanted = ("HOME", "PATH", "LANG", "TERM", "NO_COLOR")
    return {
        key: value
        for key, value in os.environ.items()
        if key in wanted or key.startswith(("XDG_", "GATEWAY_"))
    }


def training_environment() -> dict[str, str]:
    """Rank, world and run as the launchers set them (torchrun, Slurm, MLflow, W&B, Ray)."""
    wanted = ("RANK", "WORLD_SIZE", "GATEWAY_RUN_ID", "MLFLOW_RUN_ID", "WANDB_RUN_ID",
              "RAY_JOB_ID",
              "SLURM_JOB_ID", "SLURM_PROCID", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID")  # fmt: skip
    return {key: os.environ[key] for key in wanted if os.environ.get(key)}
