/** Creates the gRPC server's methods from the services: they decode requests, pass them through the chain, and encode responses. */
import { type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import type { GrpcMethod, MethodCall, RequestReceiver } from "../grpc/server/method.ts";
import type { AssemblyBounds, WriteCallback } from "../grpc/wire/message-reader.ts";
import { framed } from "../grpc/wire/message-reader.ts";
import { GrpcMetadata } from "../grpc/wire/metadata.ts";
import type { GrpcStatus } from "../grpc/wire/status.ts";
import { invalid, type WaymarkError } from "../lib/errors.ts";
import type { PeerCertificate } from "../policy/identity/certificates.ts";
import { costOf } from "../services/contract.ts";
import type { CallContext, ServiceDefinition } from "../services/service.ts";
import { type CallArrival, type CallChain, type HeaderReader, type MethodChain, sentRequestId, type UnaryExchange } from "./chain.ts";
import { peerOf } from "./peer.io.ts";
import { type SentRequest, UndecodedRequest } from "./request-shape/plan.ts";
import { type RpcStatus, statusBytes } from "./status.ts";
import { RequestStream, SourceStream, type StreamExchange } from "./streams.ts";

/**
 * For a service with its own request limit, the maximum number of incomplete requests of the maximum size that are buffered across all connections.
 */
const MAX_HELD_REQUESTS = 1_024;

/** Returns one method for each rpc of the services. */
export function grpcMethods(services: readonly ServiceDefinition[], chain: CallChain): readonly GrpcMethod[] {
  return services.flatMap(({ desc, handlers, maxRequestBytes }) => {
    const bounds = maxRequestBytes === undefined ? undefined : boundsOf(maxRequestBytes);
    return desc.methods.map((each) => grpcMethod(chain.method(each, handlers[each.localName]), bounds));
  });
}

function boundsOf(maxMessageBytes: number): AssemblyBounds {
  return { maxMessageBytes, maxBufferedBytes: MAX_HELD_REQUESTS * maxMessageBytes, bufferedBytes: 0 };
}

/** Converts a status to the form used by gRPC. */
export function grpcStatus(status: RpcStatus): GrpcStatus {
  return { code: status.code, message: status.message, details: statusBytes(status) };
}

function grpcMethod(method: MethodChain, bounds: AssemblyBounds | undefined): GrpcMethod {
  const { path, desc } = method;
  const own = bounds === undefined ? undefined : { boundsFor: () => bounds };
  const decode = (bytes: Uint8Array) => decoded(method, bytes);
  const judgeHeaders = (call: MethodCall) => method.judgeHeaders(new GrpcExchange(call, desc.output));
  switch (desc.methodKind) {
    case "unary": {
      const answer = (request: SentRequest, call: MethodCall) => method.unary(request, new GrpcExchange(call, desc.output));
      const handle = (bytes: Uint8Array, call: MethodCall) => answer(new UndecodedRequest(bytes, decode), call);
      return { path, kind: "unary", isLowPriority: costOf(desc) === "write", handle, refused: answer, judgeHeaders, ...own };
    }
    case "server_streaming": {
      const open = (request: SentRequest, call: MethodCall) => {
        const exchange = new GrpcExchange(call, desc.output);
        const stream = new SourceStream(method, exchange);
        exchange.onGone(() => stream.gone());
        stream.open(request);
      };
      const handle = (bytes: Uint8Array, call: MethodCall) => open(new UndecodedRequest(bytes, decode), call);
      return { path, kind: "server_streaming", handle, refused: open, judgeHeaders, ...own };
    }
    case "client_streaming":
    case "bidi_streaming": {
      const open = (call: MethodCall, refusal?: WaymarkError) => {
        const exchange = new GrpcExchange(call, desc.output);
        const stream = new RequestStream(method, exchange);
        exchange.onGone(() => stream.gone());
        stream.open(refusal);
        return stream;
      };
      const refused = (error: WaymarkError, call: MethodCall) => void open(call, error);
      return { path, kind: desc.methodKind, open: (call) => listenerOf(open(call), method), refused, ...own };
    }
  }
}

function listenerOf(stream: RequestStream, method: MethodChain): RequestReceiver {
  return {
    message: (bytes) => stream.message(decoded(method, bytes)),
    halfClosed: () => stream.halfClosed(),
    failed: (error) => stream.fail(error),
  };
}

/** Returns the message, or the error if its bytes are invalid or too large to decode. */
// HOT: runs once per request.
function decoded(method: MethodChain, bytes: Uint8Array): Message | WaymarkError {
  const desc = method.desc.input;
  const crowded = method.requestFault(bytes, "proto");
  if (crowded !== undefined) return crowded;
  try {
    return method.handler?.read?.(bytes) ?? fromBinary(desc, bytes);
  } catch (cause) {
    return invalid("request", `invalid protobuf encoding of ${desc.typeName}: ${cause instanceof Error ? cause.message : "unreadable"}`);
  }
}

const NOTHING = () => {};

// HOT: runs once per call.
class GrpcExchange implements CallArrival, UnaryExchange, StreamExchange {
  readonly transport = "grpc";
  readonly encoding = "proto";
  readonly address: string;
  readonly certificate: PeerCertificate | undefined;
  readonly header: HeaderReader;
  readonly #call: MethodCall;
  readonly #output: DescMessage;
  #expire = NOTHING;
  #gone = NOTHING;

  constructor(call: MethodCall, output: DescMessage) {
    const { address, certificate } = peerOf(call.connection);
    this.address = address;
    this.certificate = certificate;
    this.header = (name) => call.header(name);
    this.#call = call;
    this.#output = output;
  }

  get arrival(): CallArrival {
    return this;
  }

  get timeoutMs(): number | undefined {
    return this.#call.timeoutMs;
  }

  /** Returns undefined because the call's timer ends with the call. */
  onDeadline(expire: () => void): undefined {
    this.#expire = expire;
    this.#listen();
  }

  /** Calls `gone` when the client cancels the call or its connection is lost. */
  onGone(gone: () => void): void {
    this.#gone = gone;
    this.#listen();
  }

  #listen(): void {
    this.#call.onCancelled((why) => (why === "deadline" ? this.#expire : this.#gone)());
  }

  /** Returns the request id only to clients that sent one, because a separate header block for each call costs 1 µs. */
  begin({ requestId }: CallContext): void {
    this.#call.sendMetadata(sentRequestId(this.header) === undefined ? undefined : idMetadata(requestId));
  }

  succeed(response: Message | Uint8Array, context: CallContext): void {
    if (sentRequestId(this.header) !== undefined) this.begin(context);
    this.#call.respond(this.#encoded(response));
  }

  send(answer: Message | Uint8Array, taken?: WriteCallback): boolean {
    return answer instanceof Uint8Array
      ? this.#call.writeFrame(sharedFrame(answer), taken)
      : this.#call.write(this.#encoded(answer), taken);
  }

  onceRoomy(goOn: () => void): void {
    this.#call.onceWritable(goOn);
  }

  pause(): void {
    this.#call.pause();
  }

  resume(): void {
    this.#call.resume();
  }

  end(): void {
    this.#call.end();
  }

  fail(status: RpcStatus, requestId: string): void {
    this.#call.finish(grpcStatus(status), requestId === "" ? undefined : idMetadata(requestId));
  }

  #encoded(answer: Message | Uint8Array): Uint8Array {
    return answer instanceof Uint8Array ? answer : toBinary(this.#output, answer);
  }
}

function idMetadata(requestId: string): GrpcMetadata {
  return new GrpcMetadata().add("x-request-id", requestId);
}

const NO_BYTES: Uint8Array = new Uint8Array();
const last = { message: NO_BYTES, frame: NO_BYTES };

// HOT: see bench/watch.ts. Identical watches receive the same bytes one after another, and a separate frame for each would reduce the throughput by a
// seventh.
function sharedFrame(message: Uint8Array): Uint8Array {
  if (message !== last.message) {
    last.message = message;
    last.frame = framed(message);
  }
  return last.frame;
}
