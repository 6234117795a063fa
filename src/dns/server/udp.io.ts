/**
 * The UDP sockets of a gateway. A socket bound to the unspecified address replies from the address that the system selects by route. Resolvers drop
 * the reply if this address differs from the queried address. `node:dgram` does not report the destination of a datagram and cannot send from a
 * chosen address. Therefore, if the gateway listens on all addresses of the machine, it opens an additional socket for each address.
 */
import type { RemoteInfo, SocketOptions, Socket as UdpSocket } from "node:dgram";
import { lookup } from "node:dns";
import { isIP, isIPv6 } from "node:net";
import { networkInterfaces } from "node:os";
import { parseAddress } from "../../lib/addresses.ts";
import { bindUdp, type PortSharing } from "../../lib/shared-port.io.ts";
import type { DropReason } from "./counts.ts";
import type { TcpAnswer } from "./tcp.io.ts";

export interface UdpOptions {
  readonly host: string;
  /** 0 selects a free port. */
  readonly port: number;
  readonly sharing?: PortSharing | undefined;
  /** Maximum number of responses queued in the sockets, divided equally among them. */
  readonly maxPendingSends: number;
  readonly onFault: (fault: unknown) => void;
  /** Returns the addresses of the machine. */
  readonly addresses?: (() => readonly string[]) | undefined;
  /** Interval for listing the addresses again. */
  readonly lookMs?: number | undefined;
}

export interface UdpHandlers {
  /** As for TCP. Returns undefined for a message that is dropped. */
  answer(query: Uint8Array, from: { readonly transport: "udp"; readonly address: string }): TcpAnswer;
  dropped(reason: DropReason): void;
}

/**
 * Receive buffer size for bursts, as in other name servers (Unbound, `so-rcvbuf`). The system limits it to `net.core.rmem_max`. The system default
 * size holds about 200 queries.
 */
const UDP_RECEIVE_BYTES = 4 << 20;
/**
 * Maximum number of addresses with their own socket. A machine may have thousands of addresses, for example if kube-proxy assigns all service
 * addresses to it (IPVS mode).
 */
const MAX_ADDRESSES = 64;
const LOOK_MS = 5_000;

export class UdpSockets {
  readonly #options: UdpOptions;
  readonly #port: number;
  /** The socket of the configured host. It receives all questions for addresses without their own socket. */
  readonly #first: UdpSocket;
  readonly #ofAddress = new Map<string, UdpSocket>();
  /** Addresses that could not be bound and have been reported. */
  readonly #refused = new Set<string>();
  readonly #hasAddresses: boolean;
  #handlers: UdpHandlers | undefined;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #isFull = false;
  #isClosed = false;

  private constructor(options: UdpOptions, first: UdpSocket, hasAddresses: boolean) {
    this.#options = options;
    this.#first = first;
    this.#port = first.address().port;
    this.#hasAddresses = hasAddresses;
  }

  /** Binds the port. Rejects with the error of the system. */
  static async open(options: UdpOptions): Promise<UdpSockets> {
    const { host, port, sharing } = options;
    if (!isUnspecified(host)) return new UdpSockets(options, await openUdp(host, { port, sharing }), false);
    try {
      // The other sockets bind the same port, so the port must be shared. The mode `first` fails unless the port is free.
      return new UdpSockets(options, await openUdp(host, { port, sharing: sharing ?? "first" }), true);
    } catch (error) {
      // Systems without shared ports use this socket only.
      if (sharing !== undefined || !isUnsupported(error)) throw error;
      return new UdpSockets(options, await openUdp(host, { port }), false);
    }
  }

  get port(): number {
    return this.#port;
  }

  /** Starts answering. Resolves when each address of the machine has its own socket. */
  async serve(handlers: UdpHandlers): Promise<void> {
    this.#handlers = handlers;
    this.#serve(this.#first);
    if (!this.#hasAddresses) return;
    await this.#look();
    if (this.#isClosed) return;
    this.#timer = setInterval(() => void this.#look(), this.#options.lookMs ?? LOOK_MS).unref();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    await this.#looking;
    const sockets = [this.#first, ...this.#ofAddress.values()];
    await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))));
  }

  #look(): Promise<void> {
    return (this.#looking ??= this.#lookNow().finally(() => {
      this.#looking = undefined;
    }));
  }

  /** Opens sockets for new addresses and closes the sockets of removed addresses. */
  async #lookNow(): Promise<void> {
    const { host, addresses = ownAddresses, onFault } = this.#options;
    let all: readonly string[];
    try {
      all = addresses().filter((address) => isIPv6(host) || !isIPv6(address));
    } catch (error) {
      // Without netlink sockets, the system does not list the addresses.
      if (!this.#refused.has("")) onFault(error);
      this.#refused.add("");
      return;
    }
    const wanted = new Set(all.slice(0, MAX_ADDRESSES));
    if (all.length > MAX_ADDRESSES && !this.#isFull)
      onFault(
        new Error(
          `the machine has ${all.length} addresses, but the DNS gateway answers only from the first ${MAX_ADDRESSES}: set dns.host to one address`,
        ),
      );
    this.#isFull = all.length > MAX_ADDRESSES;
    for (const [address, socket] of this.#ofAddress) {
      if (wanted.has(address)) continue;
      this.#ofAddress.delete(address);
      socket.close();
    }
    for (const address of this.#refused) if (!wanted.has(address)) this.#refused.delete(address);
    for (const address of wanted) if (!this.#ofAddress.has(address) && !this.#isClosed) await this.#add(address);
  }

  async #add(address: string): Promise<void> {
    try {
      const socket = await openUdp(address, { port: this.#port, sharing: "further" });
      this.#ofAddress.set(address, socket);
      this.#refused.delete(address);
      this.#serve(socket);
    } catch (error) {
      // The address may have been removed, or may be unusable at the moment. The error is reported once per address.
      if (!this.#refused.has(address)) this.#options.onFault(error);
      this.#refused.add(address);
    }
  }

  #serve(udp: UdpSocket): void {
    const handlers = this.#handlers;
    const { maxPendingSends, onFault } = this.#options;
    if (handlers === undefined) return;
    let isOpen = true;
    // The response is sent without a callback, so that an unreachable peer does not cause an error. The client will retry.
    const send = (answer: Uint8Array, peer: RemoteInfo) => udp.send(answer, peer.port, peer.address);
    const sendLater = async (answer: Promise<Uint8Array | undefined>, peer: RemoteInfo) => {
      const late = await answer;
      if (late !== undefined && late.length > 0 && isOpen) send(late, peer);
    };
    udp.on("message", (query: Buffer, peer: RemoteInfo) => {
      // Packets from port 0 are forged and cannot be answered.
      if (peer.port === 0) return handlers.dropped("malformed");
      if (udp.getSendQueueCount() * (1 + this.#ofAddress.size) >= maxPendingSends) return handlers.dropped("overload");
      const answer = handlers.answer(query, { transport: "udp", address: peer.address });
      if (answer === undefined) return handlers.dropped("malformed");
      if (answer instanceof Promise) void sendLater(answer, peer);
      else if (!(Symbol.asyncIterator in answer) && answer.length > 0) send(answer, peer);
    });
    udp.on("error", onFault);
    udp.on("close", () => {
      isOpen = false;
    });
  }
}

async function openUdp(host: string, at: { readonly port: number; readonly sharing?: PortSharing | undefined }): Promise<UdpSocket> {
  let isBound = false;
  // HOT: `dgram` looks up the peer address for each send. By default, the result arrives in the next event-loop turn. A literal address needs no
  // lookup. Before the socket is bound, the default lookup is used.
  const lookUp: NonNullable<SocketOptions["lookup"]> = (name, options, done) => {
    // oxlint-disable-next-line unicorn/no-null -- `dgram` reports success as null
    if (isBound) done(null, name, isIP(name));
    else lookup(name, options, done);
  };
  const type = isIPv6(host) ? "udp6" : "udp4";
  const udp = await bindUdp({ type, recvBufferSize: UDP_RECEIVE_BYTES, lookup: lookUp }, { host, ...at });
  isBound = true;
  return udp;
}

function isUnspecified(host: string): boolean {
  return parseAddress(host)?.every((byte) => byte === 0) === true;
}

function isUnsupported(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOTSUP";
}

/** Omits link-local addresses. Their clients are on the same link, so the system replies from the right address. */
function ownAddresses(): readonly string[] {
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  return [...new Set(all.filter(({ address }) => !/^fe[89ab]/i.test(address)).map(({ address }) => address))];
}
