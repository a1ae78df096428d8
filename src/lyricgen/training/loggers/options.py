"""Options of loggers."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from lyricgen.options import Options

MLFLOW_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


def _check_address(address: str | None) -> str | None:
    """Check the form of the address of an MLflow server or database."""
    if address is None:
        return None
    scheme, _, rest = address.partition("://")
    if scheme.partition("+")[0] not in MLFLOW_SCHEMES or not rest.strip("/"):
        raise ValueError(
            f"choose http://SERVER:PORT, sqlite:////FILE or null ({', '.join(MLFLOW_SCHEMES)})"
        )
    if scheme in ("http", "https"):
        try:
            found = urlsplit(address)
            known = bool(found.hostname) and found.port != 0
        except ValueError:  # the port is no number
            known = False
        if not known:
            raise ValueError("choose http://SERVER or http://SERVER:PORT")
    return address


class MlflowOptions(Options):
    """Options of `logger=mlflow`."""

    tracking_uri: Annotated[str | None, AfterValidator(_check_address)]
    experiment: str = Field(min_length=1)


class WandbOptions(Options):
    """Options of `logger=wandb`."""

    project: str = Field(min_length=1, max_length=128, pattern=r"^[^/\\\\#?%:]+$")
    entity: str | None
    mode: Literal["offline", "online"]


class LoggerOptions(Options):
    """Options of `logger=`; those of a logger that is not chosen are None."""

    csv: bool
    tensorboard: bool
    mlflow: MlflowOptions | None
    wandb: WandbOptions | None
