/** The limits and timeouts of links, and their inputs and outputs. */
import type { OptionsOf, Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { FabricInput, FabricOutput, LinkId } from "../io-types.ts";
import type { FabricNews } from "../part.ts";
import type { Goodbye, Hello, MemberFacts, MemberUpdate } from "../wire/messages.ts";
import type { PeerAuthFacts, PeerRefusal } from "./peer-auth.ts";

/** Constants that are not settings. */
export const LINKS_FIXED = {
  /** Maximum number of links, including those that are being opened or ended. */
  maxTotalLinks: 64,
  /** Maximum number of incoming links. The remaining capacity is reserved for links that this node opens. */
  maxIncomingLinks: 40,
  /** Maximum number of links that are being opened concurrently. */
  maxOpening: 8,
  openTimeoutMs: 10_000,
  helloTimeoutMs: 5000,
  /** A link is dropped if the shell has not closed it this long after its goodbye. */
  endTimeoutMs: 2000,
  /** Backoff between connection attempts, with full jitter. */
  reconnectBaseMs: 250,
  reconnectMaxMs: 10_000,
  /** A peer that was refused, or that refused this node, is retried after this time, ±50 %. */
  refusedRetryMs: 60_000,
  /** The node with the greater id waits for this time, ±50 %, to give the other node a chance to open their link. */
  yieldMs: 300,
  /** If a link is at least this old when a second one comes up, the two were not opened at the same time, so the first one is considered lost. */
  sameTimeMs: 5000,
  /** A link that this node opened to a peer that is no longer wanted ends after this time. */
  notWantedMs: 30_000,
  /** Minimum time between two choices of neighbours. */
  chooseEveryMs: 200,
  /** Number of refusals that are logged per minute and address. Further refusals are only counted. */
  maxRefusalEvents: 6,
} as const;

export interface LinksOptions extends OptionsOf<typeof LINKS_FIXED> {
  /** Number of members that a node wants to link to. If there are fewer members, the node links to all of them. */
  readonly maxLinks: number;
}

/** The dependencies of the links on the rest of the fabric. */
export interface LinksParts {
  /** This node's facts, which every hello contains. */
  readonly self: () => MemberFacts;
  /** All members, in a stable order. */
  readonly members: () => Iterable<MemberUpdate>;
  /** This node's facts that are sent only in hellos. */
  readonly facts: () => Pick<Hello, "holdsSummaries" | "isReady" | "policyFrom" | "runsChecks">;
  readonly peerAuth: PeerAuthFacts;
  /** Why the process instance that sent a hello is refused. Undefined when it is accepted. */
  readonly refusalOfStart: (hello: Hello, time: Time) => PeerRefusal | undefined;
  /** Whether the accepted process instance under the node id is a different one from the sender of the hello. */
  readonly isStranger: (hello: Hello) => boolean;
  readonly rng: Rng;
}

export type LinksInput =
  | Extract<FabricInput, { readonly kind: "tick" | "opened" | "closed" }>
  | { readonly kind: "hello"; readonly link: LinkId; readonly hello: Hello }
  | { readonly kind: "goodbye"; readonly link: LinkId; readonly reason: Goodbye; readonly detail: string }
  /** This node ends the link. */
  | { readonly kind: "end"; readonly link: LinkId; readonly reason: Goodbye; readonly detail: string }
  | Extract<FabricNews, { readonly kind: "members" }>;

export type LinksOutput =
  | Extract<FabricOutput, { readonly kind: "open" | "send" | "close" | "event" }>
  | Extract<FabricNews, { readonly kind: "wanted" | "up" | "down" }>;
