// The last five minutes as this page has them: one row per sample of /stats/history.

const WINDOW_MS = 300_000;

class Past {
  started = 0;
  newest = 0;
  rows = [];
  errorReasons = new Set();
  bounds = [];

  // Takes in an answer. False where another process answered: then everything has to be asked anew.
  take(answer) {
    if (this.started !== 0 && answer.started_unix_ms !== this.started) {
      Object.assign(this, { started: 0, newest: 0, rows: [] });
      return false;
    }
    Object.assign(this, {
      started: answer.started_unix_ms,
      newest: answer.newest,
      errorReasons: new Set(answer.error_reasons),
      bounds: answer.heat_bounds_us,
    });
    this.rows.push(...answer.seq.map((_, i) => row(answer, i)));
    this.rows = this.rows.filter(({ ms }) => ms > this.end() - WINDOW_MS);
    return true;
  }

  // The moment of the newest sample.
  end() {
    return this.rows.at(-1)?.ms ?? 0;
  }

  // The rows of the last seconds.
  last(seconds) {
    return this.rows.filter(({ ms }) => ms > this.end() - seconds * 1000);
  }

  // The row nearest to a moment.
  at(ms) {
    const closer = (best, row) => (Math.abs(row.ms - ms) < Math.abs(best.ms - ms) ? row : best);
    return this.rows.length > 0 ? this.rows.reduce(closer) : undefined;
  }
}

// Counts become rates, as a sample may be longer than a second.
function row(answer, i) {
  const perSecond = (column) => (answer[column][i] * 1000) / answer.span_ms[i];
  const endedBy = Object.entries(answer.ended_by).map(([reason, counts]) => [reason, counts[i]]);
  const phases = Object.entries(answer.latency).map(([name, phase]) => [
    name,
    {
      count: phase.count[i],
      p50: phase.p50_us[i],
      p99: phase.p99_us[i],
      p999: phase.p999_us[i],
      heat: phase.heat[i],
    },
  ]);
  return {
    ms: answer.unix_ms[i],
    span: answer.span_ms[i],
    active: answer.active[i],
    accepted: perSecond('accepted'),
    errors: perSecond('errors'),
    up: perSecond('bytes_up'),
    down: perSecond('bytes_down'),
    copied: answer.bytes_copied[i],
    spliced: answer.bytes_spliced[i],
    ended: answer.ended[i],
    failed: answer.errors[i],
    endedBy: Object.fromEntries(endedBy),
    phases: Object.fromEntries(phases),
  };
}
