/** Regions of one border node or more, and border links between them, in virtual time. Frames are encoded, so bytes are counted as they travel. */
import { BorderChannel } from "../../../src/fabric/borders/channel.ts";
import type { BorderSummaries } from "../../../src/fabric/borders/options.ts";
import { BORDER_FIXED, type BorderOptions } from "../../../src/fabric/borders/options.ts";
import type { BorderSession, Reaches } from "../../../src/fabric/borders/session.ts";
import type { FabricOutput } from "../../../src/fabric/io-types.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../../../src/fabric/wire/codec.ts";
import type { BorderFrame, LinkFrame } from "../../../src/fabric/wire/messages.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { helloOf } from "../../fakes/fabric-values.ts";
import { HeldMap } from "./held-map.ts";

const OPTIONS: BorderOptions = { ...BORDER_FIXED, storeForwardMs: 300_000, storeForwardCount: 200 };

/** Of the messages of HTTP/2 and gRPC around a frame. */
const ENVELOPE_BYTES = 14;
const STEP_MS = 20;
const NO_STEP = () => {};

export interface Exports {
  /** Patterns of what one exports to the other. */
  readonly exports?: readonly string[];
  readonly bytesPerSecond?: number;
}

interface End {
  readonly owner: WorldNode;
  /** The far one. */
  readonly node: WorldNode;
  readonly link: number;
  readonly session: BorderSession;
  restUntilMs: number;
  /** Takes nothing. */
  isStalled: boolean;
  /** Takes a frame in this time, and no more. */
  frameEveryMs: number;
  takenMonoMs: number;
}

export class WorldNode {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  /** Empty where the summaries of the node are others. */
  readonly held: HeldMap;
  readonly summaries: BorderSummaries;
  readonly channel: BorderChannel;
  readonly ends = new Map<string, End>();
  /** Nothing is to be done before, unless something comes or changes. */
  dueMs = 0;
  seenRevision = -1;
  sharedRevision = -1;

  constructor(
    world: BorderWorld,
    { nodeId, clusterId, region }: Pick<WorldNode, "nodeId" | "clusterId" | "region">,
    summaries?: BorderSummaries,
  ) {
    this.nodeId = nodeId;
    this.clusterId = clusterId;
    this.region = region;
    this.held = new HeldMap(clusterId, world.regions);
    this.summaries = summaries ?? this.held;
    const linkedRegions = () =>
      new Set(world.nodes.flatMap((node) => (node.region === region ? [...node.ends.values()].map(({ node: far }) => far.region) : [])));
    this.channel = new BorderChannel(world.options, {
      here: { nodeId, clusterId, region },
      summaries: this.summaries,
      priorityOf: (namespace) => (namespace.startsWith("first") ? 1 : 0),
      linkedRegions,
      borderExports: () => world.borderExports,
      reaches: world.reach,
    });
  }
}

export interface Sent {
  readonly from: WorldNode;
  readonly to: WorldNode;
  readonly frame: BorderFrame;
  readonly bytes: number;
  readonly atMs: number;
}

export class BorderWorld {
  readonly options: BorderOptions;
  readonly regions = new Map<string, string>();
  readonly nodes: WorldNode[] = [];
  readonly sent: Sent[] = [];
  /** What the settings of all nodes name. */
  readonly borderExports = new Map<string, readonly (readonly string[])[]>();
  /** What all regions hold. */
  readonly reach: { reachRevision: number; reachTo: Reaches["reachTo"] } = { reachRevision: 0, reachTo: () => [] };
  onStep: () => void = NO_STEP;
  /** Batches that are lost on their way. */
  withheld: (sent: Pick<Sent, "from" | "to">) => boolean = () => false;
  /** Frames of any kind that are lost, as on a link that is dead. */
  isLost: (sent: Pick<Sent, "from" | "to">) => boolean = () => false;
  delayOf: (sent: Pick<Sent, "from" | "to">) => number = () => 80;
  batchIntervalMs = 200;
  time: Time = { monoMs: 1_000_000, wallMs: 1_700_000_000_000 };
  #lastLink = 0;
  #onTheWay: { readonly atMs: number; readonly end: End; readonly back: End; readonly frame: Uint8Array }[] = [];

  constructor(options: Partial<BorderOptions> = {}) {
    this.options = { ...OPTIONS, ...options };
  }

  add(nodeId: string, clusterId: string, region: string, summaries?: BorderSummaries): WorldNode {
    this.regions.set(clusterId, region);
    const node = new WorldNode(this, { nodeId, clusterId, region }, summaries);
    this.nodes.push(node);
    return node;
  }

  /** The node starts again with nothing. */
  replace(node: WorldNode, summaries?: BorderSummaries): WorldNode {
    const again = new WorldNode(this, node, summaries);
    this.nodes[this.nodes.indexOf(node)] = again;
    return again;
  }

  link(a: WorldNode, b: WorldNode, aSide: Exports = {}, bSide: Exports = {}): void {
    const [ofA, ofB] = [this.#open(a, b, aSide), this.#open(b, a, bSide)];
    a.ends.set(b.nodeId, { ...ofA, owner: a, node: b });
    b.ends.set(a.nodeId, { ...ofB, owner: b, node: a });
    a.dueMs = b.dueMs = 0;
  }

  unlink(a: WorldNode, b: WorldNode): void {
    for (const [node, far] of [
      [a, b],
      [b, a],
    ] as const) {
      const end = node.ends.get(far.nodeId);
      node.ends.delete(far.nodeId);
      if (end !== undefined) node.channel.closed(end.link);
      this.#onTheWay = this.#onTheWay.filter((one) => one.end !== end && one.back !== end);
    }
  }

  #open(here: WorldNode, far: WorldNode, { exports = [], bytesPerSecond = 0 }: Exports): Omit<End, "node" | "owner"> {
    const link = ++this.#lastLink;
    const { clusterId, region, nodeId } = far;
    const border = {
      clusterId,
      region,
      addresses: [],
      trust: { kind: "authority" as const },
      imports: [],
      exports,
      batchIntervalMs: this.batchIntervalMs,
      bytesPerSecond,
    };
    const peer = { link, clusterId, region, nodeId, isIncoming: false, border };
    const greeted = {
      hello: helloOf(nodeId, { clusterId, region }),
      relation: "remote" as const,
      greetedMonoMs: this.time.monoMs,
      border: peer,
    };
    return {
      link,
      session: here.channel.open(link, greeted, this.time),
      restUntilMs: 0,
      isStalled: false,
      frameEveryMs: 0,
      takenMonoMs: 0,
    };
  }

  /** Runs for so long. Nodes of one region hold the same after each step. */
  run(ms: number): void {
    for (const endMs = this.time.monoMs + ms; this.time.monoMs < endMs; ) {
      const forMs = STEP_MS * this.#stepsUntil(endMs);
      this.time = { monoMs: this.time.monoMs + forMs, wallMs: this.time.wallMs + forMs };
      this.#deliver();
      this.#share();
      this.onStep();
      for (const node of this.nodes) this.#turn(node);
    }
  }

  /** Steps to the next one in which a node does something, by what it says is due, or to the end. Who looks at each step gets each. */
  #stepsUntil(endMs: number): number {
    if (this.onStep !== NO_STEP) return 1;
    let dueMs = endMs;
    for (const { atMs, end } of this.#onTheWay) dueMs = Math.min(dueMs, Math.max(atMs, end.restUntilMs));
    for (const { summaries, seenRevision, dueMs: ofNode } of this.nodes)
      dueMs = Math.min(dueMs, summaries.revision === seenRevision ? ofNode : 0);
    return Math.max(1, Math.ceil((dueMs - this.time.monoMs) / STEP_MS));
  }

  #share(): void {
    for (const a of this.nodes) {
      if (a.held.revision === a.sharedRevision) continue;
      for (const b of this.nodes) if (a !== b && a.region === b.region) a.held.copyTo(b.held);
      a.sharedRevision = a.held.revision;
    }
  }

  #deliver(): void {
    const all = this.#onTheWay;
    this.#onTheWay = [];
    for (const one of all) {
      const { atMs, end, frame } = one;
      if (atMs > this.time.monoMs || end.restUntilMs > this.time.monoMs) {
        this.#onTheWay.push(one);
        continue;
      }
      const out: FabricOutput[] = [];
      end.owner.dueMs = 0;
      end.session.receive(decodeLinkFrame(frame) as BorderFrame, this.time, out);
      for (const output of out) if (output.kind === "rest") end.restUntilMs = this.time.monoMs + output.forMs;
    }
  }

  #turn(node: WorldNode): void {
    if (this.time.monoMs < node.dueMs && node.summaries.revision === node.seenRevision) return;
    node.seenRevision = node.summaries.revision;
    node.channel.shared.tick(this.time);
    node.dueMs = node.channel.shared.nextDeadlineMs(node.ends.size);
    for (const end of node.ends.values()) {
      const { session } = end;
      if (session.nextDeadlineMs() <= this.time.monoMs) session.tick(this.time);
      // It has slices to do. What else is due is so until something is sent.
      for (let n = 1; n < 100 && session.nextDeadlineMs() === 0; n++) session.tick(this.time);
      if (end.isStalled) void session.hasWork(this.time);
      else this.#pull(node, end);
      node.dueMs = Math.min(node.dueMs, Math.max(session.nextDeadlineMs(), this.time.monoMs + 1));
    }
  }

  #pull(node: WorldNode, end: End): void {
    if (!end.session.hasWork(this.time)) return;
    for (let frame = this.#nextOf(end); frame !== undefined; frame = this.#nextOf(end)) this.#send(node, end, frame);
  }

  #nextOf(end: End): BorderFrame | undefined {
    if (this.time.monoMs < end.takenMonoMs + end.frameEveryMs) return undefined;
    const frame = end.session.next(this.time);
    if (frame !== undefined) end.takenMonoMs = this.time.monoMs;
    return frame;
  }

  #send(from: WorldNode, end: End, frame: BorderFrame): void {
    const encoded = encodeLinkFrame(frame satisfies LinkFrame);
    const back = end.node.ends.get(from.nodeId);
    this.sent.push({ from, to: end.node, frame, bytes: encoded.length + ENVELOPE_BYTES, atMs: this.time.monoMs });
    if (this.isLost({ from, to: end.node }) || (frame.kind === "borderBatch" && this.withheld({ from, to: end.node }))) return;
    if (back !== undefined)
      this.#onTheWay.push({ atMs: this.time.monoMs + this.delayOf({ from, to: end.node }), end: back, back: end, frame: encoded });
  }

  // ---- what was sent ----
  /** Bytes a second that one node sent to another, since a time. */
  bytesPerSecond(from: WorldNode, to: WorldNode, sinceMs: number): number {
    const bytes = this.sent.reduce((sum, one) => (one.from === from && one.to === to && one.atMs >= sinceMs ? sum + one.bytes : sum), 0);
    return (bytes * 1000) / (this.time.monoMs - sinceMs);
  }

  beaconsTo(region: string, sinceMs: number): number {
    const sent = this.sent.filter(({ to, atMs }) => to.region === region && atMs >= sinceMs);
    return sent.reduce((sum, { frame }) => sum + (frame.kind === "borderBatch" ? frame.beacons.length : 0), 0);
  }

  /** Number of summaries that came to a region since a time. */
  summariesTo(region: string, sinceMs: number): number {
    return this.sent.reduce(
      (sum, { to, frame, atMs }) =>
        to.region === region && atMs >= sinceMs && frame.kind === "borderBatch" ? sum + frame.summaries.length : sum,
      0,
    );
  }
}
