/** The leadership of a node: opens the shared control store, decides whether the node may be a leader, and reports its leadership to operators. */
import { randomBytes } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { ID } from "../../config/field.ts";
import type { Settings } from "../../config/settings.ts";
import type { LeadershipEvent } from "../../control/leadership/io-types.ts";
import { GLOBAL_SCOPE, type ScopeKind, scopeOf } from "../../control/leadership/scope.ts";
import type { MemberUpdate } from "../../fabric/wire/messages.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import { NODE_ACT, subjectOf } from "../../policy/audit/record.ts";
import type { LeadershipSource } from "../../services/leadership/source.ts";
import type { ControlStore } from "../../store/control/store.ts";
import { openEtcdStore } from "../../store/etcd/store.io.ts";
import type { NodeComponent } from "../components.io.ts";
import { hasSeeds } from "../core/rooms.ts";
import type { NodeCore } from "../rooms.io.ts";
import { eligibilityFault, type ForeignStore, foreignStores } from "./eligibility.ts";
import { LeadershipDriver } from "./leadership-driver.io.ts";

export interface NodeLeadership {
  readonly source: LeadershipSource;
  readonly component: NodeComponent;
}

export interface NodeLeadershipOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly core: NodeCore;
  /** The store that the nodes share, or the store of this node. */
  readonly store: ControlStore;
}

export function openLeadership({ settings, log, core, store }: NodeLeadershipOptions): NodeLeadership {
  const { identity, guard } = core;
  const { kind } = settings.store;
  const driver = new LeadershipDriver({
    nodeId: identity.nodeId,
    clusterId: identity.clusterId,
    boot: identity.boot,
    leaseMs: settings.leadership.leaseMs,
    isOwnStore: kind === "embedded",
    compactMs: settings.store.compactIntervalMs,
    newId: () => randomBytes(8).toString("hex"),
    kind,
    store,
    onEvent: (event) => report(event, driver, { log, core }),
    onStore: (id) => {
      // Members reject facts with an id that another program may have put into etcd.
      if (kind === "etcd") core.driver.input({ kind: "controlStore", id: ID.pattern.test(id) ? id : "" });
      look();
    },
    onFault: (fault) => {
      if (fault === "") log.info({ kind }, "control store available again");
      else log.warn({ kind, fault }, "control store unavailable");
    },
    onNotCompacted: (fault) => log.warn({ fault }, "history of the control store not compacted"),
  });
  let isServing = false;
  const peers = new LeadershipPeers({ driver, log, core });
  const look = () => {
    const hasOthers = hasSeeds(settings) || guard.hadPeers;
    const foreign = kind === "etcd" ? peers.foreignStores() : [];
    driver.input({ kind: "eligible", fault: eligibilityFault({ isServing, isPrivate: kind === "embedded", hasOthers, foreign }) });
  };
  const unfollow = core.driver.follow((notice) => {
    if (notice.kind === "serving") isServing = notice.isServing;
    if (notice.kind === "memberChanged") peers.changed(notice.update);
    if (notice.kind === "serving" || notice.kind === "memberChanged") look();
  });
  const component: NodeComponent = {
    start: () => {
      look();
      if (!settings.leadership.candidate) return;
      for (const scope of [GLOBAL_SCOPE, ...settings.leadership.scopes]) driver.input({ kind: "stand", scope, holderId: identity.nodeId });
    },
    // If the store does not answer, the session ends by itself.
    drain: () => Promise.race([driver.stop(), wait(settings.store.timeoutMs, undefined, { ref: false })]),
    stop: () => {
      unfollow();
      driver.close();
    },
    // Always ok: reads do not need the control store.
    readiness: (time) => [{ name: "control store", ok: true, detail: storeDetail(driver, time) }],
    observe: () => observe(driver, core),
  };
  return { source: driver, component };
}

interface LeadershipPeersParts extends Pick<NodeLeadershipOptions, "core" | "log"> {
  readonly driver: LeadershipDriver;
}

/** Maximum number of scopes in one line of the log. */
const MAX_LOGGED_SCOPES = 20;

/** Reports contradictions between the members of the cluster and the control store. */
class LeadershipPeers {
  readonly #parts: LeadershipPeersParts;
  /** Nodes that use another store, as of the last look. */
  #foreign: ReadonlySet<string> = new Set();
  /** Nodes that were reported as gone while they led. */
  readonly #goneLeaders = new Set<string>();

  constructor(parts: LeadershipPeersParts) {
    this.#parts = parts;
  }

  /** Returns the members that use another store than this node, and reports those that are new. */
  foreignStores(): readonly ForeignStore[] {
    const { core, driver, log } = this.#parts;
    const { clusterId } = core.identity;
    const found = foreignStores(core.machine.fabric?.membership.listed() ?? [], { clusterId, id: driver.machine.store?.id ?? "" });
    for (const { nodeId, detail } of found)
      if (!this.#foreign.has(nodeId)) {
        core.metrics.inc("mesh_leadership_split_brain_total", {});
        log.error({ peerNodeId: nodeId, detail }, "split brain: this node is no candidate");
        driver.report({ kind: "split_brain", detail });
      }
    this.#foreign = new Set(found.map(({ nodeId }) => nodeId));
    return found;
  }

  /** Logs a warning if a leader is reported as gone. Only its session decides whether it leads, because reports can be wrong. */
  changed({ nodeId, status }: MemberUpdate): void {
    const { driver, log } = this.#parts;
    if (status === "alive") this.#goneLeaders.delete(nodeId);
    if (status === "alive" || this.#goneLeaders.has(nodeId)) return;
    const { monoMs } = now();
    const scopes = [...driver.machine.leaders].flatMap(([scope, record]) =>
      record !== undefined && record.nodeId === nodeId && (driver.machine.expiryMs(record) ?? 0) > monoMs ? [scope] : [],
    );
    if (scopes.length === 0) return;
    this.#goneLeaders.add(nodeId);
    log.warn({ nodeId, status, scopes: scopes.slice(0, MAX_LOGGED_SCOPES) }, "leader is unreachable, but its session has not ended");
  }
}

/** Opens the store that the nodes share. It need not be reachable. */
export function openSharedStore({ store, node }: Settings, metrics: Metrics): ControlStore {
  const { caFile, certFile, keyFile } = store;
  return openEtcdStore({
    endpoints: store.endpoints,
    prefix: store.prefix || `/waymark/${encodeURIComponent(node.clusterId)}/`,
    tls: caFile === undefined && certFile === undefined ? undefined : { caFile, certFile, keyFile },
    user: store.user,
    passwordFile: store.passwordFile,
    timeoutMs: store.timeoutMs,
    onRequest: (outcome) => metrics.inc("waymark_store_requests_total", { outcome }),
  });
}

function storeDetail(driver: LeadershipDriver, time: ReturnType<typeof now>): string {
  const { fault, ageMs, kind } = driver.store(time);
  const isUnanswered = driver.machine.availability.answeredMs < 0;
  const age = ageMs === 0 || isUnanswered ? "" : `; last answer ${Math.round(ageMs / 1000)} s ago`;
  const held = driver.machine.heldScopes(time).length;
  return `${kind}; ${fault === "" ? `this node leads ${held} scope${held === 1 ? "" : "s"}` : fault}${age}`;
}

const KINDS: readonly ScopeKind[] = ["global-control", "shard", "custom"];

function observe(driver: LeadershipDriver, { metrics }: Pick<NodeCore, "metrics">): void {
  const held = driver.machine.heldScopes(now());
  for (const kind of KINDS) metrics.set("mesh_leadership_held", { kind }, held.filter((scope) => scopeOf(scope)?.kind === kind).length);
  metrics.set("waymark_store_available", {}, driver.machine.availability.isAvailable ? 1 : 0);
}

/** Renewals are not logged. */
const MESSAGES = {
  elected: "leader elected",
  stepped_down: "leader stepped down",
  expired: "session of a leader ended",
  lost: "this node lost a scope",
} as const satisfies Record<Exclude<LeadershipEvent["kind"], "renewed">, string>;

/** Logs a transition on every node. The node that it concerns counts and audits it. */
function report(
  { kind, scope, leader, revision }: LeadershipEvent,
  { machine }: LeadershipDriver,
  { log, core }: Pick<NodeLeadershipOptions, "core" | "log">,
): void {
  if (kind === "renewed") return;
  const { holderId, nodeId, term, fence, reason, correlationId } = leader;
  const detail = { scope, holderId, nodeId, term, fence: fence.number, revision, reason, correlationId };
  log[kind === "lost" || kind === "expired" ? "warn" : "info"](detail, MESSAGES[kind]);
  if (nodeId !== core.identity.nodeId) return;
  core.metrics.inc("mesh_leadership_transitions_total", {});
  const sinceMs = kind === "elected" ? machine.lastSignMs(scope) : undefined;
  if (sinceMs !== undefined) core.metrics.observe("mesh_leadership_election_duration_ms", {}, now().monoMs - sinceMs);
  core.audit?.record({
    ...NODE_ACT,
    atWallMs: now().wallMs,
    action: `mesh.leader_${kind}`,
    reason,
    detail: `scope=${scope} holder=${holderId} term=${term} fence=${fence.storeEpoch}.${fence.number} correlation=${correlationId}`,
    subjects: subjectOf("node", nodeId),
  });
}
