/** What an answer rests on: a revision, and the cursor of whoever holds what was answered. */
import { shortCursorText, shortHolder } from "../../catalog/watch/cursor.ts";
import type { Reads } from "../../discovery/reads.ts";
import { textHash } from "../../lib/hash64.ts";

/** Cursors of one revision kept for the next who asks the same. */
const MAX_CURSORS = 1000;
/** Letters of what such a one is shown: with a thousand names it is long. */
const MAX_KEPT_TEXT = 1000;

export interface Place {
  readonly revision: number;
  readonly cursor: string;
}

/** Of `Reads`. */
interface Seen extends Pick<Reads, "policyTurn"> {
  readonly replica: Pick<Reads["replica"], "revision">;
  readonly node: Pick<Reads["node"], "boot">;
}

export class Places {
  readonly #reads: Seen;
  #revision = -1;
  #policyTurn = -1;
  #boot = "";
  /** By what their holders are shown; of nobody by an empty text. */
  readonly #cursors = new Map<string, string>();

  constructor(reads: Seen) {
    this.#reads = reads;
  }

  /**
   * The place of this moment. `readerText` says what was answered; without one the cursor only names the revision, and a watch that
   * begins with it begins with a snapshot. HOT: asked on every query; a cursor is made once a revision and reader.
   */
  now(readerText = ""): Place {
    const { replica, node, policyTurn } = this.#reads;
    const { revision } = replica;
    if (this.#revision !== revision || this.#policyTurn !== policyTurn) {
      this.#revision = revision;
      this.#policyTurn = policyTurn;
      this.#boot = node.boot;
      this.#cursors.clear();
    }
    let cursor = this.#cursors.get(readerText);
    if (cursor === undefined) {
      cursor = shortCursorText(shortHolder(this.#boot, readerText === "" ? undefined : textHash(readerText)), revision);
      if (this.#cursors.size >= MAX_CURSORS) this.#cursors.clear();
      if (readerText.length <= MAX_KEPT_TEXT) this.#cursors.set(readerText, cursor);
    }
    return { revision, cursor };
  }
}
