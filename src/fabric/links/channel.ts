/** A channel: one subject of what two nodes say to each other on a link that is up. */
import type { Relation } from "../../catalog/entry/scope.ts";
import type { Time } from "../../lib/machine.ts";
import type { FabricOutput, LinkId } from "../io-types.ts";
import type { Hello, LinkFrame } from "../wire/messages.ts";

/** Of a link that came up. */
export interface Greeted {
  readonly hello: Hello;
  readonly relation: Relation;
  /** When this node greeted on the link, at the earliest. */
  readonly greetedMonoMs: number;
}

/** What became known by a link, for the rest of the room. */
export type ChannelNews =
  /** We lack nothing of what the peer had then. */
  | { readonly kind: "inStep"; readonly nodeId: string; readonly monoMs: number }
  /** The peer broke the protocol. */
  | { readonly kind: "badFrame"; readonly link: LinkId; readonly detail: string };

/**
 * One object a channel, for all links. Channels know nothing of each other, nor of how links take turns: a new one is a file, and a row
 * where the fabric is composed. It keeps no frames for a peer that does not read: `next` makes one when the stream takes it.
 */
export interface LinkChannel<F extends LinkFrame = LinkFrame> {
  /** The frames that it receives; no two channels receive the same. */
  readonly kinds: readonly F["kind"][];
  /** Said in the hello, so that the peer says only what this node understands. */
  readonly capabilities: readonly string[];
  /** It takes its turn with others, or speaks only on a link on which these have nothing to say. */
  readonly speaks: "in turn" | "last";
  opened(link: LinkId, greeted: Greeted, time: Time, out: FabricOutput[]): void;
  closed(link: LinkId): void;
  /** The next frame; undefined when there is none now. */
  next(link: LinkId, time: Time): F | undefined;
  /** A frame of one of its `kinds` came. */
  receive(link: LinkId, frame: F, time: Time, out: FabricOutput[]): readonly ChannelNews[];
  /** Whether `next` has a frame. */
  hasWork(link: LinkId, time: Time): boolean;
  /** Does what is due on a link; also called when nothing is. */
  tick(link: LinkId, time: Time, out: FabricOutput[]): readonly ChannelNews[];
  /** When something is due on a link; infinite when nothing is. */
  nextDeadlineMs(link: LinkId): number;
  /** Whether all is here that the peer had of this when the link came up. */
  isCaughtUp(link: LinkId): boolean;
  /** What concerns every link at once. */
  readonly shared?: SharedNews;
}

/** News that each link may have to tell. Each visit to twenty links costs more than a record, so they may wait a little for each other. */
export interface SharedNews {
  /** Does what is due for all links, before any is looked at. */
  tick(time: Time): void;
  /** Another number whenever there is news. */
  readonly order: number;
  /** Whether every link is to be looked at now. */
  isDue(time: Time): boolean;
  /** Every link is looked at now. */
  looked(time: Time): void;
  /** When `tick` or, where there are links, `isDue` is to be asked; infinite when nothing is due. */
  nextDeadlineMs(linkCount: number): number;
}
