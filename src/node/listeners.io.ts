/** Opens the listeners of a node, or of one of its threads: gRPC, the HTTP edge and DNS, all over the same catalog. */

import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { anonymousAccess, hasTls } from "../config/exposure.ts";
import type { Settings } from "../config/settings.ts";
import { ClusterNames, type ClusterNamesParts } from "../discovery/summaries/cluster-names.ts";
import type { SummaryReads } from "../discovery/summaries/summary-reads.ts";
import { type DnsAnswers, type DnsGateway, startDnsGateway } from "../dns/server/server.io.ts";
import { minTtlSeconds } from "../dns/wire/message-ttl.ts";
import { SERVER_FIXED } from "../grpc/server/server.io.ts";
import type { ListenerTlsFiles } from "../grpc/server/tls-files.io.ts";
import { SharedInflater } from "../grpc/wire/inflater.io.ts";
import { hostPort } from "../lib/addresses.ts";
import { assert, InvariantError, rethrowInvariant } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import { later } from "../lib/stall-aware-time.io.ts";
import type { RefusedAct } from "../policy/audit/record.ts";
import { anonymousCaller } from "../policy/identity/caller.ts";
import type { WebRules } from "../server/browser-rules.ts";
import { CallChain, type RefusedCall } from "../server/chain.ts";
import type { DnsMessages } from "../server/edge/dns-query.io.ts";
import { type EdgeListener, type EdgeListenerOptions, startEdgeListener } from "../server/edge/listener.io.ts";
import { EDGE_FIXED } from "../server/edge/sockets.io.ts";
import { type GrpcLimits, type GrpcListener, type GrpcListenerOptions, startGrpcListener } from "../server/grpc-listener.io.ts";
import type { HttpSources, ReadyCheck } from "../server/http-routes.ts";
import { TurnBudget } from "../server/turn-budget.ts";
import { admitted } from "../services/admission.ts";
import { changesNothing } from "../services/contract.ts";
import { withNameReads } from "../services/dns/name-answers.ts";
import { withOperatorView } from "../services/operator-view.ts";
import { REFLECTION } from "../services/reflection.ts";
import type { ServiceDefinition } from "../services/service.ts";
import { checkAnswered, listServices } from "../services/service-table.ts";
import type { AccessLog } from "./access-log.ts";
import type { CallerIdentities } from "./callers.io.ts";
import type { NodeComponents } from "./components.io.ts";
import type { DnsEndpoint, NodeEndpoints, SharedPorts } from "./core/endpoints.ts";
import { type DnsAnsweringOptions, nameAnswers, openAnswering, openZoneKeys } from "./dns/answering.io.ts";
import type { DnsPresence } from "./dns/presence.ts";
import { dnsTls, tlsFiles } from "./dns/tls.io.ts";
import type { NodeLimits } from "./limits.ts";

export interface NodeListeners {
  readonly grpc: GrpcListener;
  readonly edge: EdgeListener;
  readonly dns: DnsGateway | undefined;
}

export function endpointsOf({ grpc: { acceptor: grpc }, edge: { acceptor: http }, dns }: NodeListeners): NodeEndpoints {
  const calls = { ports: { grpc: grpc.port, http: http.port }, grpc: grpc.address, http: http.address };
  return { calls, dns: dns && dnsEndpointOf(dns) };
}

export function dnsEndpointOf({ host, udpPort, tcpPort, tlsPort }: DnsGateway): DnsEndpoint {
  return { host, udp: udpPort, tcp: tcpPort, tls: tlsPort };
}

export function connectionCountOf({ grpc, edge }: Pick<NodeListeners, "edge" | "grpc">): number {
  return grpc.acceptor.sockets.size + edge.acceptor.sockets.size;
}

export interface ListenersOptions extends DnsAnsweringOptions {
  /** All services. The limits of the services and the catalog names that DnsService reads are added later. */
  readonly services: readonly ServiceDefinition[];
  /** Prefix of generated request ids, for calls that have none. The prefix is unique among all threads of all nodes. */
  readonly idPrefix: string;
  readonly limits: Pick<NodeLimits, "admission" | "admit" | "admitDns" | "makeBuckets" | "note" | "noteDns" | "noteHidden">;
  readonly identities: Pick<CallerIdentities, "follow" | "identify">;
  readonly accessLog: Pick<AccessLog, "onOperatorView" | "onTransfer">;
  /** Calls back whenever the node starts or stops serving. The health service reports this state. */
  readonly followServing: (onServing: (isServing: boolean) => void) => void;
  /** Whether any thread or process of the node answers DNS. The health service reports this state. */
  readonly dnsPresence: Pick<DnsPresence, "follow">;
  /** Data about the node itself that the HTTP edge shows. */
  readonly sources: Omit<HttpSources, "metricsAccess" | "openApi" | "openApiAccess">;
  /** Absent if no other thread of the node has listeners. */
  readonly shared?: SharedPorts | undefined;
}

/** Options of the DNS listener. */
export type DnsListenerOptions = DnsAnsweringOptions & Pick<ListenersOptions, "shared">;

/**
 * Opens all listeners, one after the other. During a stop they drain in parallel. HTTP continues to answer until the node has announced its
 * departure.
 */
export async function openListeners(options: ListenersOptions, parts: NodeComponents): Promise<NodeListeners> {
  const group = await parts.group("listeners");
  const { settings, metrics } = options;
  const zoneKeys = openZoneKeys(options);
  const isResolver = settings.node.mode === "resolver";
  const { onOperatorView } = options.accessLog;
  const onRefused = (refusal: RefusedAct) => options.limits.note(refusal);
  const { services, health } = listServices(
    withNameReads(
      options.services.map((service) => admitted(service, options.limits.admission)),
      nameAnswers(options, zoneKeys),
    ).map((service) => withOperatorView(service, { isResolver, zones: settings.dns.zones, onOperatorView, onRefused })),
    settings.server.reflection === "off" ? undefined : ownDescriptors(),
    { dns: { isOpen: settings.dns.enabled } },
  );
  checkAnswered(services, isResolver);
  options.dnsPresence.follow((isOpen) => health.setOpen("dns", isOpen));
  const serving = { services, health, chain: openChain(options, services), tls: tlsFiles(settings), inflater: new SharedInflater() };
  options.identities.follow(() => serving.chain.knownStreams.check());
  const { grpcPort, httpPort } = settings.listen;
  const wanted = options.shared?.ports?.calls ?? { grpc: grpcPort, http: httpPort };
  const connections = (listener: "grpc" | "http", count: number) => metrics.set("waymark_connections", { listener }, count);
  const grpc = await group.open(
    "gRPC",
    () => openGrpc(options, serving, wanted.grpc),
    (listener) => ({
      start: () => options.followServing((isServing) => listener.setServing(isServing)),
      reload: () => listener.acceptor.reloadTls(),
      drain: (by) => listener.stop(by.leftMs()),
      stop: () => listener.stop(0),
      observe: () => connections("grpc", listener.acceptor.sockets.size),
    }),
  );
  // When separate DNS processes answer queries, this thread answers only DNS over HTTP.
  const hasDns = settings.dns.enabled && settings.dns.processes === 0;
  const dns =
    hasDns || (settings.dns.enabled && settings.dns.https)
      ? openAnswering(options, { zoneKeys, sharerCount: hasDns ? 1 : settings.dns.processes })
      : undefined;
  const dnsMessages = dns === undefined || !settings.dns.https ? undefined : dnsOverHttp(dns.answers);
  const edge = await group.open(
    "HTTP",
    () => openEdge(options, { ...serving, dnsMessages }, wanted.http),
    (listener) => ({
      reload: () => {
        listener.acceptor.reloadTls();
        // DnsService reports the keys even if this thread does not answer DNS.
        if (!hasDns) (dns ?? zoneKeys)?.reload();
      },
      drain: (by) => listener.drain(by.leftMs()),
      stop: (by) => listener.stop(by.halfMs()),
      observe: () => connections("http", listener.acceptor.sockets.size),
    }),
  );
  return { grpc, edge, dns: hasDns ? await openDnsListener(options, group, dns) : undefined };
}

/** Opens only the DNS listener. */
export function openDnsListener(
  options: DnsListenerOptions,
  parts: NodeComponents,
  answering = openAnswering(options, { zoneKeys: openZoneKeys(options), sharerCount: 1 }),
): Promise<DnsGateway> {
  const { shared, settings } = options;
  const { dns, listen } = settings;
  const { udp, tcp, tls } = shared?.ports?.dns ?? { udp: dns.udpPort, tcp: dns.tcpPort, tls: dns.tlsPort };
  const host = dns.host ?? listen.host;
  const openTls = dnsTls({ host, port: tls, sharing: shared?.sharing }, tlsFiles(settings), options.log.child("dns"));
  const part = (gateway: DnsGateway) => ({
    reload: () => {
      answering.reload();
      gateway.reloadTls();
    },
    drain: () => gateway.stop(),
    stop: () => gateway.stop(),
    readiness: () => [dnsCheck(settings, dnsEndpointOf(gateway), options.checkCaughtUp)],
  });
  return parts.open(
    "DNS",
    () =>
      startDnsGateway({
        ...answering.options,
        host,
        udpPort: udp,
        tcpPort: tcp,
        openTls,
        sharing: shared?.sharing,
        answers: answering.answers,
      }),
    part,
  );
}

/** Makes the source of DNS names in other clusters, for names without an entry in this cluster. Undefined if DNS does not answer from summaries. */
export function clusterNames(
  { dns, listen }: Settings,
  { summaries, dnsNames, now }: Pick<ClusterNamesParts, "dnsNames" | "now"> & { readonly summaries: SummaryReads | undefined },
): ClusterNames | undefined {
  if (summaries === undefined || !dns.summaryAnswers) return undefined;
  const hosts = [dns.host ?? listen.host, listen.host];
  return new ClusterNames({ summaries, dnsNames, hosts, zones: dns.zones, now });
}

/**
 * Returns the `/readyz` line about DNS: whether the gateway answers. The line is always ok, because other lines report the state of the catalog.
 * `checkCaughtUp` throws `not_ready` while queries are not answered.
 */
export function dnsCheck({ dns, node }: Settings, { host, udp }: DnsEndpoint, checkCaughtUp: () => void, more = ""): ReadyCheck {
  const address = hostPort(host, udp);
  let detail = `answers for ${dns.zones.join(", ")} on ${address}${more}`;
  try {
    checkCaughtUp();
  } catch (error) {
    rethrowInvariant(error);
    detail = `listens on ${address}; answers SERVFAIL until the ${node.mode} is ready${more}`;
  }
  return { name: "dns", ok: true, detail };
}

type ListenerServing = Pick<GrpcListenerOptions, "services" | "health" | "chain"> & {
  readonly tls: ListenerTlsFiles | undefined;
  readonly inflater: SharedInflater;
};

function openGrpc({ settings, log, metrics, shared }: ListenersOptions, serving: ListenerServing, port: number): Promise<GrpcListener> {
  return startGrpcListener({
    ...serving,
    host: settings.listen.host,
    port,
    sharing: shared?.sharing,
    limits: grpcLimits(settings),
    log: log.child("server.grpc"),
    onCut: (reason) => metrics.inc("waymark_connections_refused_total", { listener: "grpc", reason }),
  });
}

type EdgeServing = ListenerServing & Pick<EdgeListenerOptions, "dnsMessages">;

function openEdge(
  { settings, log, metrics, sources, shared }: ListenersOptions,
  serving: EdgeServing,
  port: number,
): Promise<EdgeListener> {
  const { listen, limits, server, observability } = settings;
  const { maxConnections, keepaliveTimeMs, keepaliveTimeoutMs } = server;
  return startEdgeListener({
    ...serving,
    host: listen.host,
    port,
    sharing: shared?.sharing,
    sources: {
      ...sources,
      metricsAccess: endpointAccess(observability.metricsAccess, settings),
      openApiAccess: endpointAccess(server.reflection, settings),
      // The file is read for each request, because few nodes receive such a request.
      openApi: () => readFile(new URL("../../docs/reference/openapi.json", import.meta.url)),
    },
    metrics,
    limits: { ...EDGE_FIXED, maxMessageBytes: limits.maxRequestBytes, maxConnections, keepaliveTimeMs, keepaliveTimeoutMs },
    web: webRules(settings),
    log: log.child("server.http"),
  });
}

/**
 * Any host name is accepted if TLS is on or every caller needs a credential. The header of a trusted proxy is not such a credential, because a web
 * page can send it.
 */
function webRules(settings: Settings): WebRules {
  const { listen, tenants } = settings;
  const needsCredential = anonymousAccess(settings) === "none" && tenants.trustedHeader === undefined;
  return {
    takesAnyHost: hasTls(settings) || needsCredential,
    hosts: [listen.host, listen.advertiseHost ?? listen.host, ...listen.allowedHosts],
    corsOrigins: listen.corsOrigins,
  };
}

/** If callers without a credential have no access, authentication is required even for endpoints that would normally be open. */
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

/** The part of the options from which a chain is made. */
export interface ChainOptions extends Pick<ListenersOptions, "identity" | "idPrefix" | "metrics" | "now" | "settings"> {
  readonly log: Log;
  readonly limits: Pick<NodeLimits, "admit" | "note">;
  readonly identities: Pick<CallerIdentities, "identify">;
}

export function openChain(options: ChainOptions, services: readonly ServiceDefinition[]): CallChain {
  const { settings, log, identity, idPrefix, metrics, limits, now, identities } = options;
  const rpcLog = log.child("server.rpc");
  const isRead = (service: string, method: string) => {
    const desc = services.find((s) => s.desc.typeName === service)?.desc.methods.find((m) => m.name === method);
    return desc !== undefined && changesNothing(desc);
  };
  return new CallChain({
    now,
    identify: identities.identify,
    later,
    turn: new TurnBudget({ nowMs: () => now().monoMs, onEnd: setImmediate }),
    listBounds: settings.limits,
    bounds: settings.limits,
    anonymous: anonymousAccess(settings),
    knownOnly: settings.server.reflection === "authenticated" ? REFLECTION : undefined,
    limit: limits.admit,
    idPrefix,
    metrics,
    onRefused: (call) => limits.note(refusedAct(call, identity.clusterId)),
    onBug: (fault, call) => {
      rpcLog.error({ err: fault, ...call }, "handler failed");
      if (fault instanceof InvariantError && !fault.isUndone && !isRead(call.service, call.method)) endProcess(fault);
    },
    onCall: rpcLog.isEnabled("debug") ? (call) => rpcLog.debug({ ...call }, "call") : undefined,
  });
}

/** A bug may have left the process in an invalid state, so the process exits, as after any uncaught error, and restarts from its data on disk. */
function endProcess(fault: Error): void {
  queueMicrotask(() => {
    throw fault;
  });
}

/** Makes the audit record for a refused call. An unknown caller is identified by its address. */
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

// Connects the DNS gateway to the HTTP listener (DNS over HTTP, RFC 8484).

function dnsOverHttp(answers: DnsAnswers): DnsMessages {
  const made = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : { bytes, freshSeconds: minTtlSeconds(bytes) });
  return {
    answer: (query, caller) => {
      const known = caller.isAuthenticated ? caller : undefined;
      const answer = answers.answer(query, { transport: "doh", address: caller.address, caller: known });
      if (answer instanceof Promise) return answer.then(made);
      assert(answer === undefined || !(Symbol.asyncIterator in answer), "a query over HTTP was answered with a zone transfer");
      return made(answer);
    },
  };
}

// The descriptors of all protos that a node serves, as written by `npm run gen`.

/** Returns a `FileDescriptorSet` with comments. Throws if the installation does not contain the file. */
export function ownDescriptors(): Uint8Array {
  return readFileSync(new URL("../../gen/descriptors.binpb", import.meta.url));
}
