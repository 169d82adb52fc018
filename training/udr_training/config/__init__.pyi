from .files import (
    PRESETS as PRESETS, from_toml as from_toml, load_config as load_config, setting_flags as setting_flags,
    settings_of as settings_of, to_toml as to_toml,
)
from .stages import Stages as Stages
from .schema import (
    CandidateConfig as CandidateConfig, DTYPES as DTYPES, FeedbackConfig as FeedbackConfig, LOSSES as LOSSES,
    RewardConfig as RewardConfig, RunConfig as RunConfig, ScoringConfig as ScoringConfig, TrainConfig as TrainConfig,
)
