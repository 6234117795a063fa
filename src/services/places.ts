/** What an answer rests on: a revision, and the cursor of whoever holds what was answered. */
import { shortCursorText, shortHolder } from "../catalog/cursor.ts";
import type { Reads } from "../discovery/reads.ts";

/** Cursors of one revision kept for the next who asks the same. */
const MAX_CURSORS = 1000;

export interface Place {
  readonly revision: number;
  readonly cursor: string;
}

export class Places {
  readonly #reads: Reads;
  #revision = -1;
  #policyTurn = -1;
  #boot = "";
  readonly #cursors = new Map<string, string>();

  constructor(reads: Reads) {
    this.#reads = reads;
  }

  /**
   * The place of this moment. `readerHash` stands for what was answered; without one the cursor only names the revision, and a watch that
   * begins with it begins with a snapshot. HOT: asked on every query; a cursor's checksum is made once a revision and reader.
   */
  now(readerHash: string | undefined): Place {
    const { replica, node, policyTurn } = this.#reads;
    const { revision } = replica;
    if (this.#revision !== revision || this.#policyTurn !== policyTurn) {
      this.#revision = revision;
      this.#policyTurn = policyTurn;
      this.#boot = node.boot;
      this.#cursors.clear();
    }
    const holder = shortHolder(this.#boot, readerHash);
    let cursor = this.#cursors.get(holder);
    if (cursor === undefined) {
      cursor = shortCursorText(holder, revision);
      if (this.#cursors.size >= MAX_CURSORS) this.#cursors.clear();
      this.#cursors.set(holder, cursor);
    }
    return { revision, cursor };
  }
}
