/** The doors of a node: gRPC, HTTP edge and DNS over one core, and the numbers they show. */
import type { JsonValue } from "@bufbuild/protobuf";
import { decodeEntry } from "./catalog/codec.ts";
import type { EntryView } from "./catalog/entry-view.ts";
import { ANY } from "./catalog/filter.ts";
import { queryPage } from "./catalog/query.ts";
import { type CatalogRecord, KIND } from "./catalog/record.ts";
import type { Settings } from "./config.ts";
import { parseZone } from "./dns/names.ts";
import { type DnsGateway, startDnsGateway } from "./dns/server.io.ts";
import type { DnsCatalog } from "./dns/subject.ts";
import type { RootLog } from "./lib/log.io.ts";
import type { Time } from "./lib/machine.ts";
import type { NodeCore } from "./node-core.ts";
import type { NodeFabric } from "./node-fabric.ts";
import type { Identities } from "./node-identity.ts";
import { observeNode } from "./node-metrics.ts";
import type { NodePolicy } from "./node-policy.ts";
import { anonymousCaller, type Caller } from "./policy/caller.ts";
import type { PolicyStatus } from "./policy/engine.ts";
import type { RefusedAct } from "./policy/refusals.ts";
import { Chain, type RefusedCall } from "./server/chain.ts";
import { type EdgeListener, startEdgeListener } from "./server/edge.io.ts";
import { type GrpcListener, startGrpcListener } from "./server/grpc.io.ts";
import type { HttpSources, Readiness } from "./server/http.ts";
import { openScraper } from "./server/metrics.io.ts";
import { rpcObserver } from "./server/rpc-metrics.ts";
import type { TlsFiles } from "./server/tls-files.io.ts";
import { admitted } from "./services/admission.ts";
import { listServices } from "./services/list.ts";
import { lagJson, type PeerParts, peerService, peersJson } from "./services/peers.ts";
import { policyJson } from "./services/policy.ts";
import { parseServiceFilter, renderTargetGroups, type ServiceFilter } from "./services/prometheus-sd.ts";
import type { Service } from "./services/service.ts";

export interface Doors {
  readonly grpc: GrpcListener;
  readonly edge: EdgeListener;
  readonly dns: DnsGateway | undefined;
}

export interface DoorOptions {
  readonly settings: Settings;
  readonly log: RootLog;
  readonly version: string;
  readonly core: NodeCore;
  readonly discovery: Service;
  readonly policy: NodePolicy;
  readonly fabric: NodeFabric;
  readonly identities: Identities;
  readonly now: () => Time;
  readonly random: () => number;
}

/** Opens all doors, or none. */
export async function openDoors(options: DoorOptions): Promise<Doors> {
  const { settings, log, core } = options;
  const { listen, limits, server } = settings;
  const services = listServices({
    discovery: admitted(options.discovery, core.limits.admission),
    policy: options.policy.service,
    peers: peerService(peerParts(options)),
  });
  const chain = openChain(options, services);
  const tls = tlsFiles(settings);
  const grpc = await startGrpcListener({
    host: listen.host,
    port: listen.grpcPort,
    services,
    chain,
    tls,
    limits: { maxMessageBytes: limits.maxRequestBytes, ...server },
    reflection: server.reflection,
    log: log.child("server.grpc"),
    onCut: (reason) => core.metrics.inc("waymark_connections_refused_total", { listener: "grpc", reason }),
  });
  try {
    const edge = await startEdgeListener({
      host: listen.host,
      port: listen.httpPort,
      services,
      chain,
      sources: httpSources(options),
      metrics: core.metrics,
      tls,
      limits: { maxMessageBytes: limits.maxRequestBytes, maxConnections: server.maxConnections },
      log: log.child("server.http"),
    });
    try {
      const dns = settings.dns.enabled ? await openDns(options) : undefined;
      observeNode({ ...options, connections: { grpc: () => grpc.connectionCount(), http: () => edge.connectionCount() } });
      return { grpc, edge, dns };
    } catch (error) {
      await edge.stop(0);
      throw error;
    }
  } catch (error) {
    await grpc.stop(0);
    throw error;
  }
}

function openChain({ log, core, now, identities }: DoorOptions, services: readonly Service[]): Chain {
  const { identity, metrics } = core;
  const rpcLog = log.child("server.rpc");
  const isStream = (service: string, method: string) => {
    const desc = services.find((s) => s.desc.typeName === service)?.desc;
    return desc?.methods.some((m) => m.name === method && m.methodKind !== "unary") ?? false;
  };
  let requests = 0;
  return new Chain({
    now,
    identify: identities.identify,
    limit: core.limits.admit,
    newRequestId: () => `${identity.boot}-${(++requests).toString(36)}`,
    observe: rpcObserver(metrics, isStream),
    onRefused: (call) => core.limits.note(refusedAct(call, identity.clusterId)),
    onBug: (fault, call) => rpcLog.error({ err: fault, ...call }, "handler failed"),
    onCall: rpcLog.isEnabled("debug") ? (call) => rpcLog.debug(call, "call") : undefined,
  });
}

/** A refused call as the audit has it; who is not known is told by the address. */
function refusedAct({ service, method, address, caller, error }: RefusedCall, clusterId: string): RefusedAct {
  return {
    caller: caller ?? anonymousCaller(clusterId, address),
    action: `${service.slice(service.lastIndexOf(".") + 1)}/${method}`.slice(0, MAX_ACTION_CHARS),
    namespace: "",
    reason: error.reason,
    detail: error.message,
  };
}

const MAX_ACTION_CHARS = 64;

function tlsFiles({ tls }: Settings): TlsFiles | undefined {
  const { certFile, keyFile } = tls;
  if (certFile === undefined || keyFile === undefined) return undefined;
  return { certFile, keyFile, clientCaFile: tls.caFile, isClientOptional: !tls.requireClientCert };
}

function openDns({ settings, log, core, random, now }: DoorOptions): Promise<DnsGateway> {
  const { dns, listen, catalog } = settings;
  const dnsLog = log.child("dns");
  const { admit } = core.limits;
  // One view for all, so that answers are kept for all; who asks is known while its query is answered, in one turn.
  let asker = anonymousCaller(core.identity.clusterId, "");
  const view = dnsCatalog(core, (namespace) => noteHidden(core, asker, namespace));
  return startDnsGateway({
    host: dns.host ?? listen.host,
    udpPort: dns.udpPort,
    tcpPort: dns.tcpPort,
    settings: {
      zones: dns.zones.map(parseZone),
      nodeId: core.identity.nodeId,
      minTtlMs: dns.minTtlMs,
      maxTtlMs: dns.maxTtlMs,
      defaultTtlMs: catalog.defaultLeaseTtlMs,
      negativeTtlMs: dns.negativeTtlMs,
      allowExternalNames: dns.allowExternalNames,
    },
    catalogFor: (address) => {
      asker = anonymousCaller(core.identity.clusterId, address);
      admit?.(asker, "read", now().monoMs);
      return view;
    },
    random,
    metrics: core.metrics,
    onFault: (fault) => dnsLog.error({ err: fault }, "dns gateway fault"),
  });
}

/** An answer without what policy hides. UDP addresses are easily forged, so the audit has one record a second for each, with the count. */
function noteHidden({ reads, trail, limits }: NodeCore, asker: Caller, namespace: string): void {
  const { reason, rule } = reads.verdict(asker, namespace);
  trail.countDenial("query", reason);
  limits.note({ caller: asker, action: "query", namespace, reason, detail: `dns${rule === "" ? "" : `, rule ${rule}`}` });
}

/** The catalog as DNS reads it. DNS carries no credentials: its viewer is anonymous. `onHidden` hears of a namespace once an answer. */
export function dnsCatalog(
  { reads, replica, dnsNames, identity }: Pick<NodeCore, "reads" | "replica" | "dnsNames" | "identity">,
  onHidden: (namespace: string) => void = () => {},
): DnsCatalog {
  const viewer = anonymousCaller(identity.clusterId, "");
  const hidden = new Set<string>();
  return {
    get revision() {
      // Both only grow, so the sum changes whenever either does.
      return replica.revision + reads.policyTurn;
    },
    find: (kind, namespace, name) => {
      if (!reads.verdict(viewer, namespace).allowed) {
        hidden.add(namespace);
        return [];
      }
      return reads.find(viewer, { kind, namespace, name }).map((record) => reads.entry(record));
    },
    takeHidden: () => {
      if (hidden.size === 0) return [];
      const namespaces = [...hidden];
      hidden.clear();
      return namespaces;
    },
    onHidden: (namespaces) => namespaces.forEach((namespace) => onHidden(namespace)),
    hasNameUnder: (suffix) => dnsNames.hasNameUnder(suffix, reads.allowed(viewer)),
    findAlias: (alias) => dnsNames.findAlias(alias, reads.allowed(viewer)).map((record) => reads.entry(record)),
  };
}

function peerParts({ core, settings, fabric }: DoorOptions): PeerParts {
  return { source: fabric.peers, nodeId: core.identity.nodeId, bounds: settings.limits };
}

function httpSources(options: DoorOptions): HttpSources {
  const { core, settings, fabric, now } = options;
  const { admit } = core.limits;
  const scrape = openScraper(core.metrics);
  return {
    metricsAccess: settings.observability.metricsAccess,
    readiness: () => readiness(core, fabric, now()),
    scrape,
    persistence: () => persistence(core),
    prometheusTargets: (filter, caller) => {
      admit?.(caller, "read", now().monoMs);
      const { namespace } = filter;
      const verdict = namespace === undefined ? undefined : core.reads.verdict(caller, namespace);
      // Of a scrape of everything nobody is told: it asks for what it may see.
      if (namespace !== undefined && verdict?.allowed === false) core.trail.onDenied(caller, { action: "query", namespace, verdict });
      return renderTargetGroups(serviceEntries(core, filter, caller));
    },
    policy: (namespace, caller) => {
      const { monoMs, wallMs } = now();
      admit?.(caller, "read", monoMs);
      return policyJson(core.policies, { namespace, caller, wallMs, bounds: settings.limits });
    },
    lag: () => lagJson(peerParts(options), now()),
    peers: (asked) => peersJson(peerParts(options), asked, now()),
    parseServiceFilter,
  };
}

function readiness({ state, journal, policies }: NodeCore, fabric: NodeFabric, time: Time): Readiness {
  const mesh = fabric.readiness(time);
  const { isFailing, lastError } = journal.stats();
  return {
    isDraining: state.isDraining,
    checks: [
      // Once it could be told as the truth it can: what is missed afterwards is an age, and not a reason to take the node away.
      { name: "catalog", ok: state.isReady, detail: state.isReady ? "loaded" : "loading" },
      { name: "fabric", ok: mesh.isReady, detail: mesh.detail },
      // Reads go on while the disk does not take writes; who must write looks at this line.
      { name: "journal", ok: true, detail: isFailing ? `refuses writes: ${lastError}` : "takes writes" },
      // A node on its last known good policy, or on none and denying, still answers: taking it away would help nobody.
      { name: "policy", ok: true, detail: policyDetail(policies.status) },
    ],
  };
}

function policyDetail({ isEnabled, inForce, degraded }: PolicyStatus): string {
  if (degraded !== "") return degraded;
  return isEnabled ? `version ${inForce?.number} in force` : "none configured";
}

function persistence({ journal, identity, replica }: NodeCore): JsonValue {
  const { nodeId, generation } = identity;
  return { ...journal.stats(), nodeId, generation, lastSeq: replica.self.through, boots: journal.restored.boots };
}

/** Visible SERVICE entries, read page by page: the reader may take its time. */
export function* serviceEntries(
  { reads, replica }: Pick<NodeCore, "reads" | "replica">,
  filter: ServiceFilter,
  caller: Caller,
): Generator<EntryView> {
  const wanted = {
    ...ANY,
    namespace: filter.namespace ?? "",
    tags: filter.tag === undefined ? [] : [filter.tag],
    kindMask: 1 << KIND.SERVICE,
  };
  let afterKey: string | undefined = "";
  while (afterKey !== undefined) {
    const page = queryPage(replica.lookup, wanted, {
      limit: 100,
      afterKey,
      self: reads.node,
      allowed: reads.allowed(caller),
      explain: false,
    });
    const decode = (record: CatalogRecord) => decodeEntry(replica.slab.view(record.at, record.sizeBytes), record.origin.life);
    yield* page.records.map(decode);
    afterKey = page.nextKey;
  }
}
