from .dspy import (
    DemonstrationFewShot as DemonstrationFewShot, DemonstrationProgram as DemonstrationProgram,
    open_program as open_program,
)
from .demos import Demos as Demos
from .haystack import DemonstrationDocuments as DemonstrationDocuments
from .langchain import (
    DemonstrationSelector as DemonstrationSelector, VerbatimFewShotPromptTemplate as VerbatimFewShotPromptTemplate,
)
from .llama_index import DemonstrationNodes as DemonstrationNodes
from .mcp import mcp_server as mcp_server, open_source as open_source
from .selector import Selector as Selector
