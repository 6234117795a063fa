/**
 * The DNS gateway's sockets: UDP and TCP on one port number. UDP messages are answered in the turn of the event loop in which they arrive, except where the
 * catalog of a resolver has to fetch something first.
 */

import type { RemoteInfo, Socket as UdpSocket } from "node:dgram";
import { createServer, isIPv6, type Server as TcpServer } from "node:net";
import { type AddressBlock, isWithin } from "../../lib/addresses.ts";
import { later } from "../../lib/later.io.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { bindUdp, listenOn, type PortSharing } from "../../lib/shared-port.io.ts";
import type { DnsSettings } from "../records/record.ts";
import type { Asker, Selected } from "../views/asker.ts";
import type { Answered, UnknownName } from "../views/elsewhere.ts";
import type { DnsTransport } from "../wire/wire.ts";
import { type Reply, Responder } from "./responder.ts";
import { ResponseRate, type ResponseRateOptions } from "./response-rate.ts";
import { type DropReason, TcpConnections, type TcpLimits } from "./tcp.io.ts";

export interface DnsGatewayOptions {
  /** Address to bind. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly udpPort: number;
  /** Absent: the UDP port, also when the system chose it. */
  readonly tcpPort?: number | undefined;
  /** Absent: nobody else listens on the two ports. A `further` thread is told both numbers of the first. */
  readonly sharing?: PortSharing | undefined;
  readonly settings: DnsSettings;
  /**
   * The view of the asker. Its catalog should be the same object for all who have that view: another one empties what is kept of the plans.
   * May throw: `discovery_rate_limited` and `discovery_access_denied` are answered REFUSED, all else SERVFAIL. `waited`: what a question that was let in
   * before has waited for, because its catalog did not know it.
   */
  readonly select: (asker: Asker, waited: UnknownName | undefined) => Selected;
  /** Gives numbers in [0, 1), to shuffle answers. */
  readonly random: () => number;
  readonly metrics: Metrics;
  /** Reports a fault of ours or of a socket. The gateway goes on. */
  readonly onFault: (fault: unknown) => void;
  readonly limits?: DnsLimits;
  /** Memory for prepared answers. */
  readonly planBytes: number;
  /** Bounds whole answers over UDP; any number when absent. */
  readonly rate?: ResponseRateOptions | undefined;
  /** The serial of the zone for a view, by its index. */
  readonly serialOf?: ((viewIndex: number) => number) | undefined;
  /** Forwarders that the rate does not bound; none when absent. */
  readonly trustedForwarders?: readonly AddressBlock[] | undefined;
}

export interface DnsLimits extends TcpLimits {
  /** Most UDP answers that the system has not sent yet. Above it queries are dropped. */
  readonly maxPendingSends: number;
  /** Most questions that wait for something that is being fetched. Above it they are answered SERVFAIL at once. */
  readonly maxWaiting: number;
  /** How long a question waits at most. */
  readonly maxWaitMs: number;
}

export interface DnsGateway extends AsyncDisposable {
  readonly host: string;
  readonly udpPort: number;
  readonly tcpPort: number;
  /** Takes no more queries, lets answers on TCP go out for at most a second, and closes. Idempotent. */
  stop(): Promise<void>;
}

/** They are not settings. */
export const DNS_LIMITS: DnsLimits = {
  maxConnections: 256,
  idleTimeoutMs: 10_000,
  maxQueryBytes: 4096,
  maxPendingSends: 4096,
  maxWaiting: 1000,
  maxWaitMs: 500,
};
/** Room for a burst: the system's default holds some 200 queries. */
const UDP_RECEIVE_BYTES = 1 << 20;
/** Bytes buffered for a TCP peer that does not read, above which it gets no more answers. */
const TCP_HIGH_WATER_BYTES = 16 * 1024;
/** How often the gateway tries another port number when TCP does not get the one that UDP got. */
const MAX_PORT_ATTEMPTS = 20;
const STOP_GRACE_MS = 1_000;

/** Starts the gateway. Rejects with a message for the operator when a port is taken or may not be bound. */
export async function startDnsGateway(options: DnsGatewayOptions): Promise<DnsGateway> {
  const limits = options.limits ?? DNS_LIMITS;
  const server = new DnsServer(options, limits);
  const connections = new TcpConnections(limits, {
    answer: (query, peer) => server.answer(query, "tcp", peer),
    dropped: (reason) => server.dropped(reason),
  });
  const { udp, tcp } = await bindBoth(options, connections);
  serveUdp(udp, server, { ...limits, onFault: options.onFault });
  tcp.on("error", options.onFault);
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    server.close();
    return (stopped ??= stopAll(udp, tcp, connections));
  };
  return { host: options.host, udpPort: udp.address().port, tcpPort: portOf(tcp), stop, [Symbol.asyncDispose]: stop };
}

/** A question that waits. */
interface Asked {
  readonly query: Uint8Array;
  readonly transport: DnsTransport;
  readonly peerAddress: string;
  readonly startedMs: number;
}

/** Answers queries and counts them. */
class DnsServer {
  readonly #options: DnsGatewayOptions;
  readonly #responder: Responder;
  readonly #rate: ResponseRate | undefined;
  readonly #limits: DnsLimits;
  #waitingCount = 0;
  #isClosed = false;

  constructor(options: DnsGatewayOptions, limits: DnsLimits) {
    this.#options = options;
    this.#limits = limits;
    this.#rate = options.rate === undefined ? undefined : new ResponseRate(options.rate);
    this.#responder = new Responder(options);
    const { metrics } = options;
    const { plans } = this.#responder;
    metrics.onCollect(() => {
      metrics.set("dns_plans_bytes", {}, plans.sizeBytes);
      metrics.counter("dns_plans_made_total", {}).set(plans.madeCount);
      metrics.counter("dns_plans_dropped_total", {}).set(plans.droppedCount);
      metrics.counter("dns_alias_conflicts_total", {}).set(plans.contestedCount);
    });
  }

  /**
   * The response, valid until the next call. Undefined for a message that gets none. A promise where something has to be fetched first: its response stays valid,
   * and is undefined once the gateway is closed.
   */
  answer(query: Uint8Array, transport: DnsTransport, peerAddress: string): Uint8Array | Promise<Uint8Array | undefined> | undefined {
    const startedMs = performance.now();
    const { metrics } = this.#options;
    // Over TCP the address cannot be forged.
    const isWhole =
      transport === "tcp" || this.#rate === undefined || this.#isTrusted(peerAddress) || this.#rate.takes(peerAddress, startedMs);
    if (!isWhole) metrics.inc("dns_rate_limited_total", {});
    if (!isWhole) return this.#count(this.#responder.cut(query), transport, startedMs);
    let selected: Selected | undefined;
    const { select } = this.#options;
    const reply = this.#responder.respond(
      query,
      transport,
      (subnet) => (selected = select({ address: peerAddress, transport, subnet }, undefined)),
    );
    if (reply?.unknown !== undefined && this.#waitingCount < this.#limits.maxWaiting)
      return this.#later({ query, transport, peerAddress, startedMs }, reply.unknown);
    tell(selected, reply, false);
    return this.#count(reply, transport, startedMs);
  }

  #isTrusted(peerAddress: string): boolean {
    const { trustedForwarders: trusted } = this.#options;
    return trusted !== undefined && trusted.length > 0 && isWithin(trusted, peerAddress);
  }

  /** Nobody is answered any more. */
  close(): void {
    this.#isClosed = true;
  }

  async #later({ query, transport, peerAddress, startedMs }: Asked, first: UnknownName): Promise<Uint8Array | undefined> {
    this.#waitingCount += 1;
    const late = Promise.withResolvers<"late">();
    const cancel = later(() => late.resolve("late"), this.#limits.maxWaitMs);
    try {
      const asked = new Set<string>();
      for (let unknown = first; ; ) {
        asked.add(unknown.key);
        const outcome = await Promise.race([unknown.arrival, late.promise]);
        if (this.#isClosed) return undefined;
        let selected: Selected | undefined;
        const waited = unknown;
        const reply = this.#responder.respond(
          query,
          transport,
          (subnet) => (selected = this.#options.select({ address: peerAddress, transport, subnet }, waited)),
        );
        // What arrived and is unknown again found no room. A client that asks again may have more luck.
        if (reply?.unknown === undefined || outcome === "late" || asked.has(reply.unknown.key)) {
          tell(selected, reply, true);
          return this.#count(reply, transport, startedMs)?.slice();
        }
        ({ unknown } = reply);
      }
    } finally {
      cancel();
      this.#waitingCount -= 1;
    }
  }

  #count(reply: Reply | undefined, transport: DnsTransport, startedMs: number): Uint8Array | undefined {
    if (reply === undefined) return undefined;
    const { metrics, onFault } = this.#options;
    if (reply.fault !== undefined) onFault(reply.fault);
    metrics.inc("dns_queries_total", { qtype: reply.qtype, rcode: reply.rcode, transport });
    if (reply.isTruncated) metrics.inc("dns_truncated_total", {});
    metrics.observe("dns_query_latency_ms", {}, performance.now() - startedMs);
    return reply.bytes;
  }

  dropped(reason: DropReason): void {
    this.#options.metrics.inc("dns_dropped_total", { reason });
  }
}

/** Tells the catalog how a question was answered, if it was asked at all. */
function tell(selected: Selected | undefined, reply: Reply | undefined, hasWaited: boolean): void {
  const outcome = reply === undefined ? undefined : OUTCOMES[reply.rcode];
  if (outcome === undefined || selected === undefined || "refused" in selected) return;
  selected.catalog.answered?.({ outcome, hasWaited });
}

const OUTCOMES: Partial<Record<Reply["rcode"], Answered["outcome"]>> = { NOERROR: "found", NXDOMAIN: "absent", SERVFAIL: "unknown" };

function serveUdp(
  udp: UdpSocket,
  server: DnsServer,
  { maxPendingSends, onFault }: { readonly maxPendingSends: number; readonly onFault: (fault: unknown) => void },
): void {
  let pendingSends = 0;
  const send = (answer: Uint8Array, peer: RemoteInfo) => {
    pendingSends++;
    // A copy: the responder uses its buffer again before the system has read it.
    udp.send(Buffer.from(answer), peer.port, peer.address, () => {
      // Errors are ignored: a peer that could not be reached will ask again.
      pendingSends--;
    });
  };
  const sendLater = async (answer: Promise<Uint8Array | undefined>, peer: RemoteInfo) => {
    const late = await answer;
    if (late !== undefined) send(late, peer);
  };
  udp.on("message", (query: Buffer, peer: RemoteInfo) => {
    // A packet from port 0 is forged, and cannot be answered.
    if (peer.port === 0) return server.dropped("malformed");
    if (pendingSends >= maxPendingSends) return server.dropped("overload");
    const answer = server.answer(query, "udp", peer.address);
    if (answer === undefined) return server.dropped("malformed");
    if (!(answer instanceof Promise)) return send(answer, peer);
    void sendLater(answer, peer);
  });
  udp.on("error", onFault);
}

async function bindBoth(options: DnsGatewayOptions, connections: TcpConnections): Promise<{ udp: UdpSocket; tcp: TcpServer }> {
  const isOneNumber = options.tcpPort === undefined;
  for (let attempt = 1; ; attempt++) {
    const udp = await openUdp(options);
    try {
      return { udp, tcp: await openTcp(options, isOneNumber ? udp.address().port : (options.tcpPort ?? 0), connections) };
    } catch (error) {
      udp.close();
      // Another try helps only with a number that the system chose.
      if (!isOneNumber || options.udpPort !== 0 || attempt === MAX_PORT_ATTEMPTS) throw error;
    }
  }
}

async function openUdp({ host, udpPort: port, sharing }: DnsGatewayOptions): Promise<UdpSocket> {
  try {
    return await bindUdp({ type: isIPv6(host) ? "udp6" : "udp4", recvBufferSize: UDP_RECEIVE_BYTES }, { host, port, sharing });
  } catch (error) {
    throw bindError(error, { transport: "udp", host, port });
  }
}

async function openTcp({ host, sharing }: DnsGatewayOptions, port: number, connections: TcpConnections): Promise<TcpServer> {
  const tcp = createServer({ allowHalfOpen: true, highWaterMark: TCP_HIGH_WATER_BYTES }, (socket) => connections.add(socket));
  try {
    await listenOn(tcp, { host, port, sharing });
    return tcp;
  } catch (error) {
    throw bindError(error, { transport: "tcp", host, port });
  }
}

async function stopAll(udp: UdpSocket, tcp: TcpServer, connections: TcpConnections): Promise<void> {
  const closed = [
    new Promise<void>((resolve) => udp.close(() => resolve())),
    // Resolves when the last connection is gone; the grace below bounds that.
    new Promise<void>((resolve) => tcp.close(() => resolve())),
  ];
  await connections.close(STOP_GRACE_MS);
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
