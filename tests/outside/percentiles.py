"""What the Python package hdrhistogram makes of an interval log: the points of each tag, as JSON."""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader


def points(histogram):
    """The same points that /stats shows, by the same names."""
    percentiles = {"p50_us": 50, "p90_us": 90, "p99_us": 99, "p999_us": 99.9, "p9999_us": 99.99}
    at = histogram.get_value_at_percentile
    return {
        "count": histogram.get_total_count(),
        "min_us": histogram.get_min_value(),
        "mean_us": round(histogram.get_mean_value(), 1),
        **{name: at(percentile) for name, percentile in percentiles.items()},
        "max_us": histogram.get_max_value(),
    }


def main(path):
    # The reader wants one to make others like it, and never looks at it.
    reader = HistogramLogReader(path, HdrHistogram(1, 60_000_000, 3))
    tags = {}
    while (histogram := reader.get_next_interval_histogram()) is not None:
        tags[histogram.get_tag()] = points(histogram)
    print(json.dumps(tags))


main(sys.argv[1])
