"""What every table of the settings is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the settings; unknown keys are errors: a misspelt key would silently do nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)
