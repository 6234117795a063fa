/**
 * The links that are up, whose channels take turns to send. A link is visited when one of its channels may have something to send.
 */
import { assert } from "../../lib/errors.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { eventOutput, type FabricOutput, type LinkId } from "../io-types.ts";
import type { Hello, LinkFrame } from "../wire/messages.ts";
import type { ChannelNews, ChannelSession, LinkChannel, LinkGreeting } from "./channel.ts";

/** A link that is up. */
interface LinkSession {
  readonly link: LinkId;
  readonly hello: Hello;
  readonly channels: readonly ChannelSession[];
  readonly inTurn: readonly ChannelSession[];
  readonly last: readonly ChannelSession[];
  readonly byKind: ReadonlyMap<LinkFrame["kind"], ChannelSession>;
  /** Whether an event was logged because a frame arrived for which the link has no channel. */
  hasSkipped: boolean;
  /** Whether the shell was notified that the link has something to send, and each pull since then has returned a frame. */
  isAwake: boolean;
  dueMonoMs: number;
  /** Index of the channel that sends next, among the channels that take turns. */
  turn: number;
}

/** The link is visited again after this time if its stream has not accepted the due frames. */
const STALLED_MS = 100;
/** Work that is due on one link may affect other links. After this many passes, the rest waits for the next input. */
const MAX_PASSES = 2;

export class Multiplexer {
  readonly #channels: readonly LinkChannel[];
  readonly #all = new Map<LinkId, LinkSession>();
  #lastMonoMs = 0;
  #isAnyDue = true;
  /** Links that received a frame, or for which the last pull returned nothing. */
  readonly #touched = new Set<LinkSession>();
  /** The earliest time at which a link may be due. */
  #dueMonoMs = 0;
  /** Number of frames that were skipped on links that are up, because the link had no channel for them. */
  skippedCount = 0;

  constructor(channels: readonly LinkChannel[]) {
    const kinds = channels.flatMap((channel) => channel.kinds);
    assert(new Set(kinds).size === kinds.length, "two channels receive frames of the same kind", { kinds: kinds.join(" ") });
    this.#channels = channels;
  }

  /** Returns the hello of the peer of a link that is up. */
  helloOf(link: LinkId): Hello | undefined {
    return this.#all.get(link)?.hello;
  }

  /** Returns the peers that this node has caught up with, that is, it has everything that they had when their links came up. */
  caughtUpWith(): readonly Hello[] {
    // Query every channel, even after a negative answer, because the query lets a channel drop items that it no longer waits for.
    const isUp = ({ channels }: LinkSession) => channels.filter(({ isCaughtUp }) => !isCaughtUp).length === 0;
    return [...this.#all.values()].filter(isUp).map(({ hello }) => hello);
  }

  open(link: LinkId, greeted: LinkGreeting, time: Time, out: FabricOutput[]): void {
    const channels: ChannelSession[] = [];
    const inTurn: ChannelSession[] = [];
    const last: ChannelSession[] = [];
    const byKind = new Map<LinkFrame["kind"], ChannelSession>();
    for (const channel of this.#channels) {
      const session = channel.open(link, greeted, time, out);
      if (session === undefined) continue;
      channels.push(session);
      (channel.speaks === "in turn" ? inTurn : last).push(session);
      for (const kind of channel.kinds) byKind.set(kind, session);
    }
    this.#all.set(link, {
      link,
      hello: greeted.hello,
      channels,
      inTurn,
      last,
      byKind,
      hasSkipped: false,
      isAwake: false,
      dueMonoMs: 0,
      turn: 0,
    });
    this.#dueMonoMs = 0;
    this.wake();
  }

  close(link: LinkId): void {
    const session = this.#all.get(link);
    if (session !== undefined) this.#touched.delete(session);
    this.#all.delete(link);
    for (const channel of this.#channels) channel.closed(link);
    this.wake();
  }

  /** Returns the next frame for a link, or undefined when there is none now. */
  // HOT: runs for each frame.
  next(link: LinkId, time: Time): LinkFrame | undefined {
    const session = this.#all.get(link);
    if (session === undefined) return undefined;
    const { turn, inTurn, last } = session;
    const { length } = inTurn;
    // Channels take turns so that one channel's long response does not delay another channel.
    session.turn = (turn + 1) % length;
    for (let i = 0; i < length; i++) {
      const frame = inTurn[(turn + i) % length]?.next(time);
      if (frame !== undefined) return frame;
    }
    session.isAwake = false;
    this.#touched.add(session);
    this.#plan(session);
    for (const channel of last) {
      const frame = channel.next(time);
      if (frame !== undefined) return frame;
    }
    return undefined;
  }

  /**
   * Passes a frame to its channel. Returns undefined when the link is not up. A frame without a channel is skipped and counted, and one event is
   * logged per link, because a newer peer may send frames that this version does not know.
   */
  receive(link: LinkId, frame: LinkFrame, time: Time, out: FabricOutput[]): readonly ChannelNews[] | undefined {
    const session = this.#all.get(link);
    if (session === undefined) return undefined;
    const channel = session.byKind.get(frame.kind);
    if (channel === undefined) {
      this.skippedCount += 1;
      const { nodeId, version } = session.hello;
      if (!session.hasSkipped) out.push(eventOutput("frames_skipped", "info", { nodeId, link, version, frame: frame.kind }));
      session.hasSkipped = true;
      return [];
    }
    this.#touched.add(session);
    const news = channel.receive(frame, time, out);
    if (news.some(({ kind }) => kind === "forAll")) this.wake();
    return news;
  }

  /** Visits every link at the next tick, because a change affects all of them. */
  wake(): void {
    this.#isAnyDue = true;
  }

  /** Does the work that is due. `isStopping`: every link is pulled once more, and then its goodbye can be sent. */
  // HOT: runs after every input. A link is visited when it received a frame, when its deadline has passed, or when a change affects all links.
  tick(time: Time, { isStopping }: { readonly isStopping: boolean }, out: FabricOutput[]): void {
    this.#lastMonoMs = time.monoMs;
    for (const { shared } of this.#channels) shared?.tick(time);
    for (let pass = 0; pass < MAX_PASSES; pass++) {
      const order = this.#order();
      const isAnyDue = this.#isAnyDue || isStopping || this.#hasNews(time);
      this.#isAnyDue = false;
      if (isAnyDue) for (const { shared } of this.#channels) shared?.looked(time);
      for (const session of this.#toVisit(isAnyDue, time)) this.#visit(session, { time, isStopping }, out);
      if (this.#order() === order) break;
    }
  }

  nextDeadlineMs(): number {
    let next = this.#all.size === 0 ? NEVER : this.#dueMonoMs;
    for (const { shared } of this.#channels) next = Math.min(next, shared?.nextDeadlineMs(this.#all.size) ?? NEVER);
    return next;
  }

  #order(): number {
    let order = 0;
    for (const { shared } of this.#channels) order += shared?.order ?? 0;
    return order;
  }

  #hasNews(time: Time): boolean {
    for (const { shared } of this.#channels) if (shared?.isDue(time) === true) return true;
    return false;
  }

  #toVisit(isAnyDue: boolean, { monoMs }: Time): readonly LinkSession[] {
    if (!isAnyDue && monoMs < this.#dueMonoMs) {
      const touched = [...this.#touched];
      this.#touched.clear();
      return touched;
    }
    const visited: LinkSession[] = [];
    this.#dueMonoMs = NEVER;
    for (const session of this.#all.values()) {
      if (isAnyDue || monoMs >= session.dueMonoMs || this.#touched.has(session)) visited.push(session);
      else this.#dueMonoMs = Math.min(this.#dueMonoMs, session.dueMonoMs);
    }
    this.#touched.clear();
    return visited;
  }

  #visit(session: LinkSession, { time, isStopping }: { readonly time: Time; readonly isStopping: boolean }, out: FabricOutput[]): void {
    const { link, channels } = session;
    for (const channel of channels) if (time.monoMs >= channel.nextDeadlineMs()) channel.tick(time, out);
    if (!session.isAwake && (isStopping || channels.some((channel) => channel.hasWork(time)))) {
      session.isAwake = true;
      out.push({ kind: "send", link });
    }
    this.#plan(session);
  }

  /** Schedules the next visit of a link. While a peer is not reading, due work cannot be done and must not cause a visit on every input. */
  #plan(session: LinkSession): void {
    let next = NEVER;
    for (const channel of session.channels) next = Math.min(next, channel.nextDeadlineMs());
    session.dueMonoMs = Math.max(next, this.#lastMonoMs + (session.isAwake ? STALLED_MS : 1));
    this.#dueMonoMs = Math.min(this.#dueMonoMs, session.dueMonoMs);
  }
}
