/**
 * Keys that a lost server told after the last portable cursor. The next server tells them again if they exist. Changes that were lost with that server are
 * never taken back, so a reader that was told of them needs a snapshot (semantics.md, Watch 3).
 */

/** Most keys told since the last portable cursor. With more, the next server is asked for a snapshot. */
const MAX_TOLD = 100_000;

export class UnconfirmedKeys {
  /** Keys told since the portable cursor. Another server tells them again. */
  readonly #sinceCheckpoint = new Set<string>();
  readonly #unconfirmed = new Set<string>();

  /** The server told a change of the key. */
  noteChange(key: string): void {
    if (this.#sinceCheckpoint.size <= MAX_TOLD) this.#sinceCheckpoint.add(key);
  }

  /** The server spoke of the key, whether it told a change or not. */
  confirm(key: string): void {
    this.#unconfirmed.delete(key);
  }

  /** The reader has a portable cursor of what it holds. */
  checkpoint(): void {
    this.#sinceCheckpoint.clear();
  }

  /** Another server goes on from the last portable cursor. Returns false if it must begin with a snapshot, because too much was told since. */
  switchServer(): boolean {
    const isFew = this.#sinceCheckpoint.size <= MAX_TOLD;
    for (const key of this.#sinceCheckpoint) this.#unconfirmed.add(key);
    this.#sinceCheckpoint.clear();
    return isFew;
  }

  get size(): number {
    return this.#sinceCheckpoint.size + this.#unconfirmed.size;
  }

  /** The keys that the next server would have to tell again. */
  get keys(): Iterable<string> {
    return this.#sinceCheckpoint.union(this.#unconfirmed);
  }

  /** The reader lets these keys go. */
  drop(isDropped: (key: string) => boolean): void {
    for (const keys of [this.#sinceCheckpoint, this.#unconfirmed]) for (const key of keys) if (isDropped(key)) keys.delete(key);
  }

  /** A snapshot of everything says what exists. */
  clear(): void {
    this.#unconfirmed.clear();
  }

  /** Whether, at an END or a bookmark, the reader holds what the server does not know. Then it needs a snapshot. */
  get hasUnconfirmed(): boolean {
    return this.#unconfirmed.size > 0;
  }
}
