from .budget import (
    Block as Block, PromptLayout as PromptLayout, TRUNCATION_MARK as TRUNCATION_MARK, fit as fit, truncate as truncate,
)
from .builder import PromptBuilder as PromptBuilder, with_budget_stage as with_budget_stage
from .chat import turns as turns
from .ordering import (
    Arrange as Arrange, Order as Order, alternate as alternate, arranged as arranged, check_seed as check_seed,
    one_of as one_of,
)
from .types import (
    BuildingOptions as BuildingOptions, Format as Format, Layout as Layout, PartTokens as PartTokens, Prompt as Prompt,
    PromptDemonstration as PromptDemonstration, PromptOptions as PromptOptions, SpecialToken as SpecialToken,
    Truncation as Truncation,
)
