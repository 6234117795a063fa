/** The links that are up: their channels speak in turns, and a link is looked at when one of them may have something to say. */
import type { Time } from "../../lib/machine.ts";
import type { FabricOutput, LinkId } from "../io-types.ts";
import type { Hello, LinkFrame } from "../wire/messages.ts";
import type { ChannelNews, Greeted, LinkChannel } from "./channel.ts";

interface Session {
  readonly link: LinkId;
  readonly hello: Hello;
  /** The shell was told that there is something to send, and has not found nothing since. */
  isAwake: boolean;
  dueMonoMs: number;
  /** Whose turn it is to send, of the channels that take turns. */
  turn: number;
}

/** A link that has not taken what is due is looked at again after so long. */
const STALLED_MS = 100;
/** What a link does at its time may be news for others; the rest waits for the next input. */
const MAX_PASSES = 2;
const NEVER = Number.POSITIVE_INFINITY;

export class Multiplexer {
  readonly #channels: readonly LinkChannel[];
  readonly #byKind: ReadonlyMap<LinkFrame["kind"], LinkChannel>;
  readonly #inTurn: readonly LinkChannel[];
  readonly #last: readonly LinkChannel[];
  readonly #all = new Map<LinkId, Session>();
  #lastMonoMs = 0;
  #isAnyDue = true;
  /** Something came over these, or they were found to have nothing to send. */
  readonly #touched = new Set<Session>();
  /** No link is due before. */
  #dueMonoMs = 0;

  constructor(channels: readonly LinkChannel[]) {
    this.#channels = channels;
    this.#byKind = new Map(channels.flatMap((channel) => channel.kinds.map((kind) => [kind, channel] as const)));
    this.#inTurn = channels.filter(({ speaks }) => speaks === "in turn");
    this.#last = channels.filter(({ speaks }) => speaks === "last");
  }

  /** What this node says in its hello that it understands. */
  get capabilities(): readonly string[] {
    return this.#channels.flatMap(({ capabilities }) => capabilities);
  }

  /** What the peer of a link that is up said of itself. */
  helloOf(link: LinkId): Hello | undefined {
    return this.#all.get(link)?.hello;
  }

  /** Those of whose news all is here that they had when the link came up. */
  caughtUpWith(): readonly Hello[] {
    // Each is asked, since one that is asked lets go of what it need not wait for any more.
    const isUp = (link: LinkId) => this.#channels.filter((channel) => !channel.isCaughtUp(link)).length === 0;
    return [...this.#all.values()].filter(({ link }) => isUp(link)).map(({ hello }) => hello);
  }

  open(link: LinkId, greeted: Greeted, time: Time, out: FabricOutput[]): void {
    this.#all.set(link, { link, hello: greeted.hello, isAwake: false, dueMonoMs: 0, turn: 0 });
    this.#dueMonoMs = 0;
    for (const channel of this.#channels) channel.opened(link, greeted, time, out);
    this.wake();
  }

  close(link: LinkId): void {
    const session = this.#all.get(link);
    if (session !== undefined) this.#touched.delete(session);
    this.#all.delete(link);
    for (const channel of this.#channels) channel.closed(link);
    this.wake();
  }

  /** The next frame of a link; undefined when there is nothing now. */
  // HOT: once a frame.
  next(link: LinkId, time: Time): LinkFrame | undefined {
    const session = this.#all.get(link);
    if (session === undefined) return undefined;
    const { turn } = session;
    const { length } = this.#inTurn;
    // In turns, so that a long answer of one channel does not hold up what is new in another.
    session.turn = (turn + 1) % length;
    for (let i = 0; i < length; i++) {
      const frame = this.#inTurn[(turn + i) % length]?.next(link, time);
      if (frame !== undefined) return frame;
    }
    session.isAwake = false;
    this.#touched.add(session);
    this.#plan(session);
    for (const channel of this.#last) {
      const frame = channel.next(link, time);
      if (frame !== undefined) return frame;
    }
    return undefined;
  }

  /** Undefined for a frame of no channel, and on a link that is not up. */
  receive(link: LinkId, frame: LinkFrame, time: Time, out: FabricOutput[]): readonly ChannelNews[] | undefined {
    const session = this.#all.get(link);
    const channel = this.#byKind.get(frame.kind);
    if (session === undefined || channel === undefined) return undefined;
    this.#touched.add(session);
    return channel.receive(link, frame, time, out);
  }

  /** Something that every link may have to tell has changed. */
  wake(): void {
    this.#isAnyDue = true;
  }

  /** What is due. `isStopping`: every link is to be pulled once more, so that its goodbye can follow. */
  // HOT: after every input. A link is looked at when something came over it, when its time has come, or when there is news for all.
  tick(time: Time, { isStopping }: { readonly isStopping: boolean }, out: FabricOutput[]): readonly ChannelNews[] {
    const news: ChannelNews[] = [];
    this.#lastMonoMs = time.monoMs;
    for (const { shared } of this.#channels) shared?.tick(time);
    for (let pass = 0; pass < MAX_PASSES; pass++) {
      const order = this.#order();
      const isAnyDue = this.#isAnyDue || isStopping || this.#hasNews(time);
      this.#isAnyDue = false;
      if (isAnyDue) for (const { shared } of this.#channels) shared?.looked(time);
      for (const session of this.#toVisit(isAnyDue, time)) news.push(...this.#visit(session, { time, isStopping }, out));
      if (this.#order() === order) break;
    }
    return news;
  }

  nextDeadlineMs(): number | undefined {
    let next = this.#all.size === 0 ? NEVER : this.#dueMonoMs;
    for (const { shared } of this.#channels) next = Math.min(next, shared?.nextDeadlineMs(this.#all.size) ?? NEVER);
    return next === NEVER ? undefined : next;
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

  #toVisit(isAnyDue: boolean, { monoMs }: Time): readonly Session[] {
    if (!isAnyDue && monoMs < this.#dueMonoMs) {
      const touched = [...this.#touched];
      this.#touched.clear();
      return touched;
    }
    const visited: Session[] = [];
    this.#dueMonoMs = NEVER;
    for (const session of this.#all.values()) {
      if (isAnyDue || monoMs >= session.dueMonoMs || this.#touched.has(session)) visited.push(session);
      else this.#dueMonoMs = Math.min(this.#dueMonoMs, session.dueMonoMs);
    }
    this.#touched.clear();
    return visited;
  }

  #visit(session: Session, now: { readonly time: Time; readonly isStopping: boolean }, out: FabricOutput[]): readonly ChannelNews[] {
    const { link } = session;
    const { time, isStopping } = now;
    const news: ChannelNews[] = [];
    for (const channel of this.#channels) news.push(...channel.tick(link, time, out));
    if (!session.isAwake && (isStopping || this.#hasWork(link, time))) {
      session.isAwake = true;
      out.push({ kind: "send", link });
    }
    this.#plan(session);
    return news;
  }

  #hasWork(link: LinkId, time: Time): boolean {
    for (const channel of this.#channels) if (channel.hasWork(link, time)) return true;
    return false;
  }

  /** When to look at it again. A peer that does not read leaves what is due undone: not all the time. */
  #plan(session: Session): void {
    let next = NEVER;
    for (const channel of this.#channels) next = Math.min(next, channel.nextDeadlineMs(session.link));
    session.dueMonoMs = Math.max(next, this.#lastMonoMs + (session.isAwake ? STALLED_MS : 1));
    this.#dueMonoMs = Math.min(this.#dueMonoMs, session.dueMonoMs);
  }
}
