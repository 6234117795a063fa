/** Bounds and times of links, and their inputs and outputs. */
import type { OptionsOf, Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { FabricInput, FabricOutput, LinkId } from "../io-types.ts";
import type { FabricNews } from "../part.ts";
import type { Goodbye, Hello, MemberFacts, MemberUpdate } from "../wire/messages.ts";
import type { PeerAuthFacts, PeerRefusal } from "./peer-auth.ts";

/** What is not a setting. */
export const LINKS_FIXED = {
  /** All links, with those that are being opened or ended. */
  maxTotalLinks: 64,
  /** Links that others opened. The rest of the room is for links that this node opens. */
  maxIncomingLinks: 40,
  /** Links being opened at once. */
  maxOpening: 8,
  openTimeoutMs: 10_000,
  helloTimeoutMs: 5000,
  /** This long after its goodbye a link that the shell has not closed is given up. */
  endTimeoutMs: 2000,
  /** Waits between attempts, with full jitter. */
  reconnectBaseMs: 250,
  reconnectMaxMs: 10_000,
  /** A peer that was refused, or refused this node, is tried again after this time, plus or minus half. */
  refusedRetryMs: 60_000,
  /** The node with the greater id lets the other one open their link for this time, plus or minus half. */
  yieldMs: 300,
  /** A link of this age was not opened at the same time as a second one. So the second one means that the first is lost. */
  sameTimeMs: 5000,
  /** A link that this node opened to a peer that it no longer wants ends after this time. */
  notWantedMs: 30_000,
  /** The neighbours are chosen anew at most this often. */
  chooseEveryMs: 200,
  /** Refusals logged a minute and address. The rest is only counted. */
  maxRefusalEvents: 6,
} as const;

export interface LinksOptions extends OptionsOf<typeof LINKS_FIXED> {
  /** Members that a node wants links to: all of them up to this number, and this many chosen ones above it. */
  readonly maxLinks: number;
}

/** What links need from the rest of the room. */
export interface LinksParts {
  /** The facts of this node, for every hello. */
  readonly self: () => MemberFacts;
  /** All members, in a stable order. */
  readonly members: () => Iterable<MemberUpdate>;
  /** The facts of this node that only hellos have. */
  readonly facts: () => Pick<Hello, "holdsSummaries" | "isReady" | "policyFrom" | "runsChecks">;
  readonly peerAuth: PeerAuthFacts;
  /** Why the start that greets is refused; undefined when it is not. */
  readonly refusalOfStart: (hello: Hello, time: Time) => PeerRefusal | undefined;
  /** Whether another start than the one that greeted goes under its node's id. */
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
