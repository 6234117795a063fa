/** The leadership of a node: opens the shared control store, decides whether the node may be a leader, and reports its leadership to operators. */
import { randomBytes } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { ID } from "../../config/field.ts";
import type { Settings } from "../../config/settings.ts";
import type { LeadershipEvent } from "../../control/leadership/io-types.ts";
import { GLOBAL_SCOPE, type ScopeKind, scopeOf } from "../../control/leadership/scope.ts";
import { DRAIN_KINDS } from "../../control/peers/drain.ts";
import { ACTIVE_NODE, DESIRED_STATES } from "../../control/peers/records.ts";
import { isUnowned, type ShardRow } from "../../control/shards/maps.ts";
import { isListed } from "../../fabric/membership/members.ts";
import type { MemberUpdate } from "../../fabric/wire/messages.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Time } from "../../lib/machine.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { NODE_ACT, subjectOf } from "../../policy/audit/record.ts";
import type { ReadyCheck } from "../../server/http-routes.ts";
import { desiredOf } from "../../services/peers/peer-message.ts";
import type { ControlStore } from "../../store/control/store.ts";
import { openEtcdStore } from "../../store/etcd/store.io.ts";
import type { NodeComponent } from "../components.io.ts";
import { hasSeeds } from "../core/rooms.ts";
import type { NodeCore } from "../rooms.io.ts";
import { eligibilityFault, foreignStores } from "./eligibility.ts";
import { LeadershipDriver, type ShardReport } from "./leadership-driver.io.ts";
import { otherUrls } from "./node-contents.ts";
import { hasRoom, ShardMetrics } from "./shard-metrics.ts";

export interface NodeLeadershipOptions {
  readonly settings: Settings;
  readonly log: Log;
  /** The log of the moves of shards. */
  readonly shardLog: Log;
  readonly core: NodeCore;
  /** The store that the nodes share, or the store of this node. */
  readonly store: ControlStore;
}

const KINDS: readonly ScopeKind[] = [GLOBAL_SCOPE, "shard", "custom"];
/** Maximum number of scopes in one line of the log. */
const MAX_LOGGED_SCOPES = 20;

/** Time (ms) between two reports of the leaders that are left. */
const LEAVING_MS = 200;

/** Renewals are not logged. */
const MESSAGES = {
  elected: "leader elected",
  stepped_down: "leader stepped down",
  expired: "session of a leader ended",
  lost: "this node lost a scope",
} as const satisfies Record<Exclude<LeadershipEvent["kind"], "renewed">, string>;

export class NodeLeadership implements NodeComponent {
  readonly source: LeadershipDriver;
  readonly #options: NodeLeadershipOptions;
  readonly #isOwnStore: boolean;
  readonly #undo: readonly (() => void)[];
  readonly #shardMetrics: ShardMetrics;
  /** Namespaces with shards that have no owner, and that no attached owner accepts, as this node has logged it as the controller. */
  readonly #unowned = new Set<string>();
  /** The result of the last call of `foreignStores`. */
  #foreign: ReadonlyMap<string, string> = new Map();
  /** The streams of programs that lead scopes or own shards through this node. */
  readonly #streams = new Set<(error: WaymarkError) => void>();
  /** Set while the leaders of this node resign. */
  #leaving: NodeJS.Timeout | undefined;

  constructor(options: NodeLeadershipOptions) {
    const { settings, log, core, store } = options;
    this.#options = options;
    this.#isOwnStore = settings.store.kind === "embedded";
    this.source = new LeadershipDriver({
      ...core.identity,
      leaseMs: settings.leadership.leaseMs,
      isOwnStore: this.#isOwnStore,
      compactMs: settings.store.compactIntervalMs,
      newId: () => randomBytes(8).toString("hex"),
      store,
      log,
      historyCount: settings.shards.history,
      onEvent: (event) => this.#report(event),
      onShards: (report) => this.#reportShards(report),
      checkWrites: () => core.machine.writeEligibility.checkWrites(),
      onStore: (id) => {
        // Members reject facts with an id that another program may have put into etcd.
        if (!this.#isOwnStore) core.driver.input({ kind: "controlStore", id: ID.pattern.test(id) ? id : "" });
        this.#look();
      },
    });
    this.#shardMetrics = new ShardMetrics(core.metrics, this.source.maps);
    const unfollow = core.driver.follow((notice) => {
      if (notice.kind === "memberChanged") this.#memberChanged(notice.update);
      if (notice.kind === "standDown") this.#standDown(notice.isDown);
      if (notice.kind === "serving" || notice.kind === "memberChanged") this.#look();
    });
    const { source } = this;
    this.#undo = [
      unfollow,
      source.followShards((namespace) => this.#shardsChanged(namespace)),
      source.followPeers((nodeId) => this.#peerChanged(nodeId)),
    ];
  }

  start(): void {
    const { leadership } = this.#options.settings;
    const { nodeId: holderId } = this.#options.core.identity;
    this.#look();
    if (leadership.candidate) for (const scope of this.#ownScopes) this.source.input({ kind: "stand", scope, holderId });
  }

  get #ownScopes(): readonly string[] {
    return [GLOBAL_SCOPE, ...this.#options.settings.leadership.scopes];
  }

  /** Follows the operators' record of this node, and ends the forgetting of members that are alive. */
  #peerChanged(nodeId: string): void {
    const { driver, identity, machine } = this.#options.core;
    const record = this.source.record(nodeId)?.value;
    if (nodeId === identity.nodeId) {
      const desired = record ?? ACTIVE_NODE;
      this.source.input({ kind: "cordoned", isCordoned: desired.desired !== "active" });
      driver.input({ kind: "desired", desired: desired.desired, drain: desired.drain, labels: desired.labels });
    }
    if (record?.isForgotten !== true) return;
    const status = machine.fabric?.membership.find(nodeId)?.status;
    if (status !== undefined && isListed(status)) this.source.input({ kind: "peerAlive", nodeId });
    else driver.input({ kind: "forget", nodeId });
  }

  /** Gives up the scopes of this node and of its programs, and lets owners of shards leave. Or returns, because the node is active again. */
  #standDown(isDown: boolean): void {
    const { settings, core } = this.#options;
    const { nodeId: holderId } = core.identity;
    if (!isDown) {
      clearInterval(this.#leaving);
      if (settings.leadership.candidate) for (const scope of this.#ownScopes) this.source.input({ kind: "stand", scope, holderId });
      return;
    }
    for (const scope of this.#ownScopes) this.source.input({ kind: "withdraw", scope, reason: "the node is drained" });
    for (const leave of this.#streams) leave(this.#refusal());
    const report = () => {
      const leaderCount = this.source.machine.heldScopes(now()).length;
      const { ownerCount } = this.source;
      if (leaderCount + ownerCount === 0) clearInterval(this.#leaving);
      core.driver.input({ kind: "leadersLeft", leaderCount, ownerCount });
    };
    clearInterval(this.#leaving);
    this.#leaving = setInterval(report, LEAVING_MS).unref();
  }

  /** Throws while operators want this node to accept nothing new. */
  checkNew(): void {
    if (this.#options.core.machine.drain.isCordoned) throw this.#refusal();
  }

  /** Calls `onLeave` when programs must leave this node. */
  followLeaving(onLeave: (error: WaymarkError) => void): () => void {
    this.#streams.add(onLeave);
    return () => this.#streams.delete(onLeave);
  }

  #refusal(): WaymarkError {
    const { replica, identity } = this.#options.core;
    const urls = otherUrls({ replica, clusterId: identity.clusterId }, identity.nodeId);
    const where = urls.length === 0 ? "" : `, for example ${urls.join(" or ")}`;
    const message = `operators have cordoned this node, which accepts nothing new; use another node${where}`;
    return new WaymarkError("draining", message, { metadata: { urls: urls.join(" ") } });
  }

  /** Owners of shards can act until their validity is over. If the store does not answer, the session ends by itself. */
  drain(): Promise<void> {
    const { store, leadership } = this.#options.settings;
    const mostMs = this.source.ownerCount > 0 ? leadership.leaseMs : store.timeoutMs;
    return Promise.race([this.source.stop(), wait(mostMs, undefined, { ref: false })]);
  }

  stop(): void {
    clearInterval(this.#leaving);
    for (const undo of this.#undo) undo();
    this.source.close();
  }

  /** Always ok, because reads do not need the control store. */
  readiness(time: Time): readonly ReadyCheck[] {
    const { machine } = this.source;
    const { fault, ageMs, kind } = this.source.store(time);
    const age = ageMs === 0 || machine.availability.answeredMs < 0 ? "" : `; last answer ${Math.round(ageMs / 1000)} s ago`;
    const state = fault === "" ? `this node leads ${counted(machine.heldScopes(time).length, "scope")}` : fault;
    return [{ name: "control store", ok: true, detail: `${kind}; ${state}${age}` }];
  }

  observe(): void {
    const { metrics } = this.#options.core;
    const { machine } = this.source;
    const held = machine.heldScopes(now());
    for (const kind of KINDS) metrics.set("mesh_leadership_held", { kind }, held.filter((scope) => scopeOf(scope)?.kind === kind).length);
    const unreadable = [...machine.leaders.values()].filter((record) => record === undefined);
    metrics.set("waymark_store_unreadable_leaders", {}, unreadable.length);
    metrics.set("waymark_store_available", {}, machine.availability.isAvailable ? 1 : 0);
    this.#shardMetrics.observe(now());
    this.#observePeers();
  }

  #observePeers(): void {
    const { metrics, identity, machine: node } = this.#options.core;
    const members = node.fabric?.membership.members() ?? [{ nodeId: identity.nodeId, clusterId: identity.clusterId, desired: "" }];
    const own = members.filter(({ clusterId }) => clusterId === identity.clusterId);
    const states = own.map((member) => desiredOf(member, this.source));
    for (const desired of DESIRED_STATES)
      metrics.set("mesh_peers_desired", { desired }, states.filter((state) => state === desired).length);
    const left = new Map(node.drain.progress?.left.map(({ kind, count }) => [kind, count]));
    for (const what of DRAIN_KINDS) metrics.set("mesh_drain_left", { what }, left.get(what) ?? 0);
  }

  /** Decides whether this node may be a leader, and reports the members that were found to use another store. */
  #look(): void {
    const { settings, log, core } = this.#options;
    const { identity, machine, guard, metrics } = core;
    const own = { clusterId: identity.clusterId, id: this.#isOwnStore ? "" : (this.source.machine.store?.id ?? "") };
    const foreign = foreignStores(machine.fabric?.membership.listed() ?? [], own);
    for (const [nodeId, detail] of foreign) {
      if (this.#foreign.has(nodeId)) continue;
      metrics.inc("mesh_leadership_split_brain_total", {});
      log.error({ peerNodeId: nodeId, detail }, "split brain: this node is no candidate");
      this.source.report({ kind: "split_brain", detail });
    }
    this.#foreign = foreign;
    const { isServing } = machine.readiness;
    const hasOthers = hasSeeds(settings) || guard.hadPeers;
    this.source.input({ kind: "eligible", fault: eligibilityFault({ isServing, isPrivate: this.#isOwnStore, hasOthers, foreign }) });
  }

  /** Logs a warning if a leader is suspected. Only its session decides whether it leads, because suspicions can be wrong. */
  #memberChanged({ nodeId, status }: MemberUpdate): void {
    if (this.source.record(nodeId)?.value?.isForgotten === true) this.#peerChanged(nodeId);
    // One warning is enough: a member is usually suspected before it is reported as dead.
    if (status !== "suspect") return;
    const time = now();
    const led = this.source
      .leaders(time)
      .filter(({ record, expiresWallMs = 0 }) => record?.nodeId === nodeId && record.shard === undefined && expiresWallMs > time.wallMs);
    const scopes = led.slice(0, MAX_LOGGED_SCOPES).map(({ scope }) => scope);
    if (led.length > 0) this.#options.log.warn({ nodeId, status, scopes }, "leader is unreachable, but its session has not ended");
  }

  /** Logs a transition on every node. The node that it concerns counts and audits it. */
  #report({ kind, scope, leader, revision }: LeadershipEvent): void {
    // The controller reports the moves of shards.
    if (kind === "renewed" || leader.shard !== undefined) return;
    const { log, core } = this.#options;
    const { holderId, nodeId, term, fence, reason, correlationId } = leader;
    const detail = { scope, holderId, nodeId, term, fence: fence.number, revision, reason, correlationId };
    log[kind === "lost" || kind === "expired" ? "warn" : "info"](detail, MESSAGES[kind]);
    if (nodeId !== core.identity.nodeId) return;
    const { monoMs, wallMs } = now();
    core.metrics.inc("mesh_leadership_transitions_total", {});
    const sinceMs = kind === "elected" ? this.source.machine.lastSignMs(scope) : undefined;
    if (sinceMs !== undefined) core.metrics.observe("mesh_leadership_election_duration_ms", {}, monoMs - sinceMs);
    core.audit?.record({
      ...NODE_ACT,
      atWallMs: wallMs,
      action: `mesh.leader_${kind}`,
      reason,
      detail: `scope=${scope} holder=${holderId} term=${term} fence=${fence.storeEpoch}.${fence.number} correlation=${correlationId}`,
      subjects: subjectOf("node", nodeId),
    });
  }

  /** Logs that shards of a set have lost their owners, and that all have one again. */
  #shardsChanged(namespace: string): void {
    const { machine, maps } = this.source;
    const time = now();
    const map = machine.held(GLOBAL_SCOPE, time) && maps.map(namespace);
    const unowned = map?.rows.filter((row) => isUnowned(row) && row.term > 0) ?? [];
    const wasUnowned = this.#unowned.has(namespace);
    if (map === undefined || wasUnowned === unowned.length > 0 || (!wasUnowned && hasRoom(map, maps.owners(namespace), time))) return;
    if (wasUnowned) this.#unowned.delete(namespace);
    else this.#unowned.add(namespace);
    const { shardLog: log } = this.#options;
    if (wasUnowned) log.info({ namespace }, `all shards of ${namespace} have owners again`);
    else log.warn({ namespace }, `${counted(unowned.length, "shard")} of ${namespace} without an owner: no attached owner accepts them`);
  }

  /** Logs and counts the moves of shards, and logs and audits the plans that the controller makes and ends. */
  #reportShards(report: ShardReport): void {
    const { shardLog, core } = this.#options;
    if (report.kind === "moved") {
      const { namespace, before, after } = report;
      const { id, epoch, fence, reason } = after;
      this.#shardMetrics.count(namespace, before, after, now());
      // One line for a move is enough: its other phases are for debugging.
      const isPhase = after.owner !== "" && (before.isDraining || (!after.isDraining && after.owner === before.owner));
      shardLog[isPhase ? "debug" : "info"]({ epoch, fence: fence.number, reason }, moveText(`${namespace}/${id}`, before, after));
      return;
    }
    const { id, plan } = report;
    const { state, reason, checksum, detail, moves } = plan;
    const shards = counted(
      moves.reduce((sum, { ids }) => sum + ids.size, 0),
      "shard",
    );
    shardLog[state === "failed" ? "warn" : "info"]({ planId: id, checksum, reason, detail }, `plan ${id} for ${shards}: ${state}`);
    const text = `plan ${id} for ${shards}: ${state}; checksum ${checksum}${detail === "" ? "" : `; ${detail}`}`;
    const namespace = id.slice(0, id.indexOf("/"));
    core.audit?.record({ ...NODE_ACT, atWallMs: now().wallMs, namespace, action: "mesh.rebalance_plan", reason, detail: text });
  }
}

/** The log line of a change of a shard, such as `shard orders/12 draining from a to b`. */
function moveText(shard: string, before: ShardRow, after: ShardRow): string {
  if (after.owner === "") return `shard ${shard} has no owner`;
  if (after.owner !== before.owner) return `shard ${shard} owned by ${after.owner}${before.owner === "" ? "" : ` after ${before.owner}`}`;
  if (after.isDraining) return `shard ${shard} draining from ${after.owner}${after.next === "" ? "" : ` to ${after.next}`}`;
  if (after.next !== before.next)
    return `shard ${shard} ${after.next === "" ? "stays with" : `prepared by ${after.next} for a move from`} ${after.owner}`;
  return `shard ${shard} owned by ${after.owner} again`;
}

/** Opens the store that the nodes share. It need not be reachable. */
export function openSharedStore({ store, node }: Settings, metrics: Metrics): ControlStore {
  return openEtcdStore({
    endpoints: store.endpoints,
    prefix: store.prefix || `/waymark/${encodeURIComponent(node.clusterId)}/`,
    tls: store,
    user: store.user,
    passwordFile: store.passwordFile,
    timeoutMs: store.timeoutMs,
    onRequest: (outcome) => metrics.inc("waymark_store_requests_total", { outcome }),
  });
}
