/** A channel: one subject of what two nodes say to each other on a link that is up. */
import type { OriginRelation } from "../../catalog/entry/scope.ts";
import type { Time } from "../../lib/machine.ts";
import type { BorderPeer } from "../borders/border.ts";
import type { FabricOutput, LinkId } from "../io-types.ts";
import type { FabricNews, FabricPart } from "../part.ts";
import type { Hello, LinkFrame } from "../wire/messages.ts";

/** Facts of a link that came up. */
export interface LinkGreeting {
  readonly hello: Hello;
  readonly relation: OriginRelation;
  /** When this node greeted on the link, at the earliest. */
  readonly greetedMonoMs: number;
  /** Of a border link. Its channels are other ones than those of members' links. */
  readonly border?: BorderPeer;
}

/** What the rest of the room learns from a frame. */
export type ChannelNews =
  | Extract<FabricNews, { readonly kind: "inStep" | "heard" }>
  /** Every link may have something to send now. */
  | { readonly kind: "forAll" }
  /** The peer broke the protocol. */
  | { readonly kind: "badFrame"; readonly detail: string };

/**
 * A part of the fabric that opens a session on each link. Channels know nothing of each other, nor of how links take turns. A new channel of this room is a file and
 * a row in `channels` of `parts.ts`. A room above passes its own as `FabricParts.channels`.
 */
export interface LinkChannel<F extends LinkFrame = LinkFrame> extends FabricPart {
  /** The kinds of frames that the channel receives. No two channels receive the same kind. */
  readonly kinds: readonly F["kind"][];
  /** Whether it takes turns with others, or sends only on a link on which the others have nothing to send. */
  readonly speaks: "in turn" | "last";
  /** A link came up. Returns undefined when the channel has nothing to send to this peer. */
  open(link: LinkId, greeted: LinkGreeting, time: Time, out: FabricOutput[]): ChannelSession<F> | undefined;
  /** A link is down. */
  closed(link: LinkId): void;
  /** News that concern every link at once. */
  readonly shared?: SharedNews;
}

/** A channel on one link. It keeps no frames for a peer that does not read: `next` makes one when the stream takes it. */
export interface ChannelSession<F extends LinkFrame = LinkFrame> {
  /** The next frame. Undefined when there is none now. */
  next(time: Time): F | undefined;
  /** A frame of one of the channel's `kinds` came. */
  receive(frame: F, time: Time, out: FabricOutput[]): readonly ChannelNews[];
  /** Whether `next` has a frame. */
  hasWork(time: Time): boolean;
  /** Does what is due. Called at `nextDeadlineMs`. */
  tick(time: Time, out: FabricOutput[]): void;
  /** When something is due; `NEVER` when nothing is. */
  nextDeadlineMs(): number;
  /** Whether this node has everything that the peer had of this subject when the link came up. */
  readonly isCaughtUp: boolean;
}

/** News that each link may have to tell. Each visit to twenty links costs more than a record, so the news may wait a little for more. */
export interface SharedNews {
  /** Does what is due for all links, before any is looked at. */
  tick(time: Time): void;
  /** A number that changes with all news. */
  readonly order: number;
  /** Whether every link is to be looked at now. */
  isDue(time: Time): boolean;
  /** Every link is looked at now. */
  looked(time: Time): void;
  /** When `tick` or, where there are links, `isDue` is to be called; `NEVER` when nothing is due. */
  nextDeadlineMs(linkCount: number): number;
}
