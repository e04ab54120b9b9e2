"""The base class of every table of the settings."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the settings; unknown keys are errors, because a misspelt key would silently do nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)
