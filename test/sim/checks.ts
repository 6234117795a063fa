/** Where a promise broken becomes a failure: by the name of the invariant and what was seen. */

export class Violation extends Error {
  readonly invariant: string;

  constructor(invariant: string, detail: string) {
    super(`${invariant}: ${detail.replaceAll("\0", "|")}`);
    this.invariant = invariant;
  }
}

export class Checks {
  /** Origins part of whose journal was lost: a backup was restored. What they said is taken back. */
  readonly #lost = new Set<string>();
  readonly #saidMs = new Map<string, number>();
  count = 0;

  holds(isTrue: boolean, invariant: string, detail: () => string): void {
    this.count += 1;
    if (!isTrue) throw new Violation(invariant, detail());
  }

  /** A record, by origin and seq, was seen for the first time. */
  say(id: string, atMs: number): void {
    this.#saidMs.set(id, atMs);
  }

  saidMs(id: string): number | undefined {
    return this.#saidMs.get(id);
  }

  lose(originId: string): void {
    this.#lost.add(originId);
  }

  /** Whether any generation of the node lost something. */
  hasLostOf(nodeId: string): boolean {
    return [...this.#lost].some((originId) => originId.startsWith(`${nodeId}/`));
  }

  get hasLost(): boolean {
    return this.#lost.size > 0;
  }

  isLost(originId: string): boolean {
    return this.#lost.has(originId);
  }
}
