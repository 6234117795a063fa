/** Between grpc-js calls and the chain: one small object a call, unary, server stream and echo stream. */
import { type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type MethodDefinition,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  type UntypedHandleCall,
} from "@grpc/grpc-js";
import { invalid, type WaymarkError } from "../lib/errors.ts";
import { withoutMapping } from "../lib/host-port.ts";
import type { PeerCertificate } from "../policy/certificates.ts";
import type { CallContext } from "../services/service.ts";
import { streamEnd, unimplemented } from "./call-end.ts";
import { type Arrival, type MethodChain, sentRequestId, type UnaryExchange } from "./chain.ts";
import type { LentCertificates } from "./peer.io.ts";
import { type RpcStatus, statusBytes } from "./status.ts";
import { StreamPump } from "./stream-pump.ts";

export type Request = Message | WaymarkError;
export type Response = Message | Uint8Array;

/** How grpc-js shall read and write one method. */
export function methodDefinition(chain: MethodChain): MethodDefinition<Request, Response> {
  const { desc } = chain;
  return {
    path: chain.path,
    requestStream: desc.methodKind === "client_streaming" || desc.methodKind === "bidi_streaming",
    responseStream: desc.methodKind === "server_streaming" || desc.methodKind === "bidi_streaming",
    requestDeserialize: (bytes) => decodeRequest(desc.input, bytes),
    responseSerialize: (response) => encodeResponse(desc.output, response),
    requestSerialize: () => Buffer.alloc(0),
    responseDeserialize: () => new Uint8Array(),
  };
}

/** The message, or why its bytes are none: a decoder that threw would make grpc-js answer INTERNAL. */
export function decodeRequest(desc: DescMessage, bytes: Uint8Array): Request {
  try {
    return fromBinary(desc, bytes);
  } catch (cause) {
    return invalid("request", `not the bytes of a ${desc.typeName} (${cause instanceof Error ? cause.message : "unreadable"})`);
  }
}

/** Bytes that exist go through as they are; grpc-js wants a Buffer, so they get a view. */
function encodeResponse(desc: DescMessage, response: Response): Buffer {
  const bytes = response instanceof Uint8Array ? response : toBinary(desc, response);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The grpc-js handler of a method, by its kind. */
export function grpcHandler(chain: MethodChain, lent: LentCertificates): UntypedHandleCall {
  switch (chain.desc.methodKind) {
    case "unary": {
      const handle: handleUnaryCall<Request, Response> = (call, callback) => chain.unary(call.request, new GrpcUnary(call, lent, callback));
      return handle;
    }
    case "server_streaming": {
      const handle: handleServerStreamingCall<Request, Response> = (call) =>
        void openServerStream(chain, call, new GrpcArrival(call, lent));
      return handle;
    }
    case "client_streaming":
    case "bidi_streaming": {
      const handle: handleBidiStreamingCall<Request, Response> = (call) => new GrpcEcho(chain, call, new GrpcArrival(call, lent)).start();
      return handle;
    }
  }
}

type AnyCall = Pick<ServerUnaryCall<Request, Response>, "metadata" | "getPeer" | "getDeadline">;

class GrpcArrival implements Arrival {
  readonly transport = "grpc";
  readonly encoding = "proto";
  readonly #call: AnyCall;
  readonly #lent: LentCertificates;

  constructor(call: AnyCall, lent: LentCertificates) {
    this.#call = call;
    this.#lent = lent;
  }

  get certificate(): PeerCertificate | undefined {
    return this.#lent.find(this.header(this.#lent.header));
  }

  get address(): string {
    const peer = this.#call.getPeer();
    const colon = peer.lastIndexOf(":");
    return withoutMapping(colon < 0 ? peer : peer.slice(0, colon));
  }

  get timeoutMs(): number | undefined {
    const deadline = Number(this.#call.getDeadline());
    return Number.isFinite(deadline) ? deadline - Date.now() : undefined;
  }

  readonly header = (name: string): string | undefined => {
    const value = this.#call.metadata.get(name)[0];
    return typeof value === "string" ? value : undefined;
  };
}

class GrpcUnary extends GrpcArrival implements UnaryExchange {
  readonly #callback: sendUnaryData<Response>;
  readonly #unary: ServerUnaryCall<Request, Response>;

  constructor(call: ServerUnaryCall<Request, Response>, lent: LentCertificates, callback: sendUnaryData<Response>) {
    super(call, lent);
    this.#unary = call;
    this.#callback = callback;
  }

  succeed(response: Response, context: CallContext): void {
    if (sentRequestId(this.header) !== undefined) this.#unary.sendMetadata(requestIdMetadata(context.requestId));
    // oxlint-disable-next-line unicorn/no-null -- grpc-js means null.
    this.#callback(null, response);
  }

  fail(status: RpcStatus, requestId: string): void {
    this.#callback(serviceError(status, requestId));
  }

  later(expire: () => void, delayMs: number): () => void {
    return later(expire, delayMs);
  }
}

/** Longest delay a Node timer takes. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Runs `expire` after so many ms; returns what cancels it. */
export function later(expire: () => void, delayMs: number): () => void {
  const timer = setTimeout(expire, Math.min(delayMs, MAX_DELAY_MS));
  return () => clearTimeout(timer);
}

function requestIdMetadata(requestId: string): Metadata {
  const metadata = new Metadata();
  metadata.set("x-request-id", requestId);
  return metadata;
}

function serviceError(status: RpcStatus, requestId: string) {
  const metadata = requestIdMetadata(requestId);
  metadata.set("grpc-status-details-bin", Buffer.from(statusBytes(status)));
  return Object.assign(new Error(status.message), { code: status.code, details: status.message, metadata });
}

async function openServerStream(chain: MethodChain, call: ServerWritableStream<Request, Response>, arrival: GrpcArrival): Promise<void> {
  const began = chain.now();
  const requestId = sentRequestId(arrival.header) ?? "";
  let isOver = false;
  const over = (code: number) => {
    if (!isOver) chain.finish(arrival, began, code);
    isOver = true;
  };
  const fail = (thrown: unknown) => {
    const status = chain.status(thrown, requestId);
    over(status.code);
    call.emit("error", serviceError(status, requestId));
  };
  try {
    const { source, context } = await chain.openSource(call.request, arrival);
    if (call.cancelled) {
      source.close();
      over(1);
      return;
    }
    const pump: StreamPump = new StreamPump(
      source,
      {
        write: (bytes) => void call.write(bytes, () => pump.taken()),
        finish: (error) => {
          cancel?.();
          if (error !== undefined) return fail(error);
          over(0);
          call.end();
        },
      },
      () => chain.now(),
    );
    const end = streamEnd(arrival, context);
    const cancel = end === undefined ? undefined : later(() => pump.end(end.error), end.afterMs);
    call.once("cancelled", () => {
      cancel?.();
      over(1);
      pump.gone();
    });
    if (sentRequestId(arrival.header) !== undefined) call.sendMetadata(requestIdMetadata(requestId));
    pump.start();
  } catch (thrown) {
    fail(thrown);
  }
}

/** A bidi call with one answer a request, in order: the next request is read when the answer before it was taken. */
class GrpcEcho {
  readonly #chain: MethodChain;
  readonly #call: ServerDuplexStream<Request, Response>;
  readonly #arrival: GrpcArrival;
  #isOver = false;

  constructor(chain: MethodChain, call: ServerDuplexStream<Request, Response>, arrival: GrpcArrival) {
    this.#chain = chain;
    this.#call = call;
    this.#arrival = arrival;
  }

  start(): void {
    const began = this.#chain.now();
    const over = (code: number) => {
      if (!this.#isOver) this.#chain.finish(this.#arrival, began, code);
      this.#isOver = true;
    };
    this.#call.once("cancelled", () => over(1));
    void this.#run(over);
  }

  async #run(over: (code: number) => void): Promise<void> {
    let requestId = sentRequestId(this.#arrival.header) ?? "";
    try {
      const context = await this.#chain.openStream(this.#arrival);
      requestId = context.requestId;
      if (this.#chain.handler === undefined) throw unimplemented(this.#chain.path);
      if (sentRequestId(this.#arrival.header) !== undefined) this.#call.sendMetadata(requestIdMetadata(requestId));
      const requests: AsyncIterable<Request> = this.#call;
      for await (const request of requests) {
        const response = await this.#chain.echo(request, context);
        await new Promise<void>((resolve) => this.#call.write(response, () => resolve()));
      }
      over(0);
      this.#call.end();
    } catch (thrown) {
      if (this.#isOver) return; // Cancelled: the iterator ends with an error that says no more.
      const status = this.#chain.status(thrown, requestId);
      over(status.code);
      this.#call.emit("error", serviceError(status, requestId));
    }
  }
}
