/** A peer that answers the fabric calls of real nodes with any bytes. */
import { createServer, type Http2Server, type Http2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { framed } from "../../src/grpc/wire/message-reader.ts";

const PREFIX = "/waymark.fabric.v1.FabricService/";

/** The answer to a call of a method, which is the nth of its kind; undefined: it is never answered. */
export type Answering = (method: string, n: number, peer: AnsweringPeer) => Uint8Array | undefined;

export class AnsweringPeer implements AsyncDisposable {
  readonly nodeId: string;
  readonly address: string;
  /** How often each method was called. */
  readonly asked = new Map<string, number>();
  readonly #server: Http2Server;
  readonly #multiplexer: ReadonlySet<Http2Session>;

  private constructor(nodeId: string, server: Http2Server, answering: Answering) {
    this.nodeId = nodeId;
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    this.#server = server;
    const multiplexer = new Set<Http2Session>();
    this.#multiplexer = multiplexer;
    server.on("session", (session) => {
      multiplexer.add(session);
      session.on("error", () => {}).on("close", () => multiplexer.delete(session));
    });
    server.on("stream", (stream: ServerHttp2Stream, headers) => {
      stream.on("error", () => {}).resume();
      const method = (headers[":path"] ?? "").slice(PREFIX.length);
      const n = this.asked.get(method) ?? 0;
      this.asked.set(method, n + 1);
      const bytes = answering(method, n, this);
      if (bytes === undefined) return;
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      if (method === "Link") stream.write(framed(bytes));
      else stream.end(framed(bytes));
    });
  }

  static async start(nodeId: string, answering: Answering): Promise<AnsweringPeer> {
    const server = createServer();
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
    return new AnsweringPeer(nodeId, server, answering);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const session of this.#multiplexer) session.destroy();
    await closed;
  }
}
