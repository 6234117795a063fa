/** Bounds and times of links, and what links are told and say. */
import type { Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { FabricEvent, LinkId } from "../io-types.ts";
import type { Goodbye, Hello, MemberFacts, MemberUpdate, PeerIdentity } from "../wire/messages.ts";
import type { PeerAuthFacts, Refusal } from "./peer-auth.ts";

export interface LinksOptions {
  /** Members a node wants links to: all of them up to so many, as many chosen ones above. */
  readonly maxLinks: number;
  /** Links altogether, those that are being opened or ended too. */
  readonly maxTotalLinks: number;
  /** Links that others opened, so that strangers leave room for our own. */
  readonly maxIncomingLinks: number;
  /** Links being opened at once. */
  readonly maxOpening: number;
  readonly openTimeoutMs: number;
  readonly helloTimeoutMs: number;
  /** After its goodbye a link that the shell has not closed is given up after so long. */
  readonly endTimeoutMs: number;
  /** Waits between attempts; full jitter. */
  readonly reconnectBaseMs: number;
  readonly reconnectMaxMs: number;
  /** A peer that was refused, or refused us, is tried again after so long, give or take half. */
  readonly refusedRetryMs: number;
  /** The node with the greater id leaves it to the other for so long, give or take half, to open their link. */
  readonly yieldMs: number;
  /** A link this old was not opened at the same time as another: a second one means that the first is lost. */
  readonly sameTimeMs: number;
  /** A link of ours to somebody not wanted any more ends after so long. */
  readonly notWantedMs: number;
  /** The choice of neighbours is made anew at most so often. */
  readonly chooseEveryMs: number;
  /** Refusals told a minute and address; the rest is counted. */
  readonly maxRefusalEvents: number;
}

/** What is not a setting. */
export const LINKS_FIXED = {
  maxTotalLinks: 64,
  maxIncomingLinks: 40,
  maxOpening: 8,
  openTimeoutMs: 10_000,
  helloTimeoutMs: 5000,
  endTimeoutMs: 2000,
  reconnectBaseMs: 250,
  reconnectMaxMs: 10_000,
  refusedRetryMs: 60_000,
  yieldMs: 300,
  sameTimeMs: 5000,
  notWantedMs: 30_000,
  chooseEveryMs: 200,
  maxRefusalEvents: 6,
} as const satisfies Partial<LinksOptions>;

/** What links ask of the rest of the room. */
export interface LinksParts {
  /** What this node says of itself; asked at every hello. */
  readonly self: () => MemberFacts;
  /** Everybody known, in a stable order. */
  readonly members: () => Iterable<MemberUpdate>;
  /** Asked at every hello. */
  readonly capabilities: () => readonly string[];
  /** The other clusters whose policy this node takes, for its hello. */
  readonly policyFrom: () => readonly string[];
  readonly peerAuth: PeerAuthFacts;
  /** Why the start that greets is refused; undefined when it is not. */
  readonly refusalOfStart: (hello: Hello, time: Time) => Refusal | undefined;
  /** Whether another start than the one that greeted goes under its node's id. */
  readonly isStranger: (hello: Hello) => boolean;
  readonly rng: Rng;
}

export type LinksInput =
  | { readonly kind: "tick" }
  | { readonly kind: "opened"; readonly link: LinkId; readonly isIncoming: boolean; readonly identity: PeerIdentity }
  | { readonly kind: "closed"; readonly link: LinkId; readonly detail: string }
  | { readonly kind: "hello"; readonly link: LinkId; readonly hello: Hello }
  | { readonly kind: "goodbye"; readonly link: LinkId; readonly reason: Goodbye; readonly detail: string }
  /** Ends a link for a reason of ours. */
  | { readonly kind: "end"; readonly link: LinkId; readonly reason: Goodbye; readonly detail: string }
  /** Membership knows others now, or something else of them. */
  | { readonly kind: "members" };

export type LinksOutput =
  | { readonly kind: "open"; readonly link: LinkId; readonly to: string }
  | { readonly kind: "send"; readonly link: LinkId }
  | { readonly kind: "close"; readonly link: LinkId }
  | { readonly kind: "event"; readonly event: FabricEvent }
  /** From now on links are wanted to these and no others. */
  | { readonly kind: "wanted"; readonly nodeIds: readonly string[] }
  /** Both have greeted; this node not before `greetedMonoMs`. */
  | {
      readonly kind: "up";
      readonly link: LinkId;
      readonly hello: Hello;
      readonly identity: PeerIdentity;
      readonly greetedMonoMs: number;
    }
  /** A link that was up is not any more; `goodbye` is the peer's reason, undefined when it gave none. */
  | { readonly kind: "down"; readonly link: LinkId; readonly hello: Hello; readonly goodbye: Goodbye | undefined };
