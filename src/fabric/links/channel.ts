/** A channel: one kind of exchange between two nodes on a link that is up. */
import type { OriginRelation } from "../../catalog/entry/scope.ts";
import type { Time } from "../../lib/machine.ts";
import type { BorderPeer } from "../borders/border.ts";
import type { FabricOutput, LinkId } from "../io-types.ts";
import type { FabricNews, FabricPart } from "../part.ts";
import type { Hello, LinkFrame } from "../wire/messages.ts";

/** Facts about a link that has just come up. */
export interface LinkGreeting {
  readonly hello: Hello;
  readonly relation: OriginRelation;
  /** The earliest time at which this node may have sent its hello on the link. */
  readonly greetedMonoMs: number;
  /** Present only on a border link, which has other channels than the links between members. */
  readonly border?: BorderPeer;
}

/** Results of handling a frame, for the rest of the fabric. */
export type ChannelNews =
  | Extract<FabricNews, { readonly kind: "inStep" | "heard" }>
  /** Every link may have something to send now. */
  | { readonly kind: "forAll" }
  /** The peer violated the protocol. */
  | { readonly kind: "badFrame"; readonly detail: string };

/**
 * A part of the fabric that opens a session on each link. Channels do not depend on each other or on the scheduling of links. To add a channel to the
 * fabric, write a file for it and add it to `channels` in `parts.ts`. Other modules pass their channels as `FabricParts.channels`.
 */
export interface LinkChannel<F extends LinkFrame = LinkFrame> extends FabricPart {
  /** The kinds of frames that the channel handles. Each kind is handled by only one channel. */
  readonly kinds: readonly F["kind"][];
  /** Whether the channel takes turns with others, or sends only when the others have nothing to send on the link. */
  readonly speaks: "in turn" | "last";
  /** Opens a session on a link that has come up. Returns undefined when the channel has nothing to send to this peer. */
  open(link: LinkId, greeted: LinkGreeting, time: Time, out: FabricOutput[]): ChannelSession<F> | undefined;
  /** Called when a link has gone down. */
  closed(link: LinkId): void;
  /** Changes that affect all links. */
  readonly shared?: SharedNews;
}

/** A channel on one link. It does not queue frames for a slow peer: `next` creates a frame when the stream can accept it. */
export interface ChannelSession<F extends LinkFrame = LinkFrame> {
  /** Returns the next frame. Undefined when there is none now. */
  next(time: Time): F | undefined;
  /** Handles a frame of one of the channel's `kinds`. */
  receive(frame: F, time: Time, out: FabricOutput[]): readonly ChannelNews[];
  /** Returns whether `next` has a frame. */
  hasWork(time: Time): boolean;
  /** Does the work that is due. Called at `nextDeadlineMs`. */
  tick(time: Time, out: FabricOutput[]): void;
  /** Returns when work is due, or `NEVER` when there is none. */
  nextDeadlineMs(): number;
  /** Whether this node now has everything within this channel's scope that the peer had when the link came up. */
  readonly isCaughtUp: boolean;
}

/**
 * State that affects all links, such as an updated version vector. Visiting twenty links costs more than sending a record, so a change may wait
 * briefly and be sent together with later changes.
 */
export interface SharedNews {
  /** Does the work that is due for all links, before any link is visited. */
  tick(time: Time): void;
  /** A number that is different after every change of the state. */
  readonly order: number;
  /** Returns whether every link must be visited now. */
  isDue(time: Time): boolean;
  /** Called after all links have been visited. */
  looked(time: Time): void;
  /** Returns when to call `tick` or, if there are links, `isDue`. Returns `NEVER` when nothing is due. */
  nextDeadlineMs(linkCount: number): number;
}
