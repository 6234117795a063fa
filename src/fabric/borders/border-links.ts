/**
 * The border links of a node: which it opens, the greeting, which of two links to one node stays, when to try again, and how a link ends. They
 * are no links of members (`links/links.ts`): nothing of membership, replication or policy hears of them.
 */
import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import { type Machine, NEVER, type Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import { eventOutput, type FabricInput, type FabricOutput, type LinkId } from "../io-types.ts";
import type { ClusterLocation } from "../links/foreign-peers.ts";
import { isQuiet, severityOf } from "../links/link-state.ts";
import { hostOfPeer, type PeerRefusal, PROTOCOL_VERSIONS } from "../links/peer-auth.ts";
import type { Goodbye, Hello, LinkFrame, MemberFacts, PeerIdentity } from "../wire/messages.ts";
import { admitted, refusalOfEnd } from "./admission.ts";
import type { Border, BorderCount, BorderLinksOptions, BorderNode, BorderPeer } from "./border.ts";
import { Pairs, type Wanted } from "./pairs.ts";

export interface BorderLinksParts {
  /** The facts of this node, for every hello. */
  readonly self: () => Pick<MemberFacts, "nodeId" | "generation" | "zone" | "address" | "version">;
  readonly here: ClusterLocation;
  readonly nodeId: string;
  readonly rng: Rng;
}

export type BorderLinksInput =
  | Extract<FabricInput, { readonly kind: "tick" | "closed" }>
  /** A stream that this node opened is open. */
  | { readonly kind: "opened"; readonly link: LinkId; readonly identity: PeerIdentity }
  /** Another node opened a stream by the gate of a border (`identity.border`), and has said nothing yet. */
  | { readonly kind: "arrived"; readonly link: LinkId; readonly identity: PeerIdentity }
  /** Another node said a border hello on a stream that it opened, whichever way it came. */
  | { readonly kind: "greeted"; readonly link: LinkId; readonly identity: PeerIdentity; readonly hello: Hello }
  /** A hello on a link that is known here. */
  | { readonly kind: "hello"; readonly link: LinkId; readonly hello: Hello }
  | { readonly kind: "goodbye"; readonly link: LinkId; readonly reason: Goodbye; readonly detail: string }
  /** This node ends the link. */
  | { readonly kind: "end"; readonly link: LinkId; readonly reason: Goodbye; readonly detail: string }
  /** The other nodes of the region that have borders, of whatever cluster. */
  | { readonly kind: "nodes"; readonly nodes: readonly BorderNode[] };

export type BorderLinksOutput =
  | Extract<FabricOutput, { readonly kind: "open" | "send" | "close" | "event" }>
  | { readonly kind: "up"; readonly peer: BorderPeer; readonly hello: Hello; readonly greetedMonoMs: number }
  /** The number of links to a region changed. Other nodes of this region are to know. */
  | { readonly kind: "counts"; readonly counts: readonly BorderCount[] }
  | { readonly kind: "down"; readonly link: LinkId };

/** A link, as people see it. */
export interface BorderLinkRow extends Omit<BorderPeer, "border"> {
  readonly state: "opening" | "greeting" | "up" | "ending";
  /** Empty until the node has said it. */
  readonly nodeId: string;
  readonly sinceMonoMs: number;
}

interface Row extends BorderLinkRow {
  readonly border: Border;
  /** What this node opened it for. Undefined for an incoming link. */
  readonly wanted: Wanted | undefined;
  state: BorderLinkRow["state"];
  nodeId: string;
  /** As the node said; 0 before. */
  generation: number;
  identity: PeerIdentity | undefined;
  sinceMonoMs: number;
  deadlineMonoMs: number;
  /** This node opened it and has greeted on it. */
  hasGreeted: boolean;
  /** Hello and goodbye that are still to be sent. They go before all other frames. */
  readonly control: LinkFrame[];
}

export class BorderLinks implements Machine<BorderLinksInput, BorderLinksOutput> {
  readonly #options: BorderLinksOptions;
  readonly #parts: BorderLinksParts;
  readonly #rows = new Map<LinkId, Row>();
  readonly #pairs: Pairs;
  readonly #events: TokenBuckets;
  #borders: ReadonlyMap<string, Border>;
  #nextId = -2;
  /** Whether this node knows the others of its region. Before that it opens nothing, because each would take itself for the only one. */
  #knowsOthers = false;
  /** Why this node stops. Undefined before that. */
  #stopReason: "leave" | "restart" | undefined;
  /** What other nodes know, and when they may be told more. */
  #told: readonly BorderCount[];
  #isUntold = false;
  #tellMonoMs = Number.NEGATIVE_INFINITY;
  #dueMonoMs: number | undefined;
  /** Links that were refused since the start, and those that were too many. */
  refusedCount = 0;
  tooManyCount = 0;

  constructor(borders: readonly Border[], options: BorderLinksOptions, parts: BorderLinksParts) {
    this.#options = options;
    this.#parts = parts;
    this.#borders = new Map(borders.map((border) => [border.clusterId, border]));
    this.#pairs = new Pairs(borders, options, parts);
    this.#events = new TokenBuckets({ limit: options.maxEvents, windowMs: 60_000, maxKeys: 256 });
    this.#told = this.#pairs.counts([]);
  }

  /** What this node tells the others of its region. */
  get counts(): readonly BorderCount[] {
    return this.#told;
  }

  /** All links, in the order in which they were opened. */
  get rows(): Iterable<BorderLinkRow> {
    return this.#rows.values();
  }

  get size(): number {
    return this.#rows.size;
  }

  /** Whether the link is one of these. */
  has(link: LinkId): boolean {
    return this.#rows.has(link);
  }

  find(link: LinkId): BorderLinkRow | undefined {
    return this.#rows.get(link);
  }

  nextDeadlineMs(): number {
    this.#dueMonoMs ??= this.#computeDue();
    return this.#dueMonoMs;
  }

  get #isOpening(): boolean {
    return this.#knowsOthers && this.#stopReason === undefined;
  }

  #computeDue(): number {
    let next = this.#isOpening ? this.#pairs.nextDeadlineMs() : NEVER;
    if (this.#isUntold) next = Math.min(next, this.#tellMonoMs);
    for (const { deadlineMonoMs } of this.#rows.values()) next = Math.min(next, deadlineMonoMs);
    return next;
  }

  handle(input: BorderLinksInput, time: Time, out: BorderLinksOutput[]): void {
    this.#dueMonoMs = undefined;
    this.#take(input, time, out);
    for (const row of this.#rows.values()) if (time.monoMs >= row.deadlineMonoMs) this.#overdue(row, time, out);
    this.#greetNext(time, out);
    if (!this.#isOpening) return;
    const { open, end } = this.#pairs.plan([...this.#rows.values()], time);
    for (const link of end) this.#endLink(link, { reason: "not_needed", detail: "" }, time, out);
    for (const wanted of open) this.#open(wanted, time, out);
    this.#tellCounts(time, out);
  }

  #tellCounts(time: Time, out: BorderLinksOutput[]): void {
    const counts = this.#pairs.counts([...this.#rows.values()]);
    this.#isUntold = counts.length !== this.#told.length || counts.some(({ links }, i) => links !== this.#told[i]?.links);
    if (!this.#isUntold || time.monoMs < this.#tellMonoMs) return;
    this.#isUntold = false;
    this.#told = counts;
    this.#tellMonoMs = time.monoMs + this.#options.tellEveryMs;
    out.push({ kind: "counts", counts });
  }

  /** The next greeting or farewell of a link. */
  next(link: LinkId): LinkFrame | undefined {
    return this.#rows.get(link)?.control.shift();
  }

  /** From now on no link is opened or accepted. */
  stop(reason: "leave" | "restart"): void {
    this.#stopReason = reason;
    this.#dueMonoMs = undefined;
  }

  /** Uses what was read anew of the same borders. Links that are up stay. Nodes that were refused, or refused this node, are tried again at the next input. */
  setBorders(borders: readonly Border[]): void {
    this.#borders = new Map(borders.map((border) => [border.clusterId, border]));
    this.#pairs.setBorders(borders);
    this.#dueMonoMs = undefined;
  }

  /** This node stood still. Nodes that are to answer or to greet have that much longer. */
  postpone(byMs: number): void {
    for (const row of this.#rows.values()) row.deadlineMonoMs += byMs;
    this.#dueMonoMs = undefined;
  }

  #take(input: BorderLinksInput, time: Time, out: BorderLinksOutput[]): void {
    if (input.kind === "tick") return;
    if (input.kind === "nodes") {
      this.#knowsOthers = true;
      return this.#pairs.know(input.nodes);
    }
    if (input.kind === "arrived") return this.#arrived(input, time, out);
    if (input.kind === "greeted") return this.#greeted(input, time, out);
    const row = this.#rows.get(input.link);
    if (row === undefined) return;
    switch (input.kind) {
      case "opened":
        return this.#opened(row, input.identity, time, out);
      case "hello":
        return this.#answered(row, input.hello, time, out);
      case "closed":
        return this.#closed(row, input.detail, time, out);
      case "goodbye":
        return this.#farewell(row, input, time, out);
      case "end":
        return this.#end(row, input, time, out);
    }
  }

  #open(wanted: Wanted, time: Time, out: BorderLinksOutput[]): void {
    const { address, border } = wanted.target;
    const link = this.#nextId;
    this.#nextId -= 2;
    const { clusterId, region } = border;
    const facts = { link, clusterId, region, border, wanted, nodeId: "", identity: undefined, sinceMonoMs: time.monoMs };
    const life = { generation: 0, hasGreeted: false, control: [] };
    this.#rows.set(link, {
      ...facts,
      ...life,
      isIncoming: false,
      state: "opening",
      deadlineMonoMs: time.monoMs + this.#options.openTimeoutMs,
    });
    out.push({ kind: "open", link, to: address, border: clusterId });
  }

  #overdue(row: Row, time: Time, out: BorderLinksOutput[]): void {
    switch (row.state) {
      case "up":
        return;
      case "ending":
        this.#rows.delete(row.link);
        return;
      case "opening":
      case "greeting":
        this.#failed(row, "no answer in time", time, out, "border_not_reached");
        this.#rows.delete(row.link);
        out.push({ kind: "close", link: row.link });
    }
  }

  /** The node that opened a link greets first, and shows its token to nobody else than it must. */
  #opened(row: Row, identity: PeerIdentity, time: Time, out: BorderLinksOutput[]): void {
    if (row.state !== "opening") return;
    row.identity = identity;
    row.state = "greeting";
    row.deadlineMonoMs = time.monoMs + this.#options.helloTimeoutMs;
    const refusal = refusalOfEnd(identity, this.#borders.get(row.clusterId) ?? row.border);
    if (refusal !== undefined) return this.#refuse(row, refusal, time, out);
    row.nodeId = identity.certificate?.nodeId ?? "";
  }

  /**
   * Greets on the links that are open. Of each border one is greeted at a time, so that both ends of two links to one node know which was first; and
   * none to a node that is known to be linked.
   */
  #greetNext(time: Time, out: BorderLinksOutput[]): void {
    for (const row of this.#rows.values()) {
      if (row.isIncoming || row.state !== "greeting" || row.hasGreeted) continue;
      const alike = [...this.#rows.values()].filter((other) => other !== row && other.clusterId === row.clusterId);
      if (alike.some((other) => other.state === "up" && this.#isAt(row, other, time))) {
        this.#met(row, time);
        this.#end(row, { reason: "duplicate_link", detail: "" }, time, out);
      } else if (!alike.some(({ state, hasGreeted }) => state === "greeting" && hasGreeted)) {
        row.hasGreeted = true;
        row.deadlineMonoMs = time.monoMs + this.#options.helloTimeoutMs;
        this.#greet(row, out);
      }
    }
  }

  /** Whether the link leads to the node of the other one, as its certificate or an earlier link to its address says. */
  #isAt({ clusterId, nodeId, wanted }: Row, other: Row, time: Time): boolean {
    if (nodeId !== "") return nodeId === other.nodeId;
    return wanted !== undefined && this.#pairs.leadsTo(clusterId, other.nodeId, wanted.target.address, time);
  }

  /** Where the address of the link leads. */
  #met({ clusterId, nodeId, wanted }: Row, time: Time): void {
    if (wanted !== undefined && nodeId !== "") this.#pairs.met(clusterId, nodeId, wanted.target.address, time);
  }

  #greet(row: Row, out: BorderLinksOutput[]): void {
    row.control.push(this.#hello(row));
    out.push({ kind: "send", link: row.link });
  }

  #hello(row: Row): LinkFrame {
    const { nodeId, generation, zone, address, version } = this.#parts.self();
    const { trust, clusterId: borderTo } = this.#borders.get(row.clusterId) ?? row.border;
    const clusterToken = trust.kind === "token" ? trust.token : "";
    const who = { nodeId, generation, ...this.#parts.here, zone, address, version, protocolVersions: PROTOCOL_VERSIONS };
    const facts = { isReady: false, runsChecks: false, holdsSummaries: false, policyFrom: [] };
    return { kind: "hello", hello: { ...who, ...facts, clusterToken, borderTo } };
  }

  /**
   * The row of a stream that another node opened. Undefined when there is no room for it: those that were refused take no room from those that may be
   * let in, and one neighbour leaves room for the others.
   */
  #incoming(link: LinkId, identity: PeerIdentity, border: Border, state: "greeting" | "ending", time: Time): Row | undefined {
    const { helloTimeoutMs, maxIncoming, maxGreeting } = this.#options;
    const alike = [...this.#rows.values()].filter((row) => row.isIncoming && row.state === state);
    const kin = alike.filter(({ clusterId }) => clusterId === border.clusterId);
    if (alike.length >= maxIncoming || (state === "greeting" && kin.length >= maxGreeting)) return undefined;
    const { clusterId, region } = border;
    const facts = { link, clusterId, region, border, wanted: undefined, nodeId: "", identity, sinceMonoMs: time.monoMs };
    const life = { generation: 0, hasGreeted: false, control: [] };
    const row: Row = { ...facts, ...life, isIncoming: true, state: "greeting", deadlineMonoMs: time.monoMs + helloTimeoutMs };
    this.#rows.set(link, row);
    return row;
  }

  #tooMany(link: LinkId, out: BorderLinksOutput[]): void {
    this.tooManyCount += 1;
    out.push({ kind: "close", link });
  }

  #arrived({ link, identity }: Extract<BorderLinksInput, { kind: "arrived" }>, time: Time, out: BorderLinksOutput[]): void {
    if (this.#rows.has(link)) return;
    const { border: clusterId = "" } = identity;
    const border = this.#borders.get(clusterId) ?? strange({ clusterId, region: "" });
    if (this.#incoming(link, identity, border, "greeting", time) === undefined) this.#tooMany(link, out);
  }

  /** Another node greets. It is answered only when the settings name its cluster, and it proves that it is of it. */
  #greeted({ link, identity, hello }: Extract<BorderLinksInput, { kind: "greeted" }>, time: Time, out: BorderLinksOutput[]): void {
    const found = admitted(hello, identity, this.#borders, this.#parts.here);
    const known = this.#rows.get(link);
    if (known !== undefined && (known.state !== "greeting" || !known.isIncoming)) return;
    const [border, state] = "border" in found ? ([found.border, "greeting"] as const) : ([strange(hello), "ending"] as const);
    const row = known ?? this.#incoming(link, identity, border, state, time);
    if (row === undefined) return this.#tooMany(link, out);
    row.nodeId = hello.nodeId;
    row.generation = hello.generation;
    if ("refusal" in found) return this.#refuse(row, found.refusal, time, out);
    const { region } = found.border;
    // It may be back soon, so nobody is to wait as after a refusal.
    if (this.#stopReason !== undefined) return this.#end(row, { reason: this.#stopReason, detail: "this node stops" }, time, out);
    if (this.#linkedTo(row) === undefined && !this.#pairs.hasRoom(region, [...this.#rows.values()])) {
      const detail = `regions ${this.#parts.here.region} and ${region} have as many links as two regions may`;
      return this.#refuse(row, { reason: "too_many_links", detail }, time, out);
    }
    this.#up(row, hello, time, out);
  }

  /** The node that this one greeted answers. */
  #answered(row: Row, hello: Hello, time: Time, out: BorderLinksOutput[]): void {
    if (row.isIncoming && row.state === "greeting" && row.identity !== undefined)
      return this.#greeted({ kind: "greeted", link: row.link, identity: row.identity, hello }, time, out);
    if (row.state === "up") return this.#end(row, { reason: "bad_frame", detail: "a second hello" }, time, out);
    if (row.state !== "greeting" || row.identity === undefined) return;
    const found = admitted(hello, row.identity, this.#borders, this.#parts.here);
    if ("refusal" in found) return this.#refuse(row, found.refusal, time, out);
    if (hello.clusterId !== row.clusterId) {
      const detail = `a node of cluster ${hello.clusterId} answers at an address of border ${row.clusterId}`;
      return this.#refuse(row, { reason: "wrong_cluster", detail }, time, out);
    }
    row.nodeId = hello.nodeId;
    row.generation = hello.generation;
    this.#met(row, time);
    this.#up(row, hello, time, out);
  }

  /** The link to the same node that is up. */
  #linkedTo(row: Row): Row | undefined {
    for (const other of this.#rows.values())
      if (other !== row && other.state === "up" && other.clusterId === row.clusterId && other.nodeId === row.nodeId) return other;
    return undefined;
  }

  #up(row: Row, hello: Hello, time: Time, out: BorderLinksOutput[]): void {
    const other = this.#linkedTo(row);
    if (other !== undefined) {
      const loser = this.#loserOf(other, row);
      this.#end(loser, { reason: "duplicate_link", detail: "" }, time, out);
      // Who opened it is told whom it met, so that it does not try again while they are linked.
      if (loser === row && row.isIncoming) row.control.unshift(this.#hello(row));
      if (loser === row) return;
    }
    if (row.isIncoming) this.#pairs.met(row.clusterId, row.nodeId, hello.address, time);
    const greetedMonoMs = row.isIncoming ? time.monoMs : row.sinceMonoMs;
    const border = this.#borders.get(row.clusterId) ?? row.border;
    const { link, clusterId, region, nodeId, isIncoming } = row;
    row.state = "up";
    row.sinceMonoMs = time.monoMs;
    row.deadlineMonoMs = NEVER;
    if (isIncoming) this.#greet(row, out);
    out.push({ kind: "up", peer: { link, clusterId, region, nodeId, isIncoming, border }, hello, greetedMonoMs });
    this.#tell(out, row, "info", "border_up", "", time);
  }

  /**
   * The one of two links to one node that ends. Of those that one side opened it is the first, which that side has lost, or opened by another name. Of
   * those that both opened, that of the region with the larger name ends, unless its node has started anew. Both ends decide alike, because no clock
   * is asked.
   */
  #loserOf(old: Row, next: Row): Row {
    if (next.generation > old.generation || old.isIncoming === next.isIncoming) return old;
    const isOursSmaller = this.#parts.here.region < next.region;
    return next.isIncoming === isOursSmaller ? next : old;
  }

  #farewell(row: Row, { reason, detail }: PeerRefusal, time: Time, out: BorderLinksOutput[]): void {
    if (row.state === "ending") return;
    const wasUp = row.state === "up";
    this.#leave(row, time, out);
    if (row.wanted !== undefined) this.#left(row.wanted.target.address, reason, time);
    out.push({ kind: "close", link: row.link });
    if (wasUp) this.#tell(out, row, isQuiet(reason) ? "info" : "warn", "border_lost", `${reason} ${detail}`.trim(), time);
    else this.#tell(out, row, isQuiet(reason) ? "debug" : "warn", "border_refused_by_peer", `${reason} ${detail}`.trim(), time);
  }

  #left(address: string, reason: Goodbye, time: Time): void {
    if (isPassing(reason)) this.#pairs.failed(address, time);
    else this.#pairs.refused(address, time);
  }

  #closed(row: Row, detail: string, time: Time, out: BorderLinksOutput[]): void {
    const { state } = row;
    if (state !== "ending") {
      this.#leave(row, time, out);
      this.#failed(row, detail, time, out, state === "up" ? "border_lost" : "border_not_reached");
    }
    this.#rows.delete(row.link);
  }

  #failed(row: Row, detail: string, time: Time, out: BorderLinksOutput[], name: "border_lost" | "border_not_reached"): void {
    if (row.wanted !== undefined) this.#pairs.failed(row.wanted.target.address, time);
    this.#tell(out, row, "warn", name, detail, time);
  }

  #endLink(link: LinkId, goodbye: PeerRefusal, time: Time, out: BorderLinksOutput[]): void {
    const row = this.#rows.get(link);
    if (row !== undefined) this.#end(row, goodbye, time, out);
  }

  /** Says goodbye, and waits until the shell has sent it. */
  #end(row: Row, goodbye: PeerRefusal, time: Time, out: BorderLinksOutput[]): void {
    const { link, wanted } = row;
    if (row.state === "ending") return;
    if (row.state === "opening") {
      this.#rows.delete(link);
      out.push({ kind: "close", link });
      return;
    }
    if (goodbye.reason === "bad_frame") {
      this.refusedCount += 1;
      if (wanted !== undefined) this.#pairs.refused(wanted.target.address, time);
      this.#tell(out, row, "warn", "border_bad_frame", goodbye.detail, time);
    }
    row.control.length = 0;
    row.control.push({ kind: "goodbye", reason: goodbye.reason, detail: goodbye.detail });
    out.push({ kind: "send", link }, { kind: "close", link });
    this.#leave(row, time, out);
  }

  #leave(row: Row, time: Time, out: BorderLinksOutput[]): void {
    const wasUp = row.state === "up";
    row.state = "ending";
    row.deadlineMonoMs = time.monoMs + this.#options.endTimeoutMs;
    if (!wasUp) return;
    if (row.wanted !== undefined && time.monoMs - row.sinceMonoMs >= this.#options.lastedMs) this.#pairs.lasted(row.wanted.target.address);
    out.push({ kind: "down", link: row.link });
  }

  #refuse(row: Row, refusal: PeerRefusal, time: Time, out: BorderLinksOutput[]): void {
    if (refusal.reason === "too_many_links") this.tooManyCount += 1;
    else this.refusedCount += 1;
    if (row.wanted !== undefined) this.#pairs.refused(row.wanted.target.address, time);
    if (this.#events.take(`${refusal.reason} ${hostOfPeer(row.identity)}`, time.monoMs) === 0) {
      const { reason, detail } = refusal;
      const who = { nodeId: row.nodeId, clusterId: row.clusterId, address: row.identity?.address ?? "" };
      const facts = { reason, detail, ...who, refusedCount: this.refusedCount + this.tooManyCount };
      out.push(eventOutput("border_refused", severityOf(reason), facts, { isAudited: !isQuiet(reason) }));
    }
    this.#end(row, refusal, time, out);
  }

  #tell(out: BorderLinksOutput[], row: Row, severity: "debug" | "info" | "warn", name: string, detail: string, time: Time): void {
    if (this.#events.take(`${name} ${row.clusterId}`, time.monoMs) !== 0) return;
    const { nodeId, clusterId, region, isIncoming, wanted, identity } = row;
    const address = identity?.address ?? wanted?.target.address ?? "";
    out.push(eventOutput(name, severity, { detail, nodeId, clusterId, region, address, direction: isIncoming ? "in" : "out" }));
  }
}

/** Whether a link may soon be wanted again that ended for this. */
function isPassing(reason: Goodbye): boolean {
  return reason === "restart" || reason === "not_needed" || reason === "leave" || reason === "duplicate_link";
}

/** What a node that no border names says of itself, so that it can be told why it is refused. */
function strange({ clusterId, region }: Pick<Hello, "clusterId" | "region">): Border {
  const none = { addresses: [], imports: [], exports: [], batchIntervalMs: 0, bytesPerSecond: 0 };
  return { clusterId, region, trust: { kind: "authority" }, ...none };
}
