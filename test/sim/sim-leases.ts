/** Leases that are watched: which ran out, and whether each had its ttl since it was last heard of. */
import { Leases, type LeaseTerms } from "../../src/catalog/leases.ts";

/** Of sums of times that are no whole milliseconds. */
const ROUNDING_MS = 0.001;

export class SimLeases extends Leases {
  readonly ranOut = new Set<string>();
  readonly #nowMs: () => number;
  readonly #onEarly: (detail: string) => void;
  readonly #heardMs = new Map<string, number>();
  /** Those that were not renewed any more, because another node's word ended an entry of theirs. */
  readonly #everLost = new Set<string>();

  constructor(nowMs: () => number, onEarly: (detail: string) => void) {
    super(7);
    this.#nowMs = nowMs;
    this.#onEarly = onEarly;
  }

  override grant(id: string, terms: LeaseTerms, leaseMs: number): void {
    super.grant(id, terms, leaseMs);
    // One whose end the journal refused is granted again as it was.
    if (!this.#heardMs.has(id)) this.#heardMs.set(id, this.#nowMs());
  }

  override renew(id: string, leaseMs: number): number | undefined {
    const ttlMs = super.renew(id, leaseMs);
    if (ttlMs !== undefined) this.#heardMs.set(id, this.#nowMs());
    return ttlMs;
  }

  override lose(id: string): void {
    super.lose(id);
    this.#everLost.add(id);
  }

  override expire(leaseMs: number, maxCount: number): readonly string[] {
    const ids = super.expire(leaseMs, maxCount);
    for (const id of ids) {
      if (!this.#everLost.has(id)) this.ranOut.add(id);
      const [lastedMs, ttlMs] = [this.#nowMs() - (this.#heardMs.get(id) ?? 0), this.find(id)?.ttlMs ?? 0];
      if (lastedMs < ttlMs - ROUNDING_MS) this.#onEarly(`lease ${id} of ${ttlMs} ms ended ${lastedMs} ms after it was heard of`);
    }
    return ids;
  }
}
