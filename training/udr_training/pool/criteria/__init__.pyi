from .cli import criteria as criteria
from .files import (
    Preference as Preference, read_criteria as read_criteria, read_pairs as read_pairs,
    write_criteria as write_criteria,
)
from .judging import (
    Ask as Ask, Verdict as Verdict, judge as judge, majority as majority, read_verdict as read_verdict,
)
from .known import Criterion as Criterion, KNOWN as KNOWN
from .mining import (
    Judged as Judged, Mined as Mined, MiningSettings as MiningSettings, lower_bound as lower_bound, mine as mine,
)
from .ranking import (
    CriteriaJudge as CriteriaJudge, criteria_score as criteria_score, random_pairs as random_pairs, rank as rank,
)
