/** DNS over TCP (RFC 7766): framed queries answered in order, with bounds on everything a stranger can hold open. */

import type { Socket } from "node:net";
import { type PatientTimeout, patientTimeout } from "../lib/patient-time.io.ts";

export interface TcpLimits {
  /** Connections at a time; one more closes the one that has been quiet longest. */
  readonly maxConnections: number;
  /** A connection without a whole query answered and read for this long is closed. */
  readonly idleTimeoutMs: number;
  /** Longer queries close the connection: a question and EDNS options need a fraction of it. */
  readonly maxQueryBytes: number;
}

/** Why input was thrown away without an answer, as in `dns_dropped_total`. */
export type DropReason = "malformed" | "overload" | "idle";

export interface TcpHandlers {
  /** The answer to one query; undefined closes the connection. */
  answer(query: Uint8Array, peerAddress: string): Uint8Array | undefined;
  dropped(reason: DropReason): void;
}

/** A query shorter than a header is not one. */
const MIN_QUERY_BYTES = 12;
const LENGTH_BYTES = 2;
/** Queries answered in one turn of the event loop, over all connections: thousands may arrive at once, and everybody else waits meanwhile. */
const ANSWERS_PER_TURN = 16;

/** The connections of one listener. */
export class TcpConnections {
  readonly #limits: TcpLimits;
  readonly #handlers: TcpHandlers;
  /** Quietest first: a connection moves to the end with each query. */
  readonly #open = new Set<TcpConnection>();
  /** Those with a whole query to answer; who waited longest first. */
  readonly #ready = new Set<TcpConnection>();

  constructor(limits: TcpLimits, handlers: TcpHandlers) {
    this.#limits = limits;
    this.#handlers = handlers;
  }

  get size(): number {
    return this.#open.size;
  }

  add(socket: Socket): void {
    if (this.#open.size >= this.#limits.maxConnections) {
      const [quietest] = this.#open;
      quietest?.destroy();
      this.#handlers.dropped("overload");
    }
    const connection = new TcpConnection(socket, this.#limits, {
      ...this.#handlers,
      answer: (query, peer) => {
        this.#open.delete(connection);
        this.#open.add(connection);
        return this.#handlers.answer(query, peer);
      },
      dropped: (reason) => this.#handlers.dropped(reason),
      ready: () => this.#wait(connection),
    });
    this.#open.add(connection);
    socket.once("close", () => {
      this.#open.delete(connection);
      this.#ready.delete(connection);
    });
  }

  #wait(connection: TcpConnection): void {
    if (this.#ready.size === 0) setImmediate(() => this.#turn());
    this.#ready.add(connection);
  }

  /** One query each, in turn. */
  #turn(): void {
    for (let left = ANSWERS_PER_TURN; left > 0; left--) {
      const [first] = this.#ready;
      if (first === undefined) return;
      this.#ready.delete(first);
      if (first.answerNext()) this.#ready.add(first);
    }
    if (this.#ready.size > 0) setImmediate(() => this.#turn());
  }

  /** Lets what is written go out, then closes; those that are not done after `graceMs` are cut. */
  async close(graceMs: number): Promise<void> {
    const deadline = setTimeout(() => {
      for (const connection of this.#open) connection.destroy();
    }, graceMs);
    await Promise.all([...this.#open].map((connection) => connection.end()));
    clearTimeout(deadline);
  }
}

interface ConnectionHandlers extends TcpHandlers {
  /** It has a whole query, and waits for `answerNext`. */
  ready(): void;
}

class TcpConnection {
  readonly #socket: Socket;
  readonly #limits: TcpLimits;
  readonly #handlers: ConnectionHandlers;
  readonly #peerAddress: string;
  readonly #idle: PatientTimeout;
  #pending: Buffer = Buffer.alloc(0);
  #isWaitingForDrain = false;
  #hasPeerEnded = false;
  /** We have said our last word; what the peer still sends is not read. */
  #isClosing = false;

  constructor(socket: Socket, limits: TcpLimits, handlers: ConnectionHandlers) {
    this.#socket = socket;
    this.#limits = limits;
    this.#handlers = handlers;
    this.#peerAddress = socket.remoteAddress ?? "";
    // Refreshed by whole queries only: one byte at a time keeps nothing open.
    this.#idle = patientTimeout(() => {
      handlers.dropped("idle");
      socket.destroy();
    }, limits.idleTimeoutMs);
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("drain", () => this.#drained());
    socket.on("end", () => {
      this.#hasPeerEnded = true;
      this.#goOn();
    });
    // The peer went away; "close" follows, and there is nobody left to tell.
    socket.on("error", () => {});
    socket.once("close", () => this.#idle.clear());
  }

  destroy(): void {
    this.#socket.destroy();
  }

  end(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (this.#socket.destroyed) return Promise.resolve();
    this.#isClosing = true;
    this.#socket.once("close", () => resolve());
    // A peer that has nothing more to say need not be waited for.
    this.#socket.end(() => this.#socket.destroy());
    return promise;
  }

  #take(chunk: Buffer): void {
    if (this.#isClosing) return;
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#goOn();
  }

  #drained(): void {
    if (!this.#isWaitingForDrain || this.#isClosing) return;
    this.#isWaitingForDrain = false;
    this.#idle.refresh();
    this.#goOn();
  }

  /** Waits for its turn where there is a whole query, and reads no more until it is answered; else reads on. */
  #goOn(): void {
    if (this.#isWaitingForDrain) return;
    if (this.#nextEnd() !== undefined) {
      this.#socket.pause();
      this.#handlers.ready();
      return;
    }
    this.#socket.resume();
    if (this.#hasPeerEnded) this.#socket.end();
  }

  /** Where the first query ends; undefined: it has not come whole. One that cannot be a query ends at once. */
  #nextEnd(): number | undefined {
    if (this.#pending.length < LENGTH_BYTES) return undefined;
    const length = this.#pending.readUInt16BE(0);
    if (this.#isRefused(length)) return LENGTH_BYTES;
    return LENGTH_BYTES + length > this.#pending.length ? undefined : LENGTH_BYTES + length;
  }

  #isRefused(length: number): boolean {
    return length < MIN_QUERY_BYTES || length > this.#limits.maxQueryBytes;
  }

  /** Answers the first query. Returns whether there is another, and the peer reads what it is sent. */
  answerNext(): boolean {
    const end = this.#isClosing || this.#socket.destroyed ? undefined : this.#nextEnd();
    if (end === undefined) return false;
    const query = this.#pending.subarray(LENGTH_BYTES, end);
    const answer = this.#isRefused(query.length) ? undefined : this.#handlers.answer(query, this.#peerAddress);
    if (answer === undefined) {
      this.#refuse();
      return false;
    }
    this.#pending = this.#pending.subarray(end);
    this.#idle.refresh();
    this.#isWaitingForDrain = !this.#socket.write(framed(answer));
    if (this.#isWaitingForDrain) return false;
    if (this.#nextEnd() !== undefined) return true;
    this.#goOn();
    return false;
  }

  #refuse(): void {
    this.#handlers.dropped("malformed");
    this.#isClosing = true;
    this.#pending = Buffer.alloc(0);
    this.#socket.destroySoon();
  }
}

/** Length and message in one buffer of their own, so that they leave in one segment. */
function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(LENGTH_BYTES + message.length);
  frame.writeUInt16BE(message.length, 0);
  frame.set(message, LENGTH_BYTES);
  return frame;
}
