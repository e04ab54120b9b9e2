"""Configuration: flag > `GNOMON_…` environment (`__` nests) > `gnomon.toml` (`--config`) > default.

Every field states its unit, its default and its limits, and is validated when the settings are made. Each
command group owns one section (a model, a table in the file) in a module of this folder; add a field there, and
`setting_option` in `cli.options` makes its flag.
"""

from gnomon_consumer.settings.database import DeclaredSettings as DeclaredSettings
from gnomon_consumer.settings.database import JoinSettings as JoinSettings
from gnomon_consumer.settings.database import LabelSettings as LabelSettings
from gnomon_consumer.settings.kafka import OWNED_PROPERTIES as OWNED_PROPERTIES
from gnomon_consumer.settings.loading import DEFAULT_FILE as DEFAULT_FILE
from gnomon_consumer.settings.loading import ENV_PREFIX as ENV_PREFIX
from gnomon_consumer.settings.loading import Settings as Settings
from gnomon_consumer.settings.loading import environment_name as environment_name
from gnomon_consumer.settings.loading import is_secret as is_secret
from gnomon_consumer.settings.loading import load_settings as load_settings
from gnomon_consumer.settings.loading import write_private as write_private
from gnomon_consumer.settings.run import LogSettings as LogSettings
from gnomon_consumer.settings.run import RunDeployment as RunDeployment
from gnomon_consumer.settings.score import ScoreSettings as ScoreSettings
