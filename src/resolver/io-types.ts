/** The inputs and outputs of a resolver's machine, and what it is told at its start. */
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

/** As the settings `resolver.*`. */
export interface ResolverOptions {
  /** This resolver, by the name that it adds to `via`. */
  readonly name: string;
  readonly clusterId: string;
  readonly region: string;
  readonly upstreams: readonly string[];
  readonly namespaces: readonly string[];
  readonly maxWatches: number;
  readonly maxEntries: number;
  readonly maxBytes: number;
  readonly ttls: FetchTtls;
  /** 0 means without end. */
  readonly maxStaleMs: number;
  readonly guardHoldMs: number;
  readonly pruneIntervalMs: number;
  /** Whether it is ready only when all of `namespaces` is there. */
  readonly seedOnStart: boolean;
  /** Time in which the digest of each followed namespace is compared once. */
  readonly resyncIntervalMs: number;
  /** A random number, 0 ≤ x < 1. */
  readonly random: () => number;
}

/** A call to the upstream that is under way, by its number. */
export type CallNumber = number;

export type ResolverInput =
  | { readonly kind: "tick" }
  | { readonly kind: "probed"; readonly upstream: string; readonly latencyMs: number; readonly facts: UpstreamFacts }
  | { readonly kind: "probe failed"; readonly upstream: string; readonly retryMs?: number }
  /** It was said at most `delayMs` ago. */
  | { readonly kind: "watch said"; readonly stream: StreamNumber; readonly bytes: Uint8Array; readonly delayMs: number }
  /** The stream ended or failed. `refusal`: the upstream itself will not tell of what was asked for. */
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
  /** A page of the answer to a fetch. */
  | { readonly kind: "fetched"; readonly call: CallNumber; readonly bytes: Uint8Array }
  | { readonly kind: "fetch failed"; readonly call: CallNumber; readonly error: WaymarkError }
  /** An upstream answered a call that was passed on with what no server of ours can have sent. */
  | { readonly kind: "garbled"; readonly upstream: string; readonly fault: string }
  /** What the upstream servers are shown has changed: the streams that are open were opened with something else. */
  | { readonly kind: "credentials changed" }
  /** An operator acts on the cache. */
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
  /** An upstream sent what no server of ours can have sent, or names a policy that it has not. */
  | { readonly kind: "garbled"; readonly upstream: string; readonly fault: string }
  | ResyncOrder
  /** An upstream is not followed, for what it says of itself. Comes again when the reason changes, and when it begins again. */
  | ({ readonly kind: "refused" } & RefusedUpstream);

/** How a name is asked for. */
export interface LookupOptions {
  /** What is fetched may not be older, in ms; it is asked for again otherwise. Absent: as old as it may be served. */
  readonly maxAgeMs?: number | undefined;
  /** Whether the same call asked for another name of the namespace before: the namespace counts as asked for once. */
  readonly isFurther?: boolean | undefined;
  /** False for a part of a question that is counted as a whole. */
  readonly isCounted?: boolean | undefined;
}

/** Where an answer comes from, and how good it is. */
export interface AnswerQuality {
  readonly source: "followed" | "fetched" | "disk";
  readonly isStale: boolean;
  /** In ms; infinite while it is unknown. */
  readonly ageMs: number;
  /** Nodes that the age does not include. Absent: none. */
  readonly unreachable?: UnreachableNodes | undefined;
  /** Whether it was fetched, and says that nothing exists. Absent: no. */
  readonly isNegative?: boolean;
}
