/** Which origin is being fetched, over which link: one at a time, so that a newcomer with twenty peers gets everything once. */
import type { Time } from "../lib/machine.ts";

/** A link as seen by who shares the fetching out. */
export interface Fetcher {
  /** When records last came over it. */
  readonly receivedMonoMs: number;
  /** An origin is taken again that was refused before. */
  reconsider(id: string): void;
  /** The node on the other side. */
  readonly peerNodeId: string;
  /** Origins of which it refused records, and of which less is here than it has heard of. */
  readonly lacking: Iterable<string>;
  /** This node stood still for so long. */
  postpone(byMs: number): void;
  /** An origin ends at that number: a peer that names more is not asked for it for a while. */
  disbelieve(id: string, seq: number, time: Time): void;
}

export interface FetchOptions {
  readonly fetchTimeoutMs: number;
  readonly fetchMaxWaitMs: number;
  readonly newsTimeoutMs: number;
  readonly newsPatienceMs: number;
}

/** What a link asks its peer for. */
export interface FetchWish {
  /** Up to there, as the peer told. */
  readonly wanted: number;
  /** The peer has just offered it: the answer is small, and soon there. */
  readonly isNews: boolean;
}

interface Fetch extends FetchWish {
  readonly fetcher: Fetcher;
  sinceMonoMs: number;
  through: number;
  /** Asked again without an answer. */
  attempts: number;
}

const ALL: FetchWish = { wanted: Number.POSITIVE_INFINITY, isNews: false };

/** Questions for an origin before the waits grow: a net that loses a fifth of all frames needs some. */
const QUICK_ATTEMPTS = 5;

export class Fetches {
  readonly #options: FetchOptions;
  readonly #all = new Map<string, Fetch>();

  constructor(options: FetchOptions) {
    this.#options = options;
  }

  /** Whether this link is to ask its peer for an origin now, of which `through` is known. When nothing comes another takes over. */
  take(
    { id, through }: { readonly id: string; readonly through: number },
    fetcher: Fetcher,
    { monoMs }: Time,
    wish: FetchWish = ALL,
  ): boolean {
    const fetch = this.#all.get(id);
    if (fetch === undefined) {
      this.#all.set(id, { ...wish, fetcher, sinceMonoMs: monoMs, through, attempts: 0 });
      return true;
    }
    if (through > fetch.through) {
      fetch.through = through;
      fetch.sinceMonoMs = monoMs;
      fetch.attempts = 0;
      return false;
    }
    const { fetchTimeoutMs, fetchMaxWaitMs, newsTimeoutMs, newsPatienceMs } = this.#options;
    const [timeoutMs, patienceMs] = fetch.isNews ? [newsTimeoutMs, newsPatienceMs] : [fetchTimeoutMs, fetchMaxWaitMs];
    const isSame = fetch.fetcher === fetcher;
    // Another goes first; and who does not give after a few questions is asked ever more rarely.
    const growth = 1.5 ** Math.max(0, fetch.attempts - QUICK_ATTEMPTS);
    const waitMs = Math.min(fetchMaxWaitMs, timeoutMs * (isSame ? 1.5 : 1) * growth);
    const busyMonoMs = Math.min(fetch.fetcher.receivedMonoMs, fetch.sinceMonoMs + patienceMs);
    if (monoMs - Math.max(fetch.sinceMonoMs, busyMonoMs) < waitMs) return false;
    this.#all.set(id, { ...wish, fetcher, sinceMonoMs: monoMs, through, attempts: fetch.attempts + 1 });
    return true;
  }

  /** More of an origin is here. */
  // HOT: once a frame.
  arrived({ id, through }: { readonly id: string; readonly through: number }): void {
    if (through >= (this.#all.get(id)?.wanted ?? Number.POSITIVE_INFINITY)) this.#all.delete(id);
  }

  postpone(byMs: number): void {
    for (const fetch of this.#all.values()) fetch.sinceMonoMs += byMs;
  }

  forget(id: string): void {
    this.#all.delete(id);
  }

  /** What this link fetched is here, or not to be had. */
  end(id: string, fetcher: Fetcher): void {
    if (this.#all.get(id)?.fetcher === fetcher) this.#all.delete(id);
  }

  /** The link is gone: what it fetched is for others to ask for. */
  drop(fetcher: Fetcher): void {
    for (const [id, fetch] of this.#all) if (fetch.fetcher === fetcher) this.#all.delete(id);
  }
}
