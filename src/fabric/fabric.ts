/** The room's machine: composes membership, links, replication and the lives of origins. Routes, and has no rules of its own. */
import { relationOf } from "../catalog/scope.ts";
import type { Time } from "../lib/machine.ts";
import { CallGuard } from "./call-guard.ts";
import { Collecting } from "./collecting.ts";
import type { FabricOptions, FabricParts } from "./fabric-options.ts";
import type { LinkState } from "./link-row.ts";
import { Links, type LinksInput, type LinksOutput } from "./links.ts";
import { Lives } from "./lives.ts";
import { isListed } from "./members.ts";
import { Membership, type MembershipInput } from "./membership.ts";
import type { LinkFrame, MemberUpdate, PolicyFrame, ReplicationFrame } from "./messages.ts";
import type { MembershipOutput } from "./news.ts";
import { PolicyExchange } from "./policy-exchange.ts";
import { Readiness, type ReadyState } from "./readiness.ts";
import { ReplicationShared } from "./replication-shared.ts";
import type { FabricEvent, FabricInput, FabricMachine, FabricOutput, LinkId } from "./seam.ts";
import { READY, type SessionNews, Sessions } from "./sessions.ts";
import { type ClusterTokens, isOwnLaterLife, type TrustFacts } from "./trust.ts";

const NEVER = Number.POSITIVE_INFINITY;

interface Refusals {
  /** Links whose peer is not trusted, or broke the protocol. */
  readonly peer: number;
  /** Links beyond as many as are allowed. */
  readonly link: number;
  /** Calls of strangers. */
  readonly call: number;
  /** Frames and entries of vectors, of an origin not taken here. */
  readonly origin: number;
  /** Heads that are none, and versions that are not what their head says. */
  readonly policy: number;
  /** Frames of newer peers, skipped. */
  readonly unknownFrame: number;
}

export class Fabric implements FabricMachine {
  readonly membership: Membership;
  readonly replication: ReplicationShared;
  readonly policy: PolicyExchange;
  readonly lives: Lives;
  readonly calls: CallGuard;
  readonly #options: FabricOptions;
  readonly #parts: FabricParts;
  readonly #trust: TrustFacts & { clusterToken: string; otherToken?: string | undefined };
  readonly #links: Links;
  readonly #readiness: Readiness;
  readonly #sessions: Sessions;
  readonly #collecting = new Collecting();
  #hasPeers = false;
  #isBegun = false;
  #stop: { readonly reason: "leave" | "restart"; readonly deadlineMonoMs: number } | undefined;
  #unknownFrameCount = 0;

  constructor(options: FabricOptions, parts: FabricParts) {
    this.#options = options;
    this.#parts = parts;
    const { self, replica, drafter, bounds, hlc, rng, clusterToken, isInsecure } = parts;
    const { nodeId, clusterId, region } = self;
    this.#trust = { nodeId, clusterId, region, clusterToken, isInsecure };
    this.calls = new CallGuard(this.#trust);
    this.membership = new Membership(self, rng.fork("membership"), options.membership);
    this.#links = new Links(options.links, {
      self: () => ({ ...(this.membership.find(nodeId) ?? self), generation: replica.self.generation }),
      members: () => this.membership.listed(),
      capabilities: () => (this.#readiness.isReady ? [READY] : []),
      trust: this.#trust,
      rng: rng.fork("links"),
    });
    const shared = { replica, drafter, bounds, hlc, rng: rng.fork("replication"), place: { clusterId, region } };
    this.replication = new ReplicationShared({ ...shared, options: options.replication });
    this.policy = new PolicyExchange(options.policy);
    this.#sessions = new Sessions(this.replication, this.policy);
    this.lives = new Lives(options.lives, {
      replica,
      clusterId,
      findMember: (id) => this.membership.find(id),
      forgetOrigin: (origin, time) => this.replication.forgetOrigin(origin, time),
      hasTable: () => this.membership.hasJoined,
      wasHidden: (id) => this.replication.hiddenElsewhere.has(id),
      readmit: (id, generation) => this.replication.readmit(id, generation),
    });
    this.#readiness = new Readiness(options.readiness, { hasSeeds: this.#seeds().length > 0, startAgeMs: parts.startAgeMs });
  }

  /** From now on; links that are up stay. */
  setTokens({ clusterToken, otherToken }: ClusterTokens): void {
    this.#trust.clusterToken = clusterToken;
    this.#trust.otherToken = otherToken;
  }

  handle(input: FabricInput, time: Time, out: FabricOutput[]): void {
    if (!this.#isBegun) this.#begin(time, out);
    this.#route(input, time, out);
    this.#tick(time, out);
  }

  #route(input: FabricInput, time: Time, out: FabricOutput[]): void {
    switch (input.kind) {
      case "tick":
        return;
      case "asked":
        return this.#asked(input, time, out);
      case "answered":
      case "lagged":
        return this.#toMembership(input, time, out);
      case "opened":
      case "closed":
        return this.#toLinks(input, time, out);
      case "received":
        return this.#received(input.link, input.frame, time, out);
      case "changed":
        return this.replication.changed(time);
      case "facts":
        return this.#toMembership(input, time, out);
      case "policy":
      case "policyRead":
      case "policyRefused":
        return this.#toPolicy(input, out);
      case "stop":
        return this.#stopFor(input.reason, time, out);
    }
  }

  #toPolicy(input: Extract<FabricInput, { kind: "policy" | "policyRead" | "policyRefused" }>, out: FabricOutput[]): void {
    // Each may give every link something to say.
    this.#sessions.wake();
    switch (input.kind) {
      case "policy":
        return this.policy.headChanged(input.head);
      case "policyRead":
        return this.policy.read(input.number, input.bytes);
      case "policyRefused":
        return this.policy.refused(input.head, input.detail, out);
    }
  }

  /** The next frame for a link; see `FabricMachine`. */
  pull(link: LinkId, time: Time, out: FabricOutput[]): LinkFrame | undefined {
    const frame = this.#links.next(link) ?? this.#sessions.next(link, time) ?? this.#farewell(link, time, out);
    if (frame !== undefined) this.#links.count(link, "sent");
    return frame;
  }

  /** While stopping: the goodbye, when all own news is sent. */
  #farewell(link: LinkId, time: Time, out: FabricOutput[]): LinkFrame | undefined {
    const isUp = this.#sessions.find(link) !== undefined;
    if (this.#stop === undefined || !isUp || this.replication.edgeDueMonoMs !== undefined) return undefined;
    this.#toLinks({ kind: "end", link, reason: this.#stop.reason, detail: "" }, time, out);
    return this.#links.next(link);
  }

  nextDeadlineMs(): number | undefined {
    if (!this.#isBegun) return 0;
    const next = Math.min(
      this.membership.nextDeadlineMs() ?? NEVER,
      this.#links.nextDeadlineMs() ?? NEVER,
      this.lives.nextDeadlineMs() ?? NEVER,
      this.policy.nextDeadlineMs() ?? NEVER,
      this.#readiness.nextDeadlineMs() ?? NEVER,
      this.#sessions.nextDeadlineMs() ?? NEVER,
    );
    return next === NEVER ? undefined : next;
  }

  /** Whether this node may answer for the mesh, and the honest age of what it would say. */
  readiness(time: Time): ReadyState {
    return this.#readiness.read(time);
  }

  get isReady(): boolean {
    return this.#readiness.isReady;
  }

  /** Whether old tombstones may go. */
  mayCollect(time: Time): boolean {
    const { isReady, ageMs } = this.#readiness.read(time);
    return this.#collecting.mayCollect({ isReady, ageMs, isAnybodyAway: this.lives.isAnybodyAway }, time);
  }

  /** Whether readers may be told that they have everything: not while an origin's many records are being shown or hidden. */
  get isWhole(): boolean {
    return this.#readiness.isReady && !this.lives.isSettling;
  }

  /** Whether nothing is left to be said after `stop`. */
  isStopped(time: Time): boolean {
    if (this.#stop === undefined) return false;
    if (time.monoMs >= this.#stop.deadlineMonoMs) return true;
    if (this.#links.size > 0) return false;
    return this.#stop.reason === "restart" || this.membership.isQuiet;
  }

  /** All links, for people. */
  links(): readonly LinkState[] {
    return [...this.#links.rows].map((row) => ({ ...row, isCaughtUp: this.#sessions.find(row.link)?.replication.isCaughtUp ?? false }));
  }

  /** Links that are up, to be looked at. */
  get sessions(): Pick<Sessions, "find" | "toldOf"> {
    return this.#sessions;
  }

  /** What was not taken from others, since the start. */
  refused(): Refusals {
    return {
      peer: this.#links.refusedCount,
      link: this.#links.tooManyCount,
      call: this.calls.refusedCount,
      origin: this.replication.stats.refusedOrigins,
      policy: this.policy.refusedCount,
      unknownFrame: this.#unknownFrameCount,
    };
  }

  #seeds(): readonly string[] {
    return this.#parts.seeds.filter((seed) => seed !== this.#parts.self.address);
  }

  #begin(time: Time, out: FabricOutput[]): void {
    this.#isBegun = true;
    if (this.#seeds().length > 0) this.#toMembership({ kind: "join", addresses: this.#seeds() }, time, out);
  }

  #asked(input: Extract<FabricInput, { kind: "asked" }>, time: Time, out: FabricOutput[]): void {
    if (this.calls.admits(input.request, input.proof, time, out)) this.#toMembership(input, time, out);
    else out.push({ kind: "answer", call: input.call, response: undefined });
  }

  #toMembership(input: MembershipInput, time: Time, out: FabricOutput[]): void {
    const said: MembershipOutput[] = [];
    this.membership.handle(input, time, said);
    let isChanged = false;
    for (const output of said) {
      switch (output.kind) {
        case "call":
        case "answer":
        case "event":
        case "memberForgotten":
          out.push(output);
          break;
        case "ownIdUsed":
          this.#checkLife(output, out);
          break;
        case "memberChanged":
          isChanged = true;
          this.lives.memberChanged(output.update);
          this.#sessions.wake();
          out.push({ kind: "memberChanged", update: output.update });
          if (output.before === undefined) this.#checkPlace(output.update, out);
      }
    }
    if (!isChanged) return;
    const { nodeId, region } = this.#trust;
    this.#hasPeers = this.membership.listed().some((member) => member.region === region && member.nodeId !== nodeId);
    this.#toLinks({ kind: "members" }, time, out);
  }

  #checkLife({ told, toldBy }: Extract<MembershipOutput, { kind: "ownIdUsed" }>, out: FabricOutput[]): void {
    const { self, replica } = this.#parts;
    if (!isOwnLaterLife(told, { address: self.address, generation: replica.self.generation })) return;
    out.push({ kind: "generationLost", peerNodeId: toldBy, seq: 0, above: told.generation });
  }

  #checkPlace(member: MemberUpdate, out: FabricOutput[]): void {
    const { clusterId, region } = this.#trust;
    if (member.clusterId !== clusterId || member.region === region || !isListed(member.status)) return;
    // No link is wanted between regions, so nobody else says it.
    const detail = { nodeId: member.nodeId, address: member.address, clusterId, region: member.region, ours: region };
    out.push({ kind: "event", event: { name: "cluster_in_two_regions", severity: "warn", isAudited: false, detail } });
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
          this.#readiness.want(output.nodeIds, time);
          break;
        case "up":
          this.#linkUp(output, time, out);
          break;
        case "down":
          this.#linkDown(output, time, out);
      }
    }
  }

  #linkUp({ link, hello }: Extract<LinksOutput, { kind: "up" }>, time: Time, out: FabricOutput[]): void {
    this.#sessions.open(link, hello, relationOf(this.#trust, hello), time);
    this.lives.back(hello.nodeId);
    this.#toMembership({ kind: "heardOf", member: hello }, time, out);
  }

  #linkDown({ link, hello, goodbye }: Extract<LinksOutput, { kind: "down" }>, time: Time, out: FabricOutput[]): void {
    this.#sessions.close(link);
    if (goodbye === "restart") this.lives.away(hello.nodeId, time);
    if (goodbye === undefined) this.#toMembership({ kind: "doubted", nodeId: hello.nodeId }, time, out);
  }

  #learn(news: readonly SessionNews[], time: Time, out: FabricOutput[]): void {
    for (const output of news) {
      switch (output.kind) {
        case "inStep":
          this.#readiness.inStep(output.nodeId, time);
          break;
        case "badFrame":
          this.#toLinks({ kind: "end", link: output.link, reason: "bad_frame", detail: output.detail }, time, out);
      }
    }
  }

  #received(link: LinkId, frame: LinkFrame, time: Time, out: FabricOutput[]): void {
    this.#links.count(link, "received");
    switch (frame.kind) {
      case "hello":
        return this.#toLinks({ kind: "hello", link, hello: frame.hello }, time, out);
      case "goodbye":
        return this.#toLinks({ kind: "goodbye", link, reason: frame.reason, detail: frame.detail }, time, out);
      case "unknown":
        this.#unknownFrameCount += 1;
        return;
      case "vector":
      case "records":
      case "linked":
      case "digests":
      case "policyHead":
      case "policyWanted":
      case "policyPart":
        return this.#receivedOn(link, frame, time, out);
    }
  }

  #receivedOn(link: LinkId, frame: ReplicationFrame | PolicyFrame, time: Time, out: FabricOutput[]): void {
    if (this.#sessions.find(link) === undefined) {
      if (this.#links.find(link)?.state === "greeting")
        this.#toLinks({ kind: "end", link, reason: "bad_frame", detail: `${frame.kind} before hello` }, time, out);
      return;
    }
    this.#learn(this.#sessions.receive(link, frame, time, out), time, out);
    if (frame.kind === "records") this.lives.heard(frame.frame.nodeId, frame.frame.generation);
  }

  #judge(time: Time): void {
    const { clusterId } = this.#trust;
    const ownCount = this.membership.listed().filter((member) => member.clusterId === clusterId).length;
    this.#readiness.caughtUpWith(this.#sessions.caughtUp({ clusterId, ownCount, maxLinks: this.#options.links.maxLinks }), time);
  }

  #stopFor(reason: "leave" | "restart", time: Time, out: FabricOutput[]): void {
    if (this.#stop !== undefined) return;
    this.#stop = { reason, deadlineMonoMs: time.monoMs + this.#options.stopTimeoutMs };
    this.#links.stop();
    for (const { link, state } of this.#links.rows) if (state !== "up") this.#toLinks({ kind: "end", link, reason, detail: "" }, time, out);
    if (reason === "leave") this.#toMembership({ kind: "leave" }, time, out);
  }

  #tick(time: Time, out: FabricOutput[]): void {
    const { monoMs } = time;
    if (monoMs >= (this.membership.nextDeadlineMs() ?? NEVER)) this.#toMembership({ kind: "tick" }, time, out);
    if (monoMs >= (this.#links.nextDeadlineMs() ?? NEVER)) this.#toLinks({ kind: "tick" }, time, out);
    if (monoMs >= (this.policy.nextDeadlineMs() ?? NEVER)) {
      this.policy.tick(time, out);
      this.#sessions.wake();
    }
    if (monoMs >= (this.lives.nextDeadlineMs() ?? NEVER)) {
      const events: FabricEvent[] = [];
      if (this.lives.tick(time, events)) out.push({ kind: "changed" });
      for (const event of events) out.push({ kind: "event", event });
    }
    this.#readiness.tick(this.#hasPeers, time);
    this.#learn(this.#sessions.tick(time, { isStopping: this.#stop !== undefined }, out), time, out);
    if (!this.#readiness.hasCaughtUp) this.#judge(time);
  }
}
