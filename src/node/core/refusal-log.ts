/** Decides which refused strangers and which silent addresses people are told of. The rest are only counted. */
import { eventOutput } from "../../fabric/io-types.ts";
import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import type { Time } from "../../lib/machine.ts";

/** The most strangers that are told of in `WINDOW_MS`. */
const MAX_REFUSALS = 10;
const WINDOW_MS = 60_000;
/** An address that does not answer is told of once in this time. */
const UNANSWERED_WINDOW_MS = 600_000;

export class RefusalLog {
  /** How many strangers were turned away before the fabric heard of them. */
  refusedCount = 0;
  #windowMonoMs = 0;
  #windowCount = 0;
  readonly #unanswered = new TokenBuckets({ limit: 1, windowMs: UNANSWERED_WINDOW_MS, maxKeys: 256 });

  stranger(why: string, address: string, { monoMs }: Time): ReturnType<typeof eventOutput> | undefined {
    this.refusedCount += 1;
    if (monoMs - this.#windowMonoMs > WINDOW_MS) {
      this.#windowMonoMs = monoMs;
      this.#windowCount = 0;
    }
    this.#windowCount += 1;
    if (this.#windowCount > MAX_REFUSALS) return undefined;
    return eventOutput("stranger_refused", "warn", { why, address, count: this.refusedCount }, { isAudited: true });
  }

  /** A node that cannot join must say why. Dead nodes are asked again and again, so that is told seldom. */
  unanswered(why: string, address: string, isRefused: boolean, { monoMs }: Time): ReturnType<typeof eventOutput> | undefined {
    if (this.#unanswered.take(`${isRefused} ${address}`, monoMs) !== 0) return undefined;
    return eventOutput(isRefused ? "refused_by_peer" : "peer_not_reached", isRefused ? "warn" : "info", { address, why });
  }
}
