/** Connections of HTTP/1.1 between their requests: closed after a time, whatever comes that is no request. */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { patientDueMs, patientNowMs } from "../../lib/patient-time.io.ts";

/** Node's own keep-alive timeout begins anew with every byte, also with those of an empty line before a request. */
export function watchRest(server: Server, limits: { readonly idleMs: number; readonly checkMs: number }): void {
  const rest = new Http1Rest(limits.idleMs);
  server.on("connection", (socket) => rest.opened(socket));
  server.prependListener("request", ({ socket }: IncomingMessage, response: ServerResponse) => rest.asked(socket, response));
  const timer = setInterval(() => rest.check(), limits.checkMs).unref();
  server.once("close", () => clearInterval(timer));
}

class Http1Rest {
  readonly #idleMs: number;
  /** Those without a request, and since when; who rests longest first. */
  readonly #resting = new Map<Socket, number>();
  readonly #requestCounts = new WeakMap<Socket, number>();

  constructor(idleMs: number) {
    this.#idleMs = idleMs;
  }

  opened(socket: Socket): void {
    this.#rest(socket);
    socket.once("close", () => this.#resting.delete(socket));
  }

  asked(socket: Socket, response: ServerResponse): void {
    this.#resting.delete(socket);
    this.#requestCounts.set(socket, this.#count(socket) + 1);
    response.once("close", () => {
      this.#requestCounts.set(socket, this.#count(socket) - 1);
      if (this.#count(socket) === 0 && !socket.destroyed) this.#rest(socket);
    });
  }

  check(): void {
    const dueMs = patientDueMs();
    for (const [socket, sinceMs] of this.#resting) {
      if (dueMs - sinceMs <= this.#idleMs) return;
      socket.destroy();
    }
  }

  #rest(socket: Socket): void {
    this.#resting.set(socket, patientNowMs());
  }

  #count(socket: Socket): number {
    return this.#requestCounts.get(socket) ?? 0;
  }
}
