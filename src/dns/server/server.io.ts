/**
 * The sockets of the DNS gateway: UDP and TCP on one port number, and optionally TLS on another. UDP messages are answered in the event-loop turn in
 * which they arrive, unless the catalog of a resolver must fetch data first.
 */

import { createServer, type Socket, type Server as TcpServer } from "node:net";
import type { AddressBlock } from "../../lib/addresses.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { listenOn, type PortSharing } from "../../lib/shared-port.io.ts";
import { later, recentPauseMs } from "../../lib/stall-aware-time.io.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { PeerCertificate } from "../../policy/identity/certificates.ts";
import type { DnsSettings } from "../records/record.ts";
import type { ZoneSigner } from "../signing/zone-signer.ts";
import type { LookupOutcome, PendingNameError } from "../subject/remote-lookup.ts";
import type { ZoneTransfers } from "../transfer/transfers.io.ts";
import type { ClientSubnet, QueryClient, ViewSelection } from "../views/query-client.ts";
import type { ServerCookies } from "../wire/cookies.ts";
import type { DnsTransport } from "../wire/response.ts";
import type { TsigKey } from "../wire/tsig.ts";
import { DnsCounts, type DropReason } from "./counts.ts";
import { PendingQueryLimiter, type PendingQueryLimits } from "./pending-query-limiter.ts";
import { DnsResponder, type QuerySender, type ResponderReply, type TransferKeys } from "./responder.ts";
import { type ResponseRateOptions, ResponseRates } from "./response-rate.ts";
import { type TcpAnswer, TcpConnections, type TcpLimits, type TcpPeer } from "./tcp.io.ts";
import { type UdpOptions, UdpSockets } from "./udp.io.ts";

export interface DnsGatewayOptions {
  /** Address to bind. */
  readonly host: string;
  /** 0 selects a free port. */
  readonly udpPort: number;
  /** Defaults to the UDP port number, even if the system selected that number. */
  readonly tcpPort?: number | undefined;
  /**
   * Defines how the two ports are shared with other threads. If absent, the ports are not shared. A `further` thread receives both port numbers from
   * the first thread.
   */
  readonly sharing?: PortSharing | undefined;
  /** Opens the listener for DNS over TLS, which has its own port. If absent, DNS over TLS is disabled. */
  readonly openTls?: ((connections: TlsConnections) => Promise<TlsListener>) | undefined;
  readonly settings: DnsSettings;
  /**
   * Selects the view of a client. All clients of a view should get the same catalog object, because another object clears the plan cache. This
   * function may throw. The answer is REFUSED for `discovery_rate_limited` and `discovery_access_denied`, and SERVFAIL for other errors. `waited` is
   * the fetch that an admitted question waited for.
   */
  readonly select: (queryClient: QueryClient, waited: PendingNameError | undefined) => ViewSelection;
  /** Returns random numbers in [0, 1), used to shuffle answers. */
  readonly random: () => number;
  readonly metrics: Metrics;
  /** Reports an internal error or a socket error. The gateway continues. */
  readonly onFault: (fault: unknown) => void;
  readonly limits?: DnsLimits;
  /** Memory limit for prepared answers, in bytes. */
  readonly planBytes: number;
  /** Limits complete responses over UDP. If absent, there is no limit. */
  readonly rate?: Omit<ResponseRateOptions, "trusted" | "pauseMs"> | undefined;
  /** Returns the zone serial for a view, given the view index. */
  readonly serialOf: (viewIndex: number) => number;
  /** Signs answers. If absent, zones are not signed. */
  readonly signer?: ZoneSigner | undefined;
  /** Creates and verifies cookies. */
  readonly cookies?: ServerCookies | undefined;
  /** The TSIG keys of secondary servers, and the running transfers. If absent, zone transfers are disabled. */
  readonly transfers?: { readonly findKey: (name: string) => TsigKey | undefined; readonly running: ZoneTransfers } | undefined;
  /** Forwarders without a rate limit. Defaults to none. */
  readonly trustedForwarders?: readonly AddressBlock[] | undefined;
  /** Overrides how the machine's addresses are found, for tests. If absent, the system provides the addresses. */
  readonly machine?: Pick<UdpOptions, "addresses" | "lookMs"> | undefined;
  /** The result of `openDnsAnswers` with the same options, when other listeners share it. If absent, the gateway opens its own answers. */
  readonly answers?: DnsAnswers | undefined;
}

/** The options needed to answer queries. */
export type DnsAnswersOptions = Omit<DnsGatewayOptions, "answers" | "host" | "machine" | "openTls" | "sharing" | "tcpPort" | "udpPort">;

/** The sender of a question and its transport. */
export interface QuerySource {
  readonly transport: DnsTransport;
  readonly address: string;
  /** The certificate of a client of DNS over TLS. */
  readonly certificate?: PeerCertificate | undefined;
  /** The authenticated caller of DNS over HTTPS. If absent, the request has no credential. */
  readonly caller?: Caller | undefined;
  /** Whether a zone may be transferred to the sender. Defaults to false. */
  readonly mayTransfer?: boolean | undefined;
}

/** Answers queries, independent of the transport. */
export interface DnsAnswers {
  /**
   * Returns the response: empty when the sender exceeds its rate limit, undefined for a message that must not be answered, or a sequence of messages
   * for a zone transfer. When data must be fetched first, returns a promise. After `close`, this promise resolves to undefined.
   */
  answer(query: Uint8Array, from: QuerySource): TcpAnswer;
  /** Counts unanswered input. */
  dropped(reason: DropReason): void;
  /** Stops answering all questions, including waiting questions. */
  close(): void;
}

/** Receives the connections of a DNS over TLS listener. */
export interface TlsConnections {
  /** Maximum number of concurrent TCP and TLS connections combined. */
  readonly maxConnections: number;
  /** Adds a connection after its handshake. */
  readonly accept: (socket: Socket, peer: Pick<TcpPeer, "address" | "certificate" | "mayTransfer">) => void;
  readonly dropped: (reason: "handshake" | "overload") => void;
}

export interface TlsListener {
  readonly port: number;
  /** Reloads the certificates. */
  reload(): void;
  /** Stops accepting connections. */
  close(): void;
  /** Closes all open connections, including those in the handshake. */
  cut(): void;
}

export interface DnsLimits extends TcpLimits, PendingQueryLimits {
  /** Maximum number of UDP responses queued in the socket. Queries are dropped while more responses are queued. */
  readonly maxPendingSends: number;
  /** Maximum time that a question can wait. */
  readonly maxWaitMs: number;
}

export interface DnsGateway extends AsyncDisposable {
  readonly host: string;
  readonly udpPort: number;
  readonly tcpPort: number;
  /** Undefined when DNS over TLS is disabled. */
  readonly tlsPort: number | undefined;
  /** Reloads the certificates for DNS over TLS. */
  reloadTls(): void;
  /** Stops accepting queries, lets TCP responses finish for at most 1 s, and closes. Idempotent. */
  stop(): Promise<void>;
}

/** The DNS limits, which are not configurable. */
export const DNS_LIMITS: DnsLimits = {
  maxConnections: 256,
  idleTimeoutMs: 10_000,
  maxQueryBytes: 4096,
  maxWaitingPerConnection: 32,
  maxPendingSends: 4096,
  maxWaiting: 1000,
  maxWaitingOfNetwork: 125,
  maxWaitMs: 500,
};
/** A TCP peer does not receive further responses while more than this number of unread bytes is buffered for it. */
const TCP_HIGH_WATER_BYTES = 16 * 1024;
/** Maximum number of port numbers to try until TCP and UDP can use the same number. */
const MAX_PORT_ATTEMPTS = 20;
const STOP_GRACE_MS = 1_000;
/** Queries that queued in the socket while this process was paused are read within this time after the pause. */
const BACKLOG_MS = 500;

export function openDnsAnswers(options: DnsAnswersOptions): DnsAnswers {
  return new DnsServer(options, options.limits ?? DNS_LIMITS);
}

/** Starts the gateway. Rejects with an error message for the operator when a port is in use or cannot be bound. */
export async function startDnsGateway(options: DnsGatewayOptions): Promise<DnsGateway> {
  const limits = options.limits ?? DNS_LIMITS;
  const server = options.answers ?? openDnsAnswers(options);
  const connections = new TcpConnections(limits, {
    answer: (query, peer) => server.answer(query, peer),
    dropped: (reason) => server.dropped(reason),
  });
  const { udp, tcp } = await bindBoth(options, connections);
  let tls: TlsListener | undefined;
  try {
    tls = await options.openTls?.(tlsConnections(limits, server, connections));
  } catch (error) {
    await udp.close();
    tcp.close();
    throw error;
  }
  await udp.serve(server);
  tcp.on("error", options.onFault);
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    server.close();
    return (stopped ??= stopAll({ udp, tcp, tls }, connections));
  };
  return {
    host: options.host,
    udpPort: udp.port,
    tcpPort: portOf(tcp),
    tlsPort: tls?.port,
    reloadTls: () => tls?.reload(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function tlsConnections({ maxConnections }: DnsLimits, server: DnsAnswers, connections: TcpConnections): TlsConnections {
  return {
    maxConnections,
    accept: (socket, peer) => connections.add(socket, { ...peer, transport: "dot" }),
    dropped: (reason) => server.dropped(reason),
  };
}

/** A question that waits for a fetch. */
interface PendingQuery {
  readonly query: Uint8Array;
  readonly from: QuerySource;
  readonly startedMs: number;
}

/** Answers and counts queries. */
class DnsServer implements DnsAnswers {
  readonly #options: DnsAnswersOptions;
  readonly #responder: DnsResponder;
  readonly #limits: DnsLimits;
  readonly #counts: DnsCounts;
  // HOT: these objects are reused to avoid allocations per query.
  readonly #queryClient: Mutable<QueryClient> = {
    address: "",
    transport: "udp",
    subnet: undefined,
    certificate: undefined,
    keyView: undefined,
    caller: undefined,
  };
  readonly #sender: Mutable<QuerySender> = { address: "", monoMs: 0, room: "all", waited: undefined, mayTransfer: false };
  #selected: ViewSelection | undefined;
  #waited: PendingNameError | undefined;
  readonly #select = (subnet: ClientSubnet | undefined, keyView: number | undefined): ViewSelection => {
    this.#queryClient.subnet = subnet;
    this.#queryClient.keyView = keyView;
    this.#selected = this.#options.select(this.#queryClient, this.#waited);
    return this.#selected;
  };
  readonly #places: PendingQueryLimiter;
  #isClosed = false;

  constructor(options: DnsAnswersOptions, limits: DnsLimits) {
    this.#options = options;
    this.#limits = limits;
    const { metrics, rate, trustedForwarders: trusted, transfers } = options;
    const transferKeys: TransferKeys | undefined = transfers && {
      find: transfers.findKey,
      mayBegin: (asked) => transfers.running.mayBegin({ ...asked, address: this.#queryClient.address }),
    };
    this.#places = new PendingQueryLimiter(limits, trusted);
    const rates =
      rate === undefined ? undefined : new ResponseRates({ ...rate, trusted, pauseMs: (monoMs) => recentPauseMs(monoMs, BACKLOG_MS) });
    this.#responder = new DnsResponder({ ...options, rates, transferKeys, idleTimeoutMs: limits.idleTimeoutMs, wallMs: Date.now });
    this.#counts = new DnsCounts(metrics);
    const { plans } = this.#responder;
    const { signer } = options;
    metrics.onCollect(() => {
      metrics.counter("dns_signatures_total", { outcome: "made" }).set(signer?.madeCount ?? 0);
      metrics.counter("dns_signatures_total", { outcome: "refused" }).set(signer?.refusedCount ?? 0);
      metrics.set("dns_plans_bytes", {}, plans.sizeBytes);
      metrics.counter("dns_plans_made_total", {}).set(plans.madeCount);
      metrics.counter("dns_plans_dropped_total", {}).set(plans.droppedCount);
      metrics.counter("dns_alias_conflicts_total", {}).set(plans.contestedCount);
    });
  }

  answer(query: Uint8Array, from: QuerySource): TcpAnswer {
    const startedMs = performance.now();
    const reply = this.#respond({ query, from, startedMs }, undefined);
    if (reply?.unknown !== undefined)
      // The bytes are copied because a query over TCP is a slice of a larger buffer.
      return this.#later({ query: Buffer.from(query), from, startedMs }, reply.unknown);
    tell(this.#selected, reply, false);
    const answer = this.#count(reply, from.transport, startedMs);
    return reply?.transfer === undefined ? answer : this.#options.transfers?.running.start(reply.transfer, from.address);
  }

  close(): void {
    this.#isClosed = true;
  }

  #respond({ query, from, startedMs }: PendingQuery, waited: PendingNameError | undefined): ResponderReply | undefined {
    this.#selected = undefined;
    this.#waited = waited;
    this.#queryClient.address = from.address;
    this.#queryClient.transport = from.transport;
    this.#queryClient.certificate = from.certificate;
    this.#queryClient.caller = from.caller;
    const sender = this.#sender;
    sender.address = from.address;
    sender.monoMs = startedMs;
    sender.mayTransfer = from.mayTransfer === true;
    sender.waited = waited;
    sender.room = this.#places.roomFor(from.address);
    try {
      return this.#responder.respond(query, from.transport, this.#select, sender);
    } catch (fault) {
      // The responder must not throw. If it does, only this query remains unanswered.
      this.#options.onFault(fault);
      return undefined;
    }
  }

  async #later(asked: PendingQuery, first: PendingNameError): Promise<Uint8Array | undefined> {
    const { address } = asked.from;
    this.#places.take(address);
    const late = Promise.withResolvers<"late">();
    const cancel = later(() => late.resolve("late"), this.#limits.maxWaitMs);
    try {
      const waitedFor = new Set<string>();
      for (let unknown = first; ; ) {
        waitedFor.add(unknown.key);
        const outcome = await Promise.race([unknown.arrival, late.promise]);
        if (this.#isClosed) return undefined;
        const reply = this.#respond(asked, unknown);
        // A name that was fetched but is unknown again did not fit into the cache. A client retry may succeed.
        if (reply?.unknown === undefined || outcome === "late" || waitedFor.has(reply.unknown.key)) {
          tell(this.#selected, reply, true);
          return this.#count(reply, asked.from.transport, asked.startedMs);
        }
        ({ unknown } = reply);
      }
    } finally {
      cancel();
      this.#places.leave(address);
    }
  }

  #count(reply: ResponderReply | undefined, transport: DnsTransport, startedMs: number): Uint8Array | undefined {
    if (reply === undefined) return undefined;
    if (reply.fault !== undefined) this.#options.onFault(reply.fault);
    if (reply.rate === "dropped") this.#counts.dropped("rate");
    else this.#counts.answered(reply, transport, performance.now() - startedMs);
    return reply.bytes;
  }

  dropped(reason: DropReason): void {
    this.#counts.dropped(reason);
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Reports to the catalog how a question was answered. Does nothing if the answer did not use the catalog. */
function tell(selected: ViewSelection | undefined, reply: ResponderReply | undefined, hasWaited: boolean): void {
  if (selected === undefined || reply === undefined || "isRefused" in selected) return;
  const { catalog } = selected;
  if (catalog.answered === undefined) return;
  const outcome = OUTCOMES[reply.rcode];
  if (outcome !== undefined) catalog.answered({ outcome, hasWaited });
}

const OUTCOMES: Partial<Record<ResponderReply["rcode"], LookupOutcome["outcome"]>> = {
  NOERROR: "found",
  NXDOMAIN: "absent",
  SERVFAIL: "unknown",
};

async function bindBoth(options: DnsGatewayOptions, connections: TcpConnections): Promise<{ udp: UdpSockets; tcp: TcpServer }> {
  const isOneNumber = options.tcpPort === undefined;
  for (let attempt = 1; ; attempt++) {
    const udp = await openUdp(options);
    try {
      return { udp, tcp: await openTcp(options, isOneNumber ? udp.port : (options.tcpPort ?? 0), connections) };
    } catch (error) {
      await udp.close();
      // Retrying helps only if the system selected the port number.
      if (!isOneNumber || options.udpPort !== 0 || attempt === MAX_PORT_ATTEMPTS) throw error;
    }
  }
}

async function openUdp({ host, udpPort: port, sharing, onFault, limits = DNS_LIMITS, machine }: DnsGatewayOptions): Promise<UdpSockets> {
  try {
    return await UdpSockets.open({ host, port, sharing, onFault, maxPendingSends: limits.maxPendingSends, ...machine });
  } catch (error) {
    throw bindError(error, { transport: "udp", host, port });
  }
}

async function openTcp({ host, sharing }: DnsGatewayOptions, port: number, connections: TcpConnections): Promise<TcpServer> {
  const tcp = createServer({ allowHalfOpen: true, highWaterMark: TCP_HIGH_WATER_BYTES }, (socket) =>
    connections.add(socket, { transport: "tcp", address: socket.remoteAddress ?? "", certificate: undefined, mayTransfer: true }),
  );
  try {
    await listenOn(tcp, { host, port, sharing });
    return tcp;
  } catch (error) {
    throw bindError(error, { transport: "tcp", host, port });
  }
}

interface ServerSockets {
  readonly udp: UdpSockets;
  readonly tcp: TcpServer;
  readonly tls: TlsListener | undefined;
}

async function stopAll({ udp, tcp, tls }: ServerSockets, connections: TcpConnections): Promise<void> {
  tls?.close();
  const closed = [
    udp.close(),
    // Resolves when the last connection is closed, at the latest after the grace period.
    new Promise<void>((resolve) => tcp.close(() => resolve())),
  ];
  await connections.close(STOP_GRACE_MS);
  tls?.cut();
  await Promise.all(closed);
}

function portOf(tcp: TcpServer): number {
  const address = tcp.address();
  return address !== null && typeof address === "object" ? address.port : 0;
}

/** Returns an error for the operator, worded like the errors of other listeners. */
function bindError(cause: unknown, at: { readonly transport: DnsTransport; readonly host: string; readonly port: number }): Error {
  const where = `dns ${at.transport} ${at.host}:${at.port}`;
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "EADDRINUSE")
    return new Error(`address already in use: ${where}; pass --dns-port with another port (0 selects a free port)`, { cause });
  if (code === "EACCES")
    return new Error(`not allowed to bind ${where}; ports below 1024 require privileges; pass --dns-port with another port`, { cause });
  return new Error(`cannot bind ${where}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
}
