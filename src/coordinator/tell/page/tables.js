// Tables that are changed in place: a row stays the same element as long as its key is there. The
// roles are written out because narrow screens show rows as cards, where browsers forget them.

class Table {
  // A column: name, `text` of an item; perhaps `bar` (a share), `state`, `order` to sort by.
  constructor(place, caption, columns) {
    this.columns = columns;
    this.rows = new Map();
    this.heads = columns.map((column) => this.head(column));
    this.body = make('tbody', { role: 'rowgroup' });
    const heads = make('tr', { role: 'row' }, ...this.heads);
    place.append(
      make(
        'table',
        { role: 'table' },
        make('caption', { class: 'unseen' }, caption),
        make('thead', { role: 'rowgroup' }, heads),
        this.body,
      ),
    );
  }

  head(column) {
    const look = column.number ? 'number' : '';
    const head = make('th', { scope: 'col', role: 'columnheader', class: look });
    if (!column.order) {
      head.append(column.name);
      return head;
    }
    const button = make('button', { type: 'button' }, column.name);
    button.addEventListener('click', () => this.sortBy(column));
    mark(head, 'aria-sort', 'none');
    head.append(button);
    return head;
  }

  // Once more on the same column: the other way round. A third time: as it came.
  sortBy(column) {
    const turn = this.sorted?.column === column ? this.sorted.way * -1 : (column.first ?? -1);
    const again = this.sorted?.column === column && turn === (column.first ?? -1);
    this.sorted = again ? undefined : { column, way: turn };
    this.heads.forEach((head, i) => {
      if (!this.columns[i].order) return;
      const mine = this.sorted?.column === this.columns[i];
      mark(head, 'aria-sort', mine ? (this.sorted.way < 0 ? 'descending' : 'ascending') : 'none');
    });
    this.show(this.items, this.most);
  }

  // Items have a `key`; of more than `most` the first ones are shown.
  show(items, most = Infinity) {
    Object.assign(this, { items, most });
    const { column, way } = this.sorted ?? {};
    const compare = (a, b) => way * order(column.order(a), column.order(b));
    const shown = (column ? items.toSorted(compare) : items).slice(0, most);
    const kept = new Set(shown.map(({ key }) => key));
    for (const [key, row] of this.rows) {
      if (kept.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
    shown.forEach((item, place) => this.place(item, place));
  }

  place(item, place) {
    if (!this.rows.has(item.key)) this.rows.set(item.key, new Row(this.columns));
    const row = this.rows.get(item.key);
    row.show(item);
    const there = this.body.children[place];
    if (there !== row.element) this.body.insertBefore(row.element, there ?? null);
  }
}

function order(a, b) {
  return typeof a === 'number'
    ? a - b
    : String(a).localeCompare(String(b), 'en', { numeric: true });
}

class Row {
  constructor(columns) {
    this.cells = columns.map((column, i) => new Cell(column, i));
    this.element = make('tr', { role: 'row' }, ...this.cells.map(({ element }) => element));
  }

  show(item) {
    for (const cell of this.cells) cell.show(item);
    mark(this.element, 'data-level', item.level ?? '');
  }
}

class Cell {
  constructor(column, i) {
    this.column = column;
    this.text = make('span', { class: column.look ?? '' });
    const head = i === 0;
    const look = column.number ? 'number' : '';
    this.element = make(
      head ? 'th' : 'td',
      {
        class: look,
        'data-name': column.name,
        ...(head ? { scope: 'row', role: 'rowheader' } : { role: 'cell' }),
      },
      this.text,
    );
    if (column.small) this.small = this.add(make('small'));
    if (column.bar) {
      this.bar = draw('rect', { height: '4', width: '0' });
      this.element.append(
        draw(
          'svg',
          {
            class: 'share',
            viewBox: '0 0 100 4',
            preserveAspectRatio: 'none',
            'aria-hidden': 'true',
          },
          draw('rect', { class: 'rest', width: '100', height: '4' }),
          this.bar,
        ),
      );
    }
  }

  add(element) {
    this.element.append(element);
    return element;
  }

  show(item) {
    say(this.text, this.column.text(item));
    if (this.small) say(this.small, this.column.small(item));
    if (this.bar)
      mark(this.bar, 'width', String(Math.round(100 * Math.min(this.column.bar(item), 1))));
  }
}
