from . import export as export
from .description import COUNTER as COUNTER, DESCRIPTION as DESCRIPTION, Description as Description, VERSION as VERSION
from .encoder import LEAST as LEAST, OnnxEncoder as OnnxEncoder
from .export import exported as exported, onnx_encoder as onnx_encoder
