from .budget import Block as Block, PromptLayout as PromptLayout, fit as fit
from .builder import PromptBuilder as PromptBuilder
from .explanation import down_to_the_prompt as down_to_the_prompt
from .ordering import Order as Order, alternate as alternate, arranged as arranged
from .truncation import MARK as MARK, shortened as shortened
from .types import (
    BuildingOptions as BuildingOptions, Format as Format, Layout as Layout, Prompt as Prompt,
    PromptDemonstration as PromptDemonstration, PromptOptions as PromptOptions, SpecialToken as SpecialToken,
    Truncation as Truncation,
)
