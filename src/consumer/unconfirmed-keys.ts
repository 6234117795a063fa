/**
 * Tracks the keys received from a lost server after the last portable cursor. The next server sends the keys that still exist again. If it does not
 * send a key, the change was lost with the server and no removal follows, so the reader needs a snapshot (semantics.md, Watch 3).
 */

/** Maximum number of keys since the last portable cursor. Above this number, a snapshot is requested from the next server. */
const MAX_KEYS = 100_000;

export class UnconfirmedKeys {
  /** Keys received since the portable cursor, which another server sends again. */
  readonly #sinceCheckpoint = new Set<string>();
  readonly #unconfirmed = new Set<string>();

  /** Records a change to the key. */
  noteChange(key: string): void {
    if (this.#sinceCheckpoint.size <= MAX_KEYS) this.#sinceCheckpoint.add(key);
  }

  /** Records that the current server sent the key, with or without a change. */
  confirm(key: string): void {
    this.#unconfirmed.delete(key);
  }

  /** Records that the reader has a portable cursor for its state. */
  checkpoint(): void {
    this.#sinceCheckpoint.clear();
  }

  /**
   * Records that another server continues from the last portable cursor. Returns false if that server must start with a snapshot, because too many
   * keys have been received since that cursor.
   */
  switchServer(): boolean {
    const isFew = this.#sinceCheckpoint.size <= MAX_KEYS;
    for (const key of this.#sinceCheckpoint) this.#unconfirmed.add(key);
    this.#sinceCheckpoint.clear();
    return isFew;
  }

  get size(): number {
    return this.#sinceCheckpoint.size + this.#unconfirmed.size;
  }

  /** The keys that the next server must send again. */
  get keys(): Iterable<string> {
    return this.#sinceCheckpoint.union(this.#unconfirmed);
  }

  /** Removes keys that the reader no longer tracks. */
  drop(isDropped: (key: string) => boolean): void {
    for (const keys of [this.#sinceCheckpoint, this.#unconfirmed]) for (const key of keys) if (isDropped(key)) keys.delete(key);
  }

  /** Clears the unconfirmed keys, after a snapshot of all entries. */
  clear(): void {
    this.#unconfirmed.clear();
  }

  /** At an END or a bookmark, whether the reader has keys that are unknown to the server. If so, the reader needs a snapshot. */
  get hasUnconfirmed(): boolean {
    return this.#unconfirmed.size > 0;
  }
}
