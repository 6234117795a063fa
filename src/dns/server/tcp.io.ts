/**
 * DNS over TCP (RFC 7766) and TLS (RFC 7858): answers framed queries, with bounds on everything that a stranger can hold open. Answers come in the order of the queries, but a query
 * that waits for something does not hold those behind it.
 */

import type { Socket } from "node:net";
import { type StallAwareTimeout, stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import type { PeerCertificate } from "../../policy/identity/certificates.ts";
import type { DropReason } from "./counts.ts";

export interface TcpLimits {
  /** Most connections at a time. One more closes the one that has been quiet longest, and is not being sent an answer of many messages. */
  readonly maxConnections: number;
  /** A connection is closed when for this long no whole query was answered and no answer was read. */
  readonly idleTimeoutMs: number;
  /** Longer queries close the connection. A question with EDNS options needs a fraction of it. */
  readonly maxQueryBytes: number;
  /** Most queries of one connection whose answers come later. With so many it is not read. */
  readonly maxWaitingPerConnection: number;
}

/** The other end of a connection. */
export interface TcpPeer {
  /** `dot` is DNS over TLS. */
  readonly transport: "tcp" | "dot";
  readonly address: string;
  /** What it showed in the handshake. */
  readonly certificate: PeerCertificate | undefined;
  /** Whether a zone may be sent to it. Over TLS there are rules about the connection (RFC 9103, 7). */
  readonly mayTransfer: boolean;
}

export interface TcpHandlers {
  /**
   * The answer to one query; undefined closes the connection. One that comes later is undefined only when nobody is answered any more. One of many messages is asked
   * for each when there is room for it, and ended when the connection is; it has a time limit of its own.
   */
  answer(query: Uint8Array, peer: TcpPeer): TcpAnswer;
  dropped(reason: DropReason): void;
}

export type TcpAnswer = Uint8Array | Promise<Uint8Array | undefined> | AsyncIterable<Uint8Array> | undefined;

/** A query has at least a header. */
const MIN_QUERY_BYTES = 12;
const LENGTH_BYTES = 2;
/** Most queries answered in one turn of the event loop, over all connections. Thousands may arrive at once, and everything else waits meanwhile. */
const ANSWERS_PER_TURN = 16;

/** The connections of a gateway, over TCP and TLS: they share the bounds and the turns. */
export class TcpConnections {
  readonly #limits: TcpLimits;
  readonly #handlers: TcpHandlers;
  /** Open connections, the quietest first: a connection moves to the end with each query, and when an answer of many messages has been sent. */
  readonly #open = new Set<TcpConnection>();
  /** Connections with a whole query to answer; the one that has waited longest first. */
  readonly #ready = new Set<TcpConnection>();
  #isTurnDue = false;

  constructor(limits: TcpLimits, handlers: TcpHandlers) {
    this.#limits = limits;
    this.#handlers = handlers;
  }

  get size(): number {
    return this.#open.size;
  }

  add(socket: Socket, peer: TcpPeer): void {
    if (this.#open.size >= this.#limits.maxConnections) {
      this.#quietest()?.destroy();
      this.#handlers.dropped("overload");
    }
    const connection = new TcpConnection(socket, this.#limits, {
      answer: (query) => {
        this.#moveToEnd(connection);
        return this.#handlers.answer(query, peer);
      },
      dropped: (reason) => this.#handlers.dropped(reason),
      ready: () => this.#wait(connection),
      streamed: () => this.#moveToEnd(connection),
    });
    this.#open.add(connection);
    socket.once("close", () => {
      this.#open.delete(connection);
      this.#ready.delete(connection);
    });
  }

  #moveToEnd(connection: TcpConnection): void {
    if (this.#open.delete(connection)) this.#open.add(connection);
  }

  /** A zone takes longer than others need to open so many connections, and would never arrive. Few are sent at a time, and a peer that does not read them is cut. */
  #quietest(): TcpConnection | undefined {
    const [oldest] = this.#open;
    for (const connection of this.#open) if (!connection.isStreaming) return connection;
    return oldest;
  }

  #wait(connection: TcpConnection): void {
    this.#ready.add(connection);
    this.#turnLater();
  }

  /** There is one turn at a time, also where the ready connections are closed meanwhile and others become ready. */
  #turnLater(): void {
    if (this.#isTurnDue) return;
    this.#isTurnDue = true;
    setImmediate(() => {
      this.#isTurnDue = false;
      this.#turn();
    });
  }

  /** Answers one query of each ready connection, in turn. */
  #turn(): void {
    for (let left = ANSWERS_PER_TURN; left > 0; left--) {
      const [first] = this.#ready;
      if (first === undefined) return;
      this.#ready.delete(first);
      if (first.answerNext()) this.#ready.add(first);
    }
    if (this.#ready.size > 0) this.#turnLater();
  }

  /** Lets written answers go out, then closes the connections. Those that are still open after `graceMs` are cut. */
  async close(graceMs: number): Promise<void> {
    const deadline = setTimeout(() => {
      for (const connection of this.#open) connection.destroy();
    }, graceMs);
    await Promise.all([...this.#open].map((connection) => connection.end()));
    clearTimeout(deadline);
  }
}

interface ConnectionHandlers {
  answer(query: Uint8Array): ReturnType<TcpHandlers["answer"]>;
  dropped(reason: DropReason): void;
  /** The connection has a whole query, and waits for `answerNext`. */
  ready(): void;
  /** An answer of many messages has ended. */
  streamed(): void;
}

class TcpConnection {
  readonly #socket: Socket;
  readonly #limits: TcpLimits;
  readonly #handlers: ConnectionHandlers;
  readonly #idle: StallAwareTimeout;
  /** Answers of many messages that are being made. */
  #streamCount = 0;
  #onRoom = Promise.withResolvers<void>();
  #pending: Buffer = Buffer.alloc(0);
  #isWaitingForDrain = false;
  /** Queries whose answers come later. */
  #waitingCount = 0;
  /** No more queries follow: the peer has ended, or sent what is none. */
  #hasEnded = false;
  /** No more answers follow, and input is ignored. */
  #isClosing = false;

  constructor(socket: Socket, limits: TcpLimits, handlers: ConnectionHandlers) {
    this.#socket = socket;
    this.#limits = limits;
    this.#handlers = handlers;
    // Only whole queries refresh it, so that sending single bytes does not keep a connection open.
    this.#idle = stallAwareTimeout(() => {
      // It is this side that is slow.
      if (this.#streamCount > 0 && !this.#isWaitingForDrain) return this.#idle.refresh();
      handlers.dropped("idle");
      socket.destroy();
    }, limits.idleTimeoutMs);
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("drain", () => this.#drained());
    socket.on("end", () => {
      this.#hasEnded = true;
      this.#goOn();
    });
    // The peer went away. "close" follows.
    socket.on("error", () => {});
    socket.once("close", () => {
      this.#idle.clear();
      this.#onRoom.resolve();
    });
  }

  /** Whether an answer of many messages is being sent. */
  get isStreaming(): boolean {
    return this.#streamCount > 0;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  end(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (this.#socket.destroyed) return Promise.resolve();
    this.#isClosing = true;
    this.#onRoom.resolve();
    this.#socket.once("close", () => resolve());
    // The peer's own end need not be waited for.
    this.#socket.end(() => this.#socket.destroy());
    return promise;
  }

  #take(chunk: Buffer): void {
    if (this.#isClosing || this.#hasEnded) return;
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#goOn();
  }

  #drained(): void {
    if (!this.#isWaitingForDrain || this.#isClosing) return;
    this.#isWaitingForDrain = false;
    this.#onRoom.resolve();
    this.#onRoom = Promise.withResolvers<void>();
    this.#idle.refresh();
    this.#goOn();
  }

  /** Whether the peer reads its answers, and not too many of its queries wait. */
  #mayAnswer(): boolean {
    return !this.#isWaitingForDrain && this.#waitingCount < this.#limits.maxWaitingPerConnection;
  }

  /** With a whole query, waits for its turn, and reads no more until the query is taken up. Else reads on. */
  #goOn(): void {
    const hasQuery = this.#nextEnd() !== undefined;
    if (hasQuery || !this.#mayAnswer()) {
      this.#socket.pause();
      if (hasQuery && this.#mayAnswer()) this.#handlers.ready();
      return;
    }
    this.#socket.resume();
    // What was written goes out first.
    if (this.#hasEnded && this.#waitingCount === 0) this.#socket.destroySoon();
  }

  /** Where the first query ends; undefined when it is not complete. One of a wrong length ends at once. */
  #nextEnd(): number | undefined {
    if (this.#pending.length < LENGTH_BYTES) return undefined;
    const length = this.#pending.readUInt16BE(0);
    if (this.#isRefused(length)) return LENGTH_BYTES;
    return LENGTH_BYTES + length > this.#pending.length ? undefined : LENGTH_BYTES + length;
  }

  #isRefused(length: number): boolean {
    return length < MIN_QUERY_BYTES || length > this.#limits.maxQueryBytes;
  }

  /** Answers the first query, or lets it wait for its answer. Returns whether there is another one that may be answered. */
  answerNext(): boolean {
    const end = this.#isClosing || this.#socket.destroyed || !this.#mayAnswer() ? undefined : this.#nextEnd();
    if (end === undefined) return false;
    const query = this.#pending.subarray(LENGTH_BYTES, end);
    this.#pending = this.#pending.subarray(end);
    const answer = this.#isRefused(query.length) ? undefined : this.#handlers.answer(query);
    if (answer === undefined) this.#refuse();
    else if (answer instanceof Promise) void this.#sendLater(answer);
    else if (Symbol.asyncIterator in answer) void this.#sendAll(answer);
    else this.#send(answer);
    if (this.#mayAnswer() && this.#nextEnd() !== undefined) return true;
    this.#goOn();
    return false;
  }

  async #sendLater(answer: Promise<Uint8Array | undefined>): Promise<void> {
    this.#waitingCount += 1;
    const late = await answer;
    this.#waitingCount -= 1;
    if (late === undefined || this.#isClosing || this.#socket.destroyed) return;
    // A peer that does not read gets these too. They are no more than the queries that may wait.
    this.#send(late);
    this.#goOn();
  }

  async #sendAll(messages: AsyncIterable<Uint8Array>): Promise<void> {
    this.#waitingCount += 1;
    this.#streamCount += 1;
    try {
      for await (const message of messages) {
        if (this.#isClosing || this.#socket.destroyed) break;
        this.#send(message);
        while (this.#isWaitingForDrain && !this.#isClosing && !this.#socket.destroyed) await this.#onRoom.promise;
      }
    } catch {
      // Whoever made it has reported the fault. Half an answer is ended by the end of the connection (RFC 5936, 2.2.2).
      this.#socket.destroy();
    }
    this.#waitingCount -= 1;
    this.#streamCount -= 1;
    this.#handlers.streamed();
    if (!this.#isClosing && !this.#socket.destroyed) this.#goOn();
  }

  #send(answer: Uint8Array): void {
    this.#idle.refresh();
    if (!this.#socket.write(framed(answer))) this.#isWaitingForDrain = true;
  }

  /** Closes the connection, once the queries before are answered. */
  #refuse(): void {
    this.#handlers.dropped("malformed");
    this.#hasEnded = true;
    this.#pending = Buffer.alloc(0);
  }
}

/** Length and message in one buffer, so that they leave in one segment. */
function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(LENGTH_BYTES + message.length);
  frame.writeUInt16BE(message.length, 0);
  frame.set(message, LENGTH_BYTES);
  return frame;
}
