/**
 * Tracks which link is fetching which origin. Only one link fetches an origin at a time, so that a new node with twenty peers receives everything
 * only once.
 */
import type { Time } from "../../lib/machine.ts";
import type { ReplicationOptions } from "./options.ts";

/** A link as seen by the replicator, which distributes the fetches among links. */
export interface PullingLink {
  /** Time at which records last arrived over the link. */
  readonly receivedMonoMs: number;
  /** Accepts an origin that was previously refused. */
  reconsider(id: string): void;
  /** Id of the peer node. */
  readonly peerNodeId: string;
  /** Whether that node has reported all origins that it has. */
  readonly hasWholeVector: boolean;
  /** Origins for which the peer refused records and knows a higher seq than this node has. */
  readonly lacking: Iterable<string>;
  /** Extends deadlines by the time for which this process was paused. */
  postpone(byMs: number): void;
  /** Notes that the origin wrote nothing above `seq`. If the peer reports more, the origin is not requested from the peer for a while. */
  disbelieve(id: string, seq: number, time: Time): void;
}

type FetchOptions = Pick<ReplicationOptions, "fetchTimeoutMs" | "fetchMaxWaitMs" | "newsTimeoutMs" | "newsMaxWaitMs">;

/** The request of a link to its peer. */
export interface PullRequest {
  /** The seq up to which records are requested, according to the peer's report. */
  readonly wanted: number;
  /** Whether the peer has just offered these changes, in which case the answer is small and arrives soon. */
  readonly isNews: boolean;
}

interface PullInFlight extends PullRequest {
  readonly puller: PullingLink;
  sinceMonoMs: number;
  through: number;
  /** Time of the first request since the last records of the origin arrived. */
  firstMonoMs: number;
  /** Number of repeated requests that were not answered. */
  attempts: number;
}

const ALL: PullRequest = { wanted: Number.POSITIVE_INFINITY, isNews: false };

/** Number of requests for an origin before the backoff grows. A network that loses 20 % of all frames needs several. */
const QUICK_ATTEMPTS = 5;

/** Longest wait for requested changes on a slow network, so that a peer that does not answer cannot delay them for longer. */
const MAX_NEWS_WAIT_MS = 3000;

export class PullsInFlight {
  readonly #options: FetchOptions;
  readonly #all = new Map<string, PullInFlight>();
  /** Smoothed answer time and its variation (RFC 6298, 2.3). Undefined before the first answer. */
  #answerMs: number | undefined;
  #varianceMs = 0;

  constructor(options: FetchOptions) {
    this.#options = options;
  }

  /**
   * Whether this link should now request the records of an origin. This node already has the records up to `through`. If no records arrive, another
   * link may request it.
   */
  take(
    { id, through }: { readonly id: string; readonly through: number },
    puller: PullingLink,
    { monoMs }: Time,
    request: PullRequest = ALL,
  ): boolean {
    const fetch = this.#all.get(id);
    if (fetch === undefined) {
      this.#all.set(id, { ...request, puller, sinceMonoMs: monoMs, firstMonoMs: monoMs, through, attempts: 0 });
      return true;
    }
    if (through > fetch.through) {
      fetch.through = through;
      fetch.sinceMonoMs = monoMs;
      fetch.firstMonoMs = monoMs;
      fetch.attempts = 0;
      return false;
    }
    const { fetchTimeoutMs, fetchMaxWaitMs, newsMaxWaitMs } = this.#options;
    const newsMs = this.#newsTimeoutMs;
    const [timeoutMs, maxWaitMs] = fetch.isNews ? [newsMs, Math.max(newsMs, newsMaxWaitMs)] : [fetchTimeoutMs, fetchMaxWaitMs];
    const isSame = fetch.puller === puller;
    // Another link may retry earlier than the same link. After several unanswered requests, the interval grows.
    const growth = 1.5 ** Math.max(0, fetch.attempts - QUICK_ATTEMPTS);
    const waitMs = Math.min(fetchMaxWaitMs, timeoutMs * (isSame ? 1.5 : 1) * growth);
    const busyMonoMs = Math.min(fetch.puller.receivedMonoMs, fetch.sinceMonoMs + maxWaitMs);
    if (monoMs - Math.max(fetch.sinceMonoMs, busyMonoMs) < waitMs) return false;
    this.#all.set(id, { ...request, puller, sinceMonoMs: monoMs, firstMonoMs: fetch.firstMonoMs, through, attempts: fetch.attempts + 1 });
    return true;
  }

  /** The timeout is longer on a slow network, because a request to a second peer in the meantime would fetch everything twice. */
  get #newsTimeoutMs(): number {
    const { newsTimeoutMs } = this.#options;
    return Math.max(newsTimeoutMs, Math.min(MAX_NEWS_WAIT_MS, (this.#answerMs ?? 0) + 4 * this.#varianceMs));
  }

  /** Notes that more records of an origin have arrived. */
  // HOT: once per frame.
  arrived({ id, through }: { readonly id: string; readonly through: number }, { monoMs }: Time): void {
    const fetch = this.#all.get(id);
    if (fetch === undefined || through < fetch.wanted) return;
    this.#all.delete(id);
    if (fetch.isNews) this.#noteAnswer(Math.min(MAX_NEWS_WAIT_MS, monoMs - fetch.firstMonoMs));
  }

  /**
   * Smooths response times as in RFC 6298. The time of a repeated request is measured from the first request, so the wait grows when answers are
   * late.
   */
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

  /** Called when the origin that this link was fetching has arrived or is not available. */
  end(id: string, puller: PullingLink): void {
    if (this.#all.get(id)?.puller === puller) this.#all.delete(id);
  }

  /** Called when the link has been closed. Other links may then request the origins that it was fetching. */
  drop(puller: PullingLink): void {
    for (const [id, fetch] of this.#all) if (fetch.puller === puller) this.#all.delete(id);
  }
}
