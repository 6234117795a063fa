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

/** The connections of one listener. */
export class TcpConnections {
  readonly #limits: TcpLimits;
  readonly #handlers: TcpHandlers;
  /** Quietest first: a connection moves to the end with each query. */
  readonly #open = new Set<TcpConnection>();

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
    });
    this.#open.add(connection);
    socket.once("close", () => this.#open.delete(connection));
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

class TcpConnection {
  readonly #socket: Socket;
  readonly #limits: TcpLimits;
  readonly #handlers: TcpHandlers;
  readonly #peerAddress: string;
  readonly #idle: PatientTimeout;
  #pending: Buffer = Buffer.alloc(0);
  #isWaitingForDrain = false;
  #hasPeerEnded = false;
  /** We have said our last word; what the peer still sends is not read. */
  #isClosing = false;

  constructor(socket: Socket, limits: TcpLimits, handlers: TcpHandlers) {
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
    socket.on("drain", () => this.#goOn());
    socket.on("end", () => {
      this.#hasPeerEnded = true;
      if (!this.#isWaitingForDrain) socket.end();
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
    this.#answerPending();
  }

  #goOn(): void {
    if (!this.#isWaitingForDrain || this.#isClosing) return;
    this.#isWaitingForDrain = false;
    this.#idle.refresh();
    this.#answerPending();
    if (this.#isWaitingForDrain) return;
    this.#socket.resume();
    if (this.#hasPeerEnded) this.#socket.end();
  }

  /** Answers whole queries until the peer stops reading; then reads no more until it does. */
  #answerPending(): void {
    let at = 0;
    while (this.#pending.length - at >= LENGTH_BYTES && !this.#isWaitingForDrain) {
      const length = this.#pending.readUInt16BE(at);
      if (length < MIN_QUERY_BYTES || length > this.#limits.maxQueryBytes) return this.#refuse();
      const end = at + LENGTH_BYTES + length;
      if (end > this.#pending.length) break;
      const answer = this.#handlers.answer(this.#pending.subarray(at + LENGTH_BYTES, end), this.#peerAddress);
      if (answer === undefined) return this.#refuse();
      at = end;
      this.#idle.refresh();
      if (!this.#socket.write(framed(answer))) {
        this.#isWaitingForDrain = true;
        this.#socket.pause();
      }
    }
    this.#pending = this.#pending.subarray(at);
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
