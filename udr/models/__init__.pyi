from . import (
    encoder as encoder, encoder_backends as encoder_backends, hub as hub, onnx as onnx, record as record,
)
from .counting import (
    ChatCounter as ChatCounter, FileTokenizer as FileTokenizer, LoadedTokenizer as LoadedTokenizer,
    Message as Message, TiktokenTokenizer as TiktokenTokenizer, TokenCounter as TokenCounter,
    TransformersTokenizer as TransformersTokenizer, check_tokenizer as check_tokenizer,
    context_window as context_window, load_tokenizer as load_tokenizer, slices as slices,
    tokenizes_slices_alike as tokenizes_slices_alike,
)
from .device import (
    accelerators as accelerators, best_device as best_device, cpu_multiplies as cpu_multiplies,
    encodes_on_cpu as encodes_on_cpu, num_threads as num_threads, torch_build as torch_build,
)
from .encoder import DType as DType, Encoder as Encoder, SentenceEncoder as SentenceEncoder
from .encoder_backends import (
    Engine as Engine, check_engine as check_engine, choose_engine as choose_engine, engine_of as engine_of,
    load_encoder as load_encoder,
)
from .hub import (
    BASE_ENCODER as BASE_ENCODER, DEFAULT_ENCODER as DEFAULT_ENCODER, DEFAULT_LM as DEFAULT_LM, PACKAGE as PACKAGE,
    cache_folder as cache_folder, fingerprint as fingerprint, is_hub_name as is_hub_name, is_local as is_local,
    locate as locate, locate_encoder as locate_encoder, locate_lm as locate_lm,
)
from .onnx import (
    COUNTER as COUNTER, DESCRIPTION as DESCRIPTION, Description as Description, EXACT as EXACT, INT8 as INT8,
    INT8_GRAPH as INT8_GRAPH, OnnxEncoder as OnnxEncoder, RUNTIMES as RUNTIMES, Runtime as Runtime,
    VERSION as VERSION, exported as exported, onnx_encoder as onnx_encoder,
)
from .probe_texts import PROBES as PROBES, agreement as agreement
from .query_tokenizer import QueryTokenizer as QueryTokenizer, direct_tokenizer as direct_tokenizer
from .record import RECORD as RECORD, RECORD_FORMAT as RECORD_FORMAT, trained_tasks as trained_tasks
from .runner import (
    Done as Done, RunnerOptions as RunnerOptions, ScatteredEncoder as ScatteredEncoder, Scheduler as Scheduler,
    Shard as Shard, cluster_nodes as cluster_nodes, encode_by_length as encode_by_length,
    encode_checked as encode_checked, failed as failed, open_workers as open_workers, ray_cluster as ray_cluster,
    scattered as scattered, shard_key as shard_key, share as share,
)
from .text_coherence import (
    Coherence as Coherence, LEAST_JOINT as LEAST_JOINT, LEAST_ORDER as LEAST_ORDER, LM_GROUP as LM_GROUP,
    TextLM as TextLM, coherence as coherence, load_text_lm as load_text_lm,
)
from .window import LongTexts as LongTexts, TextWindow as TextWindow
