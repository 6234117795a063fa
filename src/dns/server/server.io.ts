/**
 * The DNS gateway's sockets: UDP and TCP on one port number, and perhaps TLS on another. UDP messages are answered in the turn of the event loop in which they arrive, except where the
 * catalog of a resolver has to fetch something first.
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
  /** 0 takes any free port. */
  readonly udpPort: number;
  /** Absent: the UDP port, also when the system chose it. */
  readonly tcpPort?: number | undefined;
  /** Absent: nobody else listens on the two ports. A `further` thread is told both numbers of the first. */
  readonly sharing?: PortSharing | undefined;
  /** Opens the listener for DNS over TLS; it decides about the port. Absent: there is none. */
  readonly openTls?: ((connections: TlsConnections) => Promise<TlsListener>) | undefined;
  readonly settings: DnsSettings;
  /**
   * The view of the asker. Its catalog should be the same object for all who have that view: another one empties what is kept of the plans.
   * May throw: `discovery_rate_limited` and `discovery_access_denied` are answered REFUSED, all else SERVFAIL. `waited`: what a question that was let in
   * before has waited for, because its catalog did not know it.
   */
  readonly select: (queryClient: QueryClient, waited: PendingNameError | undefined) => ViewSelection;
  /** Gives numbers in [0, 1), to shuffle answers. */
  readonly random: () => number;
  readonly metrics: Metrics;
  /** Reports a fault of ours or of a socket. The gateway goes on. */
  readonly onFault: (fault: unknown) => void;
  readonly limits?: DnsLimits;
  /** Memory for prepared answers. */
  readonly planBytes: number;
  /** Bounds whole answers over UDP; any number when absent. */
  readonly rate?: Omit<ResponseRateOptions, "trusted" | "pauseMs"> | undefined;
  /** The serial of the zone for a view, by its index. */
  readonly serialOf: (viewIndex: number) => number;
  /** Signs answers. Absent: nothing is signed. */
  readonly signer?: ZoneSigner | undefined;
  /** Makes and checks the cookies of clients. */
  readonly cookies?: ServerCookies | undefined;
  /** The keys of secondaries, and the transfers to them. Absent: nobody gets a zone. */
  readonly transfers?: { readonly findKey: (name: string) => TsigKey | undefined; readonly running: ZoneTransfers } | undefined;
  /** Forwarders that the rate does not bound; none when absent. */
  readonly trustedForwarders?: readonly AddressBlock[] | undefined;
  /** Where the addresses of the machine are learned, if not from the system. */
  readonly machine?: Pick<UdpOptions, "addresses" | "lookMs"> | undefined;
  /** What `openDnsAnswers` made of the same options, where others answer from it too. Absent: answers of its own. */
  readonly answers?: DnsAnswers | undefined;
}

/** What answers need of that. */
export type DnsAnswersOptions = Omit<DnsGatewayOptions, "answers" | "host" | "machine" | "openTls" | "sharing" | "tcpPort" | "udpPort">;

/** Who sent a question, and how it came. */
export interface QuerySource {
  readonly transport: DnsTransport;
  readonly address: string;
  /** What a client of DNS over TLS showed. */
  readonly certificate?: PeerCertificate | undefined;
  /** Who a client of DNS over HTTP is, if it showed a credential. */
  readonly caller?: Caller | undefined;
  /** Whether a zone may be sent to it. Absent: it may not. */
  readonly mayTransfer?: boolean | undefined;
}

/** Answers of a gateway, whoever carries them. */
export interface DnsAnswers {
  /**
   * The response; empty where its sender asks too often to get one, and undefined for a message that gets none. A promise where something has to be fetched
   * first: it gives undefined once nobody is answered any more. Many messages where a zone is sent.
   */
  answer(query: Uint8Array, from: QuerySource): TcpAnswer;
  /** Counts input that was not answered. */
  dropped(reason: DropReason): void;
  /** Nobody is answered any more. */
  close(): void;
}

/** Where a listener for DNS over TLS gives its connections. */
export interface TlsConnections {
  /** Most connections that are answered at a time, over TCP and TLS. */
  readonly maxConnections: number;
  /** A handshake is done. */
  readonly accept: (socket: Socket, peer: Pick<TcpPeer, "address" | "certificate" | "mayTransfer">) => void;
  readonly dropped: (reason: "handshake" | "overload") => void;
}

export interface TlsListener {
  readonly port: number;
  /** Reads the certificates again. */
  reload(): void;
  /** Accepts no more. */
  close(): void;
  /** Cuts what is open still, also connections in their handshakes. */
  cut(): void;
}

export interface DnsLimits extends TcpLimits, PendingQueryLimits {
  /** Most UDP answers that the system has not sent yet. Above it queries are dropped. */
  readonly maxPendingSends: number;
  /** How long a question waits at most. */
  readonly maxWaitMs: number;
}

export interface DnsGateway extends AsyncDisposable {
  readonly host: string;
  readonly udpPort: number;
  readonly tcpPort: number;
  /** Undefined without DNS over TLS. */
  readonly tlsPort: number | undefined;
  /** Reads the certificates of DNS over TLS again. */
  reloadTls(): void;
  /** Takes no more queries, lets answers on TCP go out for at most a second, and closes. Idempotent. */
  stop(): Promise<void>;
}

/** They are not settings. */
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
/** Bytes buffered for a TCP peer that does not read, above which it gets no more answers. */
const TCP_HIGH_WATER_BYTES = 16 * 1024;
/** How often the gateway tries another port number when TCP does not get the one that UDP got. */
const MAX_PORT_ATTEMPTS = 20;
const STOP_GRACE_MS = 1_000;
/** Queries that waited in the socket during a pause of this process are read within this time after it. */
const BACKLOG_MS = 500;

export function openDnsAnswers(options: DnsAnswersOptions): DnsAnswers {
  return new DnsServer(options, options.limits ?? DNS_LIMITS);
}

/** Starts the gateway. Rejects with a message for the operator when a port is taken or may not be bound. */
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

/** A question that waits. */
interface PendingQuery {
  readonly query: Uint8Array;
  readonly from: QuerySource;
  readonly startedMs: number;
}

/** Answers queries and counts them. */
class DnsServer implements DnsAnswers {
  readonly #options: DnsAnswersOptions;
  readonly #responder: DnsResponder;
  readonly #limits: DnsLimits;
  readonly #counts: DnsCounts;
  // HOT: objects that are used again, because each query would make its own.
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
      // A copy, because a query over TCP is a part of everything that came with it.
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
      // The responder is not to throw. If it does all the same, this query has no answer, and nobody else notices.
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
        // What arrived and is unknown again found no room. A client that asks again may have more luck.
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

/** Tells the catalog how a question was answered, if it was asked at all. */
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
      // Another try helps only with a number that the system chose.
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
    // Resolves when the last connection is gone; the grace below bounds that.
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

/** An error for the operator, in the same words as those of the other listeners. */
function bindError(cause: unknown, at: { readonly transport: DnsTransport; readonly host: string; readonly port: number }): Error {
  const where = `dns ${at.transport} ${at.host}:${at.port}`;
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "EADDRINUSE")
    return new Error(`address already in use: ${where}; pass --dns-port with another port (0 takes any free one)`, { cause });
  if (code === "EACCES")
    return new Error(`not allowed to bind ${where}; ports below 1024 need a privilege, pass --dns-port with another port`, { cause });
  return new Error(`cannot bind ${where}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
}
