/** The borders of a node: its border links, and what is said on them. A machine beside membership, which hears nothing of it. */
import { relationOf } from "../../catalog/entry/scope.ts";
import type { Time } from "../../lib/machine.ts";
import type { FabricInput, FabricOutput, LinkId } from "../io-types.ts";
import type { LinkChannel } from "../links/channel.ts";
import { Multiplexer } from "../links/multiplexer.ts";
import type { Goodbye, Hello, LinkFrame, MemberUpdate, PeerIdentity } from "../wire/messages.ts";
import type { Border, BorderCount, BorderLinksOptions, BorderNode } from "./border.ts";
import { type BorderLinkRow, BorderLinks, type BorderLinksInput, type BorderLinksOutput, type BorderLinksParts } from "./border-links.ts";

export interface BordersParts extends BorderLinksParts {
  readonly borders: readonly Border[];
  /** What is said on border links, and on no others. */
  readonly channels: readonly LinkChannel[];
  /** The number of this node's links to a region changed. The other nodes of its own region are to know. */
  readonly onCounts: (counts: readonly BorderCount[], time: Time, out: FabricOutput[]) => void;
}

/** A node that said goodbye, and is neither dead nor linked again after this time, counts as before. */
const GONE_MS = 60_000;

export class Borders {
  readonly #parts: BordersParts;
  readonly #links: BorderLinks;
  readonly #multiplexer: Multiplexer;
  #isEnding = false;
  /** The other nodes of the region that have borders. */
  #nodes: readonly BorderNode[] = [];
  /** The members of the region, as they were told last. */
  #members: readonly MemberUpdate[] = [];
  /** Members that said goodbye, and until when others take their links over. */
  readonly #gone = new Map<string, number>();

  constructor(options: BorderLinksOptions, parts: BordersParts) {
    this.#parts = parts;
    this.#links = new BorderLinks(parts.borders, options, parts);
    this.#multiplexer = new Multiplexer(parts.channels);
  }

  /** What this node tells the others of its region. */
  get counts(): readonly BorderCount[] {
    return this.#links.counts;
  }

  /** The regions with which this region has links, at whatever node, as far as this one was told. */
  linkedRegions(): ReadonlySet<string> {
    const own = this.rows.flatMap(({ state, region }) => (state === "up" ? [region] : []));
    const others = this.#nodes.flatMap(({ borders }) => borders.flatMap(({ region, links }) => (links > 0 ? [region] : [])));
    return new Set([...own, ...others]);
  }

  /** All links, for people. */
  get rows(): readonly BorderLinkRow[] {
    return [...this.#links.rows];
  }

  /** Number of links, with those that are being opened or ended. */
  get size(): number {
    return this.#links.size;
  }

  /** Counts since the start: links that were refused, and frames that no channel receives. */
  get refused(): { readonly links: number; readonly frames: number } {
    return { links: this.#links.refusedCount + this.#links.tooManyCount, frames: this.#multiplexer.skippedCount };
  }

  /** Whether the link is a border link. */
  has(link: LinkId): boolean {
    return this.#links.has(link);
  }

  /** Uses what was read anew of the files of the borders. */
  setBorders(borders: readonly Border[]): void {
    this.#links.setBorders(borders);
  }

  /** A stream was opened, by this node or by the gate of a border. */
  opened({ link, isIncoming, identity }: Extract<FabricInput, { kind: "opened" }>, time: Time, out: FabricOutput[]): void {
    this.#toLinks(isIncoming ? { kind: "arrived", link, identity } : { kind: "opened", link, identity }, time, out);
  }

  /** A border hello came on a stream that another node opened. */
  greeted(link: LinkId, hello: Hello, identity: PeerIdentity, time: Time, out: FabricOutput[]): void {
    this.#toLinks({ kind: "greeted", link, hello, identity }, time, out);
  }

  closed(input: Extract<FabricInput, { kind: "closed" }>, time: Time, out: FabricOutput[]): void {
    this.#toLinks(input, time, out);
  }

  received(link: LinkId, frame: LinkFrame, time: Time, out: FabricOutput[]): void {
    if (frame.kind === "hello") return this.#hello(link, frame.hello, time, out);
    if (frame.kind === "goodbye") return this.#toLinks({ ...frame, link }, time, out);
    const news = this.#multiplexer.receive(link, frame, time, out);
    if (news === undefined && this.#links.find(link)?.state === "greeting") this.#badFrame(link, `${frame.kind} before hello`, time, out);
    for (const each of news ?? []) if (each.kind === "badFrame") this.#badFrame(link, each.detail, time, out);
  }

  /** The next frame for a link. */
  pull(link: LinkId, time: Time): LinkFrame | undefined {
    return this.#links.next(link) ?? this.#multiplexer.next(link, time);
  }

  /** The members of this node's region. */
  know(members: readonly MemberUpdate[], time: Time, out: FabricOutput[]): void {
    if (this.#parts.borders.length === 0) return;
    this.#members = members;
    const listed = new Set(members.map(({ nodeId }) => nodeId));
    for (const [nodeId, untilMonoMs] of this.#gone) if (!listed.has(nodeId) || time.monoMs >= untilMonoMs) this.#gone.delete(nodeId);
    const others = members.filter(
      ({ nodeId, borders = [] }) => nodeId !== this.#parts.nodeId && borders.length > 0 && !this.#gone.has(nodeId),
    );
    this.#nodes = others.map(({ nodeId, clusterId, borders = [] }) => ({ nodeId, clusterId, borders }));
    this.#toLinks({ kind: "nodes", nodes: this.#nodes }, time, out);
  }

  /** A member said goodbye. Its links are divided among the others at once, although membership may list it until it is back. */
  saidGoodbye(nodeId: string, time: Time, out: FabricOutput[]): void {
    if (!this.#members.some((member) => member.nodeId === nodeId)) return;
    this.#gone.set(nodeId, time.monoMs + GONE_MS);
    this.know(this.#members, time, out);
  }

  /** A link to the member is up. */
  isBack(nodeId: string, time: Time, out: FabricOutput[]): void {
    if (this.#gone.delete(nodeId)) this.know(this.#members, time, out);
  }

  /** Something that every border may have to be told has changed. */
  wake(): void {
    this.#multiplexer.wake();
  }

  /** This node stood still. */
  postpone(byMs: number): void {
    this.#links.postpone(byMs);
  }

  /** Says goodbye on all links. From now on none is opened or accepted. */
  stop(reason: "leave" | "restart", time: Time, out: FabricOutput[]): void {
    this.#links.stop(reason);
    this.#isEnding = true;
    for (const { link } of this.rows) this.#toLinks({ kind: "end", link, reason, detail: "" }, time, out);
  }

  tick(time: Time, out: FabricOutput[]): void {
    if (time.monoMs >= this.#links.nextDeadlineMs()) this.#toLinks({ kind: "tick" }, time, out);
    this.#multiplexer.tick(time, { isStopping: this.#isEnding }, out);
  }

  nextDeadlineMs(): number {
    return Math.min(this.#links.nextDeadlineMs(), this.#multiplexer.nextDeadlineMs());
  }

  #hello(link: LinkId, hello: Hello, time: Time, out: FabricOutput[]): void {
    this.#toLinks({ kind: "hello", link, hello }, time, out);
  }

  #badFrame(link: LinkId, detail: string, time: Time, out: FabricOutput[]): void {
    this.#toLinks({ kind: "end", link, reason: "bad_frame" satisfies Goodbye, detail }, time, out);
  }

  #toLinks(input: BorderLinksInput, time: Time, out: FabricOutput[]): void {
    const said: BorderLinksOutput[] = [];
    this.#links.handle(input, time, said);
    for (const output of said) {
      switch (output.kind) {
        case "open":
        case "send":
        case "close":
        case "event":
          out.push(output);
          break;
        case "up": {
          const { peer, hello, greetedMonoMs } = output;
          const relation = relationOf(this.#parts.here, hello);
          this.#multiplexer.open(peer.link, { hello, relation, greetedMonoMs, border: peer }, time, out);
          break;
        }
        case "down":
          this.#multiplexer.close(output.link);
          break;
        case "counts":
          this.#parts.onCounts(output.counts, time, out);
      }
    }
  }
}
