/** A resource with fences, as an HTTP server in the test's process: it rejects a write with a fence below the highest fence of its scope. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { compareFences, FENCE_METADATA, type FenceToken, parseFence } from "../../src/client/index.ts";

export interface LoggedWrite {
  /** The instance that has sent the write. */
  readonly instance: string;
  readonly scope: string;
  readonly fence: FenceToken;
  readonly item: string;
  readonly isAccepted: boolean;
}

/** Name of the header with the instance of a writer. */
export const INSTANCE_HEADER = "x-instance";

export class FencedLog implements AsyncDisposable {
  readonly writes: LoggedWrite[] = [];
  readonly #highest = new Map<string, FenceToken>();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      void this.#take(request).then((isAccepted) => response.writeHead(isAccepted ? 204 : 409).end());
    });
  }

  static async start(): Promise<FencedLog> {
    const log = new FencedLog();
    log.#server.listen(0, "127.0.0.1");
    await once(log.#server, "listening");
    return log;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The highest fence of a scope. */
  highest(scope: string): FenceToken | undefined {
    return this.#highest.get(scope);
  }

  /** Number of accepted writes of an item. */
  countOf(item: string): number {
    return this.writes.filter((write) => write.isAccepted && write.item === item).length;
  }

  async #take(request: IncomingMessage): Promise<boolean> {
    const { scope, fence } = parseFence(String(request.headers[FENCE_METADATA])) ?? {};
    let item = "";
    for await (const piece of request.setEncoding("utf8")) item += String(piece);
    if (scope === undefined || fence === undefined) return false;
    const highest = this.#highest.get(scope);
    const isAccepted = highest === undefined || compareFences(fence, highest) >= 0;
    if (isAccepted) this.#highest.set(scope, fence);
    this.writes.push({ instance: String(request.headers[INSTANCE_HEADER]), scope, fence, item, isAccepted });
    return isAccepted;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }
}
