/** A peer on the wire that says whatever bytes it likes: no encoder of ours stands between it and the listener. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, type OutgoingHttpHeaders } from "node:http2";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type LinkFrameSchema, LinkRequestSchema } from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { encodeLinkFrame } from "../../src/fabric/wire/codec.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { helloOf } from "./fabric-values.ts";

export type RawFrame = NonNullable<MessageInitShape<typeof LinkFrameSchema>["frame"]>;

/** Headers of a gRPC call to a method of the fabric. */
export function callHeaders(method: string, clusterToken: string): OutgoingHttpHeaders {
  return {
    ":method": "POST",
    ":path": `/waymark.fabric.v1.FabricService/${method}`,
    "content-type": "application/grpc",
    te: "trailers",
    ...(clusterToken === "" ? {} : { "waymark-cluster-token": clusterToken }),
  };
}

export class RawLink implements Disposable {
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #ended: Promise<void>;

  /** Opens a link to a fabric listener and greets as this node, or with these bytes; then says that it knows nothing. */
  constructor(address: string, nodeId: string, generation: number, more: Parameters<typeof helloOf>[1] | Uint8Array = {}) {
    this.#session = connectHttp2(`http://${address}`);
    this.#session.on("error", () => {});
    this.#stream = this.#session.request(callHeaders("Link", ""));
    this.#stream.on("error", () => {});
    this.#stream.resume();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    for (const event of ["end", "close"]) this.#stream.once(event, () => resolve());
    const isBytes = more instanceof Uint8Array;
    this.#stream.write(framed(isBytes ? more : encodeLinkFrame({ kind: "hello", hello: helloOf(nodeId, { generation, ...more }) })));
    this.#stream.write(framed(encodeLinkFrame({ kind: "vector", entries: [], digest: 0n, isPartial: false, isWanted: false })));
  }

  say(frame: RawFrame): void {
    this.sayBytes(toBinary(LinkRequestSchema, create(LinkRequestSchema, { frame: { frame } })));
  }

  sayBytes(frame: Uint8Array): void {
    if (this.#stream.writable) this.#stream.write(framed(frame));
  }

  /** Ends the link with bytes that are no frame: when the listener has hung up, it has taken all that was said before. */
  async end(): Promise<void> {
    if (this.#stream.writable) this.#stream.write(framed(Uint8Array.of(255)));
    await this.#ended;
  }

  [Symbol.dispose](): void {
    this.#session.destroy();
  }
}
