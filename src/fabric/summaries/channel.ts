/**
 * Summaries inside a region: a second replica of each node, which is replicated as the catalog is, in frames of its own
 * (docs/design/summaries.md, In a region). Nodes whose hello says that they have none get nothing of it.
 */
import type { EntryBounds } from "../../catalog/entry/names.ts";
import { type EntryReader, sealed } from "../../catalog/replica/frames.ts";
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import { eventOutput, type FabricOutput, type LinkId } from "../io-types.ts";
import type { ChannelNews, ChannelSession, LinkChannel, LinkGreeting, SharedNews } from "../links/channel.ts";
import type { ForeignPeers } from "../links/foreign-peers.ts";
import type { FabricHandlers } from "../part.ts";
import type { LinkReplication } from "../replication/link-replication.ts";
import { ReplicationChannel } from "../replication/link-replication.ts";
import type { ReplicationOptions } from "../replication/options.ts";
import { Replicator } from "../replication/replicator.ts";
import type { MemberUpdate, SourceAgesFrame, SummariesFrame } from "../wire/messages.ts";
import { LinkAges, SourceAges, type SourceReceipts } from "./ages.ts";
import { SummaryOrigins } from "./origins.ts";

/** What differs from the catalog. A link without news costs next to nothing: what is new is pushed, or offered, at once. */
const OPTIONS = {
  vectorIntervalMs: 2000,
  idleVectorIntervalMs: 60_000,
  digestIntervalMs: 300_000,
  /** All that a node may hold of all sources, with as many tombstones. */
  maxOriginRecords: 500_000,
} as const satisfies Partial<ReplicationOptions>;

/** What a node has of summaries, for its fabric. */
export interface SummaryParts {
  /** Its own origin is new at each start. */
  readonly replica: Replica;
  readonly stamper: EntryReader;
  readonly receipts: SourceReceipts;
}

export interface SummaryChannelParts extends SummaryParts {
  readonly bounds: EntryBounds;
  readonly rng: Rng;
  readonly place: OriginLocation;
  readonly foreigners: ForeignPeers;
  readonly members: {
    find(nodeId: string): MemberUpdate | undefined;
    listed(): readonly MemberUpdate[];
  };
  readonly options: ReplicationOptions;
  /** Whether a peer gets no records for now, because it must get the policy first. */
  readonly isHeld: (link: LinkId) => boolean;
}

type Frame = SummariesFrame | SourceAgesFrame;

export class SummaryChannel implements LinkChannel<Frame> {
  readonly kinds = ["summaries", "sourceAges"] as const;
  readonly speaks = "in turn";
  readonly shared: SharedNews;
  readonly replication: Replicator;
  readonly #exchanges: ReplicationChannel;
  readonly #origins: SummaryOrigins;
  readonly #ages: SourceAges;

  readonly handle: FabricHandlers = { memberChanged: ({ update }) => this.#origins.memberChanged(update) };

  constructor({ receipts, members, options, isHeld, ...parts }: SummaryChannelParts) {
    // Members tell the generation of their journal, which says nothing of their second origin.
    const generation = Number.MAX_SAFE_INTEGER;
    const find = (nodeId: string) => {
      const member = members.find(nodeId);
      return member && { ...member, generation };
    };
    const table = { find, listed: () => members.listed() };
    const how = { stamper: sealed(parts.stamper), hlc: undefined, isNewAtStart: true };
    this.replication = new Replicator({ ...parts, ...how, members: table, options: { ...options, ...OPTIONS } });
    // The peer's second origin is named by nothing but its vector.
    this.#exchanges = new ReplicationChannel(this.replication, isHeld, { generation: 0 });
    this.#origins = new SummaryOrigins(this.replication, members, receipts);
    this.#ages = new SourceAges(receipts);
    this.shared = new SummaryNews(this.#exchanges.shared, this.#ages);
  }

  open(link: LinkId, greeted: LinkGreeting, time: Time): ChannelSession<Frame> | undefined {
    if (!greeted.hello.holdsSummaries) return undefined;
    return new SummarySession(this.#exchanges.open(link, greeted, time), this.#ages, (id) => this.#origins.heard(id));
  }

  closed(link: LinkId): void {
    if (this.#exchanges.find(link) !== undefined) this.#exchanges.closed(link);
  }

  // ---- beside the links ----

  look(time: Time, out: FabricOutput[]): void {
    this.#origins.tick(time, out);
  }

  nextDeadlineMs(): number {
    return this.#origins.nextDeadlineMs();
  }

  /** This node stood still: that time does not count against others. */
  postpone(byMs: number): void {
    this.replication.postpone(byMs);
    this.#origins.postpone(byMs);
  }
}

/** The vector moved, or a source was heard of. */
class SummaryNews implements SharedNews {
  readonly #vector: SharedNews;
  readonly #ages: SourceAges;
  #seenOrder = -1;

  constructor(vector: SharedNews, ages: SourceAges) {
    this.#vector = vector;
    this.#ages = ages;
  }

  get order(): number {
    return this.#vector.order + this.#ages.order;
  }

  tick(time: Time): void {
    this.#vector.tick(time);
    this.#ages.tick(time);
  }

  isDue(time: Time): boolean {
    return this.#ages.order !== this.#seenOrder || this.#vector.isDue(time);
  }

  looked(time: Time): void {
    this.#seenOrder = this.#ages.order;
    this.#vector.looked(time);
  }

  nextDeadlineMs(linkCount: number): number {
    return this.#vector.nextDeadlineMs(linkCount);
  }
}

/** One link: replication in its wrapping, and ages after all records that there are to send. */
class SummarySession implements ChannelSession<Frame> {
  /** No node waits for summaries before it is ready. */
  readonly isCaughtUp = true;
  readonly #replication: LinkReplication;
  readonly #ages: LinkAges;
  readonly #heard: (originId: string) => void;
  #linked: ReadonlySet<string> = new Set();

  constructor(replication: LinkReplication, ages: SourceAges, heard: (originId: string) => void) {
    this.#replication = replication;
    this.#heard = heard;
    const { nodeId } = replication.peer;
    this.#ages = new LinkAges(ages, { nodeId, isLinkedTo: (id) => this.#linked.has(id) });
  }

  next(time: Time): Frame | undefined {
    const frame = this.#replication.next(time);
    if (frame !== undefined) return { kind: "summaries", frame };
    return this.#ages.next(time, this.#replication.linkClock.stamp(time.monoMs, time));
  }

  receive(frame: Frame, time: Time, out: FabricOutput[]): readonly ChannelNews[] {
    if (frame.kind === "sourceAges") {
      const { saidMs, asOfMs } = frame;
      const said = { atMs: saidMs, ...(asOfMs > 0 && { asOfMs }) };
      this.#ages.receive(frame, this.#replication.linkClock.dateReport(said, time), time);
      return [];
    }
    const inner = frame.frame;
    if (inner.kind === "linked") this.#linked = new Set(inner.nodeIds);
    if (inner.kind === "records") this.#heard(`${inner.frame.nodeId}/${inner.frame.generation}`);
    const said: FabricOutput[] = [];
    const news = this.#replication.receive(inner, time, said);
    tell(said, out);
    // Whether this node is in step is a question about the catalog.
    return news.filter(({ kind }) => kind === "badFrame");
  }

  hasWork(time: Time): boolean {
    return this.#replication.hasWork(time) || this.#ages.hasWork(time);
  }

  tick(time: Time, out: FabricOutput[]): void {
    const said: FabricOutput[] = [];
    this.#replication.tick(time, said);
    tell(said, out);
  }

  nextDeadlineMs(): number {
    return Math.min(this.#replication.nextDeadlineMs(), this.#ages.nextDeadlineMs());
  }
}

/** Of what replication says, operators are told. All else is about the catalog; who reads summaries looks at their replica's revision. */
function tell(said: readonly FabricOutput[], out: FabricOutput[]): void {
  for (const output of said) {
    if (output.kind !== "event") continue;
    const { name, severity, detail } = output.event;
    out.push(eventOutput(name, severity, { ...detail, of: "summaries" }));
  }
}
