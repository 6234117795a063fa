/**
 * Requests of HTTP/1.1 that come on a connection before the ones before them are answered. Node keeps an answer until those before it
 * have gone out: begun all at once, 40 KB of requests would be a gigabyte of answers for a client that takes none. So they stand in line.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Those of one connection that wait for the answer to the first. */
type Line = (() => void)[];

export class Http1Lines {
  readonly #maxWaiting: number;
  readonly #lines = new WeakMap<Socket, Line>();

  constructor(maxWaiting: number) {
    this.#maxWaiting = maxWaiting;
  }

  /** Calls `begin` when all answers before it have gone out. False when too many wait: the connection is to be cut. */
  enter({ socket }: IncomingMessage, response: ServerResponse, begin: () => void): boolean {
    const line = this.#lines.get(socket);
    if (line === undefined) {
      this.#lines.set(socket, []);
      this.#begin(socket, response, begin);
      return true;
    }
    line.push(() => this.#begin(socket, response, begin));
    return line.length <= this.#maxWaiting;
  }

  #begin(socket: Socket, response: ServerResponse, begin: () => void): void {
    response.once("close", () => this.#leave(socket));
    begin();
  }

  #leave(socket: Socket): void {
    const next = socket.destroyed ? undefined : this.#lines.get(socket)?.shift();
    if (next === undefined) this.#lines.delete(socket);
    else next();
  }
}
