/** A raw grpc-js client of DiscoveryService for listener tests: bytes in, bytes out, status with details. */
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import {
  type CallOptions,
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  type StatusObject,
} from "@grpc/grpc-js";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";

/** How a call ended, with what it was answered. */
export interface Outcome {
  readonly code: number;
  readonly message: string;
  /** ErrorInfo.reason, empty when there were no details. */
  readonly reason: string;
  readonly domain: string;
  readonly requestId: string;
  readonly messages: readonly Buffer[];
}

const identity = (bytes: Buffer): Buffer => bytes;

export class RawClient {
  readonly #client: Client;
  readonly #prefix: string;

  constructor(
    address: string,
    options: { readonly service?: string; readonly credentials?: ChannelCredentials; readonly channel?: ChannelOptions } = {},
  ) {
    this.#prefix = `/${options.service ?? "waymark.discovery.v1.DiscoveryService"}/`;
    // A pool of its own, so that closing one client of a test closes its connection.
    this.#client = new Client(address, options.credentials ?? credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
      ...options.channel,
    });
  }

  /** One unary call with whatever bytes. */
  unary(rpc: string, request: Uint8Array, options: { readonly metadata?: Metadata; readonly call?: CallOptions } = {}): Promise<Outcome> {
    return new Promise((resolve) => {
      const messages: Buffer[] = [];
      let header = new Metadata();
      const call = this.#client.makeUnaryRequest(
        `${this.#prefix}${rpc}`,
        identity,
        identity,
        Buffer.from(request),
        options.metadata ?? new Metadata(),
        options.call ?? {},
        (_error, response) => {
          if (response !== undefined) messages.push(response);
        },
      );
      call.on("metadata", (metadata) => {
        header = metadata;
      });
      call.on("status", (status) => resolve(outcome(status, { messages, header })));
    });
  }

  /** A unary call with a message, and the answer's message decoded when there is one. */
  async call<I extends DescMessage, O extends DescMessage>(
    rpc: string,
    schemas: { readonly input: I; readonly output: O },
    request: MessageInitShape<I>,
  ): Promise<Outcome & { readonly response: MessageShape<O> | undefined }> {
    const result = await this.unary(rpc, toBinary(schemas.input, create(schemas.input, request)));
    const [first] = result.messages;
    return { ...result, response: first === undefined ? undefined : fromBinary(schemas.output, first) };
  }

  serverStream(
    rpc: string,
    request: Uint8Array,
    options: { readonly metadata?: Metadata; readonly call?: CallOptions } = {},
  ): ClientReadableStream<Buffer> {
    return this.#client.makeServerStreamRequest(
      `${this.#prefix}${rpc}`,
      identity,
      identity,
      Buffer.from(request),
      options.metadata ?? new Metadata(),
      options.call ?? {},
    );
  }

  bidi(rpc: string, options: { readonly call?: CallOptions } = {}): ClientDuplexStream<Buffer, Buffer> {
    return this.#client.makeBidiStreamRequest(`${this.#prefix}${rpc}`, identity, identity, new Metadata(), options.call ?? {});
  }

  close(): void {
    this.#client.close();
  }
}

/** Collects a stream to its end. */
export function collected(stream: ClientReadableStream<Buffer> | ClientDuplexStream<Buffer, Buffer>): Promise<Outcome> {
  return new Promise((resolve) => {
    const messages: Buffer[] = [];
    let header = new Metadata();
    stream.on("metadata", (metadata: Metadata) => {
      header = metadata;
    });
    stream.on("data", (bytes: Buffer) => void messages.push(bytes));
    stream.on("error", () => {});
    stream.on("status", (status: StatusObject) => resolve(outcome(status, { messages, header })));
  });
}

function outcome(status: StatusObject, got: { readonly messages: readonly Buffer[]; readonly header: Metadata }): Outcome {
  const details = status.metadata.get("grpc-status-details-bin")[0];
  const info =
    details instanceof Buffer
      ? fromBinary(StatusSchema, details)
          .details.map((any) => anyUnpack(any, ErrorInfoSchema))
          .find((value) => value !== undefined)
      : undefined;
  const requestId = got.header.get("x-request-id")[0] ?? status.metadata.get("x-request-id")[0] ?? "";
  return {
    code: status.code,
    message: status.details,
    reason: info?.reason ?? "",
    domain: info?.domain ?? "",
    requestId: String(requestId),
    messages: got.messages,
  };
}
