from . import formatting as formatting
from .collection import (
    Collection as Collection, Pool as Pool, TaskFolder as TaskFolder, folder_names as folder_names,
    no_row as no_row, open_collection as open_collection, pool_digest as pool_digest, row_text as row_text,
    rows_digest as rows_digest, task_files as task_files,
)
from .duplicates import (
    copy_key as copy_key, copy_text as copy_text, input_copy_text as input_copy_text, normalised as normalised,
    text_key as text_key,
)
from .filters import (
    Column as Column, Condition as Condition, Filter as Filter, FilterLike as FilterLike, ID as ID,
    MAX_CONDITIONS as MAX_CONDITIONS, MAX_DEPTH as MAX_DEPTH, MAX_KEY as MAX_KEY, MAX_VALUES as MAX_VALUES,
    Range as Range, TARGET as TARGET, TASK as TASK,
)
from .formatting import (
    ALL_INSTRUCTION as ALL_INSTRUCTION, ENCODER_WORDING as ENCODER_WORDING, Wording as Wording,
    check_input as check_input, demonstration_text as demonstration_text,
    demonstration_wording as demonstration_wording,
    encoder_demonstration as encoder_demonstration, encoder_fields as encoder_fields,
    encoder_query as encoder_query, field_texts as field_texts, input_text as input_text, input_words as input_words,
    prompt as prompt, query_fields as query_fields,
    row_query as row_query, value_text as value_text,
)
from .keys import Keys as Keys
from .long_text import (
    FEWEST_SENTENCES as FEWEST_SENTENCES, LongText as LongText, longest_text as longest_text,
    measure_text as measure_text, sentences_of as sentences_of,
)
from .parquet import (
    parquet_notes as parquet_notes, parquet_records as parquet_records, write_parquet as write_parquet,
)
from .plain_text import PlainText as PlainText
from .records import (
    distinct as distinct, from_columns as from_columns, jsonl_records as jsonl_records,
)
from .rows import (
    MAX_ID as MAX_ID, check_id as check_id,
    numbered_rows as numbered_rows, parse_row as parse_row, read_rows as read_rows,
    rows_and_errors as rows_and_errors,
)
from .sampling import (
    CHANGED_SHARE as CHANGED_SHARE, ENOUGH_TEST_ROWS as ENOUGH_TEST_ROWS, USUAL_GAIN as USUAL_GAIN,
    few_test_rows as few_test_rows, sample as sample, sample_by as sample_by, sample_hash as sample_hash,
    smallest_gain as smallest_gain,
)
from .task import (
    Kind as Kind, Metric as Metric, Normalise as Normalise, Task as Task, TaskFamily as TaskFamily,
    Template as Template, is_name as is_name, parse_family as parse_family, parse_task as parse_task,
)
