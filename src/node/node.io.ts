/** The composition root: opens the parts of a node in order, starts them, and stops them in reverse order. */
import { randomFillSync } from "node:crypto";
import type { JsonValue } from "@bufbuild/protobuf";
import { askedBounds } from "../catalog/entry/names.ts";
import { hasTls } from "../config/exposure.ts";
import type { Settings } from "../config/settings.ts";
import { parseZone } from "../dns/names/names.ts";
import { assert, sentError, WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import { Metrics } from "../lib/metrics/metrics.ts";
import { draws } from "../lib/rng.ts";
import { now } from "../lib/stall-aware-time.io.ts";
import type { AuditSink } from "../policy/audit/record.ts";
import { type AuditParts, auditService } from "../services/audit.ts";
import { type ConfigParts, type ConfigSource, configService } from "../services/config.ts";
import { type DiscoveryParts, type DiscoveryServices, discoveryServices } from "../services/discovery/discovery.ts";
import type { HeartbeatGate } from "../services/heartbeat-stream.ts";
import { bootstrapService } from "../services/identity/bootstrap.ts";
import { credentialService } from "../services/identity/credentials.ts";
import { type LeadershipParts, leadershipService } from "../services/leadership/leadership.ts";
import { type PeerParts, peerService } from "../services/peers/peers.ts";
import type { ServiceTable } from "../services/service-table.ts";
import { rebalanceService } from "../services/shards/rebalance.ts";
import { MAX_SHARD_WATCHES } from "../services/shards/shard-access.ts";
import { type ShardParts, shardService } from "../services/shards/shards.ts";
import { openAuditLog } from "../store/audit/log.io.ts";
import { type CallerIdentities, checkExposure, keepOperatorToken, newOperatorToken, openIdentities } from "./callers.io.ts";
import { openChecks } from "./checks/component.io.ts";
import type { NodeComponent, NodeComponents } from "./components.io.ts";
import { configSource } from "./config-source.ts";
import { NodeLeadership, openSharedStore } from "./control/component.io.ts";
import { contentsOf, urlsOf } from "./control/node-contents.ts";
import { ownerEntry } from "./control/owner-entry.ts";
import type { NodeEndpoints } from "./core/endpoints.ts";
import { awaitsPolicy, mayBeOthers } from "./core/joining.ts";
import { chooseFabric } from "./core/open-fabric.ts";
import { checkCaughtUp, checkSound } from "./core/write-eligibility.ts";
import type { DnsPresence } from "./dns/presence.ts";
import { type FabricComponentOptions, openFabricComponent } from "./fabric/component.io.ts";
import { FabricEvents } from "./fabric/events.io.ts";
import { loneFabric, type NodeFabric } from "./fabric/fabric.io.ts";
import { NodeFindings } from "./findings/component.io.ts";
import { followTrust, type NodeIdentityParts, openIdentityParts } from "./identity/component.io.ts";
import { clusterNames, connectionCountOf, endpointsOf, openListeners } from "./listeners.io.ts";
import type { LoadSources } from "./load-report.ts";
import { watchEventLoop } from "./loop-blocks.io.ts";
import { observeCatalog, observeJournal } from "./metrics.ts";
import { type NodePolicy, type NodePolicyOptions, openNodePolicy, openPolicyStore } from "./policy.io.ts";
import { holdsSummaries, type NodeClusterKeys, openClusterKeys } from "./regions/cluster-keys.io.ts";
import { openSummaryEvents } from "./regions/events.io.ts";
import { clustersToHear } from "./regions/key-faults.io.ts";
import { buildCore, type NodeCore, openStore } from "./rooms.io.ts";
import { publishSelf } from "./self-entry.io.ts";
import { hasSnapshot } from "./snapshot-file.io.ts";
import {
  aborted,
  auditPart,
  type NodeOptions,
  nameListeners,
  observe,
  type RunningNode,
  startParts,
  stopParts,
  tick,
} from "./starting.io.ts";
import { type WorkerGroupOptions, WorkerGroups } from "./workers/worker-groups.io.ts";
import type { WorkerPool, WorkersCore } from "./workers/worker-pool.io.ts";
import { ZoneSerials } from "./zone-serials.io.ts";

/** Returns random numbers from 0 to below 1, for all nodes of this process. */
const random = draws(randomFillSync);

/**
 * Starts a node and resolves when it is ready. Rejects with a message for the operator if the node cannot start. Rejects with the reason of
 * `interrupt` if that aborts before all parts are open. Before it rejects, it closes everything that it opened.
 */
export function startNode(options: NodeOptions): Promise<RunningNode> {
  return startParts(options, openParts);
}

async function openParts(options: NodeOptions, parts: NodeComponents): Promise<RunningNode> {
  const { settings, log } = options;
  const { clusterId } = settings.node;
  checkExposure(settings, log.child("identity"));
  const operatorToken = newOperatorToken(settings);
  const openTable = () => openIdentities({ settings, clusterId, operatorToken, log: log.child("identity"), now });
  const identities = await parts.open("identities", openTable, (table) => table);
  const metrics = new Metrics();
  await parts.open(
    "event loop",
    () => watchEventLoop(log.child("node"), metrics),
    (watch) => watch,
  );
  const journal = await parts.open("journal", () => openStore(options), journalPart);
  keepOperatorToken(settings, operatorToken);
  const directory = settings.persistence.ephemeral ? undefined : settings.persistence.dataDir;
  const openAudit = () => openAuditLog({ ...settings.audit, directory, metrics, log: log.child("policy").child("audit") });
  const audit = await parts.open("audit", openAudit, auditPart);
  const openPolicies = () => openPolicyStore(settings, log.child("policy"));
  const store = await parts.open("policy store", openPolicies, (opened) => ({ stop: () => opened.close() }));
  const seals = await openKeys(options, parts);
  const core = await parts.open("core", () => buildCore(options, { journal, metrics, audit, seals }), corePart);
  await watchSummaries(options, core, parts);
  const openOwnChecks = () => openChecks(settings, core, log.child("checks"));
  await parts.open("checks", openOwnChecks, (component) => component);
  const { policy, leadership, controlStore } = await openControl(options, { core, audit, store }, parts);
  const identity = await openIdentityParts(options, { core, controlStore }, parts);
  const fabric = await parts.open(
    "fabric",
    () => openFabric(options, core, identity),
    ({ component }) => component,
  );
  const discovery = buildDiscovery(settings, core, { ...fabric, checkNew: () => leadership.checkNew() });
  const config = configSource(settings, options.origins);
  const observed = { settings, core, control: leadership.source, peers: fabric.peers, own: identity, digest: config.digest };
  const openFindings = () => new NodeFindings({ ...observed, readiness: (time) => parts.readiness(time), auditFault: () => audit.fault });
  const findings = await parts.open("findings", openFindings, (opened) => opened);
  const { bootstrap } = identity;
  const services = nodeServices(settings, { core, fabric, seals, policy, leadership, audit, findings, discovery, config, bootstrap });
  const openSerials = () => ZoneSerials.open({ ...core, settings, log: log.child("dns"), now });
  const serials = await parts.open("zone serials", openSerials, (opened) => opened ?? {});
  const workerGroups = new WorkerGroups(metrics, settings);
  followTrust(identity, identities, workerGroups);
  const served = { core, services, fabric, identities, serials, workerGroups };
  const forCallers =
    settings.node.workers === 0 ? await openOwnListeners(options, served, parts) : await openReadWorkers(options, served, parts);
  const reached =
    settings.dns.enabled && settings.dns.processes > 0 ? await openDnsProcesses(options, served, forCallers, parts) : forCallers;
  observe(options, metrics, parts);
  return serve(options, { core, policy, fabric, reached }, parts);
}

interface ServiceSources extends PeerSources {
  readonly core: NodeCore;
  readonly policy: Pick<NodePolicy, "service">;
  readonly discovery: DiscoveryServices;
  readonly config: ConfigSource;
  readonly bootstrap: NodeIdentityParts["bootstrap"];
}

/** Returns the services of a node. The OpenAPI document is generated from their routes. */
export function nodeServices(settings: Settings, sources: ServiceSources): ServiceTable {
  const { core, policy, discovery } = sources;
  const shards = shardParts(settings, core, sources.leadership);
  return {
    DiscoveryService: discovery.discovery,
    ResolverService: discovery.resolver,
    DnsService: discovery.dns,
    PolicyService: policy.service,
    PeerService: peerService(peerParts(settings, core, sources)),
    LeadershipService: leadershipService(leadershipParts(settings, core, sources.leadership)),
    ShardService: shardService(shards),
    RebalanceService: rebalanceService(shards),
    BootstrapService: bootstrapService({
      ...sources.bootstrap,
      leafTtlMs: settings.identity.leafTtlMs,
      onOperation: core.accessLog.onIdentity,
    }),
    CredentialService: credentialService({
      ...sources.bootstrap,
      isManaged: settings.tenants.managed,
      onOperation: core.accessLog.onIdentity,
    }),
    AuditService: auditService({ log: sources.audit, servedBy: core.identity.nodeId }),
    ConfigService: configService({ ...sources.config, ...configParts(core) }),
  };
}

/** Opens the policy and the leadership, which use the store of this node, and the store that the nodes share if there is one. */
async function openControl(
  { settings, log }: NodeOptions,
  { core, audit, store }: Pick<NodePolicyOptions, "audit" | "core" | "store">,
  parts: NodeComponents,
) {
  const { machine, metrics } = core;
  const openShared = () => (settings.store.kind === "etcd" ? openSharedStore(settings, metrics) : undefined);
  const sharedStore = await parts.open("control store", openShared, (opened) => ({ stop: () => opened?.close() }));
  const others = () => mayBeOthers(settings, { isReady: machine.readiness.isReady, fabric: machine.fabric }, now());
  const given = { settings, log: log.child("policy"), core, audit, store, sharedStore, mayBeOthers: others, tick };
  const policy = await parts.open(
    "policy",
    () => openNodePolicy(given),
    (opened) => ({ ...opened.component, readiness: () => [policyCheck(core)] }),
  );
  await awaitPolicy(core, settings);
  const logs = { log: log.child("leadership"), shardLog: log.child("shards") };
  const openLeaders = () => new NodeLeadership({ settings, ...logs, core, store: sharedStore ?? store });
  const leadership = await parts.open("leadership", openLeaders, (opened) => opened);
  return { policy, leadership, controlStore: sharedStore ?? store };
}

/** Opens the cluster keys, on a node that stores summaries. */
async function openKeys({ settings, log }: NodeOptions, parts: NodeComponents): Promise<NodeClusterKeys | undefined> {
  if (!holdsSummaries(settings)) return undefined;
  const open = () => openClusterKeys(settings, log.child("summary"));
  return parts.open("keys of clusters", open, ({ component }) => component);
}

async function watchSummaries({ settings, log }: NodeOptions, core: NodeCore, parts: NodeComponents): Promise<void> {
  const { regions } = core;
  if (regions === undefined) return;
  const open = () => openSummaryEvents(core, regions, clustersToHear(settings), log.child("summary"));
  await parts.open("summaries", open, (component) => component);
}

function journalPart(journal: NodeCore["journal"]): NodeComponent {
  return {
    stop: () => journal.close(),
    readiness: () => {
      const { isFailing, lastError } = journal.stats();
      // Always ok, because reads continue while the disk refuses writes. This line is for clients that need to write.
      return [{ name: "journal", ok: true, detail: isFailing ? `refuses writes: ${lastError}` : "accepts writes" }];
    },
  };
}

function corePart(core: NodeCore): NodeComponent {
  const { machine, driver, wakeups, limits } = core;
  return {
    stop: async (by) => {
      for (const wakeup of wakeups) wakeup.close();
      limits.close();
      await driver.closeNetwork(by.halfMs());
      await driver.close();
    },
    readiness: () => {
      const { clockFault, clockDetail } = machine.writeEligibility;
      return [
        // A node that was ready once stays ready. Later gaps show in the age of its data and are no reason to remove the node from service.
        { name: "catalog", ok: machine.readiness.isReady, detail: machine.readiness.isReady ? "loaded" : "loading" },
        { name: "clock", ok: clockFault === "", detail: clockDetail },
      ];
    },
    observe: () => {
      observeCatalog(core);
      observeJournal(core);
    },
  };
}

/**
 * Always ok: a node still answers if it runs on its last valid policy, or denies all requests because it has none. Removing it from service would not
 * help.
 */
function policyCheck({ policies, machine }: NodeCore) {
  const { isEnabled, inForce, degraded } = policies.status;
  const here = degraded || (isEnabled ? `version ${inForce?.number} in force` : "none configured");
  const { policyNotTaken: notTaken } = machine;
  return { name: "policy", ok: true, detail: notTaken === "" ? here : `${here}; not applied: ${notTaken}` };
}

async function awaitPolicy(core: NodeCore, settings: Settings): Promise<void> {
  const { ephemeral, dataDir } = settings.persistence;
  core.policies.isAwaiting = awaitsPolicy(settings, !ephemeral && hasSnapshot(dataDir));
  await core.switchPolicy();
}

async function openFabric(
  { settings, log }: NodeOptions,
  core: NodeCore,
  own: Pick<FabricComponentOptions, "certificate" | "joinEndpoint" | "trust">,
): Promise<NodeFabric> {
  const fabricLog = log.child("fabric");
  const choice = chooseFabric(settings, core.policies, core.guard.hadPeers);
  if (choice.kind === "joined") return openFabricComponent({ ...own, settings, log: fabricLog, core });
  if (settings.fabric.enabled === undefined) fabricLog.warn({ detail: choice.detail }, "fabric not started");
  const events = new FabricEvents(core, fabricLog);
  core.driver.follow((notice) => events.onNotice(notice));
  return loneFabric(core, settings, choice.detail);
}

interface OpenedNode {
  readonly core: NodeCore;
  readonly policy: NodePolicy;
  readonly fabric: NodeFabric;
  readonly reached: CallerAccess;
}

/** Starts everything that is visible outside the process, and waits until the node is ready. */
async function serve(options: NodeOptions, { core, policy, fabric, reached }: OpenedNode, parts: NodeComponents): Promise<RunningNode> {
  const { settings, log, interrupt } = options;
  const { identity, listeners, machine, driver } = core;
  const advertised = nameListeners(settings, listeners, reached.endpoints, fabric.listener);
  await reached.synced();
  // Handles an interrupt that arrived while the last part was being opened.
  interrupt?.throwIfAborted();
  options.onOpened?.(() => parts.reload());
  // A program that reads this line may immediately call the node, or change a token and send SIGHUP.
  log.info({ nodeId: identity.nodeId, ...listeners }, "node is listening");
  await parts.start();
  await publishSelf(core, { settings, log: log.child("self"), listeners: advertised, callers: reached.callers });
  await options.beforeReady?.(reached.endpoints.calls.grpc);
  const ready = Promise.withResolvers<void>();
  let isAnnounced = false;
  driver.follow((notice) => {
    if (notice.kind === "caughtUp") void core.switchPolicy().then(() => driver.input({ kind: "policyShown" }));
    if (notice.kind === "ready") ready.resolve();
    if (notice.kind === "serving" && notice.isServing && !isAnnounced) {
      isAnnounced = true;
      const { nodeId, generation } = identity;
      log.info({ nodeId, generation, entries: core.replica.lookup.size, ...listeners }, "node is ready");
    }
  });
  driver.input({ kind: "serve" });
  await Promise.race([ready.promise, aborted(interrupt)]);
  if (interrupt?.aborted !== true) await policy.letIn();
  await reached.synced();
  const { fault } = machine.writeEligibility;
  if (machine.readiness.isReady && fault !== "")
    log.warn({ nodeId: identity.nodeId, generation: identity.generation, ...listeners, fault }, "node started but is not ready");
  let stopping: Promise<void> | undefined;
  return {
    nodeId: identity.nodeId,
    listeners,
    fault,
    stop: () => {
      stopping ??= stopParts(parts, options, { nodeId: identity.nodeId, drain: () => driver.input({ kind: "drain" }) });
      return stopping;
    },
  };
}

/** The parts of a node that serve callers. */
interface ServedNode {
  readonly core: NodeCore;
  readonly services: ServiceTable;
  readonly fabric: NodeFabric;
  readonly identities: CallerIdentities;
  readonly serials: ZoneSerials | undefined;
  readonly workerGroups: WorkerGroups;
}

/** How callers reach the node: through the listeners of either this thread or the read workers. */
interface CallerAccess {
  readonly endpoints: NodeEndpoints;
  readonly callers: LoadSources;
  /** Resolves when answers to callers reflect the current state of the node. */
  readonly synced: () => Promise<void> | void;
}

async function openOwnListeners({ settings, log }: NodeOptions, served: ServedNode, parts: NodeComponents): Promise<CallerAccess> {
  const { core, services, identities, serials, workerGroups } = served;
  const { machine, driver, metrics } = core;
  const listeners = await openListeners(
    {
      ...core,
      clusters: clusterNames(settings, { summaries: core.regions?.reads, dnsNames: core.dnsNames, now }),
      settings,
      log,
      services: Object.values(services),
      identities,
      idPrefix: core.identity.boot,
      zoneSerials: serials?.announced,
      checkCaughtUp: () => checkSound(machine.readiness),
      followServing: (onServing) => {
        driver.follow((notice) => {
          if (notice.kind === "serving") onServing(notice.isServing);
        });
      },
      dnsPresence: workerGroups.dnsPresence,
      // `/readyz` shows the lines from all parts.
      sources: {
        readiness: () => ({ isDraining: machine.readiness.isDraining, checks: parts.readiness(now()) }),
        scrape: workerGroups.scrape,
        persistence: () => persistence(core),
      },
      now,
      random,
    },
    parts,
  );
  // `publishSelf` always adds the utilization of this thread.
  const callers = { metrics, connectionCount: () => connectionCountOf(listeners), utilization: () => 0 };
  return { endpoints: endpointsOf(listeners), callers, synced: () => {} };
}

async function openReadWorkers(options: NodeOptions, served: ServedNode, parts: NodeComponents): Promise<CallerAccess> {
  const passed = { role: "callers", services: Object.values(served.services) } as const;
  const workers = await openWorkers(options, served, passed, parts);
  const { calls, dns } = workers.endpoints;
  assert(calls !== undefined, "read workers have no listener for calls");
  return { endpoints: { calls, dns }, callers: workers.callers, synced: () => workers.synced() };
}

/** Opens separate processes for the DNS listeners. All other listeners are opened in the same place as they are without DNS processes. */
async function openDnsProcesses(
  options: NodeOptions,
  served: ServedNode,
  reached: CallerAccess,
  parts: NodeComponents,
): Promise<CallerAccess> {
  const processes = await openWorkers(options, served, { role: "dns", services: [] }, parts);
  const synced = async () => void (await Promise.all([reached.synced(), processes.synced()]));
  return { ...reached, endpoints: { ...reached.endpoints, dns: processes.endpoints.dns }, synced };
}

function openWorkers(
  options: NodeOptions,
  { core, fabric, serials, workerGroups }: ServedNode,
  group: Pick<WorkerGroupOptions, "role" | "services">,
  parts: NodeComponents,
): Promise<WorkerPool> {
  const readiness = () => ({ isDraining: core.machine.readiness.isDraining, checks: parts.readiness(now()) });
  const report = () => ({ readiness: readiness(), persistence: persistence(core) });
  return workerGroups.open(
    { core: workersCore(core, fabric, workerGroups.dnsPresence), report, zoneSerials: serials?.announced, ...group },
    options,
    parts,
  );
}

function workersCore(core: NodeCore, { mesh }: NodeFabric, dnsPresence: DnsPresence): WorkersCore {
  const { machine, registrar, wakes, driver } = core;
  return {
    ...core,
    follow: (onNews) => {
      wakes.add(onNews);
      driver.follow(onNews);
      dnsPresence.follow(onNews);
    },
    facts: () => {
      const [hasPeers, ageMs] = [mesh.hasPeers(), mesh.ageMs(now())];
      return {
        isReady: machine.readiness.isReady,
        isSound: machine.readiness.isSound,
        isWhole: machine.readiness.isWhole,
        isServing: machine.readiness.isServing,
        hasDns: dnsPresence.isOpen,
        hasPeers,
        ageMs,
        isShared: hasPeers || ageMs > 0,
        unreachable: mesh.unreachable(now()),
        startRefusal: refusalOf(() => machine.writeEligibility.checkStart()),
        endedStaticCount: registrar.entryRemovals.endedStaticCount,
        followed: undefined,
      };
    },
  };
}

function persistence({ journal, identity, replica }: NodeCore): JsonValue {
  const { nodeId, generation } = identity;
  return { ...journal.stats(), nodeId, generation, lastSeq: replica.self.through, boots: journal.restored.boots };
}

interface PeerSources {
  readonly fabric: NodeFabric;
  readonly leadership: NodeLeadership;
  readonly seals: NodeClusterKeys | undefined;
  readonly audit: Pick<AuditSink, "durable"> & AuditParts["log"];
  readonly findings: Pick<NodeFindings, "status">;
}

function peerParts({ server }: Settings, core: NodeCore, { fabric, leadership, seals, audit, findings }: PeerSources): PeerParts {
  const { identity, machine, regions, replica, accessLog } = core;
  const { source: control } = leadership;
  const { peers: source } = fabric;
  const contents = { replica, clusterId: identity.clusterId, leaders: () => control.machine.leaders };
  const operations = {
    control,
    contentsOf: (nodeId: string) => contentsOf(contents, nodeId),
    urlsOf: (nodeId: string) => urlsOf(contents, nodeId, source.member(nodeId, now())?.drain?.urls),
    onOperation: accessLog.onPeer,
    audited: () => audit.durable(),
    status: () => findings.status,
  };
  const clusterKeys: PeerParts["clusterKeys"] = ({ wallMs }) => seals?.listed(wallMs) ?? [];
  const summaries = regions && ((time: Time) => regions.lag(machine.fabric, time));
  const common = { source, identity, clusterKeys, summaries, maxWatches: server.maxPeerWatches, tick };
  return { ...operations, ...common, checkCaughtUp: () => checkCaughtUp(machine.readiness.isReady) };
}

function configParts({ policies, identity }: NodeCore): Pick<ConfigParts, "policyNumber" | "servedBy"> {
  return { policyNumber: () => policies.status.inForce?.number ?? 0, servedBy: identity.nodeId };
}

function leadershipParts({ server, leadership }: Settings, core: NodeCore, control: NodeLeadership): LeadershipParts {
  const { identity, accessLog, registrar } = core;
  const { nodeId: servedBy } = identity;
  const { leaseMs, scopes: ownScopes } = leadership;
  const checkNamespace = (...of: Parameters<typeof registrar.checkNamespace>) => registrar.checkNamespace(...of);
  const { onLeadership: onOperation } = accessLog;
  const { source } = control;
  const gate = gateOf(control);
  return { source, gate, servedBy, leaseMs, ownScopes, checkNamespace, maxSubscriptions: server.maxPeerWatches, tick, onOperation };
}

function shardParts({ leadership }: Settings, core: NodeCore, control: NodeLeadership): ShardParts {
  const { identity, accessLog, registrar, policies, replica } = core;
  const { nodeId: servedBy, clusterId } = identity;
  const checkNamespace = (...of: Parameters<typeof registrar.checkNamespace>) => registrar.checkNamespace(...of);
  const entryOf = (namespace: string, service: string, instance: string) =>
    ownerEntry({ replica, clusterId }, { namespace, service, instance });
  const { onShards: onOperation, onDenied } = accessLog;
  const { source } = control;
  const gate = gateOf(control);
  const common = { source, gate, servedBy, leaseMs: leadership.leaseMs, checkNamespace, entryOf, policies, onDenied, onOperation };
  return { ...common, maxWatches: MAX_SHARD_WATCHES, tick };
}

function gateOf(control: NodeLeadership): HeartbeatGate {
  return { checkNew: () => control.checkNew(), follow: (onLeave) => control.followLeaving(onLeave) };
}

function heldSummaries({ regions, machine }: NodeCore): DiscoveryParts["summaries"] {
  if (regions === undefined) return undefined;
  return {
    reads: regions.reads,
    isReady: () => machine.readiness.isWhole,
    exportsOf: (namespace, time) => regions.exportsOf(namespace, time),
    ingress: (time) => regions.otherClusters(time),
  };
}

/** Makes the gRPC and HTTP services that read and write the catalog of this node. */
function buildDiscovery(
  settings: Settings,
  core: NodeCore,
  { mesh, checkNew }: Pick<NodeFabric, "mesh"> & Pick<DiscoveryParts, "checkNew">,
): DiscoveryServices {
  const { machine, driver } = core;
  return discoveryServices({
    ...core,
    bounds: askedBounds(settings.limits),
    zones: settings.dns.zones.map(parseZone),
    durable: () => driver.durable(),
    isReady: () => machine.readiness.isWhole,
    summaries: heldSummaries(core),
    isTls: hasTls(settings),
    checkCaughtUp: () => checkCaughtUp(machine.readiness.isReady),
    confirmed: () => driver.confirmed(),
    checkWrites: () => machine.writeEligibility.checkWrites(),
    checkNew,
    checkStart: () => machine.writeEligibility.checkStart(),
    mesh,
    now,
    random,
    allowsViewerOverride: settings.tenants.allowRequestOverride,
    summaryTtlMs: settings.summary.ttlMs,
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    onWrite: core.accessLog.onWrite,
    onMaintenance: core.accessLog.onMaintenance,
    maintain: (nodeId, maintain) => driver.maintain(nodeId, maintain),
    onRefused: (refusal) => core.limits.note(refusal),
    onRead: core.accessLog.onRead,
  });
}

function refusalOf(check: () => void): ReturnType<WorkersCore["facts"]>["startRefusal"] {
  try {
    check();
    return undefined;
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    return sentError(error);
  }
}
