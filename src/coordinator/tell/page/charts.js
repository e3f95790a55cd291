// Charts over the last five minutes, drawn by hand in SVG. Each is a slider over time to the
// keyboard and to a screen reader; all of them point at the same moment.

const MARGIN = { left: 56, right: 8, top: 10, bottom: 20 };

// How wide the tip of a finger is.
const FINGER = 48;

class Chart {
  // `spec`: title, a summary of its unit, `series` or `heat`, `format` of a value, `log` or not.
  constructor(place, spec, point) {
    this.spec = spec;
    this.svg = draw('svg', { 'aria-hidden': 'true', focusable: 'false' });
    const id = spec.title.toLowerCase().replaceAll(/[^a-z]+/g, '-');
    this.plot = make(
      'div',
      {
        class: 'plot',
        role: 'slider',
        tabindex: '0',
        'aria-label': `${spec.title}, over time`,
        'aria-valuemin': '-300',
        'aria-valuemax': '0',
        'aria-valuenow': '0',
        'aria-valuetext': 'no sample yet',
        'aria-describedby': `${id}-summary`,
      },
      this.svg,
    );
    this.when = make('span', { class: 'when' });
    this.keys = spec.series.map((series) => new Key(series));
    this.summary = make('p', { id: `${id}-summary`, class: 'unseen' });
    place.append(
      make(
        'figure',
        { class: `card chart ${spec.size}`, id },
        make('figcaption', {}, make('h3', {}, spec.title), this.when),
        make('p', { class: 'keys' }, ...this.keys.map(({ element }) => element)),
        this.plot,
        this.summary,
      ),
    );
    this.listen(point);
  }

  // `point` takes a moment, or null for none, and whether a finger holds it there.
  listen(point) {
    const moved = ({ pointerType, offsetX }) => {
      if (pointerType !== 'touch') point(this.moment(offsetX));
      else if (this.held) this.hold(offsetX, point);
    };
    this.plot.addEventListener('pointermove', moved);
    this.plot.addEventListener('pointerdown', (event) => this.tap(event, point));
    // What began as a tap became a way to scroll.
    this.plot.addEventListener('pointercancel', () => point(...this.before));
    this.plot.addEventListener('pointerleave', () => this.held || point(null));
    this.plot.addEventListener('blur', () => this.held || point(null));
    this.plot.addEventListener('keydown', (event) => {
      const steps = {
        ArrowLeft: -1,
        ArrowDown: -1,
        ArrowRight: 1,
        ArrowUp: 1,
        PageUp: 30,
        PageDown: -30,
        Home: -Infinity,
        End: Infinity,
      };
      if (event.key === 'Escape') return point(null);
      if (!(event.key in steps) || !this.past?.rows.length) return;
      event.preventDefault();
      const { rows } = this.past;
      const here = this.row ? rows.indexOf(this.row) : rows.length - 1;
      const next = Math.min(Math.max(here + steps[event.key], 0), rows.length - 1);
      this.row = rows[next];
      point(this.row.at);
      this.tell();
    });
    this.plot.addEventListener('focus', () => this.tell());
  }

  // A finger leaves the moment where it was; a second tap there lets it go.
  tap({ pointerType, offsetX }, point) {
    this.before = [this.row?.at ?? null, this.held];
    if (pointerType !== 'touch' || !this.past?.rows.length) return undefined;
    const away = (row) => Math.abs(this.x(row.at) - this.x(this.row.at));
    const again = this.held && this.row && away(this.under(offsetX)) < FINGER / 2;
    if (!again) return this.hold(offsetX, point);
    this.held = false;
    return point(null);
  }

  hold(x, point) {
    Object.assign(this, { row: this.under(x), held: true });
    point(this.row.at, true);
    this.tell();
  }

  under(x) {
    return this.past.nearest(Math.max(this.moment(x), this.past.end() - WINDOW_MS));
  }

  // The moment under a place of the plot.
  moment(x) {
    const share = (x - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    return (this.past?.end() ?? 0) - (1 - share) * WINDOW_MS;
  }

  // The place of a moment.
  x(at) {
    return new Area(this.width, this.height, this.past.end()).x(at);
  }

  // What a screen reader hears: only when its user moves, not each second.
  tell() {
    const row = this.row ?? this.past?.rows.at(-1);
    if (!row) return;
    const back = Math.round((row.at - this.past.end()) / 1000);
    const values = this.spec.series.map((series) => `${series.name} ${this.value(series, row)}`);
    mark(this.plot, 'aria-valuenow', String(back));
    mark(this.plot, 'aria-valuetext', `${clock(row.unix)}: ${values.join(', ')}`);
  }

  value(series, row) {
    const value = series.of(row);
    return value === null ? 'none' : (series.format ?? this.spec.format)(value);
  }

  show(past, { at, held }) {
    Object.assign(this, { past, held });
    this.row = at === null ? undefined : past.nearest(at);
    this.width = this.plot.clientWidth;
    this.height = this.plot.clientHeight;
    const row = this.row ?? past.rows.at(-1);
    if (!row || this.width === 0) return;
    say(this.when, this.row ? clock(row.unix) : '');
    for (const key of this.keys) say(key.reading, this.value(key.series, row));
    const area = new Area(this.width, this.height, past.end());
    const paint = this.spec.heat ? heat(area, past, this.spec) : lines(area, past, this.spec);
    this.svg.replaceChildren(...times(area), ...paint, ...cursor(area, this.row));
    mark(this.svg, 'viewBox', `0 0 ${this.width} ${this.height}`);
    say(this.summary, this.spec.series.map((series) => this.summed(series)).join('; '));
  }

  summed(series) {
    const values = this.past.rows.map(series.of).filter((value) => value !== null);
    if (series.summary) return series.summary;
    if (values.length === 0) return `${series.name}: nothing in the last five minutes`;
    const said = [Math.min, Math.max].map((of) =>
      (series.format ?? this.spec.format)(of(...values)),
    );
    return `${series.name}: between ${said.join(' and ')}`;
  }
}

// A name with the look of its line, and what it is now or at the cursor.
class Key {
  constructor(series) {
    this.series = series;
    this.reading = make('b', {}, '–');
    this.element = make(
      'span',
      { class: 'key' },
      swatch(series.look),
      `${series.name} `,
      this.reading,
    );
  }
}

function swatch(look) {
  const shades = Array.from({ length: SHADES }, (_, i) =>
    draw('rect', { class: `shade-${i + 1}`, x: i * 6, width: 6, height: 8 }),
  );
  const line = draw('path', { class: `line ${look}`, d: 'M0 4H18' });
  const [width, ...marks] = look === 'heat' ? [SHADES * 6, ...shades] : [18, line];
  return draw(
    'svg',
    { width, height: 8, viewBox: `0 0 ${width} 8`, 'aria-hidden': 'true' },
    ...marks,
  );
}

// Where things are drawn.
class Area {
  constructor(width, height, end) {
    Object.assign(this, { end, left: MARGIN.left, top: MARGIN.top });
    this.right = width - MARGIN.right;
    this.bottom = height - MARGIN.bottom;
  }

  x(at) {
    return this.right - ((this.end - at) / WINDOW_MS) * (this.right - this.left);
  }

  // `share` is 0 at the bottom and 1 at the top.
  y(share) {
    return this.bottom - share * (this.bottom - this.top);
  }
}

function times(area) {
  const every = area.right - area.left < 280 ? 2 : 1;
  const minutes = [0, 1, 2, 3, 4].filter((minute) => minute % every === 0);
  return minutes.flatMap((minute) => {
    const x = area.x(area.end - minute * 60_000);
    const words = minute === 0 ? 'now' : `−${minute} min`;
    const anchor = minute === 0 ? 'end' : 'middle';
    return [
      draw('path', { class: 'grid-line', d: `M${x} ${area.top}V${area.bottom}` }),
      draw('text', { class: 'tick', x, y: area.bottom + 15, 'text-anchor': anchor }, words),
    ];
  });
}

function cursor(area, row) {
  if (!row) return [];
  return [draw('path', { class: 'cursor', d: `M${area.x(row.at)} ${area.top}V${area.bottom}` })];
}

function tick(area, share, words) {
  const y = area.y(share);
  return [
    draw('path', { class: 'grid-line', d: `M${area.left} ${y}H${area.right}` }),
    draw('text', { class: 'tick', x: area.left - 6, y: y + 4, 'text-anchor': 'end' }, words),
  ];
}

function lines(area, past, spec) {
  const columns = spec.series.map((series) => past.rows.map(series.of));
  const values = columns.flat().filter((value) => value !== null);
  const scale = spec.log ? logarithmic(values) : linear(values, spec.least ?? 1);
  const ticks = scale.ticks.flatMap((value) =>
    tick(area, scale.share(value), (spec.tick ?? spec.format)(value)),
  );
  const point = (value, i) => [area.x(past.rows[i].at), area.y(scale.share(value))];
  const paint = (column, i) => {
    const runs = unbroken(column, point);
    const d = runs.map((run) => `M${run.map((at) => at.join(' ')).join('L')}h.01`).join('');
    const line = draw('path', { class: `line ${spec.series[i].look}`, d });
    return spec.filled
      ? [draw('path', { class: `fill ${spec.series[i].look}`, d: filled(runs, area) }), line]
      : [line];
  };
  return [...ticks, ...columns.flatMap(paint)];
}

// Lines have gaps where there was nothing.
function unbroken(column, point) {
  const runs = [[]];
  column.forEach((value, i) => {
    if (value === null) runs.push([]);
    else runs.at(-1).push(point(value, i));
  });
  return runs.filter((run) => run.length > 0);
}

function filled(runs, area) {
  const closed = (run) =>
    `M${run[0][0]} ${area.bottom}L${run.map((at) => at.join(' ')).join('L')}V${area.bottom}Z`;
  return runs.map(closed).join('');
}

// From zero to a round number above everything.
function linear(values, least) {
  const most = Math.max(least, ...values);
  const unit = 10 ** Math.floor(Math.log10(most / 2));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n * 3 >= most);
  const top = Math.ceil(most / step) * step;
  const ticks = Array.from({ length: Math.round(top / step) + 1 }, (_, i) => i * step);
  return { ticks, share: (value) => value / top };
}

// Whole decades.
function logarithmic(values) {
  const used = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...used, 1e9)));
  const high = Math.max(Math.ceil(Math.log10(Math.max(...used, 1))), low + 1);
  if (used.length === 0) return { ticks: [], share: () => 0 };
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
  return { ticks, share: (value) => (Math.log10(value) - low) / (high - low) };
}

const SHADES = 7;

// A row for each bucket that is used, and one more each way; a path for each shade, so that
// thousands of cells are few elements.
function heat(area, past, spec) {
  const cells = past.rows.flatMap((row) =>
    spec.heat(row).map(([bucket, n]) => ({ row, bucket, n })),
  );
  const used = cells.map(({ bucket }) => bucket);
  const low = Math.max(Math.min(...used, past.bounds.length) - 1, 0);
  const high = Math.min(Math.max(...used, low + 6) + 1, past.bounds.length);
  const most = Math.max(1, ...cells.map(({ n }) => n));
  const height = (area.bottom - area.top) / (high - low + 1);
  const paths = Array.from({ length: SHADES }, () => []);
  for (const { row, bucket, n } of cells) {
    const shade = Math.min(Math.floor((Math.log1p(n) / Math.log1p(most)) * SHADES), SHADES - 1);
    const [from, to] = [row.at - row.span, row.at].map((at) => Math.max(area.x(at), area.left));
    const y = area.bottom - (bucket - low + 1) * height;
    const [left, right, top] = [from, to, y].map((n) => n.toFixed(2));
    paths[shade].push(`M${left} ${top}H${right}v${height.toFixed(2)}H${left}z`);
  }
  const shades = paths.map((path, i) =>
    draw('path', { class: `shade shade-${i + 1}`, d: path.join('') }),
  );
  const bounds = past.bounds.slice(low, high);
  const every = Math.ceil(bounds.length / ((area.bottom - area.top) / 18));
  const ticks = bounds.flatMap((bound, i) =>
    i % every ? [] : tick(area, (i + 1) / (high - low + 1), time(bound)),
  );
  return [...shades, ...ticks];
}
