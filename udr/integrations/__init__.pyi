from .dspy import (
    DemonstrationFewShot as DemonstrationFewShot, DemonstrationProgram as DemonstrationProgram,
    open_program as open_program,
)
from .demos import Demos as Demos
from .langchain import (
    DemonstrationSelector as DemonstrationSelector, VerbatimFewShotPromptTemplate as VerbatimFewShotPromptTemplate,
)
from .selector import Selector as Selector
