/** The revision of an answer, and the cursor that a watch can continue from. */
import { shortCursorText, shortHolder } from "../../catalog/watch/cursor.ts";
import type { Reads } from "../../discovery/reads.ts";
import { textHash } from "../../lib/hash64.ts";

/** Most cursors kept for one revision. Readers of the same content get the same cursor. */
const MAX_CURSORS = 1000;
/** Longest reader text that is kept. A filter with a thousand names has a long one. */
const MAX_KEPT_TEXT = 1000;

export interface Place {
  readonly revision: number;
  readonly cursor: string;
}

/** The parts of `Reads` that places depend on. */
interface Seen extends Pick<Reads, "policyEdition"> {
  readonly replica: Pick<Reads["replica"], "revision">;
  readonly node: Pick<Reads["node"], "boot">;
}

export class Places {
  readonly #reads: Seen;
  #revision = -1;
  #policyEdition = -1;
  #boot = "";
  /** Cursors by reader text. The empty text has the cursor of no reader. */
  readonly #cursors = new Map<string, string>();

  constructor(reads: Seen) {
    this.#reads = reads;
  }

  /**
   * The current place. `readerText` names the content of the answer (`Reads.readerText`). Without it the cursor has only the revision, and a
   * watch from it begins with a snapshot. HOT: once a query. Each cursor is made once for a revision and a reader.
   */
  now(readerText = ""): Place {
    const { replica, node, policyEdition } = this.#reads;
    const { revision } = replica;
    if (this.#revision !== revision || this.#policyEdition !== policyEdition) {
      this.#revision = revision;
      this.#policyEdition = policyEdition;
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
