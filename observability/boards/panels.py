"""The few kinds of panels the boards are made of, on Grafana's own typed builders.

Every panel has a unit and says in words what it shows; every query is limited to the chosen jobs and
instances. Queries keep to what Prometheus 2.42 knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

TAG: Final = "wardgate"
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="$datasource")
CHOSEN: Final = 'job=~"$job",instance=~"$instance"'
_WIDTH: Final = 24


class Query(NamedTuple):
    expr: str
    legend: str = ""
    exemplar: bool = False  # point to traces; only of metrics that have them


def of(metric: str, *matchers: str) -> str:
    """A selector of the chosen instances."""
    return f"{metric}{{{','.join((CHOSEN, *matchers))}}}"


def rate(metric: str, *matchers: str, by: str = "") -> str:
    """Events a second, summed over everything but ``by``."""
    return f"sum by ({by}) (rate({of(metric, *matchers)}[$__rate_interval]))"


def within(metric: str, span: str, *matchers: str, by: str = "") -> str:
    """Events in the last ``span``."""
    return f"sum by ({by}) (increase({of(metric, *matchers)}[{span}]))"


def quantile(share: float, metric: str, *matchers: str, by: str = "") -> str:
    """A quantile of a histogram, by name without ``_bucket``."""
    labels = f"le, {by}" if by else "le"
    return (
        f"histogram_quantile({share}, "
        f"sum by ({labels}) (rate({of(metric + '_bucket', *matchers)}[$__rate_interval])))"
    )


def number(
    title: str, expr: str, words: str, unit: str = "short", *, width: int = 3, bad_from: float | None = None,
    good_from: float | None = None, decimals: int | None = None,
) -> Any:  # fmt: skip
    """One number, red from ``bad_from`` on, or green only from ``good_from`` on."""
    steps = [Threshold(value=None, color="green")]
    if bad_from is not None:
        steps.append(Threshold(value=bad_from, color="red"))
    if good_from is not None:
        steps = [Threshold(value=None, color="red"), Threshold(value=good_from, color="green")]
    made = (
        stat.Panel()
        .title(title).description(words).unit(unit).datasource(SOURCE).span(width).height(4)
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(_target(Query(expr), 0, instant=True))
    )  # fmt: skip
    return made.decimals(decimals) if decimals is not None else made


def lines(
    title: str, queries: Query | Sequence[Query], words: str, unit: str = "short", *, width: int = 12,
    stacked: bool = False, share: bool = False,
) -> Any:  # fmt: skip
    """Lines over time; ``share`` fixes the axis to 0–100 %."""
    made = (
        timeseries.Panel()
        .title(title).description(words).unit(unit).datasource(SOURCE).span(width).height(8).min(0)
        .line_width(1).fill_opacity(20 if stacked else 5).show_points(kinds.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(True).display_mode(kinds.LegendDisplayMode.LIST)
                .placement(kinds.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI)
                 .sort(kinds.SortOrder.DESCENDING))
    )  # fmt: skip
    if share:
        made = made.max(1)
    if stacked:
        made = made.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    for place, query in enumerate([queries] if isinstance(queries, Query) else queries):
        made = made.with_target(_target(query, place))
    return made


def rows(title: str, query: Query, words: str, unit: str = "short", *, width: int = 12) -> Any:
    """A table of what stands now."""
    return (
        table.Panel()
        .title(title).description(words).unit(unit).datasource(SOURCE).span(width).height(8)
        .with_target(_target(query, 0, instant=True).format("table"))
    )  # fmt: skip


def _target(query: Query, place: int, *, instant: bool = False) -> Any:
    made = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + place)).legend_format(query.legend)
    if instant:
        return made.instant()
    return made.range().exemplar(True) if query.exemplar else made.range()


class Board(NamedTuple):
    """One dashboard: what is open, and rows that are collapsed until somebody wants them."""

    uid: str
    title: str
    words: str
    numbers: Sequence[Any]
    open: Sequence[Any]
    rows: Sequence[tuple[str, Sequence[Any]]] = ()


def build(board: Board) -> Any:
    """The dashboard's model."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid).description(board.words).tags([TAG]).timezone("utc").refresh("30s")
        .time("now-6h", "now").tooltip(DashboardCursorSync.CROSSHAIR).editable()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("job", "Job", "label_values(wardgate_build_info, job)"))
        .with_variable(
            _variable("instance", "Instance", 'label_values(wardgate_build_info{job=~"$job"}, instance)')
        )
        .link(dashboard.DashboardLink("wardgate").type(DashboardLinkType.DASHBOARDS).tags([TAG])
              .as_dropdown(False).include_vars(True).keep_time(True))
        .annotation(
            dashboard.AnnotationQuery().name("Policy put in force").datasource(SOURCE).enable(True)
            .icon_color("purple")
            .expr(f"changes({of('wardgate_bundle_last_activation_timestamp_seconds')}[1m]) > 0")
        )
    )  # fmt: skip
    place = 0
    for panel in (*board.numbers, *board.open):
        place += 1
        made = made.with_panel(panel.id(place))
    for title, panels in board.rows:
        place += 1
        row = dashboard.Row(title).collapsed(True).id(place)
        for panel in panels:
            place += 1
            row = row.with_panel(panel.id(place))
        made = made.with_row(row)
    return made.build()


def _variable(name: str, label: str, query: str) -> Any:
    return (
        dashboard.QueryVariable(name)
        .label(label).datasource(SOURCE).query(query).multi(True).include_all(True)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    )  # fmt: skip
