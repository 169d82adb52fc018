"""The numbers and titles of a run's stages."""

from dataclasses import replace

from udr_training.config import RunConfig, ScoringConfig, Stages, TrainConfig


def test_one_iteration_has_four_stages_with_its_evaluation() -> None:
    stages = Stages(RunConfig(train=TrainConfig(iterations=1)), ("evaluation",))
    titles = [stages.title(stage) for stage in ("candidates", "feedback", "training", "evaluation")]
    assert titles == [
        "stage 1 of 4: candidates",
        "stage 2 of 4: feedback",
        "stage 3 of 4: training",
        "stage 4 of 4: evaluation",
    ]


def test_iterations_and_extrapolation_are_counted() -> None:
    config = RunConfig(train=TrainConfig(iterations=3))
    assert Stages(config).title("feedback", 1) == "stage 5 of 9: feedback, iteration 2 of 3"
    wider = replace(config, train=replace(config.train, extrapolate="labels"))
    assert Stages(wider).title("training", 2) == "stage 12 of 12: training, iteration 3 of 3"
    rewarded = Stages(replace(config, train=replace(config.train, extrapolate="reward")), ("evaluation",))
    assert rewarded.title("reward", 2) == "stage 9 of 12: reward, iteration 3 of 3"
    assert rewarded.title("evaluation") == "stage 12 of 12: evaluation"
    assert Stages(ScoringConfig()).title("feedback") == "stage 2 of 2: feedback"
