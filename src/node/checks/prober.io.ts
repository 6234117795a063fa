/**
 * Probes the targets of checks. It tests each address after the name is resolved, and connects to that very address, so that a name cannot lead
 * elsewhere in between. It follows nothing, sends no credentials, goes by no proxy, and tells nothing of what it read but the outcome.
 */
import { lookup } from "node:dns/promises";
import { connect, isIP, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { FAILURE } from "../../catalog/entry/checks.ts";
import {
  HEALTH_CHECK_PATH,
  healthOutcome,
  healthRequest,
  httpRequest,
  MAX_ANSWER_BYTES,
  StatusReader,
} from "../../discovery/checks/dialogue.ts";
import { type HealthProbe, isName } from "../../discovery/checks/probe.ts";
import type { ProbeAllowList } from "../../discovery/checks/probe-allow-list.ts";
import { type CheckOutcome, failed, PASSED } from "../../discovery/checks/threshold.ts";
import { ClientConnection, type ClientLimits } from "../../grpc/client/connection.io.ts";
import { callUnary } from "../../grpc/client/unary.ts";
import { hostPort } from "../../lib/addresses.ts";
import { rethrowBroken } from "../../lib/errors.ts";
import { stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";

/** The addresses of a name, in the order in which they are tried. Rejects when the name has none. */
export type ResolveAddresses = (host: string) => Promise<readonly string[]>;

/** Addresses of one name that are tried, one after the other. */
const MAX_ADDRESSES = 4;

/**
 * A connection is for one call, whose answer is a few bytes. Each bound is as large as the whole answer may be, but for the window of the
 * connection, which cannot be smaller (RFC 9113, section 6.9.2). `ShortAnswer` bounds all that comes.
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
  /** For `cut`. */
  readonly id?: number;
  readonly onResolved?: () => void;
}

/** What one probe has open. It is closed when the probe is over, however that was. */
class ProbeAttempt {
  readonly onResolved: () => void;
  readonly #sockets: Duplex[] = [];
  isOver = false;

  constructor(onResolved: () => void) {
    this.onResolved = onResolved;
  }

  own<S extends Duplex>(socket: S): S {
    // Each step listens for errors itself. One that comes later changes nothing.
    socket.on("error", () => {});
    this.#sockets.push(socket);
    return socket;
  }

  close(): void {
    this.isOver = true;
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** A step failed in a way that is an outcome. */
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
  /** Ends what is under way, by its id; without one, by its attempt. */
  readonly #ends = new Map<ProbeAttempt | number, (outcome: CheckOutcome) => void>();

  constructor(reach: ProbeAllowList, resolve: ResolveAddresses = systemAddresses) {
    this.#reach = reach;
    this.#resolve = resolve;
  }

  /**
   * Never rejects, except for a bug. Resolves within the timeout of the probe, or when it is cut. `onResolved` is called when the name
   * look-up has ended, possibly after the outcome, because a look-up cannot be stopped.
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

  /** Ends the probe with this id, if it is under way. */
  cut(id: number): void {
    this.#ends.get(id)?.(failed(FAILURE.TIMEOUT));
  }

  /** Cuts what is under way. */
  close(): void {
    for (const end of this.#ends.values()) end(failed(FAILURE.TIMEOUT));
  }

  async #run(probe: HealthProbe, attempt: ProbeAttempt): Promise<CheckOutcome> {
    try {
      const addresses = await this.#addresses(probe.host, attempt);
      return await converse(probe, await connected(addresses, probe.port, attempt), attempt);
    } catch (error) {
      rethrowBroken(error);
      if (error instanceof ProbeFailedError) return error.outcome;
      throw error;
    }
  }

  /** The addresses of a host that checks may connect to. */
  async #addresses(host: string, attempt: ProbeAttempt): Promise<readonly string[]> {
    const all = isName(host) ? await this.#lookup(host, attempt) : [host];
    const allowed = all.filter((address) => this.#reach.allows(address));
    // A name that does not resolve and a name whose addresses are not allowed get the same failure: a difference would reveal which internal names exist.
    if (allowed.length === 0) throw new ProbeFailedError(failed(isName(host) ? FAILURE.NAME : FAILURE.NOT_ALLOWED));
    return allowed.slice(0, MAX_ADDRESSES);
  }

  async #lookup(host: string, attempt: ProbeAttempt): Promise<readonly string[]> {
    try {
      return await this.#resolve(host);
    } catch (error) {
      rethrowBroken(error);
      return [];
    } finally {
      attempt.onResolved();
    }
  }
}

/** As programs of this machine find them: its hosts file counts, too. */
async function systemAddresses(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}

/** A connection to the first of these addresses that takes one. They are literals, so nothing is resolved again. */
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

/** The certificate is not verified: a check finds out whether somebody serves there, and trusts nobody with anything. */
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
      // Nothing more is read, whatever the server sends.
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
  // node:http2 makes a URL of it, and throws for a name whose last label looks like a part of an address, such as `web.0x1`.
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
 * Passes on what comes on a stream, and cuts it at the chunk that goes over a number of bytes. Whatever the other end makes of them counts: of
 * HTTP/2 also the frames that carry no answer, and padding. Destroying it destroys the stream.
 */
/** A connection on which the other end may say so much and no more. */
class ShortAnswer extends Duplex {
  readonly #stream: Duplex;
  #leftBytes: number;
  #bytesRead = 0;

  /** `stream` is connected, and read by nobody else. */
  constructor(stream: Duplex, maxBytes: number) {
    super();
    this.#stream = stream;
    this.#leftBytes = maxBytes;
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    // oxlint-disable-next-line unicorn/no-null -- the end, as node:stream wants it said.
    stream.once("end", () => this.push(null));
    stream.once("close", () => this.destroy());
  }

  /** Whether more came than may come. */
  get isCut(): boolean {
    return this.#leftBytes < 0;
  }

  /** As of a socket: bytes that came. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** The stream flows: what is held here until it is read is bounded. */
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
