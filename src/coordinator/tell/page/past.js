// The last five minutes as this page has them: one row per sample of /stats/history. Where a row
// stands (`at`) follows from the lengths of all before it; `unix` is for labels alone, as somebody
// may set the clock.

const WINDOW_MS = 300_000;

class Past {
  started = 0;
  newest = 0;
  rows = [];
  errorReasons = new Set();
  failureReasons = new Set();
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
      failureReasons: new Set(answer.failure_reasons),
      bounds: answer.heat_bounds_us,
    });
    for (const i of answer.seq.keys())
      this.rows.push({ at: this.end() + answer.span_ms[i], ...row(answer, i) });
    this.rows = this.rows.filter(({ at }) => at > this.end() - WINDOW_MS);
    return true;
  }

  // The moment of the newest sample.
  end() {
    return this.rows.at(-1)?.at ?? 0;
  }

  // The rows of the last seconds.
  last(seconds) {
    return this.rows.filter(({ at }) => at > this.end() - seconds * 1000);
  }

  // The row nearest to a moment that is not over.
  nearest(at) {
    if (at < this.end() - WINDOW_MS || this.rows.length === 0) return undefined;
    const closer = (best, row) => (Math.abs(row.at - at) < Math.abs(best.at - at) ? row : best);
    return this.rows.reduce(closer);
  }
}

// What this page has read in the last while, and always the two newest readings.
class Recent {
  readings = [];

  constructor(ms) {
    this.ms = ms;
  }

  add(value) {
    const [now, newest] = [performance.now(), this.readings.length - 1];
    this.readings = this.readings.filter(({ at }, i) => i === newest || now - at < this.ms);
    this.readings.push({ at: now, value });
  }

  // The oldest reading and the newest one.
  ends() {
    return [this.readings[0], this.readings.at(-1)];
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
    unix: answer.unix_ms[i],
    span: answer.span_ms[i],
    active: answer.active[i],
    accepted: perSecond('accepted'),
    errors: perSecond('errors'),
    up: perSecond('bytes_up'),
    down: perSecond('bytes_down'),
    copied: answer.bytes_copied[i],
    spliced: answer.bytes_spliced[i],
    ended: answer.ended[i],
    endedBy: Object.fromEntries(endedBy),
    phases: Object.fromEntries(phases),
  };
}
