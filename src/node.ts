/** The composition root: orders what a node starts and stops. `node-core.ts` builds its rooms, `node-doors.ts` its listeners. */
import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import type { Settings } from "./config.ts";
import { hostPort } from "./lib/host-port.ts";
import { buildCore, type CoreOptions, type NodeCore, now, openStore } from "./node-core.ts";
import { type Doors, openDoors } from "./node-doors.ts";
import { checkExposure, type Identities, openIdentities } from "./node-identity.ts";
import { type NodePolicy, openNodePolicy } from "./node-policy.ts";
import { type AskedViewer, anonymousCaller, type Caller, viewerOf } from "./policy/caller.ts";
import { discoveryService } from "./services/discovery.ts";
import { resolveHandler } from "./services/discovery-resolve.ts";
import { nodeEntry } from "./services/node-entry.ts";
import type { Service } from "./services/service.ts";

export interface NodeOptions extends CoreOptions {
  /** Runs when the gRPC listener answers and before the node is ready; `grpc` is its `host:port`. */
  readonly beforeReady?: ((grpc: string) => Promise<void>) | undefined;
}

export interface RunningNode {
  readonly nodeId: string;
  /** Listener name to `host:port`. */
  readonly listeners: Readonly<Record<string, string>>;
  /** Reads the certificates, the token files and the policy file again. */
  reload(): void;
  /** Drains, hands out last cursors, waits a bounded time, closes. Idempotent. */
  stop(): Promise<void>;
}

/** Starts a node and resolves when it is ready. Rejects with a message for the operator when it cannot start. */
export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const { settings, log } = options;
  checkExposure(settings);
  const identities = await openIdentities({ settings, clusterId: settings.node.clusterId, log: log.child("identity"), now });
  const journal = await openStore(options);
  try {
    const core = await buildCore(options, journal);
    const policy = await openNodePolicy({ settings, log: log.child("policy"), core });
    try {
      return await openNode(options, { core, identities, policy });
    } catch (error) {
      await policy.close();
      throw error;
    }
  } catch (error) {
    await journal.close();
    throw error;
  }
}

interface NodeParts {
  readonly core: NodeCore;
  readonly identities: Identities;
  readonly policy: NodePolicy;
}

async function openNode(options: NodeOptions, parts: NodeParts): Promise<RunningNode> {
  const { core, identities, policy } = parts;
  const { settings, log, version } = options;
  const { identity, listeners, state } = core;
  const discovery = buildDiscovery(settings, core);
  const doors = await openDoors({ settings, log, version, core, discovery, policy, identities, now, random });
  const { grpc, edge, dns } = doors;
  listeners["grpc"] = grpc.address;
  listeners["http"] = edge.address;
  if (dns !== undefined) listeners["dns"] = hostPort(dns.host, dns.udpPort);
  await publishSelf(options, core, { grpc: grpc.port, http: edge.port, ...(dns !== undefined && { dns: dns.udpPort }) });
  await options.beforeReady?.(grpc.address);
  state.isReady = true;
  grpc.setServing(true);
  core.fanout.all();
  core.wakeup.kick();
  log.info({ nodeId: identity.nodeId, generation: identity.generation, entries: core.replica.lookup.size, ...listeners }, "node is ready");
  let stopping: Promise<void> | undefined;
  return {
    nodeId: identity.nodeId,
    listeners,
    reload: () => {
      grpc.reloadTls();
      edge.reloadTls();
      identities.reload();
      policy.reload();
    },
    stop: () => {
      stopping ??= stopNode(parts, doors, settings.node.stopTimeoutMs);
      return stopping;
    },
  };
}

/** The service behind gRPC and HTTP, over the rooms of this node. */
function buildDiscovery(settings: Settings, core: NodeCore): Service {
  const { identity, state, metrics, registrar, reads, bytes } = core;
  const queryLatency = metrics.histogram("discovery_query_latency_ms", {});
  const viewer = (caller: Caller, asked: AskedViewer | undefined) => viewerOf(caller, asked, settings.tenants.allowRequestOverride);
  const deltaLag = metrics.histogram("discovery_delta_lag_ms", {});
  return discoveryService({
    ...core,
    bounds: settings.limits,
    durable: () => core.committer.durable(),
    isReady: () => state.isReady,
    hasPeers: () => false, // There are no links between nodes yet.
    now,
    random,
    onQuery: (startMonoMs) => queryLatency.observe(performance.now() - startMonoMs),
    viewer,
    onWrite: core.trail.onWrite,
    onRead: core.trail.onRead,
    onDelta: (lagMs) => deltaLag.observe(lagMs),
    onRestart: () => metrics.inc("discovery_delta_dropped_total", {}),
    onRegister: (outcome) => metrics.inc("waymark_register_total", { outcome }),
    resolve: resolveHandler({
      reads,
      bytes,
      bounds: settings.limits,
      nodeId: identity.nodeId,
      region: identity.region,
      zone: identity.zone,
      viewer,
      loadOf: (key) => registrar.loadOf(key),
      random,
    }),
  });
}

/** 0 to below 1. */
function random(): number {
  return randomBytes(4).readUInt32BE() / 0x1_0000_0000;
}

/** This node's own NODE entry; nobody else may write it. */
async function publishSelf({ settings }: NodeOptions, core: NodeCore, ports: Readonly<Record<string, number>>): Promise<void> {
  const { identity, drafter, registrar, committer } = core;
  const time = now();
  const host = settings.listen.advertiseHost ?? settings.listen.host;
  const entry = nodeEntry({ nodeId: identity.nodeId, roles: identity.roles, labels: settings.node.labels, host, ports });
  const stamp = { ...identity, tenantId: "", receivedWallMs: time.wallMs };
  const caller = { ...anonymousCaller(identity.clusterId, ""), principal: `${SELF_PRINCIPAL}${identity.nodeId}` };
  const drafts = [drafter.draftOfNode(entry, stamp)];
  registrar.register(caller, { drafts, ttlMs: undefined, leaseId: "", idempotencyKey: "", isStatic: true }, time);
  await committer.durable();
}

/** No credential can give this: principals of callers never contain a space. */
const SELF_PRINCIPAL = "node ";

async function stopNode({ core, policy }: NodeParts, doors: Doors, timeoutMs: number): Promise<void> {
  const { state, fanout, wakeup, committer, journal, limits } = core;
  state.isDraining = true;
  doors.grpc.drain();
  for (const watcher of Array.from(fanout.watchers())) watcher.stop();
  await Promise.all([doors.grpc.stop(timeoutMs), doors.edge.stop(timeoutMs), doors.dns?.stop()]);
  wakeup.close();
  limits.close();
  await committer.close();
  await policy.close();
  await journal.close();
}
