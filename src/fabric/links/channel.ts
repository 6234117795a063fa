/** A channel: one kind of exchange between two nodes on a link that is up. */
import type { OriginRelation } from "../../catalog/entry/scope.ts";
import type { Time } from "../../lib/machine.ts";
import type { BorderPeer } from "../borders/border.ts";
import type { FabricOutput, LinkId } from "../io-types.ts";
import type { FabricNews, FabricPart } from "../part.ts";
import type { Hello, LinkFrame } from "../wire/messages.ts";

/** Facts of a link that has just come up. */
export interface LinkGreeting {
  readonly hello: Hello;
  readonly relation: OriginRelation;
  /** The earliest time at which this node sent its hello on the link. */
  readonly greetedMonoMs: number;
  /** Only on a border link, which has other channels than the links between members. */
  readonly border?: BorderPeer;
}

/** Results of a frame for the rest of the fabric. */
export type ChannelNews =
  | Extract<FabricNews, { readonly kind: "inStep" | "heard" }>
  /** Every link may have something to send now. */
  | { readonly kind: "forAll" }
  /** The peer broke the protocol. */
  | { readonly kind: "badFrame"; readonly detail: string };

/**
 * A part of the fabric that opens a session on each link. Channels do not know each other, nor how links schedule them. To add a channel
 * of the fabric, write a file and add it to `channels` in `parts.ts`. Other rooms pass their channels as `FabricParts.channels`.
 */
export interface LinkChannel<F extends LinkFrame = LinkFrame> extends FabricPart {
  /** The kinds of frames that the channel receives. No two channels receive the same kind. */
  readonly kinds: readonly F["kind"][];
  /** Whether the channel takes turns with others, or sends only when the others have nothing to send on the link. */
  readonly speaks: "in turn" | "last";
  /** Opens a session on a link that came up. Returns undefined when the channel has nothing to send to this peer. */
  open(link: LinkId, greeted: LinkGreeting, time: Time, out: FabricOutput[]): ChannelSession<F> | undefined;
  /** Called when a link is down. */
  closed(link: LinkId): void;
  /** Changes that affect all links. */
  readonly shared?: SharedNews;
}

/** A channel on one link. It queues no frames for a slow peer: `next` creates a frame when the stream accepts it. */
export interface ChannelSession<F extends LinkFrame = LinkFrame> {
  /** Returns the next frame. Undefined when there is none now. */
  next(time: Time): F | undefined;
  /** Handles a frame of one of the channel's `kinds`. */
  receive(frame: F, time: Time, out: FabricOutput[]): readonly ChannelNews[];
  /** Returns whether `next` has a frame. */
  hasWork(time: Time): boolean;
  /** Does the due work. Called at `nextDeadlineMs`. */
  tick(time: Time, out: FabricOutput[]): void;
  /** Returns when work is due; `NEVER` when there is none. */
  nextDeadlineMs(): number;
  /** Whether this node has everything that the peer had, within this channel's subject, when the link came up. */
  readonly isCaughtUp: boolean;
}

/**
 * State that affects all links, such as an updated version vector. Visiting twenty links costs more than sending a record, so a change
 * may wait a little and be sent together with later ones.
 */
export interface SharedNews {
  /** Does the due work for all links, before any link is visited. */
  tick(time: Time): void;
  /** A number that changes with every change of the state. */
  readonly order: number;
  /** Returns whether every link must be visited now. */
  isDue(time: Time): boolean;
  /** Called after every link was visited. */
  looked(time: Time): void;
  /** Returns when to call `tick` or, if there are links, `isDue`; `NEVER` when nothing is due. */
  nextDeadlineMs(linkCount: number): number;
}
