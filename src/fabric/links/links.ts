/**
 * The node's links: which peers to connect to, the hello exchange, which of two links to a peer stays up, when to retry, and how a link ends. The
 * node that opened a link sends its `hello` first (`#greet`). The other node replies with its own hello only if it trusts the first one.
 */

import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import { type Machine, NEVER, type Time } from "../../lib/machine.ts";
import { eventOutput, type FabricEvent, type LinkId } from "../io-types.ts";
import { isListed } from "../membership/members.ts";
import { startOf } from "../membership/process-instances.ts";
import type { Goodbye, Hello, LinkFrame, PeerIdentity } from "../wire/messages.ts";
import { duplicateNode, isQuiet, type LinkRecord, type LinkRow, loserOf, newRow, severityOf } from "./link-state.ts";
import type { LinksInput, LinksOptions, LinksOutput, LinksParts } from "./options.ts";
import {
  anotherStart,
  commonVersion,
  hostOfPeer,
  type PeerRefusal,
  PROTOCOL_VERSIONS,
  refusalByIdentity,
  refusalOfHello,
  tokenToShow,
} from "./peer-auth.ts";
import { LinkRetry, type RetryPeer } from "./retry.ts";
import { Topology } from "./topology.ts";
import { UnreachableMembers } from "./unreachable.ts";

export class Links implements Machine<LinksInput, LinksOutput> {
  readonly #options: LinksOptions;
  readonly #parts: LinksParts;
  readonly #topology: Topology;
  readonly #events: TokenBuckets;
  readonly #rows = new Map<LinkId, LinkRecord>();
  /** The links that are up, by node id. */
  readonly #up = new Map<string, LinkRecord>();
  readonly #peers: LinkRetry;
  readonly #unreachable = new UnreachableMembers();
  #chooseMonoMs: number | undefined;
  #chosenMonoMs = Number.NEGATIVE_INFINITY;
  #nextId = 2;
  /** The reason why this node is stopping. Undefined while it is running normally. */
  #stopReason: "leave" | "restart" | undefined;
  /** Cached between inputs, because it is read for every frame. */
  #dueMonoMs: number | undefined;
  /**
   * Counts since the start: links that were refused or ended because the peer was at fault, and links that were refused because there were too many.
   */
  refusedCount = 0;
  tooManyCount = 0;

  constructor(options: LinksOptions, parts: LinksParts) {
    this.#options = options;
    this.#parts = parts;
    this.#topology = new Topology(options.maxLinks);
    this.#peers = new LinkRetry(options, { nodeId: parts.peerAuth.nodeId, rng: parts.rng });
    this.#events = new TokenBuckets({ limit: options.maxRefusalEvents, windowMs: 60_000, maxKeys: 256 });
  }

  /** All links, in the order in which they were opened. */
  get rows(): Iterable<LinkRow> {
    return this.#rows.values();
  }

  /** Number of links, including those that are being opened or ended. */
  get size(): number {
    return this.#rows.size;
  }

  find(link: LinkId): LinkRow | undefined {
    return this.#rows.get(link);
  }

  nextDeadlineMs(): number {
    this.#dueMonoMs ??= this.#computeDue();
    return this.#dueMonoMs;
  }

  #computeDue(): number {
    let next = Math.min(this.#chooseMonoMs ?? NEVER, this.#unreachable.nextDeadlineMs());
    for (const row of this.#rows.values()) next = Math.min(next, row.deadlineMonoMs);
    for (const peer of this.#peers.list) next = Math.min(next, this.#peerDeadline(peer));
    return next;
  }

  handle(input: LinksInput, time: Time, out: LinksOutput[]): void {
    this.#dueMonoMs = undefined;
    if (input.kind === "opened") return this.#opened(input, time, out);
    if (input.kind === "tick" || input.kind === "members") {
      if (input.kind === "members") {
        this.#chooseSoon(time);
        this.#endOthers(time, out);
      }
      return this.#tick(time, out);
    }
    const row = this.#rows.get(input.link);
    if (row === undefined) return;
    switch (input.kind) {
      case "closed":
        return this.#closed(row, input.detail, time, out);
      case "hello":
        return this.#greeted(row, input.hello, time, out);
      case "goodbye":
        return this.#farewell(row, input, time, out);
      case "end":
        return this.#end(row, input, time, out);
    }
  }

  /** Returns the next hello or goodbye to send on a link. */
  next(link: LinkId): LinkFrame | undefined {
    return this.#rows.get(link)?.control.shift();
  }

  /** Releases a link whose peer sent a border hello. Returns the peer's identity, or undefined when no hello is expected on the link. */
  release(link: LinkId): PeerIdentity | undefined {
    const row = this.#rows.get(link);
    if (row === undefined || !row.isIncoming || row.state !== "greeting") return undefined;
    this.#rows.delete(link);
    this.#dueMonoMs = undefined;
    return row.identity;
  }

  /** Counts a frame. */
  // HOT: runs for each frame.
  count(link: LinkId, direction: "sent" | "received"): void {
    const row = this.#rows.get(link);
    if (row === undefined) return;
    if (direction === "sent") row.framesSent += 1;
    else row.framesReceived += 1;
  }

  /** Stops opening and accepting links. */
  stop(reason: "leave" | "restart"): void {
    this.#stopReason = reason;
    this.#dueMonoMs = undefined;
    this.#peers.clear();
    this.#unreachable.clear();
    this.#chooseMonoMs = undefined;
  }

  get isStopping(): boolean {
    return this.#stopReason !== undefined;
  }

  /** Retries refused peers immediately, because they may be accepted now. */
  retryNow(): void {
    this.#peers.retryNow();
    this.#dueMonoMs = undefined;
  }

  /** Extends the time that peers have to connect and to send their hello by the length of a pause of this process. */
  postpone(byMs: number): void {
    for (const row of this.#rows.values()) row.deadlineMonoMs += byMs;
    this.#unreachable.postpone(byMs);
    this.#dueMonoMs = undefined;
  }

  // ---- time ----

  #tick(time: Time, out: LinksOutput[]): void {
    if (this.#unreachable.takeDue(time)) this.#chooseSoon(time);
    if (this.#chooseMonoMs !== undefined && time.monoMs >= this.#chooseMonoMs) this.#choose(time, out);
    for (const row of this.#rows.values()) if (time.monoMs >= row.deadlineMonoMs) this.#overdue(row, time, out);
    for (const peer of this.#peers.list) {
      if (time.monoMs < this.#peerDeadline(peer)) continue;
      if (peer.isWanted) this.#open(peer, time, out);
      else this.#release(peer, time, out);
    }
  }

  /** Returns when something is due for a peer. */
  #peerDeadline(peer: RetryPeer): number {
    if (!peer.isWanted) return peer.releaseMonoMs;
    return this.#hasLink(peer.nodeId) || this.#openingCount() >= this.#options.maxOpening ? NEVER : peer.openMonoMs;
  }

  #hasLink(nodeId: string): boolean {
    if (this.#up.has(nodeId)) return true;
    for (const row of this.#rows.values()) if (row.nodeId === nodeId && row.state !== "ending") return true;
    return false;
  }

  #openingCount(): number {
    let count = 0;
    for (const { isIncoming, state } of this.#rows.values()) if (!isIncoming && (state === "opening" || state === "greeting")) count += 1;
    return count;
  }

  #chooseSoon(time: Time): void {
    this.#chooseMonoMs ??= Math.max(time.monoMs, this.#chosenMonoMs + this.#options.chooseEveryMs);
  }

  /** Handles a link that could not be established. `isUnanswered`: no node could be reached at the address. */
  #failed(nodeId: string, isUnanswered: boolean, time: Time): void {
    this.#peers.retryLater(nodeId, time);
    if (isUnanswered && this.#unreachable.failed(nodeId, time)) this.#chooseSoon(time);
  }

  #choose(time: Time, out: LinksOutput[]): void {
    this.#chooseMonoMs = undefined;
    this.#chosenMonoMs = time.monoMs;
    if (this.#stopReason !== undefined) return;
    const self = this.#parts.self();
    const listed = [...this.#parts.members()].filter(
      ({ nodeId, region, status }) => isListed(status) && nodeId !== self.nodeId && region === self.region,
    );
    const cluster = new Set(listed.filter(({ clusterId }) => clusterId === self.clusterId).map(({ nodeId }) => nodeId));
    const candidates = this.#unreachable.candidates(listed, this.#up, time, cluster);
    const chosen = this.#topology.choose(self, candidates);
    const wanted = candidates.filter(({ nodeId }) => chosen.has(nodeId));
    this.#peers.want(wanted, time);
    const nodeIds = this.#unreachable.counted(listed, wanted, time, cluster).map(({ nodeId }) => nodeId);
    out.push({ kind: "wanted", nodeIds });
  }

  #open(peer: RetryPeer, time: Time, out: LinksOutput[]): void {
    if (this.#rows.size >= this.#options.maxTotalLinks) {
      this.#peers.retryAfter(peer.nodeId, "too_many_links", time);
      return;
    }
    const link = this.#nextId;
    this.#nextId += 2;
    this.#rows.set(link, { ...newRow(link, time, this.#options.openTimeoutMs), nodeId: peer.nodeId, state: "opening", isIncoming: false });
    out.push({ kind: "open", link, to: peer.address });
  }

  #release(peer: RetryPeer, time: Time, out: LinksOutput[]): void {
    this.#peers.forget(peer.nodeId);
    // A link that the peer opened may still be wanted by the peer. The peer ends the link when it no longer needs it.
    for (const row of this.#rows.values())
      if (row.nodeId === peer.nodeId && !row.isIncoming) this.#end(row, { reason: "not_needed", detail: "" }, time, out);
  }

  #overdue(row: LinkRecord, time: Time, out: LinksOutput[]): void {
    switch (row.state) {
      case "up":
        return;
      case "ending":
        this.#rows.delete(row.link);
        return;
      case "opening":
      case "greeting":
        if (row.state === "greeting")
          this.#report(out, row, "info", { reason: "bad_frame", detail: "timed out waiting for the hello" }, time);
        this.#failed(row.nodeId, row.state === "opening", time);
        this.#rows.delete(row.link);
        out.push({ kind: "close", link: row.link });
    }
  }

  // ---- life cycle of a link ----

  #opened({ link, isIncoming, identity }: Extract<LinksInput, { kind: "opened" }>, time: Time, out: LinksOutput[]): void {
    const { helloTimeoutMs } = this.#options;
    if (isIncoming) {
      if (this.#rows.has(link)) return;
      const isFull = this.#isFull();
      if (this.#rows.size >= 2 * this.#options.maxTotalLinks) {
        this.tooManyCount += 1;
        out.push({ kind: "close", link });
        return;
      }
      const row: LinkRecord = { ...newRow(link, time, helloTimeoutMs), identity };
      this.#rows.set(link, row);
      // This is checked before refusals, because the link may be a border link, and after a refusal its opener would not retry for a long time.
      if (this.#stopReason !== undefined) return this.#end(row, { reason: this.#stopReason, detail: "this node is stopping" }, time, out);
      const refusal: PeerRefusal | undefined = isFull
        ? { reason: "too_many_links", detail: "too many links" }
        : refusalByIdentity(identity, this.#parts.peerAuth);
      if (refusal !== undefined) this.#refuse(row, refusal, time, out);
      return;
    }
    const row = this.#rows.get(link);
    if (row?.state !== "opening") return;
    row.identity = identity;
    row.state = "greeting";
    const refusal = refusalByIdentity(identity, this.#parts.peerAuth);
    if (refusal !== undefined) return this.#refuse(row, refusal, time, out);
    row.deadlineMonoMs = time.monoMs + helloTimeoutMs;
    this.#greet(row, out);
  }

  /** Returns whether the limit of incoming links is reached. */
  #isFull(): boolean {
    const incoming = [...this.#rows.values()].filter(({ isIncoming }) => isIncoming).length;
    return incoming >= this.#options.maxIncomingLinks || this.#rows.size >= this.#options.maxTotalLinks;
  }

  /** Ends links to process instances that are no longer accepted under their node id. */
  #endOthers(time: Time, out: LinksOutput[]): void {
    for (const row of this.#up.values()) {
      if (row.hello === undefined || !this.#parts.isStranger(row.hello)) continue;
      this.#refuse(row, anotherStart(row.hello), time, out, row.hello);
    }
  }

  /** Sends this node's hello. The node that opened the link sends its hello first, and the other node replies only if it trusts that hello. */
  #greet(row: LinkRecord, out: LinksOutput[]): void {
    const self = this.#parts.self();
    const { nodeId, generation, clusterId, region, zone, address, version } = self;
    const clusterToken = tokenToShow(row.identity?.certificate !== undefined, this.#parts.peerAuth.clusterToken);
    const who = { nodeId, generation, ...startOf(self), clusterId, region, zone, address, version };
    row.control.push({ kind: "hello", hello: { ...who, protocolVersions: PROTOCOL_VERSIONS, clusterToken, ...this.#parts.facts() } });
    out.push({ kind: "send", link: row.link });
  }

  #greeted(row: LinkRecord, hello: Hello, time: Time, out: LinksOutput[]): void {
    const { identity } = row;
    if (row.state === "ending" || row.state === "opening" || identity === undefined) return;
    if (row.state === "up") return this.#end(row, { reason: "bad_frame", detail: "unexpected second hello" }, time, out);
    const refusal = refusalOfHello(hello, identity, this.#parts.peerAuth) ?? this.#parts.refusalOfStart(hello, time);
    if (refusal !== undefined) {
      if (refusal.reason === "wrong_cluster" || refusal.reason === "other_region")
        this.#parts.peerAuth.foreignPeers.note(hello.nodeId, hello);
      return this.#refuse(row, refusal, time, out, hello);
    }
    if (!row.isIncoming && row.nodeId !== hello.nodeId) {
      this.#peers.retryLater(row.nodeId, time);
      return this.#end(row, { reason: "not_needed", detail: `expected node ${row.nodeId}, but node ${hello.nodeId} answered` }, time, out);
    }
    row.nodeId = hello.nodeId;
    row.hello = hello;
    row.protocolVersion = commonVersion(PROTOCOL_VERSIONS, hello.protocolVersions) ?? 0;
    const other = this.#up.get(hello.nodeId);
    if (other !== undefined) {
      const { sameTimeMs } = this.#options;
      const loser = loserOf(other, row, {
        nodeId: this.#parts.peerAuth.nodeId,
        members: this.#parts.members,
        sameTimeMs,
        monoMs: time.monoMs,
      });
      if (loser === "none") return this.#refuse(row, duplicateNode(hello, other.hello), time, out, hello);
      this.#end(loser, { reason: "duplicate_link", detail: "" }, time, out);
      if (loser === row) return;
    }
    const greetedMonoMs = row.isIncoming ? time.monoMs : row.sinceMonoMs;
    row.state = "up";
    row.sinceMonoMs = time.monoMs;
    row.deadlineMonoMs = NEVER;
    this.#up.set(hello.nodeId, row);
    this.#unreachable.reached(hello.nodeId);
    if (row.isIncoming) this.#greet(row, out);
    out.push({ kind: "up", link: row.link, hello, identity, greetedMonoMs });
  }

  #farewell(row: LinkRecord, goodbye: PeerRefusal, time: Time, out: LinksOutput[]): void {
    if (row.state === "ending") return;
    const { nodeId } = row;
    const wasUp = row.state === "up";
    this.#leave(row, goodbye.reason, time, out);
    this.#peers.retryAfter(nodeId, goodbye.reason, time);
    if (goodbye.reason === "too_many_links" && this.#unreachable.failed(nodeId, time)) this.#chooseSoon(time);
    out.push({ kind: "close", link: row.link });
    if (!isQuiet(goodbye.reason) || !wasUp) {
      const detail = { reason: goodbye.reason, detail: goodbye.detail, nodeId, address: row.identity?.address ?? "" };
      if (this.#events.take(`${goodbye.reason} ${nodeId}`, time.monoMs) === 0)
        out.push(eventOutput("link_refused_by_peer", severityOf(goodbye.reason), detail));
    }
  }

  #closed(row: LinkRecord, detail: string, time: Time, out: LinksOutput[]): void {
    const { state, nodeId } = row;
    if (state !== "ending") {
      this.#leave(row, undefined, time, out);
      this.#failed(nodeId, state === "opening", time);
      if (state !== "opening") this.#report(out, row, "info", { reason: "not_needed", detail }, time, "link_lost");
    }
    this.#rows.delete(row.link);
  }

  /** Sends a goodbye and waits until the shell has transmitted it. */
  #end(row: LinkRecord, goodbye: PeerRefusal, time: Time, out: LinksOutput[]): void {
    if (row.state === "ending") return;
    if (row.state === "opening") {
      this.#rows.delete(row.link);
      out.push({ kind: "close", link: row.link });
      return;
    }
    if (goodbye.reason === "bad_frame") {
      this.refusedCount += 1;
      this.#peers.retryAfter(row.nodeId, goodbye.reason, time);
      this.#report(out, row, "warn", goodbye, time, "link_bad_frame");
    }
    row.control.length = 0;
    row.control.push({ kind: "goodbye", reason: goodbye.reason, detail: goodbye.detail });
    out.push({ kind: "send", link: row.link }, { kind: "close", link: row.link });
    this.#leave(row, undefined, time, out);
  }

  #leave(row: LinkRecord, goodbye: Goodbye | undefined, time: Time, out: LinksOutput[]): void {
    const { hello, link } = row;
    const wasUp = row.state === "up";
    row.state = "ending";
    row.deadlineMonoMs = time.monoMs + this.#options.endTimeoutMs;
    if (!wasUp || hello === undefined) return;
    if (this.#up.get(hello.nodeId) === row) this.#up.delete(hello.nodeId);
    if (time.monoMs - row.sinceMonoMs >= this.#options.sameTimeMs) this.#peers.lasted(hello.nodeId);
    out.push({ kind: "down", link, hello, goodbye });
  }

  #refuse(row: LinkRecord, refusal: PeerRefusal, time: Time, out: LinksOutput[], hello?: Hello): void {
    if (refusal.reason === "too_many_links") this.tooManyCount += 1;
    else this.refusedCount += 1;
    this.#peers.retryAfter(row.nodeId, refusal.reason, time);
    const nodeId = hello?.nodeId ?? row.nodeId;
    if (this.#events.take(`${refusal.reason} ${hostOfPeer(row.identity)}`, time.monoMs) === 0) {
      const facts = { reason: refusal.reason, detail: refusal.detail, nodeId, clusterId: hello?.clusterId ?? "" };
      const detail = { ...facts, address: row.identity?.address ?? "", refusedCount: this.refusedCount + this.tooManyCount };
      out.push(eventOutput("peer_refused", severityOf(refusal.reason), detail, { isAudited: !isQuiet(refusal.reason) }));
    }
    this.#end(row, refusal, time, out);
  }

  #report(
    out: LinksOutput[],
    row: LinkRecord,
    severity: FabricEvent["severity"],
    { detail }: PeerRefusal,
    time: Time,
    name = "link_failed",
  ): void {
    // A peer that keeps reconnecting must not fill the log.
    if (this.#events.take(`${name} ${row.isIncoming ? hostOfPeer(row.identity) : row.nodeId}`, time.monoMs) !== 0) return;
    const facts = { detail, nodeId: row.nodeId, address: row.identity?.address ?? "", direction: row.isIncoming ? "in" : "out" };
    out.push(eventOutput(name, severity, facts));
  }
}
