from .arguments import (
    ServerOptions as ServerOptions,
    TaskNames as TaskNames, TasksFolder as TasksFolder, quiet as quiet, show_progress as show_progress,
    silence_libraries as silence_libraries, processes_here as processes_here, torchrun_place as torchrun_place,
)
from .files import (
    PRESETS as PRESETS, from_toml as from_toml, load_config as load_config, setting_flags as setting_flags,
    settings_of as settings_of, to_toml as to_toml, with_settings as with_settings,
)
from .stages import Stages as Stages
from .scores import (
    ANSWERED as ANSWERED, CandidateConfig as CandidateConfig, DTYPES as DTYPES, FeedbackConfig as FeedbackConfig,
    KINDS as KINDS, ScoringConfig as ScoringConfig,
)
from .run import (
    LOSSES as LOSSES, RewardConfig as RewardConfig, RunConfig as RunConfig, TrainConfig as TrainConfig,
    updates_while_backward as updates_while_backward,
)
