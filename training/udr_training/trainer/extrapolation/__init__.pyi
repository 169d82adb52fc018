from .extend import extend as extend, num_further as num_further
from .labels import label_agreement as label_agreement, label_model as label_model
from .reward import LEAD as LEAD, LEAST as LEAST, rewards as rewards
from .reward_model import RewardModel as RewardModel
from .reward_training import (
    REWARD as REWARD, ScoreListLoss as ScoreListLoss, reward_config as reward_config, train_reward as train_reward,
)
from .score_model import ScoreModel as ScoreModel
