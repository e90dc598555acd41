"""Judges the metrics' text with Prometheus' own parsers: metrics.py FILE."""

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as classic

TEXT = open(sys.argv[1], encoding="utf-8").read()


def families():
    return {family.name: family for family in openmetrics(TEXT)}


def value(family, name, **labels):
    found = [s.value for s in families()[family].samples if s.name == name and s.labels == labels]
    return found[0] if len(found) == 1 else found


def told(family):
    return bool(family.documentation) and family.type in ("counter", "gauge", "histogram")


CHECKS = {
    "is OpenMetrics to its end": lambda: len(families()) > 10,
    "every family has a type and a help": lambda: all(told(f) for f in families().values()),
    "names that hold a unit say it": lambda: all(f.unit == f.name.rsplit("_", 1)[1] for f in families().values() if f.name.endswith(("_seconds", "_bytes"))),
    "a bad name comes back as it was": lambda: value("onecred_secret_refusals", "onecred_secret_refusals_total", secret='back\\slash "quoted"\nline') == 4,
    "answers are counted": lambda: value("onecred_answers", "onecred_answers_total") == 10,
    "refusals are counted by kind": lambda: value("onecred_refusals", "onecred_refusals_total", kind="away") == 3,
    "latencies add up": lambda: value("onecred_answer_latency_seconds", "onecred_answer_latency_seconds_count") == 10,
    "what is left of a budget": lambda: value("onecred_source_budget_left", "onecred_source_budget_left", source="default") == 10,
    "calls by outcome": lambda: value("onecred_source_calls", "onecred_source_calls_total", source="default", outcome="away") == 2,
    "the last success": lambda: value("onecred_source_last_success_timestamp_seconds", "onecred_source_last_success_timestamp_seconds", source="default") > 1_700_000_000,
    # node_exporter reads files by the older format
    "is the older text format, too": lambda: {f.type for f in classic(TEXT)} <= {"counter", "gauge", "histogram", "unknown"},
    "the older format finds the histogram": lambda: any(f.type == "histogram" for f in classic(TEXT)),
}

failed = 0
for name, check in CHECKS.items():
    try:
        fine, why = check(), ""
    except Exception as error:  # whatever a parser stumbles over is a verdict
        fine, why = False, f": {error!r}"
    failed += not fine
    if not fine:
        print(f"FAILED {name}{why}")
print(f"{len(CHECKS) - failed} passed, {failed} failed")
sys.exit(failed != 0)
