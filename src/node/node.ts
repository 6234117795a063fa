/** The composition root: orders what a node starts and stops. `core.ts` builds its rooms, `listeners.ts` its listeners. */

import { randomFillSync } from "node:crypto";
import { performance } from "node:perf_hooks";
import { askedBounds } from "../catalog/entry/names.ts";
import type { Settings } from "../config/settings.ts";
import { hostPort } from "../lib/addresses.ts";
import { draws } from "../lib/rng.ts";
import { type AskedViewer, type Caller, viewerOf } from "../policy/identity/caller.ts";
import { discoveryService } from "../services/discovery/discovery.ts";
import { resolveHandler } from "../services/discovery/resolve.ts";
import type { Service } from "../services/service.ts";
import { advertisedHost } from "./fabric/address.ts";
import { openFabricComponent } from "./fabric/component.ts";
import { loneFabric, type NodeFabric } from "./fabric/fabric.ts";
import { chooseFabric } from "./fabric/open-fabric.ts";
import { checkStart, checkWrites, faultOf, isFaultless } from "./fabric/standing.ts";
import { checkExposure, type Identities, openIdentities } from "./identity.ts";
import { type Listeners, openListeners } from "./listeners.ts";
import { type NodePolicy, openNodePolicy } from "./policy.ts";
import { buildCore, type CoreOptions, type NodeCore, now, openStore } from "./rooms.io.ts";
import { type PublishedSelf, publishSelf } from "./self-entry.ts";
import { hasSnapshot } from "./warm-start.ts";

export interface NodeOptions extends CoreOptions {
  /** Runs when the gRPC listener answers and before the node is ready; `grpc` is its `host:port`. */
  readonly beforeReady?: ((grpc: string) => Promise<void>) | undefined;
  /** Aborts when the node is to stop, also while it is not ready yet. */
  readonly interrupt?: AbortSignal | undefined;
  /** Runs when the listeners are open, also of a node that is not ready: `reload` reads the certificates, the token files and the policy file again. */
  readonly onOpened?: ((reload: () => void) => void) | undefined;
}

export interface RunningNode {
  readonly nodeId: string;
  /** Listener name to `host:port`. */
  readonly listeners: Readonly<Record<string, string>>;
  /** Why it was not ready although its start is over, as with a clock that is off; empty when it was. */
  readonly fault: string;
  /** Drains, hands out last cursors, waits a bounded time, closes. Idempotent. */
  stop(): Promise<void>;
}

/** 0 to below 1, of all nodes of this process. */
const random = draws(randomFillSync);

/** What a failed start may take to close what it has opened, in ms. What is still open then ends with the process. */
const FAILED_CLOSE_MS = 1000;

/** Starts a node and resolves when it is ready. Rejects with a message for the operator when it cannot start; all it opened is closed by then. */
export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const opened = new AsyncDisposableStack();
  try {
    return await openParts(options, opened);
  } catch (error) {
    await closeAfterFailure(opened, options.log);
    throw error;
  }
}

/** Closes the last opened first. A part that cannot be closed in time is logged and left to the end of the process. */
async function closeAfterFailure(opened: AsyncDisposableStack, log: NodeOptions["log"]): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(() => late.reject(new Error(`not closed within ${FAILED_CLOSE_MS} ms`)), FAILED_CLOSE_MS);
  try {
    await Promise.race([opened.disposeAsync(), late.promise]);
  } catch (error) {
    log.error({ err: error }, "failed start not closed");
  } finally {
    clearTimeout(timer);
  }
}

/** Opens the parts in order; each is on `opened` as soon as it has something to close. */
async function openParts(options: NodeOptions, opened: AsyncDisposableStack): Promise<RunningNode> {
  const { settings, log } = options;
  checkExposure(settings, log.child("identity"));
  const identities = await openIdentities({ settings, clusterId: settings.node.clusterId, log: log.child("identity"), now });
  const journal = await openStore(options);
  opened.defer(() => journal.close());
  const core = await buildCore(options, journal);
  const policy = await openNodePolicy({ settings, log: log.child("policy"), core });
  opened.defer(() => policy.close());
  // After the policy, whose audit log takes what the limits still count.
  opened.defer(() => closeCore(core));
  await awaitPolicy(core, isNewcomer(settings));
  const fabric = await openFabric(options, core, policy);
  opened.defer(() => fabric.stop("keep", 0));
  return openNode(options, { core, identities, policy, fabric }, opened);
}

async function closeCore({ wakeup, limits, driver }: NodeCore): Promise<void> {
  wakeup.close();
  limits.close();
  await driver.close();
}

/** Whether this node joins others for the first time: who has been here before knows whether there was a policy. */
function isNewcomer({ fabric, persistence }: Settings): boolean {
  return fabric.enabled !== false && fabric.seeds.length > 0 && (persistence.ephemeral || !hasSnapshot(persistence.dataDir));
}

/** While it is awaited, a node without a policy shows nothing: its cluster may hide it. */
async function awaitPolicy(core: NodeCore, isAwaiting: boolean): Promise<void> {
  core.policies.isAwaiting = isAwaiting;
  await core.switchPolicy();
}

async function openFabric({ settings, log, version }: NodeOptions, core: NodeCore, policy: NodePolicy): Promise<NodeFabric> {
  const fabricLog = log.child("fabric");
  const choice = await chooseFabric(settings, core);
  if (choice.kind === "joined") return openFabricComponent({ settings, log: fabricLog, version, core, policy: policy.travelling });
  if (settings.fabric.enabled === undefined) fabricLog.warn({ detail: choice.detail }, "no fabric");
  core.hooks.collectsBy = () => "age";
  return loneFabric(core, choice.detail);
}

interface NodeParts {
  readonly core: NodeCore;
  readonly identities: Identities;
  readonly policy: NodePolicy;
  readonly fabric: NodeFabric;
}

async function openNode(options: NodeOptions, parts: NodeParts, opened: AsyncDisposableStack): Promise<RunningNode> {
  const { core, identities, policy, fabric } = parts;
  const { settings, log, version } = options;
  const { identity, listeners, state } = core;
  const discovery = buildDiscovery(settings, core, fabric);
  const endpoints = await openListeners({ settings, log, version, core, discovery, policy, fabric, identities, now, random });
  const { grpc, edge } = endpoints;
  opened.defer(() => stopListeners(endpoints, 0));
  fabric.start();
  const reload = () => {
    grpc.reloadTls();
    edge.reloadTls();
    fabric.reload();
    identities.reload();
    policy.reload();
  };
  options.onOpened?.(reload);
  const advertised = nameListeners(settings, listeners, endpoints, fabric);
  // Whoever reads this line may ask the node at once, or change a token and tell it.
  log.info({ nodeId: identity.nodeId, ...listeners }, "node listens");
  const self = await publishSelf(core, {
    settings,
    log: log.child("self"),
    listeners: advertised,
    connectionCount: () => grpc.connectionCount() + edge.connectionCount(),
  });
  opened.defer(() => self.close());
  await options.beforeReady?.(grpc.address);
  await Promise.race([fabric.ready, aborted(options.interrupt)]);
  if (options.interrupt?.aborted !== true) {
    await awaitPolicy(core, false);
    state.isReady = true;
    const { nodeId, generation } = identity;
    let wasReady = false;
    core.hooks.onFault = () => {
      const isReady = isFaultless(state);
      grpc.setServing(isReady);
      if (isReady && !wasReady && !state.isDraining)
        log.info({ nodeId, generation, entries: core.replica.lookup.size, ...listeners }, "node is ready");
      wasReady ||= isReady;
    };
    core.hooks.onFault();
    core.fanout.all();
    core.wakeup.kick();
    await policy.letIn(fabric.mayBeOthers);
    if (!wasReady) log.warn({ nodeId, generation, ...listeners, fault: faultOf(state) }, "node answers and is not ready");
  }
  let stopping: Promise<void> | undefined;
  return {
    nodeId: identity.nodeId,
    listeners,
    fault: faultOf(state),
    stop: () => {
      stopping ??= stopNode(parts, { endpoints, self }, settings);
      return stopping;
    },
  };
}

/** Fills in where each listener was bound; returns where others reach them. */
function nameListeners(settings: Settings, listeners: Record<string, string>, { grpc, edge, dns }: Listeners, { listener }: NodeFabric) {
  listeners["grpc"] = grpc.address;
  listeners["http"] = edge.address;
  if (dns !== undefined) listeners["dns"] = hostPort(dns.host, dns.udpPort);
  if (listener !== undefined) listeners["fabric"] = listener.address;
  const at = (host: string, port: number) => ({ host: advertisedHost(settings, host), port });
  return {
    grpc: at(settings.listen.host, grpc.port),
    http: at(settings.listen.host, edge.port),
    ...(dns !== undefined && { dns: at(dns.host, dns.udpPort) }),
    ...(listener !== undefined && { fabric: at(listener.host, settings.fabric.advertisePort || listener.port) }),
  };
}

/** Resolves when the signal aborts; never without one. */
function aborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) resolve();
    else signal?.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** The service behind gRPC and HTTP, over the rooms of this node. */
function buildDiscovery(settings: Settings, core: NodeCore, { mesh }: NodeFabric): Service {
  const { identity, state, metrics, registrar, reads, bytes } = core;
  const queryLatency = metrics.histogram("discovery_query_latency_ms", {});
  const viewer = (caller: Caller, asked: AskedViewer | undefined) => viewerOf(caller, asked, settings.tenants.allowRequestOverride);
  const deltaLag = metrics.histogram("discovery_delta_lag_ms", {});
  return discoveryService({
    ...core,
    bounds: askedBounds(settings.limits),
    durable: () => {
      const durable = core.driver.durable();
      return durable === undefined ? undefined : durable.then(() => core.hooks.confirmed());
    },
    isReady: () => state.isReady && mesh.isWhole(),
    confirmed: () => core.hooks.confirmed(),
    checkWrites: () => checkWrites(state),
    checkStart: () => checkStart(state),
    mesh,
    now,
    random,
    onQuery: (startMonoMs) => queryLatency.observe(performance.now() - startMonoMs),
    viewer,
    onWrite: core.accessLog.onWrite,
    onRefused: (refusal) => core.limits.note(refusal),
    onRead: core.accessLog.onRead,
    onDelta: (lagMs) => deltaLag.observe(lagMs),
    onRestart: () => metrics.inc("discovery_delta_dropped_total", {}),
    onRegister: (outcome) => metrics.inc("waymark_register_total", { outcome }),
    resolve: resolveHandler({
      reads,
      bytes,
      bounds: askedBounds(settings.limits),
      nodeId: identity.nodeId,
      region: identity.region,
      zone: identity.zone,
      viewer,
      ageMs: mesh.ageMs,
      loadOf: (key) => registrar.loadOf(key),
      random,
    }),
  });
}

/** Time the fabric has at least for its goodbye, however long open calls took. */
const MIN_GOODBYE_MS = 1000;

async function stopNode(
  parts: NodeParts,
  opened: { readonly endpoints: Listeners; readonly self: PublishedSelf },
  settings: Settings,
): Promise<void> {
  const { core, policy, fabric } = parts;
  const { endpoints, self } = opened;
  const { state, fanout, journal } = core;
  const { stopTimeoutMs: timeoutMs } = settings.node;
  const endMonoMs = now().monoMs + timeoutMs;
  state.isDraining = true;
  self.close();
  endpoints.grpc.drain();
  fanout.end();
  const { grpc, edge, dns } = endpoints;
  await Promise.all([grpc.stop(timeoutMs), dns?.stop(), edge.drain(timeoutMs)]);
  // Nobody registers any more: what ends now ends for good.
  await fabric.stop(settings.fabric.onStop, Math.max(MIN_GOODBYE_MS, endMonoMs - now().monoMs));
  await edge.stop(Math.max(0, endMonoMs - now().monoMs));
  await closeCore(core);
  await policy.close();
  await journal.close();
}

/** Takes no new calls, and cuts those that are still open after `timeoutMs`. */
async function stopListeners({ grpc, edge, dns }: Listeners, timeoutMs: number): Promise<void> {
  await Promise.all([grpc.stop(timeoutMs), edge.stop(timeoutMs), dns?.stop()]);
}
