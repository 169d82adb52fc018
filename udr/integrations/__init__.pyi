from .dspy import (
    DemonstrationFewShot as DemonstrationFewShot, DemonstrationProgram as DemonstrationProgram,
    open_program as open_program,
)
from .langchain import (
    DemonstrationSelector as DemonstrationSelector, VerbatimFewShotPromptTemplate as VerbatimFewShotPromptTemplate,
)
