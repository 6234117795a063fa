/**
 * A whole transfer of an origin under way: what it has listed, and what was held and not listed. Looked at as the frames come, so that the last
 * one does not look at everything at once.
 */
import type { Cell, Origin } from "./cell.ts";
import { KeyShards } from "./key-shards.ts";
import { BODY } from "./record.ts";

export class WholeTransfer {
  readonly origin: Origin;
  readonly #listed = new KeyShards<string, true>();
  /** Held when the frame that covers it was taken in, and not listed by then. */
  readonly #missing: Cell[] = [];
  readonly #addedBefore: number;
  #addedCount = 0;
  through = 0;
  /** Records of it that were refused. */
  lackCount = 0;

  constructor(origin: Origin) {
    this.origin = origin;
    this.#addedBefore = origin.log.addedCount;
  }

  /** A frame was taken in: what else is held of the numbers that it covers. */
  look({ after, through }: { readonly after: number; readonly through: number }): void {
    this.origin.log.forEachSince(after, (cell, seq) => {
      if (seq > through) return false;
      if (this.#isMissing(cell)) this.#missing.push(cell);
      return true;
    });
  }

  list(key: string): void {
    this.#listed.replace(key, true);
  }

  /** A record of it is held now. */
  installed(): void {
    this.#addedCount += 1;
  }

  /** What is held of the numbers that it covered and not listed, once the last frame is taken in. */
  unlisted(): readonly Cell[] {
    // Somebody else's frames may have brought something under a number that was passed already.
    if (this.origin.log.addedCount !== this.#addedBefore + this.#addedCount) {
      this.#missing.length = 0;
      this.look({ after: 0, through: this.through });
    }
    return this.#missing.filter((cell) => cell.seq >= 0 && cell.seq <= this.through && this.#isMissing(cell));
  }

  #isMissing({ body, key }: Cell): boolean {
    return body === BODY.ENTRY && this.#listed.get(key) === undefined;
  }
}
