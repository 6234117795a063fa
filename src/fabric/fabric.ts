/** The machine of this room. It composes membership, links, replication and the lifecycle of origins, and routes between them. It has no rules of its own. */

import { relationOf } from "../catalog/entry/scope.ts";
import type { UnreachableNodes } from "../catalog/unreachable-nodes.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import type { Border, BorderCount } from "./borders/border.ts";
import { Borders } from "./borders/borders.ts";
import { Collecting } from "./collecting.ts";
import { Freshness } from "./freshness.ts";
import type { FabricInput, FabricMachine, FabricOutput, LinkId, StopInput } from "./io-types.ts";
import { Leaving } from "./leaving.ts";
import { CallGuard } from "./links/call-guard.ts";
import { EVERY_CLUSTER, Foreigners } from "./links/foreigners.ts";
import type { LinkState } from "./links/link-state.ts";
import { Links } from "./links/links.ts";
import { Multiplexer } from "./links/multiplexer.ts";
import type { LinksInput, LinksOutput } from "./links/options.ts";
import { type ClusterTokens, isOwnLaterLife, type PeerAuthFacts, refusalOfStart } from "./links/peer-auth.ts";
import { LostWords } from "./lost-origin-notices.ts";
import { MaintenanceCalls } from "./maintenance-calls.ts";
import type { MembershipOutput } from "./membership/io-types.ts";
import { isListed } from "./membership/members.ts";
import { Membership, type MembershipInput } from "./membership/membership.ts";
import type { FabricOptions, FabricParts } from "./options.ts";
import { OriginLifecycle } from "./origin-lifecycle.ts";
import { PolicySources, READY } from "./policy-sources.ts";
import { PolicyExchange } from "./policy-sync.ts";
import { Readiness, type ReadyState } from "./readiness.ts";
import { ReplicationChannel } from "./replication/channel.ts";
import { Replicator } from "./replication/replicator.ts";
import { SummaryChannel } from "./summaries/channel.ts";
import type { Hello, LinkFrame, MemberFacts } from "./wire/messages.ts";

export class Fabric implements FabricMachine {
  readonly membership: Membership;
  readonly replication: Replicator;
  /** Replication on each link that is up. */
  readonly exchanges: ReplicationChannel;
  /** Replication of the summary replica. Undefined of a node without one. */
  readonly summaries: SummaryChannel | undefined;
  readonly policy: PolicyExchange;
  readonly policySources: PolicySources;
  /** Closed only while this node has no peer. */
  readonly seal = { isClosed: false };
  readonly foreigners: Foreigners;
  readonly lifecycle: OriginLifecycle;
  readonly leaving: Leaving;
  readonly calls: CallGuard;
  /** Links to other regions, and all that is said on them. Nothing of them is seen by any other part. */
  readonly borders: Borders;
  readonly #maintenance: MaintenanceCalls;
  readonly #lost: LostWords;
  readonly #options: FabricOptions;
  readonly #parts: FabricParts;
  readonly #peerAuth: PeerAuthFacts;
  readonly #links: Links;
  readonly #freshness: Freshness;
  readonly #readiness: Readiness;
  readonly #multiplexer: Multiplexer;
  readonly #collecting = new Collecting();
  #hasPeers = false;
  #isBegun = false;
  /** The other border nodes of the region are known. Before that each would take itself for the only one. */
  #areBordersBegun = false;
  #stop: { readonly reason: "leave" | "restart"; readonly deadlineMonoMs: number; readonly heldUntilMonoMs: number } | undefined;

  constructor(options: FabricOptions, parts: FabricParts) {
    this.#options = options;
    this.#parts = parts;
    const { self, replica, stamper, bounds, hlc, rng, clusterToken, otherToken, isInsecure, peerAuth = EVERY_CLUSTER } = parts;
    const { nodeId, clusterId, region } = self;
    this.foreigners = new Foreigners({ clusterId, region }, peerAuth, (id) => isListed(this.membership.find(id)?.status ?? "dead"));
    const { foreigners, seal } = this;
    this.#peerAuth = { nodeId, clusterId, region, clusterToken, otherToken, isInsecure, seal, foreigners };
    this.calls = new CallGuard(this.#peerAuth);
    this.policySources = new PolicySources({ clusterId, acceptFrom: parts.policyFrom ?? [], isOpen: parts.isOpen === true });
    this.borders = new Borders(options.borders, {
      here: { clusterId, region },
      nodeId,
      self: () => ({ ...(this.membership.find(nodeId) ?? self), generation: replica.self.generation }),
      rng: rng.fork("borders"),
      borders: parts.borders ?? [],
      channels: parts.borderChannels ?? [],
      onCounts: (counts, time, out) => this.#tellBorders(counts, time, out),
    });
    this.membership = new Membership(withBorders(self, this.borders.counts), rng.fork("membership"), options.membership, {
      ...parts,
      foreigners,
    });
    this.#maintenance = new MaintenanceCalls({
      self: () => ({ nodeId, generation: replica.self.generation, clusterId, region }),
      find: (id) => this.membership.find(id),
    });
    this.#links = new Links(options.links, {
      self: () => ({ ...(this.membership.find(nodeId) ?? self), generation: replica.self.generation }),
      members: () => this.membership.listed(),
      capabilities: () => [...this.#multiplexer.capabilities, ...(this.#readiness.isReady ? [READY] : [])],
      policyFrom: () => this.policySources.told,
      peerAuth: this.#peerAuth,
      refusalOfStart: (hello, time) => refusalOfStart(hello, this.membership.startOf(hello, time)),
      isStranger: (hello) => this.membership.isStranger(hello),
      rng: rng.fork("links"),
    });
    const shared = { replica, stamper, bounds, hlc, rng: rng.fork("replication"), place: { clusterId, region }, foreigners };
    this.replication = new Replicator({ ...shared, options: options.replication, members: this.membership });
    const sourceOf = (id: string) => this.policySources.of(id);
    this.policy = new PolicyExchange(options.policy, (id) => foreigners.has(id), sourceOf);
    const isHeld = (link: LinkId) => this.policy.isBehind(link);
    this.exchanges = new ReplicationChannel(this.replication, isHeld);
    const second = { ...shared, rng: rng.fork("summaries"), isHeld, members: this.membership, options: options.replication };
    this.summaries = parts.summaries && new SummaryChannel({ ...second, ...parts.summaries });
    const isAllSent = (link: LinkId) => !isHeld(link) && this.replication.edgeDueMonoMs === NEVER;
    this.leaving = new Leaving(clusterId, () => this.#readiness.isReady, isAllSent, parts.runsChecks);
    // The policy comes first, because a newcomer is not ready without it.
    this.#multiplexer = new Multiplexer([this.policy, this.exchanges, this.summaries ?? [], this.leaving, parts.channels ?? []].flat());
    this.#lost = new LostWords({ replica, clusterId, members: this.membership, replication: this.replication });
    const { membership, replication } = this;
    const { maxMembers } = options.membership;
    this.lifecycle = new OriginLifecycle(options.lifecycle, { ...parts, clusterId, membership, replication, maxMembers });
    const holdsOf = (id: string) => replica.origins.values().some((origin) => origin.nodeId === id);
    const { heartbeats } = replication;
    const { roster } = this.lifecycle;
    this.#freshness = new Freshness({ nodeId, clusterId, membership, heartbeats, holdsOf, roster });
    const held = { freshness: this.#freshness, asOfMonoMs: parts.asOfMonoMs, mayBeBehind: () => this.lifecycle.isAnybodyElsewhere };
    this.#readiness = new Readiness(options.readiness, { ...held, hasSeeds: parts.seeds.some((seed) => seed !== self.address) });
  }

  /** Uses these tokens from now on. Links that are up stay. Peers that were refused, or refused this node, are tried again at the next input. */
  setTokens({ clusterToken, otherToken }: ClusterTokens): void {
    Object.assign(this.#peerAuth, { clusterToken, otherToken });
    this.#links.retryNow();
  }

  /** Uses what was read anew of the files of the borders. Links that are up stay; nodes that were refused are tried again at the next input. */
  setBorders(borders: readonly Border[]): void {
    this.borders.setBorders(borders);
  }

  handle(input: FabricInput, time: Time, out: FabricOutput[]): void {
    if (!this.#isBegun) this.#begin(time, out);
    switch (input.kind) {
      case "tick":
        break;
      case "asked":
        if (!this.calls.admits(input, time, out)) break;
        if (input.request.kind === "maintain") {
          this.#maintenance.asked(input.call, input.request, input.identity, out);
          break;
        }
        this.#toMembership(input, time, out);
        this.#lost.heard(input.request, input.identity.certificate?.clusterId, time, out);
        break;
      case "lagged":
        this.#postpone(input.lagMs);
        this.#toMembership(input, time, out);
        break;
      case "answered": {
        const answered = this.calls.heard(input, time, out);
        if (this.#maintenance.isOwn(answered)) {
          this.#maintenance.answered(answered, out);
          break;
        }
        this.#toMembership(answered, time, out);
        this.#lost.heard(answered.response, undefined, time, out);
        break;
      }
      case "facts":
        this.#toMembership({ kind: "facts", facts: withBorders(input.facts, this.borders.counts) }, time, out);
        break;
      case "opened":
      case "closed":
        this.#toLinkOwner(input, time, out);
        break;
      case "received":
        this.#received(input.link, input.frame, time, out);
        break;
      case "policy":
      case "policyRead":
      case "policyRefused":
        this.#toPolicy(input, out);
        break;
      case "leaving":
      case "offer":
        this.leaving.handle(input, out);
        break;
      case "maintain":
        this.#maintenance.ask(input, out);
        break;
      case "stop":
        this.#stopFor(input, time, out);
        break;
    }
    this.#tick(time, out);
  }

  /** This node stood still: that time does not count against others (semantics.md, Deadlines and standstills). Membership does this itself. */
  #postpone(byMs: number): void {
    this.#links.postpone(byMs);
    this.borders.postpone(byMs);
    this.lifecycle.postpone(byMs);
    this.policy.postpone(byMs);
    this.replication.postpone(byMs);
    this.summaries?.postpone(byMs);
    this.#readiness.postpone(byMs);
  }

  #toPolicy(input: Extract<FabricInput, { kind: "policy" | "policyRead" | "policyRefused" }>, out: FabricOutput[]): void {
    // Each of these may give every link something to send.
    this.#multiplexer.wake();
    switch (input.kind) {
      case "policy":
        return this.policy.headChanged(input.head);
      case "policyRead":
        return this.policy.read(input.number, input.bytes);
      case "policyRefused":
        return this.policy.refused(input.head, input.detail, out);
    }
  }

  /** The next frame for a link (`FabricMachine`). */
  pull(link: LinkId, time: Time, out: FabricOutput[]): LinkFrame | undefined {
    if (this.borders.has(link)) return this.borders.pull(link, time);
    const frame = this.#links.next(link) ?? this.#multiplexer.next(link, time) ?? this.#farewell(link, time, out);
    if (frame !== undefined) this.#links.count(link, "sent");
    return frame;
  }

  /** The goodbye of a node that stops, when all its own news is sent. */
  #farewell(link: LinkId, time: Time, out: FabricOutput[]): LinkFrame | undefined {
    if (this.#stop === undefined || this.replication.edgeDueMonoMs !== NEVER || this.#multiplexer.helloOf(link) === undefined)
      return undefined;
    if (this.policy.isBehind(link) && time.monoMs < this.#stop.heldUntilMonoMs) return undefined;
    this.#toLinks({ kind: "end", link, reason: this.#stop.reason, detail: "" }, time, out);
    return this.#links.next(link);
  }

  nextDeadlineMs(): number {
    if (!this.#isBegun) return 0;
    return Math.min(
      this.membership.nextDeadlineMs(),
      this.#links.nextDeadlineMs(),
      this.borders.nextDeadlineMs(),
      this.lifecycle.nextDeadlineMs(),
      this.summaries?.nextDeadlineMs() ?? NEVER,
      this.#lost.nextDeadlineMs(),
      this.policy.nextDeadlineMs(),
      this.#readiness.nextDeadlineMs(),
      this.#multiplexer.nextDeadlineMs(),
    );
  }

  /** Whether this node may answer for the mesh, and how old its answers are. */
  readiness(time: Time): ReadyState {
    return this.#readiness.read(time);
  }

  /** With whom of its cluster it is in step, and was since that time. */
  inStepWith(time: Time, sinceMonoMs: number): ReturnType<Readiness["inStepWith"]> {
    return this.#readiness.inStepWith(time, sinceMonoMs);
  }

  /** The nodes that the age of answers does not include. */
  unreachable(time: Time): UnreachableNodes | undefined {
    return this.#freshness.unreachable(time);
  }

  /** How old the data is that this node started with. */
  startAgeMs(time: Time): number {
    return this.#readiness.startAgeMs(time);
  }

  get isReady(): boolean {
    return this.#readiness.isReady;
  }

  /** Whether old tombstones may be collected. They may not while the node's clock is off. */
  mayCollect(time: Time): boolean {
    const { isInStep } = this.#readiness.read(time);
    const asked = { isInStep, isAnybodyAway: this.lifecycle.isAnybodyAway, isClockOff: this.membership.clock(time).isOff };
    return this.#collecting.mayCollect({ ...asked, lost: this.#parts.replica.lost }, time);
  }

  /** Whether readers may be told that they have everything. They may not while the records of an origin are being shown or hidden in slices. */
  get isWhole(): boolean {
    return this.#readiness.isReady && !this.lifecycle.isSettling;
  }

  /** Whether there is another node of this cluster. Nodes of other clusters take over nothing from it. */
  get hasClusterPeers(): boolean {
    return this.membership.listed().some(({ clusterId }) => clusterId === this.#peerAuth.clusterId);
  }

  /** Whether nothing is left to be sent after `stop`. */
  isStopped(time: Time): boolean {
    if (this.#stop === undefined) return false;
    if (time.monoMs >= this.#stop.deadlineMonoMs) return true;
    if (this.#links.size > 0 || this.borders.size > 0) return false;
    if (this.#stop.reason === "restart" && this.membership.find(this.#peerAuth.nodeId)?.keepsEntries !== true) return true;
    return this.membership.isQuiet;
  }

  /** All links, for people. */
  links(): readonly LinkState[] {
    return [...this.#links.rows].map((row) => ({ ...row, isCaughtUp: this.exchanges.find(row.link)?.isCaughtUp === true }));
  }

  /** The hello of the peer of a link that is up. */
  helloOf(link: LinkId): Hello | undefined {
    return this.#multiplexer.helloOf(link);
  }

  /** Counts of what this node refused from others since its start. */
  refused() {
    return {
      /** Links whose peer is not trusted, or broke the protocol. */
      peer: this.#links.refusedCount,
      /** Links beyond as many as are allowed. */
      link: this.#links.tooManyCount,
      /** Border links whose node is not one of a border, or that are too many. */
      border: this.borders.refused.links,
      /** Calls of strangers. */
      call: this.calls.refusedCount,
      /** Frames and entries of vectors, of an origin not taken here. */
      origin: this.replication.stats.refusedOrigins,
      /** Heads that are none, and versions that are not what their head says. */
      policy: this.policy.refusedCount,
      /** Frames that no channel here receives, skipped: of newer peers, or of a channel that is not open on their link. */
      unknownFrame: this.#multiplexer.skippedCount + this.borders.refused.frames,
    } as const;
  }

  #begin(time: Time, out: FabricOutput[]): void {
    this.#isBegun = true;
    if (this.#parts.seeds.length > 0) this.#toMembership({ kind: "join", addresses: this.#parts.seeds }, time, out);
  }

  #toMembership(input: MembershipInput, time: Time, out: FabricOutput[]): void {
    const said: MembershipOutput[] = [];
    this.membership.handle(input, time, said);
    let isChanged = false;
    for (const output of said) {
      switch (output.kind) {
        case "call":
        case "answer":
          out.push(this.#lost.told(output, input.kind === "asked" ? input.request : undefined));
          break;
        case "event":
        case "memberForgotten":
          if (output.kind === "memberForgotten") this.#freshness.changed();
          out.push(output);
          break;
        case "turnedAway":
        case "letIn":
          this.#readiness.met(output, time);
          break;
        case "ownIdUsed":
          this.#checkLife(output, out);
          break;
        case "memberChanged":
          isChanged = true;
          this.lifecycle.memberChanged(output.update);
          this.summaries?.memberChanged(output.update);
          this.#freshness.memberChanged(output.update, time);
          this.#multiplexer.wake();
          out.push({ kind: "memberChanged", update: output.update });
          if (this.foreigners.forget(output.update.nodeId)) this.replication.reconsider(output.update.nodeId, output.update.generation);
      }
    }
    if (!isChanged) return;
    this.#hasPeers = this.membership.listed().some(({ nodeId }) => nodeId !== this.#peerAuth.nodeId);
    this.#toLinks({ kind: "members" }, time, out);
    if (this.#areBordersBegun) this.borders.know(this.membership.listed(), time, out);
  }

  #tellBorders(counts: readonly BorderCount[], time: Time, out: FabricOutput[]): void {
    const own = this.membership.find(this.#peerAuth.nodeId);
    if (own === undefined || this.#stop !== undefined) return;
    const { status: _status, incarnation: _incarnation, accuser: _accuser, ...facts } = own;
    this.#toMembership({ kind: "facts", facts: withBorders(facts, counts) }, time, out);
  }

  #checkLife({ told, toldBy }: Extract<MembershipOutput, { kind: "ownIdUsed" }>, out: FabricOutput[]): void {
    const { self, replica } = this.#parts;
    if (!isOwnLaterLife(told, { address: self.address, generation: replica.self.generation })) return;
    out.push({ kind: "generationLost", peerNodeId: toldBy, seq: 0, above: told.generation });
  }

  /** Who came by the gate of a border is none of the members' business, whatever it says. */
  #toLinkOwner(input: Extract<FabricInput, { kind: "opened" | "closed" }>, time: Time, out: FabricOutput[]): void {
    const isBorder = this.borders.has(input.link) || (input.kind === "opened" && input.isIncoming && input.identity.border !== undefined);
    if (!isBorder) this.#toLinks(input, time, out);
    else if (input.kind === "opened") this.borders.opened(input, time, out);
    else this.borders.closed(input, time, out);
  }

  #toLinks(input: LinksInput, time: Time, out: FabricOutput[]): void {
    const said: LinksOutput[] = [];
    this.#links.handle(input, time, said);
    for (const output of said) {
      switch (output.kind) {
        case "open":
        case "send":
        case "close":
        case "event":
          out.push(output);
          break;
        case "wanted":
          this.#freshness.want(output.nodeIds, this.#readiness.knownMonoMs(time), time);
          break;
        case "up":
          this.#linkUp(output, time, out);
          break;
        case "down":
          this.#linkDown(output, time, out);
      }
    }
  }

  #linkUp({ link, hello, greetedMonoMs }: Extract<LinksOutput, { kind: "up" }>, time: Time, out: FabricOutput[]): void {
    this.#multiplexer.open(link, { hello, relation: relationOf(this.#peerAuth, hello), greetedMonoMs }, time, out);
    this.foreigners.admitted(hello, out);
    this.lifecycle.back(hello.nodeId);
    this.#toMembership({ kind: "heardOf", member: hello }, time, out);
    this.#freshness.met(hello.nodeId);
    this.borders.isBack(hello.nodeId, time, out);
  }

  #linkDown({ link, hello, goodbye }: Extract<LinksOutput, { kind: "down" }>, time: Time, out: FabricOutput[]): void {
    this.#multiplexer.close(link);
    if (goodbye === "restart") this.lifecycle.away(hello.nodeId, time);
    if (goodbye === "restart" || goodbye === "leave") {
      this.#freshness.goodbye(hello.nodeId, time);
      this.borders.saidGoodbye(hello.nodeId, time, out);
    }
    if (goodbye === undefined) this.#toMembership({ kind: "doubted", nodeId: hello.nodeId }, time, out);
  }

  #received(link: LinkId, frame: LinkFrame, time: Time, out: FabricOutput[]): void {
    if (this.borders.has(link)) return this.borders.received(link, frame, time, out);
    this.#links.count(link, "received");
    if (frame.kind === "hello" && frame.hello.borderTo !== undefined) {
      const identity = this.#links.release(link);
      if (identity !== undefined) return this.borders.greeted(link, frame.hello, identity, time, out);
    }
    if (frame.kind === "hello") return this.#toLinks({ kind: "hello", link, hello: frame.hello }, time, out);
    if (frame.kind === "goodbye") return this.#toLinks({ kind: "goodbye", link, reason: frame.reason, detail: frame.detail }, time, out);
    const news = this.#multiplexer.receive(link, frame, time, out);
    if (news === undefined && this.#links.find(link)?.state === "greeting") this.#badFrame(link, `${frame.kind} before hello`, time, out);
    for (const each of news ?? []) {
      if (each.kind === "inStep") this.#freshness.inStep(each.nodeId, each.monoMs);
      else if (each.kind === "badFrame") this.#badFrame(link, each.detail, time, out);
      else if (each.kind === "heard") this.lifecycle.heard(each.origin);
    }
  }

  #badFrame(link: LinkId, detail: string, time: Time, out: FabricOutput[]): void {
    this.#toLinks({ kind: "end", link, reason: "bad_frame", detail }, time, out);
  }

  #judge(time: Time): void {
    const members = { listed: this.membership.listed(), region: this.#peerAuth.region };
    const hasPolicy = this.policy.head.number > 0;
    const { maxLinks } = this.#options.links;
    const caughtUp = this.policySources.caughtUp(this.#multiplexer.caughtUpWith(), members, { hasPolicy, maxLinks });
    this.#readiness.caughtUpWith(caughtUp, time);
  }

  #stopFor({ reason, withinMs = this.#options.stopTimeoutMs }: StopInput, time: Time, out: FabricOutput[]): void {
    if (this.#stop !== undefined) return;
    const heldUntilMonoMs = time.monoMs + Math.min(this.#options.heldGoodbyeMs, withinMs / 2);
    this.#stop = { reason, deadlineMonoMs: time.monoMs + this.#options.stopTimeoutMs, heldUntilMonoMs };
    this.#links.stop(reason);
    for (const { link, state } of this.#links.rows) if (state !== "up") this.#toLinks({ kind: "end", link, reason, detail: "" }, time, out);
    this.borders.stop(reason, time, out);
    if (reason === "leave") this.#toMembership({ kind: "leave" }, time, out);
  }

  #tick(time: Time, out: FabricOutput[]): void {
    if (time.monoMs >= this.membership.nextDeadlineMs()) this.#toMembership({ kind: "tick" }, time, out);
    if (time.monoMs >= this.#links.nextDeadlineMs()) this.#toLinks({ kind: "tick" }, time, out);
    if (time.monoMs >= this.policy.nextDeadlineMs()) {
      this.policy.tick(time, out);
      this.#multiplexer.wake();
    }
    if (time.monoMs >= this.lifecycle.nextDeadlineMs()) {
      const outputCount = out.length;
      this.lifecycle.tick(time, out);
      // Nothing is held any more of an origin that was forgotten.
      if (out.length > outputCount) this.#freshness.changed();
    }
    this.#lost.tick(out);
    this.summaries?.tick(time, out);
    this.#readiness.tick({ hasPeers: this.#hasPeers, areSeedsHeard: this.membership.areSeedsHeard }, time);
    this.#multiplexer.tick(time, { isStopping: this.#stop !== undefined }, out);
    if (!this.#areBordersBegun && this.#readiness.isReady) {
      this.#areBordersBegun = true;
      this.borders.know(this.membership.listed(), time, out);
    }
    this.borders.tick(time, out);
    if (!this.#readiness.hasCaughtUp) this.#judge(time);
  }
}

/** What a node says of itself. A node without borders says nothing of them. */
function withBorders(facts: MemberFacts, borders: readonly BorderCount[]): MemberFacts {
  return borders.length === 0 ? facts : { ...facts, borders };
}
