/**
 * Connections of HTTP/1.1 and their requests. A request that comes before those before it are answered stands in line: Node keeps an answer
 * until those before it have gone out, so begun all at once, 40 KB of requests would be a gigabyte of answers for a client that takes none.
 * A connection without a request is closed after a time, whatever else comes on it: Node's own keep-alive timeout begins anew with every
 * byte, also with those of an empty line before a request.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { patientDueMs, patientNowMs } from "../../lib/patient-time.io.ts";

export interface Http1Limits {
  /** Requests of one connection that wait for the answer to another. */
  readonly maxWaiting: number;
  readonly idleMs: number;
  readonly checkMs: number;
}

export class Http1Connections {
  readonly #limits: Http1Limits;
  /** Of each connection with a request: those that wait for the answer to the first. */
  readonly #lines = new WeakMap<Socket, (() => void)[]>();
  /** Connections without a request, and since when; the one that rests longest is the first. */
  readonly #resting = new Map<Socket, number>();

  constructor(server: Server, limits: Http1Limits) {
    this.#limits = limits;
    server.on("connection", (socket) => {
      this.#rest(socket);
      socket.once("close", () => this.#resting.delete(socket));
    });
    const timer = setInterval(() => this.#check(), limits.checkMs).unref();
    server.once("close", () => clearInterval(timer));
  }

  /** Calls `begin` when all answers before it have gone out. False when too many wait: the connection is to be cut. */
  enter({ socket }: IncomingMessage, response: ServerResponse, begin: () => void): boolean {
    const act = () => {
      response.once("close", () => this.#leave(socket));
      begin();
    };
    const line = this.#lines.get(socket);
    if (line !== undefined) return line.push(act) <= this.#limits.maxWaiting;
    this.#resting.delete(socket);
    this.#lines.set(socket, []);
    act();
    return true;
  }

  #leave(socket: Socket): void {
    const next = socket.destroyed ? undefined : this.#lines.get(socket)?.shift();
    if (next !== undefined) return next();
    this.#lines.delete(socket);
    if (!socket.destroyed) this.#rest(socket);
  }

  #rest(socket: Socket): void {
    this.#resting.set(socket, patientNowMs());
  }

  #check(): void {
    const dueMs = patientDueMs();
    for (const [socket, sinceMs] of this.#resting) {
      if (dueMs - sinceMs <= this.#limits.idleMs) return;
      socket.destroy();
    }
  }
}
