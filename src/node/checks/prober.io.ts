/**
 * Probes the targets of checks. A probe resolves a name first, checks each address, and connects to the checked address, so the name cannot resolve
 * to a different address in between. A probe never follows redirects, sends credentials or uses a proxy, and it reports only the outcome, not the
 * content of the response.
 */
import { lookup } from "node:dns/promises";
import { connect, isIP, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { FAILURE } from "../../catalog/entry/checks.ts";
import { type HealthProbe, isName } from "../../discovery/checks/probe.ts";
import type { ProbeAllowList } from "../../discovery/checks/probe-allow-list.ts";
import {
  HEALTH_CHECK_PATH,
  healthOutcome,
  healthRequest,
  httpRequest,
  MAX_ANSWER_BYTES,
  StatusReader,
} from "../../discovery/checks/probe-protocols.ts";
import { type CheckOutcome, failed, PASSED } from "../../discovery/checks/threshold.ts";
import { ClientConnection, type ClientLimits } from "../../grpc/client/connection.io.ts";
import { callUnary } from "../../grpc/client/unary.ts";
import { hostPort } from "../../lib/addresses.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import { stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";

/** Resolves a name to its addresses, in the order in which they are tried. Rejects if the name has no addresses. */
export type ResolveAddresses = (host: string) => Promise<readonly string[]>;

/** Maximum number of addresses that are tried for one name, one after the other. */
const MAX_ADDRESSES = 4;

/**
 * Each connection serves one call with a response of a few bytes. Each limit equals the maximum size of the whole response, except the connection
 * window, which cannot be smaller than RFC 9113, section 6.9.2, allows. `ShortAnswer` limits the total number of received bytes.
 */
const GRPC_LIMITS: ClientLimits = {
  maxReceiveBytes: MAX_ANSWER_BYTES,
  maxSendBytes: MAX_ANSWER_BYTES,
  maxBufferedBytes: MAX_ANSWER_BYTES,
  maxCalls: 1,
  maxSessionMemoryMiB: 1,
  maxHeaderPairs: 64,
  maxHeaderListBytes: MAX_ANSWER_BYTES,
  streamWindowBytes: MAX_ANSWER_BYTES,
  connectionWindowBytes: 65_535,
  keepaliveTimeMs: 3_600_000,
  keepaliveTimeoutMs: 3_600_000,
};

interface ProbeHooks {
  /** Id for `cut`. */
  readonly id?: number;
  readonly onResolved?: () => void;
}

/** Open sockets of one probe. The sockets are closed when the probe ends, for any reason. */
class ProbeAttempt {
  readonly onResolved: () => void;
  readonly #sockets: Duplex[] = [];
  isOver = false;

  constructor(onResolved: () => void) {
    this.onResolved = onResolved;
  }

  own<S extends Duplex>(socket: S): S {
    // Each step handles its own errors. Errors after the last step have no effect.
    socket.on("error", () => {});
    this.#sockets.push(socket);
    return socket;
  }

  close(): void {
    this.isOver = true;
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Thrown when a step fails and the failure is the outcome of the check. */
class ProbeFailedError extends Error {
  readonly outcome: CheckOutcome;

  constructor(outcome: CheckOutcome) {
    super("the probe failed");
    this.outcome = outcome;
  }
}

export class Prober {
  readonly #reach: ProbeAllowList;
  readonly #resolve: ResolveAddresses;
  /** Functions that end probes in flight, by probe id, or by attempt for probes without an id. */
  readonly #ends = new Map<ProbeAttempt | number, (outcome: CheckOutcome) => void>();

  constructor(reach: ProbeAllowList, resolve: ResolveAddresses = systemAddresses) {
    this.#reach = reach;
    this.#resolve = resolve;
  }

  /**
   * Never rejects, except for a bug. Resolves within the timeout of the probe, or when the probe is cancelled. `onResolved` is called when the name
   * lookup has ended. The lookup can end after the outcome is known, because it cannot be stopped.
   */
  async probe(probe: HealthProbe, { id, onResolved = () => {} }: ProbeHooks = {}): Promise<CheckOutcome> {
    const attempt = new ProbeAttempt(onResolved);
    const late = Promise.withResolvers<CheckOutcome>();
    this.#ends.set(id ?? attempt, late.resolve);
    const timer = stallAwareTimeout(() => late.resolve(failed(FAILURE.TIMEOUT)), probe.timeoutMs);
    try {
      return await Promise.race([this.#run(probe, attempt), late.promise]);
    } finally {
      timer.clear();
      attempt.close();
      this.#ends.delete(id ?? attempt);
    }
  }

  /** Ends the probe with this id, if it is in flight. */
  cut(id: number): void {
    this.#ends.get(id)?.(failed(FAILURE.TIMEOUT));
  }

  /** Ends all probes in flight. */
  close(): void {
    for (const end of this.#ends.values()) end(failed(FAILURE.TIMEOUT));
  }

  async #run(probe: HealthProbe, attempt: ProbeAttempt): Promise<CheckOutcome> {
    try {
      const addresses = await this.#addresses(probe.host, attempt);
      return await converse(probe, await connected(addresses, probe.port, attempt), attempt);
    } catch (error) {
      rethrowInvariant(error);
      if (error instanceof ProbeFailedError) return error.outcome;
      throw error;
    }
  }

  /** Returns the addresses of a host to which checks may connect. */
  async #addresses(host: string, attempt: ProbeAttempt): Promise<readonly string[]> {
    const all = isName(host) ? await this.#lookup(host, attempt) : [host];
    const allowed = all.filter((address) => this.#reach.allows(address));
    // A name that does not resolve and a name whose addresses are not allowed cause the same failure: a difference would reveal which internal names
    // exist.
    if (allowed.length === 0) throw new ProbeFailedError(failed(isName(host) ? FAILURE.NAME : FAILURE.NOT_ALLOWED));
    return allowed.slice(0, MAX_ADDRESSES);
  }

  async #lookup(host: string, attempt: ProbeAttempt): Promise<readonly string[]> {
    try {
      return await this.#resolve(host);
    } catch (error) {
      rethrowInvariant(error);
      return [];
    } finally {
      attempt.onResolved();
    }
  }
}

/** Resolves a name as other programs of this machine do, including its hosts file. */
async function systemAddresses(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}

/** Connects to the first address that accepts the connection. The addresses are literals, so nothing is resolved again. */
async function connected(addresses: readonly string[], port: number, attempt: ProbeAttempt): Promise<Socket> {
  for (const host of addresses) {
    if (attempt.isOver) break;
    const socket = attempt.own(connect({ host, port, autoSelectFamily: false }));
    const isUp = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("close", () => resolve(false));
    });
    if (isUp) return socket;
  }
  throw new ProbeFailedError(failed(FAILURE.REFUSED));
}

async function converse(probe: HealthProbe, socket: Socket, attempt: ProbeAttempt): Promise<CheckOutcome> {
  switch (probe.kind) {
    case "tcp":
      return PASSED;
    case "http": {
      const over = probe.isTls ? await secured(socket, probe.host, "http/1.1", attempt) : socket;
      return statusOutcome(await httpStatus(over, httpRequest(probe)), probe.statuses);
    }
    case "grpc": {
      const over = probe.isTls ? await secured(socket, probe.host, "h2", attempt) : socket;
      return health(attempt.own(new ShortAnswer(over, MAX_ANSWER_BYTES)), probe);
    }
  }
}

/** Starts TLS without verifying the certificate: a check only tests whether a server responds, and sends no secrets to it. */
function secured(socket: Socket, host: string, protocol: string, attempt: ProbeAttempt): Promise<Socket> {
  const servername = isIP(host) === 0 ? { servername: host } : {};
  const over = attempt.own(connectTls({ socket, ...servername, rejectUnauthorized: false, ALPNProtocols: [protocol] }));
  return new Promise((resolve, reject) => {
    over.once("secureConnect", () => resolve(over));
    over.once("close", () => reject(new ProbeFailedError(failed(FAILURE.MALFORMED))));
  });
}

function httpStatus(socket: Socket, request: string): Promise<number> {
  const reader = new StatusReader();
  return new Promise((resolve, reject) => {
    socket.on("data", (bytes: Buffer) => {
      const status = reader.push(bytes);
      if (status === undefined) return;
      // Stops reading, even if more data arrives.
      socket.destroy();
      if (status === "malformed") reject(new ProbeFailedError(failed(FAILURE.MALFORMED)));
      else resolve(status);
    });
    socket.once("end", () => socket.destroy());
    socket.once("close", () => reject(new ProbeFailedError(failed(reader.hasBegun ? FAILURE.MALFORMED : FAILURE.REFUSED))));
    socket.write(request);
  });
}

function statusOutcome(status: number, { min, max }: { readonly min: number; readonly max: number }): CheckOutcome {
  return status >= min && status <= max ? PASSED : failed(FAILURE.STATUS, status);
}

function health(
  stream: ShortAnswer,
  { host, port, service, isTls, timeoutMs }: Extract<HealthProbe, { readonly kind: "grpc" }>,
): Promise<CheckOutcome> {
  const scheme = isTls ? "https" : "http";
  const authority = hostPort(host, port);
  // node:http2 builds a URL from the authority, and throws for a name whose last label looks like part of an address, such as `web.0x1`.
  if (!URL.canParse(`${scheme}://${authority}`)) return Promise.resolve(failed(FAILURE.MALFORMED));
  const connection = new ClientConnection(stream, { authority, scheme, limits: GRPC_LIMITS });
  return new Promise((resolve) => {
    callUnary(connection, { path: HEALTH_CHECK_PATH, message: healthRequest(service), timeoutMs }, (answer) => {
      const outcome = stream.isCut ? failed(FAILURE.MALFORMED) : healthOutcome(answer, connection.isReady);
      connection.destroy();
      resolve(outcome);
    });
  });
}

/**
 * Forwards the received bytes of a stream, and closes the stream when they exceed `maxBytes`. HTTP/2 padding and frames without a response also count
 * towards the limit. Destroying this object destroys the stream.
 */
class ShortAnswer extends Duplex {
  readonly #stream: Duplex;
  #leftBytes: number;
  #bytesRead = 0;

  /** `stream` is connected and has no other reader. */
  constructor(stream: Duplex, maxBytes: number) {
    super();
    this.#stream = stream;
    this.#leftBytes = maxBytes;
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    // oxlint-disable-next-line unicorn/no-null -- node:stream requires null for the end.
    stream.once("end", () => this.push(null));
    stream.once("close", () => this.destroy());
  }

  /** Whether more bytes arrived than allowed. */
  get isCut(): boolean {
    return this.#leftBytes < 0;
  }

  /** Number of received bytes, named as on a socket. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** Does nothing, because the stream is in flowing mode. The amount of data buffered in this object is limited. */
  override _read(): void {}

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#stream.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#stream.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#stream.destroy();
    done(error);
  }

  #take(chunk: Buffer): void {
    if (this.destroyed) return;
    this.#bytesRead += chunk.length;
    this.#leftBytes -= chunk.length;
    if (this.isCut) this.destroy();
    else this.push(chunk);
  }
}
