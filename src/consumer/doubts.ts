/**
 * Keys that a lost server told after the last portable cursor. The next server tells them again if they exist. Changes that were lost with that server are
 * never taken back, so a reader that was told of them needs a snapshot (semantics.md, Watch 3).
 */

/** Most keys told since the last portable cursor. With more, the next server is asked for a snapshot. */
const MAX_TOLD = 100_000;

export class Doubts {
  /** Keys told since the portable cursor. Another server tells them again. */
  readonly #told = new Set<string>();
  readonly #doubted = new Set<string>();

  /** The server told a change of the key. */
  tell(key: string): void {
    if (this.#told.size <= MAX_TOLD) this.#told.add(key);
  }

  /** The server spoke of the key, whether it told a change or not. */
  hear(key: string): void {
    this.#doubted.delete(key);
  }

  /** The reader has a portable cursor of what it holds. */
  settle(): void {
    this.#told.clear();
  }

  /** Another server goes on from the last portable cursor. Returns false if it must begin with a snapshot, because too much was told since. */
  move(): boolean {
    const isFew = this.#told.size <= MAX_TOLD;
    for (const key of this.#told) this.#doubted.add(key);
    this.#told.clear();
    return isFew;
  }

  get size(): number {
    return this.#told.size + this.#doubted.size;
  }

  /** The keys that the next server would have to tell again. */
  get keys(): Iterable<string> {
    return this.#told.union(this.#doubted);
  }

  /** The reader lets these keys go. */
  drop(isDropped: (key: string) => boolean): void {
    for (const keys of [this.#told, this.#doubted]) for (const key of keys) if (isDropped(key)) keys.delete(key);
  }

  /** A snapshot of everything says what exists. */
  clear(): void {
    this.#doubted.clear();
  }

  /** Whether, at an END or a bookmark, the reader holds what the server does not know. Then it needs a snapshot. */
  get isDoubtful(): boolean {
    return this.#doubted.size > 0;
  }
}
