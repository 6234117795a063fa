/** Entries that their clients keep registered while nothing fails: no reader ever lacks one, and watches see each of their moves as one UPDATE. */
import { type CatalogRecord, deltaId, type KeyText } from "../../src/catalog/record/record.ts";
import { ACTION, type ChangeAction } from "../../src/catalog/watch/reader.ts";
import type { Checks } from "./checks.ts";
import type { SimProcess } from "./sim-node.ts";

export class KeptEntries {
  readonly keys = new Set<KeyText>();
  /** Number of updates that watches saw. */
  updateCount = 0;
  readonly #checks: Checks;
  /** The records of a key that a watch has been told of, by watch and key. */
  readonly #told = new Map<string, string[]>();

  constructor(checks: Checks) {
    this.#checks = checks;
  }

  look({ node, replica }: SimProcess, key: KeyText): void {
    if (this.keys.has(key)) this.#checks.holds(replica.view(key) !== undefined, "kept", () => `${node.name} lacks ${key}`);
  }

  /** A watch was told of a change. */
  changed(watch: number, action: ChangeAction, record: CatalogRecord): void {
    if (!this.keys.has(record.key)) return;
    const told = this.#told.get(`${watch} ${record.key}`) ?? [];
    const id = deltaId(record);
    // A stream that has resumed may be told again of the last change.
    const isAgain = told.includes(id) && told.at(-1) !== id;
    this.#checks.holds(
      action !== ACTION.REMOVE && !isAgain,
      "kept",
      () => `watch ${watch} sees ${id} of ${record.key} after ${told.join(", ")}`,
    );
    if (told.at(-1) === id) return;
    this.updateCount += 1;
    this.#told.set(`${watch} ${record.key}`, [...told, id]);
  }
}
