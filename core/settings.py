"""One typed settings object, read from environment variables that begin with MAILWRIGHT_."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import SettingsError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
PREFIX = "MAILWRIGHT_"

SomeSettings = TypeVar("SomeSettings", bound=BaseSettings)


class Settings(BaseSettings):
    """Every setting of the system. `load_settings` turns a wrong value into one line naming the variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    home: Path = Field(PROJECT_ROOT / "data", description="Absolute path of everything that the system writes")
    timezone: str | None = Field(None, description="Business timezone of a new home, for example Europe/London")
    currency: str | None = Field(None, description="Reporting currency of a new home, an ISO 4217 code")
    target: Literal["duckdb"] = Field("duckdb", description="Warehouse engine")
    memory_limit: str = Field("2GB", description="Memory that DuckDB may use, for example 4GB")
    threads: int = Field(default_factory=lambda: os.cpu_count() or 2, ge=1, le=256, description="DuckDB's threads")
    publish_pii: frozenset[str] = Field(
        frozenset(), description='Columns tagged as PII to publish all the same: ["table.column", ...] as JSON'
    )

    ledger_url: SecretStr | None = Field(
        None, description="postgresql://... of the ledger; without one, it is a SQLite file in the home"
    )
    releases_kept: int = Field(90, ge=2, description="How many of the newest releases are kept, for going back to")

    mlflow_uri: str | None = Field(None, description="MLflow server; without one, models are kept in the home")

    alert_to: str = Field("", description="Addresses that get alerts by mail, with commas between them")
    alert_from: str = Field("", description="Address that alerts come from")
    alert_smtp_url: SecretStr | None = Field(
        None, description="smtp://user:password@host:587 (STARTTLS) or smtps://...:465 of the server that sends alerts"
    )
    alert_webhook: SecretStr | None = Field(
        None, description="https://... that takes alerts as JSON with a text, as Slack's incoming webhooks do"
    )

    sandbox: bool = Field(False, description="Send to the sandbox whatever keys are set")
    sandbox_port: int = Field(8025, ge=1, le=65535, description="Loopback port of the sandbox")

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        value = value.expanduser()
        if not value.is_absolute():
            raise ValueError("must be an absolute path, so that dbt finds the same warehouse from its own folder")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str | None) -> str | None:
        return value if value is None else check_timezone(value)

    @field_validator("currency")
    @classmethod
    def _iso_currency(cls, value: str | None) -> str | None:
        return value if value is None else check_currency(value)

    @field_validator("memory_limit")
    @classmethod
    def _memory(cls, value: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?\s*([KMGT]i?B)", value, re.IGNORECASE):
            raise ValueError("must be a number and a unit, for example 4GB")
        return value

    @field_validator("ledger_url")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"postgres(ql)?(\+psycopg)?://", value.get_secret_value()):
            raise ValueError("must be an address such as postgresql://user:password@host/database")
        return value

    @field_validator("alert_smtp_url")
    @classmethod
    def _mail_server(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        if not re.fullmatch(
            r"smtps?://([^\s/@]+@)?(\[[0-9a-fA-F:]+\]|[^\s/@:\[\]]+)(:\d{1,5})?/?", value.get_secret_value()
        ):
            raise ValueError("must be an address such as smtp://user:password@host:587, other characters as %XX")
        if not (info.data.get("alert_to") and info.data.get("alert_from")):
            raise ValueError(f"needs {PREFIX}ALERT_TO and {PREFIX}ALERT_FROM too")
        return value

    @field_validator("alert_webhook")
    @classmethod
    def _web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"https?://[^\s/]+", value.get_secret_value()):
            raise ValueError("must be an address such as https://hooks.example.com/services/...")
        return value

    @cached_property
    def project_dir(self) -> Path:
        """The checkout: where `dbt_project/` stands."""
        return PROJECT_ROOT


def check_timezone(value: str) -> str:
    """Return `value` if it is an IANA timezone, else raise ValueError."""
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{value!r} is no IANA timezone such as Europe/London") from None
    return value


def check_currency(value: str) -> str:
    """Return `value` if it has the form of an ISO 4217 code, else raise ValueError."""
    if not re.fullmatch(r"[A-Z]{3}", value):
        raise ValueError(f"{value!r} is no ISO 4217 code such as EUR")
    return value


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: names the variable and what is wrong with it; never shows a secret's value.
    """
    return read_environment(Settings)


def read_environment(model: type[SomeSettings]) -> SomeSettings:
    """Read the variables of a settings model from the environment.

    Raises:
        SettingsError: names the variable and what is wrong with it; never shows a secret's value.
    """
    try:
        return model()
    except ValidationError as error:
        prefix = model.model_config.get("env_prefix", PREFIX)
        lines = []
        for problem in error.errors():
            variable = prefix + str(problem["loc"][0]).upper()
            said = "is needed too" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
            lines.append(f"{variable}: {said}")
        raise SettingsError("; ".join(lines)) from None


def is_set(model: type[BaseSettings]) -> bool:
    """Whether the environment has any variable of a settings model."""
    prefix = model.model_config.get("env_prefix", PREFIX)
    return any(os.environ.get(prefix + name.upper()) for name in model.model_fields)
