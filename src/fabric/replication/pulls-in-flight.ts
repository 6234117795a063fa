/** Which origin is being fetched, over which link: one at a time, so that a newcomer with twenty peers gets everything once. */
import type { Time } from "../../lib/machine.ts";
import type { ReplicationOptions } from "./options.ts";

/** A link as seen by who shares the fetching out. */
export interface PullingLink {
  /** When records last came over it. */
  readonly receivedMonoMs: number;
  /** An origin is taken again that was refused before. */
  reconsider(id: string): void;
  /** The node on the other side. */
  readonly peerNodeId: string;
  /** Whether that node has named all origins that it has. */
  readonly isWholeTold: boolean;
  /** Origins of which it refused records, and of which less is here than it has heard of. */
  readonly lacking: Iterable<string>;
  /** This node stood still for so long. */
  postpone(byMs: number): void;
  /** An origin ends at that number: a peer that names more is not asked for it for a while. */
  disbelieve(id: string, seq: number, time: Time): void;
}

type FetchOptions = Pick<ReplicationOptions, "fetchTimeoutMs" | "fetchMaxWaitMs" | "newsTimeoutMs" | "newsPatienceMs">;

/** What a link asks its peer for. */
export interface PullRequest {
  /** Up to there, as the peer told. */
  readonly wanted: number;
  /** The peer has just offered it: the answer is small, and soon there. */
  readonly isNews: boolean;
}

interface PullInFlight extends PullRequest {
  readonly puller: PullingLink;
  sinceMonoMs: number;
  through: number;
  /** When it was first asked for since something came. */
  firstMonoMs: number;
  /** Asked again without an answer. */
  attempts: number;
}

const ALL: PullRequest = { wanted: Number.POSITIVE_INFINITY, isNews: false };

/** Questions for an origin before the waits grow: a net that loses a fifth of all frames needs some. */
const QUICK_ATTEMPTS = 5;

/** News that takes long to come is waited for at most so long: a peer that does not answer must not hold it up. */
const MAX_NEWS_WAIT_MS = 3000;

export class PullsInFlight {
  readonly #options: FetchOptions;
  readonly #all = new Map<string, PullInFlight>();
  /** What answers took, and how much that varies (RFC 6298, 2.3); undefined before the first. */
  #answerMs: number | undefined;
  #varianceMs = 0;

  constructor(options: FetchOptions) {
    this.#options = options;
  }

  /** Whether this link is to ask its peer for an origin now, of which `through` is known. When nothing comes another takes over. */
  take(
    { id, through }: { readonly id: string; readonly through: number },
    puller: PullingLink,
    { monoMs }: Time,
    wish: PullRequest = ALL,
  ): boolean {
    const fetch = this.#all.get(id);
    if (fetch === undefined) {
      this.#all.set(id, { ...wish, puller, sinceMonoMs: monoMs, firstMonoMs: monoMs, through, attempts: 0 });
      return true;
    }
    if (through > fetch.through) {
      fetch.through = through;
      fetch.sinceMonoMs = monoMs;
      fetch.firstMonoMs = monoMs;
      fetch.attempts = 0;
      return false;
    }
    const { fetchTimeoutMs, fetchMaxWaitMs, newsPatienceMs } = this.#options;
    const newsMs = this.#newsTimeoutMs;
    const [timeoutMs, patienceMs] = fetch.isNews ? [newsMs, Math.max(newsMs, newsPatienceMs)] : [fetchTimeoutMs, fetchMaxWaitMs];
    const isSame = fetch.puller === puller;
    // Another goes first; and who does not give after a few questions is asked ever more rarely.
    const growth = 1.5 ** Math.max(0, fetch.attempts - QUICK_ATTEMPTS);
    const waitMs = Math.min(fetchMaxWaitMs, timeoutMs * (isSame ? 1.5 : 1) * growth);
    const busyMonoMs = Math.min(fetch.puller.receivedMonoMs, fetch.sinceMonoMs + patienceMs);
    if (monoMs - Math.max(fetch.sinceMonoMs, busyMonoMs) < waitMs) return false;
    this.#all.set(id, { ...wish, puller, sinceMonoMs: monoMs, firstMonoMs: fetch.firstMonoMs, through, attempts: fetch.attempts + 1 });
    return true;
  }

  /** Where the net is slow, answers are waited for longer: who asks a second peer meanwhile gets everything twice. */
  get #newsTimeoutMs(): number {
    const { newsTimeoutMs } = this.#options;
    return Math.max(newsTimeoutMs, Math.min(MAX_NEWS_WAIT_MS, (this.#answerMs ?? 0) + 4 * this.#varianceMs));
  }

  /** More of an origin is here. */
  // HOT: once a frame.
  arrived({ id, through }: { readonly id: string; readonly through: number }, { monoMs }: Time): void {
    const fetch = this.#all.get(id);
    if (fetch === undefined || through < fetch.wanted) return;
    this.#all.delete(id);
    if (fetch.isNews) this.#noteAnswer(Math.min(MAX_NEWS_WAIT_MS, monoMs - fetch.firstMonoMs));
  }

  /** As RFC 6298 smooths round trips. One that was asked for again counts from the first question, so that the wait grows where answers are late. */
  #noteAnswer(tookMs: number): void {
    const before = this.#answerMs;
    if (before === undefined) this.#varianceMs = tookMs / 2;
    else this.#varianceMs += (Math.abs(before - tookMs) - this.#varianceMs) / 4;
    this.#answerMs = before === undefined ? tookMs : before + (tookMs - before) / 8;
  }

  postpone(byMs: number): void {
    for (const fetch of this.#all.values()) {
      fetch.sinceMonoMs += byMs;
      fetch.firstMonoMs += byMs;
    }
  }

  forget(id: string): void {
    this.#all.delete(id);
  }

  /** What this link fetched is here, or not to be had. */
  end(id: string, puller: PullingLink): void {
    if (this.#all.get(id)?.puller === puller) this.#all.delete(id);
  }

  /** The link is gone: what it fetched is for others to ask for. */
  drop(puller: PullingLink): void {
    for (const [id, fetch] of this.#all) if (fetch.puller === puller) this.#all.delete(id);
  }
}
