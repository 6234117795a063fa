/** The keys in the order in which their versions changed, for border links (docs/design/summaries.md, Digests). What is only shown or hidden is no change. */
import type { KeyText } from "../../catalog/record/record.ts";
import { ChangeLog } from "../../catalog/replica/change-log.ts";

interface Row {
  readonly key: KeyText;
  order: number;
}

export class Changes {
  readonly #rows = new Map<KeyText, Row>();
  readonly #log = new ChangeLog<Row>(({ order }) => order);
  #revision = 0;
  /** A node without borders has no reader, and keeps nothing. */
  #isRead = false;

  /** The number of the last change. Readers begin here, so changes are kept from the first time that somebody asks. */
  get revision(): number {
    this.#isRead = true;
    return this.#revision;
  }

  /** The version of a key that counts has changed. */
  note(key: KeyText): void {
    if (!this.#isRead) return;
    const row = this.#rows.get(key) ?? { key, order: 0 };
    const before = row.order;
    this.#revision += 1;
    row.order = this.#revision;
    if (before === 0) this.#rows.set(key, row);
    else this.#log.retire(before);
    this.#log.append(row.order, row);
  }

  /** Nothing is held of the key any more. */
  drop(key: KeyText): void {
    const row = this.#rows.get(key);
    if (row === undefined) return;
    const before = row.order;
    row.order = 0;
    this.#log.retire(before);
    this.#rows.delete(key);
  }

  /** Visits the keys that changed after a revision, oldest change first, until `visit` returns false. */
  since(revision: number, visit: (key: KeyText, revision: number) => boolean): void {
    this.#log.forEachSince(revision, ({ key }, order) => visit(key, order));
  }
}
