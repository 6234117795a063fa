/** Opens the listeners of a node: gRPC, the HTTP edge and DNS, over the same rooms. */
import type { JsonValue } from "@bufbuild/protobuf";
import { anonymousAccess } from "../config/exposure.ts";
import { dnsRate, type Settings } from "../config/settings.ts";
import { dnsCatalog } from "../dns/catalog.ts";
import { parseZone } from "../dns/names.ts";
import { type DnsGateway, startDnsGateway } from "../dns/server.io.ts";
import { SERVER_FIXED } from "../grpc/server/server.io.ts";
import type { TlsFiles } from "../grpc/server/tls-files.io.ts";
import { SharedInflater } from "../grpc/wire/inflater.io.ts";
import { isLoopbackHost } from "../lib/addresses.ts";
import { BrokenInvariant } from "../lib/errors.ts";
import { later } from "../lib/later.io.ts";
import type { RootLog } from "../lib/log.io.ts";
import type { Time } from "../lib/machine.ts";
import type { RefusedAct } from "../policy/audit/refusals.ts";
import { anonymousCaller, type Caller } from "../policy/identity/caller.ts";
import type { WebRules } from "../server/browser-rules.ts";
import { Chain, type RefusedCall } from "../server/chain.ts";
import { type EdgeListener, startEdgeListener } from "../server/edge/listener.io.ts";
import { EDGE_FIXED } from "../server/edge/sockets.io.ts";
import { type GrpcLimits, type GrpcListener, type GrpcListenerOptions, startGrpcListener } from "../server/grpc-listener.io.ts";
import type { HttpSources } from "../server/http-routes.ts";
import { openScraper } from "../server/metrics.io.ts";
import { admitted } from "../services/admission.ts";
import { changesNothing } from "../services/cost.ts";
import { ownDescriptors } from "../services/descriptors.io.ts";
import { listServices } from "../services/list.ts";
import { type PeerParts, peerService } from "../services/peers.ts";
import { REFLECTION } from "../services/reflection.ts";
import type { Service } from "../services/service.ts";
import type { Components } from "./components.io.ts";
import type { NodeFabric } from "./fabric/fabric.io.ts";
import type { Identities } from "./identity.io.ts";
import type { NodePolicy } from "./policy.io.ts";
import type { NodeCore } from "./rooms.io.ts";

export interface Listeners {
  readonly grpc: GrpcListener;
  readonly edge: EdgeListener;
  readonly dns: DnsGateway | undefined;
}

export interface ListenersOptions {
  readonly settings: Settings;
  readonly log: RootLog;
  readonly version: string;
  readonly core: NodeCore;
  readonly discovery: Service;
  readonly policy: NodePolicy;
  readonly fabric: NodeFabric;
  readonly identities: Identities;
  /** All parts of the node: their lines are what `/readyz` says. */
  readonly parts: Pick<Components, "readiness">;
  readonly now: () => Time;
  readonly random: () => number;
}

/** Opens all listeners, one after the other. A stop drains them at once, and HTTP answers until the goodbye is said. */
export async function openListeners(options: ListenersOptions, parts: Components): Promise<Listeners> {
  const group = await parts.group("listeners");
  const { core, settings } = options;
  const built = [admitted(options.discovery, core.limits.admission), options.policy.service, peerService(peerParts(options))];
  const { services, health } = listServices(built, settings.server.reflection === "off" ? undefined : ownDescriptors());
  const shared = { services, health, chain: openChain(options, services), tls: tlsFiles(settings), inflater: new SharedInflater() };
  const connections = (listener: "grpc" | "http", count: number) => core.metrics.set("waymark_connections", { listener }, count);
  const grpc = await group.open(
    "gRPC",
    () => openGrpc(options, shared),
    (listener) => ({
      start: () =>
        void core.driver.follow((told) => {
          if (told.kind === "serving") listener.setServing(told.isServing);
        }),
      reload: () => listener.acceptor.reloadTls(),
      drain: (by) => listener.stop(by.leftMs()),
      stop: () => listener.stop(0),
      observe: () => connections("grpc", listener.acceptor.sockets.size),
    }),
  );
  const edge = await group.open(
    "HTTP",
    () => openEdge(options, shared),
    (listener) => ({
      reload: () => listener.acceptor.reloadTls(),
      drain: (by) => listener.drain(by.leftMs()),
      stop: (by) => listener.stop(by.halfMs()),
      observe: () => connections("http", listener.acceptor.sockets.size),
    }),
  );
  if (!settings.dns.enabled) return { grpc, edge, dns: undefined };
  const stopped = (gateway: DnsGateway) => ({ drain: () => gateway.stop(), stop: () => gateway.stop() });
  return { grpc, edge, dns: await group.open("DNS", () => openDns(options), stopped) };
}

type Shared = Pick<GrpcListenerOptions, "services" | "health" | "chain"> & {
  readonly tls: TlsFiles | undefined;
  readonly inflater: SharedInflater;
};

function openGrpc({ settings, log, core }: ListenersOptions, shared: Shared): Promise<GrpcListener> {
  const { listen } = settings;
  return startGrpcListener({
    ...shared,
    host: listen.host,
    port: listen.grpcPort,
    limits: grpcLimits(settings),
    log: log.child("server.grpc"),
    onCut: (reason) => core.metrics.inc("waymark_connections_refused_total", { listener: "grpc", reason }),
  });
}

function openEdge(options: ListenersOptions, shared: Shared): Promise<EdgeListener> {
  const { settings, log, core } = options;
  const { listen, limits, server } = settings;
  return startEdgeListener({
    ...shared,
    host: listen.host,
    port: listen.httpPort,
    sources: httpSources(options),
    metrics: core.metrics,
    limits: { ...EDGE_FIXED, maxMessageBytes: limits.maxRequestBytes, maxConnections: server.maxConnections },
    web: webRules(settings),
    log: log.child("server.http"),
  });
}

/** Where TLS or a credential proves the caller, any host name is taken. The header of a trusted proxy proves nothing here, because a web page can send it. */
function webRules(settings: Settings): WebRules {
  const { listen, tenants, tls } = settings;
  const needsCredential = anonymousAccess(settings) === "none" && tenants.trustedHeader === undefined;
  return {
    takesAnyHost: tls.certFile !== undefined || needsCredential,
    hosts: [listen.host, listen.advertiseHost ?? listen.host, ...listen.allowedHosts],
    corsOrigins: listen.corsOrigins,
  };
}

/** Where callers without a credential may do nothing, no endpoint is open to everybody. */
function endpointAccess(access: "on" | "authenticated" | "off", settings: Settings): "on" | "authenticated" | "off" {
  return access === "on" && anonymousAccess(settings) === "none" ? "authenticated" : access;
}

function grpcLimits({ limits, server }: Settings): GrpcLimits {
  return {
    ...SERVER_FIXED,
    ...server,
    maxReceiveBytes: limits.maxRequestBytes,
  };
}

function openChain({ settings, log, core, now, identities }: ListenersOptions, services: readonly Service[]): Chain {
  const { identity, metrics } = core;
  const rpcLog = log.child("server.rpc");
  const isRead = (service: string, method: string) => {
    const desc = services.find((s) => s.desc.typeName === service)?.desc.methods.find((m) => m.name === method);
    return desc !== undefined && changesNothing(desc);
  };
  return new Chain({
    now,
    identify: identities.identify,
    later,
    listBounds: settings.limits,
    anonymous: anonymousAccess(settings),
    knownOnly: settings.server.reflection === "authenticated" ? REFLECTION : undefined,
    limit: core.limits.admit,
    idPrefix: identity.boot,
    metrics,
    onRefused: (call) => core.limits.note(refusedAct(call, identity.clusterId)),
    onBug: (fault, call) => {
      rpcLog.error({ err: fault, ...call }, "handler failed");
      if (fault instanceof BrokenInvariant && !fault.isUndone && !isRead(call.service, call.method)) endProcess(fault);
    },
    onCall: rpcLog.isEnabled("debug") ? (call) => rpcLog.debug({ ...call }, "call") : undefined,
  });
}

/** A bug may have left anything behind. So the process ends, as after any uncaught error, and starts anew from its disk. */
function endProcess(fault: Error): void {
  queueMicrotask(() => {
    throw fault;
  });
}

/** A refused call as the audit records it. A caller that is not known is named by its address. */
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

function openDns({ settings, log, core, random, now }: ListenersOptions): Promise<DnsGateway> {
  const { dns, listen, catalog } = settings;
  const dnsLog = log.child("dns");
  const { admitDns, charges } = core.limits;
  const host = dns.host ?? listen.host;
  const perSecond = dnsRate(dns.rate, isLoopbackHost(host));
  // One view serves all callers, so that answers are cached for all. `asker` is set while its query is answered, in one turn.
  let asker = anonymousCaller(core.identity.clusterId, "");
  const view = dnsCatalog(random, core, (namespaces) => noteHidden(core, asker, namespaces));
  return startDnsGateway({
    host,
    udpPort: dns.udpPort,
    tcpPort: dns.tcpPort,
    settings: {
      ...dns,
      zones: dns.zones.map(parseZone),
      nodeId: core.identity.nodeId,
      defaultTtlMs: catalog.defaultLeaseTtlMs,
    },
    catalogFor: (address) => {
      core.machine.checkCaughtUp();
      asker = anonymousCaller(core.identity.clusterId, address);
      admitDns?.(asker, now().monoMs);
      return view;
    },
    maxPlansBytes: dns.maxPlansBytes,
    rate: perSecond === 0 ? undefined : { perSecond, maxNetworks: dns.rateNetworks, charges },
    random,
    metrics: core.metrics,
    onFault: (fault) => dnsLog.error({ err: fault }, "dns gateway fault"),
  });
}

/** Records that an answer lacks what policy hides. UDP addresses are easily forged, so the audit has one record a second for all callers, with the count. */
function noteHidden({ reads, accessLog, limits, metrics }: NodeCore, asker: Caller, namespaces: readonly string[]): void {
  metrics.inc("dns_policy_denials_total", {});
  for (const namespace of namespaces) {
    const { reason, rule } = reads.verdict(asker, namespace);
    accessLog.countDenial("query", reason);
    limits.noteDns({ caller: asker, action: "query", namespace, reason, detail: rule === "" ? "" : `rule ${rule}` });
  }
}

/** Bookmarks of members are looked for this often. */
const TICK_MS = 200;

function tick(wake: () => void): () => void {
  const timer = setInterval(wake, TICK_MS);
  timer.unref();
  return () => clearInterval(timer);
}

function peerParts({ core, fabric, settings }: ListenersOptions): PeerParts {
  const { maxPeerWatches: maxWatches } = settings.server;
  return { source: fabric.peers, identity: core.identity, checkCaughtUp: () => core.machine.checkCaughtUp(), maxWatches, tick };
}

function httpSources(options: ListenersOptions): HttpSources {
  const { core, settings, parts, now } = options;
  const scrape = openScraper(core.metrics);
  return {
    metricsAccess: endpointAccess(settings.observability.metricsAccess, settings),
    readiness: () => ({ isDraining: core.machine.isDraining, checks: parts.readiness(now()) }),
    scrape,
    persistence: () => persistence(core),
  };
}

function persistence({ journal, identity, replica }: NodeCore): JsonValue {
  const { nodeId, generation } = identity;
  return { ...journal.stats(), nodeId, generation, lastSeq: replica.self.through, boots: journal.restored.boots };
}
