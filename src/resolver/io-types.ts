/** Inputs, outputs (orders) and options of the resolver's state machine. */
import type { WholeName } from "../catalog/query/instances.ts";
import type { UnreachableNodes } from "../catalog/unreachable-nodes.ts";
import type { WaymarkError } from "../lib/errors.ts";
import type { FetchTtls } from "./fetching/shared-fetches.ts";
import type { OperationRequest } from "./maintenance/cache-operations.ts";
import type { ResyncOrder } from "./maintenance/resync-notes.ts";
import type { PolicyOrder } from "./policy/policy-stream.ts";
import type { SummariesOrder } from "./summaries/followed-summaries.ts";
import type { RefusedUpstream, UpstreamFacts } from "./upstreams.ts";
import type { WatchRefusal } from "./watching/prefix-refusals.ts";
import type { StreamNumber, WatchOrder } from "./watching/upstream-watches.ts";

/** Options, most of which come from the settings `resolver.*`. */
export interface ResolverOptions {
  /** Name of this resolver, as shown in `via`. */
  readonly name: string;
  readonly clusterId: string;
  readonly region: string;
  readonly upstreams: readonly string[];
  readonly namespaces: readonly string[];
  readonly maxWatches: number;
  readonly maxEntries: number;
  readonly maxBytes: number;
  readonly ttls: FetchTtls;
  /** 0 means no limit. */
  readonly maxStaleMs: number;
  readonly guardHoldMs: number;
  readonly pruneIntervalMs: number;
  /** Whether the resolver is ready only when all of `namespaces` are present. */
  readonly seedOnStart: boolean;
  /** Interval at which the digest of each followed namespace is compared. */
  readonly resyncIntervalMs: number;
  /** Returns a random number x, 0 ≤ x < 1. */
  readonly random: () => number;
}

/** Number of an open call to an upstream. */
export type CallNumber = number;

export type ResolverInput =
  | { readonly kind: "tick" }
  | { readonly kind: "probed"; readonly upstream: string; readonly latencyMs: number; readonly facts: UpstreamFacts }
  | { readonly kind: "probe failed"; readonly upstream: string; readonly retryMs?: number }
  /** A watch message that was sent at most `delayMs` ago. */
  | { readonly kind: "watch said"; readonly stream: StreamNumber; readonly bytes: Uint8Array; readonly delayMs: number }
  /** The stream ended or failed. `refusal` is set when the upstream rejected the watched prefixes. */
  | { readonly kind: "watch ended"; readonly stream: StreamNumber; readonly retryMs?: number; readonly refusal?: WatchRefusal | undefined }
  | { readonly kind: "policy said"; readonly stream: StreamNumber; readonly bytes: Uint8Array }
  | { readonly kind: "policy ended"; readonly stream: StreamNumber; readonly retryMs?: number }
  | { readonly kind: "summaries said"; readonly stream: StreamNumber; readonly bytes: Uint8Array; readonly delayMs: number }
  | {
      readonly kind: "summaries ended";
      readonly stream: StreamNumber;
      readonly retryMs?: number;
      readonly refusal?: WatchRefusal | undefined;
    }
  /** A page of a fetched answer. */
  | { readonly kind: "fetched"; readonly call: CallNumber; readonly bytes: Uint8Array }
  | { readonly kind: "fetch failed"; readonly call: CallNumber; readonly error: WaymarkError }
  /** An upstream sent a malformed answer to a proxied call. */
  | { readonly kind: "garbled"; readonly upstream: string; readonly fault: string }
  /** The credentials for the upstream servers changed. Open streams still use the old credentials. */
  | { readonly kind: "credentials changed" }
  /** An operator started a cache operation. */
  | ({ readonly kind: "act" } & OperationRequest);

export type ResolverOrder =
  | WatchOrder
  | { readonly kind: "probe"; readonly upstream: string }
  | PolicyOrder
  | SummariesOrder
  | {
      readonly kind: "fetch";
      readonly call: CallNumber;
      readonly upstream: string;
      readonly name: WholeName;
      readonly pageToken: string;
    }
  /** An upstream sent a malformed message, or announced a policy version that it does not send. */
  | { readonly kind: "garbled"; readonly upstream: string; readonly fault: string }
  | ResyncOrder
  /** An upstream is refused because of its reported cluster, region or chain. Reported again when the reason changes or a new refusal begins. */
  | ({ readonly kind: "refused" } & RefusedUpstream);

/** Options of a lookup. */
export interface LookupOptions {
  /** Maximum acceptable age of the answer, in ms. An older answer is fetched again. If absent, any age that can be served is accepted. */
  readonly maxAgeMs?: number | undefined;
  /** Whether the same call already looked up another name in the namespace, so that the namespace is not counted twice. */
  readonly isFurther?: boolean | undefined;
  /** False for part of a lookup that is already counted as a whole. */
  readonly isCounted?: boolean | undefined;
}

/** The source and quality of an answer. */
export interface AnswerQuality {
  readonly source: "followed" | "fetched" | "disk";
  readonly isStale: boolean;
  /** In ms. Infinite while the age is unknown. */
  readonly ageMs: number;
  /** Nodes that are excluded from the age. Defaults to none. */
  readonly unreachable?: UnreachableNodes | undefined;
  /** Whether this is a fetched negative answer (no entry exists). Defaults to false. */
  readonly isNegative?: boolean;
}
