from .bar_table import bar_row as bar_row, gain_row as gain_row
from .charts import (
    Line as Line, REST as REST, label_looks as label_looks, legend as legend, line_chart as line_chart,
    scatter as scatter,
)
from .embedding_map import (
    LabelMap as LabelMap, Panel as Panel, label_map as label_map, project as project, same_label as same_label,
)
from .format import (
    counted as counted, facts as facts, interval as interval, is_clear as is_clear, points as points, signed as signed,
    summary as summary, title as title, with_shots as with_shots,
)
from .metrics_log import (
    History as History, Iteration as Iteration, histories as histories, read_iterations as read_iterations,
)
from .page import page as page
from .svg import Axis as Axis, Look as Look, breakable as breakable, element as element
from .write import (
    markdown as markdown, report_json as report_json, table as table, write_report as write_report,
)
